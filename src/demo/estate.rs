//! The sandbox estate: two tenants, three SQLite data centers with a small ERP schema, a quarter of a million rows.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::error::Result;

/// The tenant whose data centers are worked on.
pub(super) const FIRST: &str = "t-huaxin";
/// The tenant that uses up its updates of the day.
pub(super) const SECOND: &str = "t-lanhai";
/// The data centers: tenant, id, name.
pub(super) const CENTERS: [(&str, &str, &str); 3] =
    [(FIRST, "dc-prod", "华信正式"), (FIRST, "dc-test", "华信测试"), (SECOND, "dc-prod", "蓝海正式")];
/// Rows of a data center.
const CUSTOMERS: u32 = 5_000;
const PRODUCTS: u32 = 1_000;
const ORDERS: u32 = 20_000;
const LINES: u32 = 40_000;
const LEDGER: u32 = 14_000;

const SCHEMA: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, credit INTEGER NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, sku TEXT NOT NULL UNIQUE, price_fen INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL REFERENCES customers, day TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE order_lines (id INTEGER PRIMARY KEY, orders INTEGER NOT NULL REFERENCES orders, product INTEGER NOT NULL REFERENCES products, quantity INTEGER NOT NULL, fen INTEGER NOT NULL);
CREATE TABLE ledger (id INTEGER PRIMARY KEY, account TEXT NOT NULL, fen INTEGER NOT NULL, orders INTEGER REFERENCES orders);
CREATE TABLE proof (statement INTEGER PRIMARY KEY, times INTEGER NOT NULL);
INSERT INTO proof VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0);
";

/// The file of a data center.
pub(super) fn file(folder: &Path, tenant: &str, center: &str) -> PathBuf {
    folder.join("estate").join(format!("{tenant}-{center}.db"))
}

/// Makes one data center; returns its rows.
pub(super) fn build(folder: &Path, tenant: &str, center: &str) -> Result<u64> {
    let path = file(folder, tenant, center);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut db = Connection::open(&path)?;
    db.execute_batch(SCHEMA)?;
    let fill = db.transaction()?;
    let series = |n: u32, into: &str, select: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {n}) INSERT INTO {into} SELECT {select} FROM n"
        )
    };
    let mut rows = 5;
    for (n, into, select) in [
        (
            CUSTOMERS,
            "customers",
            "i, '客户 ' || i, CASE i % 3 WHEN 0 THEN '上海' WHEN 1 THEN '深圳' ELSE '成都' END, i % 100 * 1000",
        ),
        (PRODUCTS, "products", "i, printf('SKU-%05d', i), 100 + i * 7 % 9000"),
        (
            ORDERS,
            "orders",
            "i, 1 + i % 5000, date('2026-01-01', '+' || (i % 300) || ' days'), CASE i % 5 WHEN 0 THEN 'open' ELSE 'closed' END",
        ),
        (LINES, "order_lines", "i, 1 + i % 20000, 1 + i % 1000, 1 + i % 9, 100 + i * 13 % 50000"),
        (LEDGER, "ledger", "i, printf('%04d', 1000 + i % 40), i * 37 % 100000 - 50000, 1 + i % 20000"),
    ] {
        rows += fill.execute(&series(n, into, select), [])? as u64;
    }
    fill.commit()?;
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA synchronous = FULL;")?;
    Ok(rows)
}

/// A tenant's document.
pub(super) fn tenant(folder: &Path, id: &str, name: &str) -> Value {
    let centers: Vec<Value> = CENTERS
        .iter()
        .filter(|(tenant, ..)| *tenant == id)
        .map(|(tenant, center, name)| {
            json!({ "id": center, "name": name, "database": format!("sqlite:{}", file(folder, tenant, center).display()) })
        })
        .collect();
    let end = (chrono::Utc::now() + chrono::Duration::days(200)).format("%Y-%m-%d").to_string();
    json!({
        "name": name, "formal": true, "lease_end": end,
        "contacts": [{ "user_id": "admin", "roles": ["enterprise_admin"], "email": format!("admin@{id}.example"), "yunzhijia_id": format!("yz-{id}") }],
        "environments": [{ "id": "production", "kind": "production", "data_centers": centers }],
    })
}
