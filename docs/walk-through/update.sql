-- An update of the shop's database, as a vendor might send it: new tables, changed data, an index over a million rows,
-- one statement that fails, one that takes its time. 56 statements; statement 24 is the one that fails.

-- New master data.
CREATE TABLE currencies (code char(3) PRIMARY KEY, name text NOT NULL, minor_units int NOT NULL DEFAULT 2);
INSERT INTO currencies VALUES ('CNY', '人民币', 2), ('USD', 'US dollar', 2), ('JPY', '円', 0);
INSERT INTO currencies (code, name) VALUES ('EUR', 'Euro; with a semicolon in its name');
UPDATE currencies SET name = 'Euro' WHERE code = 'EUR';
COMMENT ON TABLE currencies IS 'ISO 4217, as far as the shop needs it';
CREATE TABLE regions (id int PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO regions SELECT n, 'region ' || n FROM generate_series(1, 10) AS n;
ALTER TABLE pgbench_branches ADD COLUMN region int REFERENCES regions;
UPDATE pgbench_branches SET region = bid;
ALTER TABLE pgbench_branches ALTER COLUMN region SET NOT NULL;

-- Accounts get a currency and a class; this rewrites a million rows.
ALTER TABLE pgbench_accounts ADD COLUMN currency char(3) NOT NULL DEFAULT 'CNY' REFERENCES currencies;
ALTER TABLE pgbench_accounts ADD COLUMN class smallint;
UPDATE pgbench_accounts SET class = CASE WHEN aid % 100 = 0 THEN 1 WHEN aid % 10 = 0 THEN 2 ELSE 3 END WHERE aid <= 200000;
UPDATE pgbench_accounts SET currency = 'USD' WHERE aid % 1000 = 7;
CREATE INDEX accounts_by_class ON pgbench_accounts (class, bid) WHERE class < 3;
CREATE INDEX CONCURRENTLY accounts_in_dollars ON pgbench_accounts (aid) WHERE currency = 'USD';
ANALYZE pgbench_accounts;
SELECT count(*) FROM pgbench_accounts WHERE class = 1;

-- A function with statements of its own, and a trigger.
CREATE FUNCTION interest(balance int, class smallint) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    rate numeric := CASE class WHEN 1 THEN 0.03 WHEN 2 THEN 0.02 ELSE 0.01 END;
BEGIN
    -- a comment; with a semicolon
    RETURN round(balance * rate);
END;
$body$;
CREATE TABLE audit_log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT now(), what text NOT NULL);
CREATE FUNCTION note_teller() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_log (what) VALUES (format('teller %s: %s -> %s', NEW.tid, OLD.tbalance, NEW.tbalance));
    RETURN NEW;
END $$;
CREATE TRIGGER tellers_noted AFTER UPDATE ON pgbench_tellers FOR EACH ROW EXECUTE FUNCTION note_teller();
UPDATE pgbench_tellers SET tbalance = tbalance + 100 WHERE tid <= 10;

-- This one fails: there is no such column. The script goes on (sql.on_error = "continue"), and the result is red.
UPDATE pgbench_accounts SET colour = 'blue' WHERE aid = 1;

-- Two bookings that belong together: all or nothing.
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance - 500 WHERE aid = 1;
UPDATE pgbench_accounts SET abalance = abalance + 500 WHERE aid = 2;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, 1, -500, now()), (1, 1, 2, 500, now());
COMMIT;

-- Bookings that are taken back.
BEGIN;
DELETE FROM pgbench_tellers;
ROLLBACK;

-- Not repeatable, which is the point: run twice, they would give another state.
UPDATE pgbench_branches SET bbalance = bbalance + 1000;
UPDATE pgbench_branches SET bbalance = bbalance * 2 WHERE bid IN (1, 2, 3);
UPDATE pgbench_tellers SET tbalance = tbalance - 1 WHERE bid = 4;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) SELECT 2, 1, aid, 10, now() FROM pgbench_accounts WHERE aid <= 5000;
UPDATE pgbench_accounts SET abalance = abalance + 10 WHERE aid <= 5000;
DELETE FROM pgbench_history WHERE aid % 2 = 0 AND delta = 10;

-- Reports.
CREATE VIEW balances AS SELECT b.bid, r.name AS region, b.bbalance FROM pgbench_branches b JOIN regions r ON r.id = b.region;
CREATE MATERIALIZED VIEW class_totals AS SELECT class, currency, count(*) AS accounts, sum(abalance) AS total FROM pgbench_accounts GROUP BY 1, 2;
CREATE UNIQUE INDEX class_totals_key ON class_totals (class, currency);
REFRESH MATERIALIZED VIEW class_totals;
SELECT * FROM class_totals ORDER BY class NULLS LAST, currency LIMIT 5;
SELECT sum(interest(abalance, class)) FROM pgbench_accounts WHERE class IS NOT NULL;

-- Types, sequences, quoted names, strings of all sorts.
CREATE TYPE order_state AS ENUM ('open', 'paid', 'shipped');
CREATE SEQUENCE order_numbers START 1000 INCREMENT 5;
CREATE TABLE "Orders; all of them" (number bigint PRIMARY KEY DEFAULT nextval('order_numbers'), state order_state NOT NULL, note text);
INSERT INTO "Orders; all of them" (state, note) VALUES ('open', 'it''s the first'), ('paid', E'two\nlines;'), ('open', $q$dollars; and 'quotes'$q$);
UPDATE "Orders; all of them" SET state = 'shipped' WHERE state = 'paid' /* a comment /* within a comment; */ ; */;
SELECT nextval('order_numbers');

-- The long one: each account is compared with a sum over its branch.
UPDATE pgbench_accounts a SET filler = 'above average' FROM (SELECT bid, avg(aid) AS middle FROM pgbench_accounts GROUP BY bid) m WHERE m.bid = a.bid AND a.aid > m.middle AND a.aid % 2 = 0;
SELECT pg_sleep(1);

-- And what the vendor tidies up at the end.
DROP INDEX accounts_in_dollars;
ALTER TABLE audit_log RENAME TO teller_log;
INSERT INTO teller_log (what) VALUES ('update finished');
VACUUM teller_log;
