-- What is in the database, in a few lines that differ when anything differs: every table of the shop with its columns, its
-- number of rows, and a checksum over all of them.
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '
SELECT table_name, string_agg(column_name || ':' || data_type, ',' ORDER BY ordinal_position)
  FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1 ORDER BY 1;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
SELECT proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public' ORDER BY 1;
SELECT 'accounts', count(*), sum(abalance), md5(string_agg(md5(a::text), '' ORDER BY aid)) FROM pgbench_accounts a;
SELECT 'branches', count(*), sum(bbalance), md5(string_agg(b::text, '' ORDER BY bid)) FROM pgbench_branches b;
SELECT 'tellers', count(*), sum(tbalance), md5(string_agg(t::text, '' ORDER BY tid)) FROM pgbench_tellers t;
SELECT 'history', count(*), md5(coalesce(string_agg(h::text, '' ORDER BY h::text), '')) FROM pgbench_history h;
