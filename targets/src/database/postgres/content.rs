//! Reads all of a database: its schema as the catalogs tell it, its rows as COPY gives them. Ours are left out.

use std::collections::BTreeMap;

use futures::TryStreamExt;

use super::super::content::{Content, Rows};
use super::connect::{Link, Server, quote, shown};
use crate::TargetError;

/// Tables of the database's user, as a query of (schema, name).
pub(super) const TABLES: &str = "SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'leasehold') ORDER BY 1, 2";

/// What makes up a schema, in words that do not depend on object ids, owners or the search path.
const SCHEMA: [&str; 9] = [
    "SELECT 'schema ' || nspname FROM pg_catalog.pg_namespace n WHERE {own} ORDER BY 1",
    "SELECT 'extension ' || extname || ' ' || extversion FROM pg_catalog.pg_extension ORDER BY 1",
    "SELECT 'column ' || n.nspname || '.' || c.relname || '.' || a.attname || ' ' || c.relkind::text || ' ' || \
     pg_catalog.format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attidentity::text || a.attgenerated::text || \
     ' ' || pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) || ' ' || \
     coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND {own} ORDER BY 1",
    "SELECT 'constraint ' || n.nspname || '.' || c.conrelid::pg_catalog.regclass || ' ' || c.conname || ' ' || \
     pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace WHERE {own} ORDER BY 1",
    "SELECT 'index ' || pg_catalog.pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i \
     JOIN pg_catalog.pg_class c ON c.oid = i.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE {own} ORDER BY 1",
    "SELECT 'view ' || n.nspname || '.' || c.relname || ' ' || pg_catalog.pg_get_viewdef(c.oid) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('v', 'm') AND {own} ORDER BY 1",
    "SELECT 'routine ' || pg_catalog.pg_get_functiondef(p.oid) FROM pg_catalog.pg_proc p \
     JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind IN ('f', 'p') AND {own} \
     AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e') ORDER BY 1",
    "SELECT 'trigger ' || pg_catalog.pg_get_triggerdef(t.oid) FROM pg_catalog.pg_trigger t \
     JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE NOT t.tgisinternal AND {own} ORDER BY 1",
    "SELECT 'sequence ' || schemaname || '.' || sequencename || ' ' || coalesce(last_value::text, '') || ' ' || \
     increment_by FROM pg_catalog.pg_sequences WHERE schemaname <> 'leasehold' ORDER BY 1",
];

/// How many tables a backup will dump.
pub(super) async fn table_count(server: &Server) -> Result<u64, TargetError> {
    let link = server.connect(server.name(), "leasehold").await?;
    Ok(tables(server, &link).await?.len() as u64)
}

async fn tables(server: &Server, link: &Link) -> Result<Vec<(String, String)>, TargetError> {
    let rows = link.query(TABLES, &[]).await.map_err(|e| server.ours("list its tables", e))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, _>>()
        .map_err(|e| server.ours("list its tables", e))
}

/// Rows by table.
pub(super) async fn row_counts(server: &Server, database: &str) -> Result<BTreeMap<String, u64>, TargetError> {
    let link = server.connect(database, "leasehold").await?;
    let mut counts = BTreeMap::new();
    for (schema, name) in tables(server, &link).await? {
        let sql = format!("SELECT count(*) FROM ONLY {}.{}", quote(&schema), quote(&name));
        let row = link.query_one(&sql, &[]).await;
        let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|e| server.ours("count its rows", e))?;
        counts.insert(format!("{}.{}", shown(&schema), shown(&name)), u64::try_from(count).unwrap_or(0));
    }
    Ok(counts)
}

/// Schema and rows, read in one snapshot.
pub(super) async fn checksum(server: &Server, database: &str) -> Result<Content, TargetError> {
    let link = server.connect(database, "leasehold").await?;
    let set_up = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog; \
         SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
         SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1";
    link.batch_execute(set_up).await.map_err(|e| server.ours("read it", e))?;
    let mut content = Content::default();
    let own = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'leasehold')";
    for sql in SCHEMA {
        let rows = link.query(&sql.replace("{own}", own), &[]).await.map_err(|e| server.ours("read its schema", e))?;
        for row in &rows {
            let piece: Option<String> = row.try_get(0).map_err(|e| server.ours("read its schema", e))?;
            content.schema(&piece.unwrap_or_default());
        }
    }
    for (schema, name) in tables(server, &link).await? {
        let table = format!("{}.{}", quote(&schema), quote(&name));
        let rows = rows(server, &link, &table).await?;
        content.table(&table, &rows);
    }
    Ok(content)
}

async fn rows(server: &Server, link: &Link, table: &str) -> Result<Rows, TargetError> {
    // Each message of a COPY is one row.
    let sql = format!("COPY (SELECT * FROM ONLY {table}) TO STDOUT");
    let stream = link.copy_out(&sql).await.map_err(|e| server.ours("read its rows", e))?;
    tokio::pin!(stream);
    let mut rows = Rows::default();
    while let Some(row) = stream.try_next().await.map_err(|e| server.ours("read its rows", e))? {
        rows.add(&row);
    }
    Ok(rows)
}
