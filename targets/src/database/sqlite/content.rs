//! Reads all of a database file: its tables, its rows, its checksum. Our own tables are left out.

use std::collections::BTreeMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};

use super::super::content::{Content, Rows};

/// Tables of the file's user, by name.
pub(super) fn user_tables(connection: &Connection) -> Result<Vec<String>> {
    let mut query = connection.prepare(
        r"SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
          AND name NOT LIKE 'leasehold\_%' ESCAPE '\' ORDER BY name",
    )?;
    query.query_map([], |row| row.get(0))?.collect()
}

/// Rows by table.
pub(super) fn row_counts(connection: &Connection) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for table in user_tables(connection)? {
        let count =
            connection.query_row(&format!("SELECT count(*) FROM main.{}", quote(&table)), [], |row| row.get(0))?;
        counts.insert(table, count);
    }
    Ok(counts)
}

/// Schema and rows, read in one snapshot.
pub(super) fn checksum(connection: &mut Connection) -> Result<Content> {
    let snapshot = connection.transaction()?;
    let mut content = Content::default();
    let version: i64 = snapshot.pragma_query_value(None, "user_version", |row| row.get(0))?;
    content.schema(&format!("user_version {version}"));
    let mut schema = snapshot.prepare(
        r"SELECT type, name, tbl_name, coalesce(sql, '') FROM main.sqlite_master WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'
          AND tbl_name NOT LIKE 'leasehold\_%' ESCAPE '\' ORDER BY type, name",
    )?;
    let mut pieces = schema.query([])?;
    while let Some(row) = pieces.next()? {
        for column in 0..4 {
            content.schema(&row.get::<_, String>(column)?);
        }
    }
    for table in user_tables(&snapshot)? {
        content.table(&table, &rows(&snapshot, &table)?);
    }
    Ok(content)
}

fn rows(connection: &Connection, table: &str) -> Result<Rows> {
    let mut query = connection.prepare(&format!("SELECT * FROM main.{}", quote(table)))?;
    let columns = query.column_count();
    let mut found = query.query([])?;
    let mut rows = Rows::default();
    let mut bytes = Vec::new();
    while let Some(row) = found.next()? {
        bytes.clear();
        for column in 0..columns {
            put(&mut bytes, row.get_ref(column)?);
        }
        rows.add(&bytes);
    }
    Ok(rows)
}

fn put(bytes: &mut Vec<u8>, value: ValueRef<'_>) {
    let (tag, piece): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => {
            bytes.push(1);
            return bytes.extend(number.to_be_bytes());
        }
        ValueRef::Real(number) => {
            bytes.push(2);
            return bytes.extend(number.to_bits().to_be_bytes());
        }
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    bytes.push(tag);
    bytes.extend((piece.len() as u64).to_be_bytes());
    bytes.extend(piece);
}

/// A name as SQL.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
