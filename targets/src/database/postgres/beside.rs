//! The databases that a restore makes beside ours, and how they are told from other people's.
//!
//! Invariant: a database is dropped only if it carries our mark. The mark is a connection limit that nobody would set:
//! unlike a comment or a setting, it can be given in the same statement that makes a database, and in the transaction
//! that puts one aside, so that no crash leaves one of ours without it.

use super::connect::{Link, Server, quote};
use crate::TargetError;

/// The connection limit that marks a database as one of ours ("LEAS"). It limits nobody.
pub(super) const MARK: i32 = 0x4c45_4153;

/// The name of the database that a restore fills.
pub(super) fn new_name(name: &str, fence: u64) -> String {
    format!("{name}__r_{fence:x}")
}

/// The name under which a restore puts the old database aside.
pub(super) fn old_name(name: &str, fence: u64) -> String {
    format!("{name}__old_{fence:x}")
}

/// Whether there is a database of this name with our mark; `None` where there is none of the name.
pub(super) async fn is_ours(server: &Server, maintenance: &Link, name: &str) -> Result<Option<bool>, TargetError> {
    let sql = "SELECT datconnlimit = $2 FROM pg_catalog.pg_database WHERE datname = $1";
    let row = maintenance.query_opt(sql, &[&name, &MARK]).await;
    row.and_then(|row| row.map(|row| row.try_get(0)).transpose()).map_err(|e| server.ours("look beside it", e))
}

/// Drops a database of ours; one of somebody else's is left alone.
pub(super) async fn drop_ours(server: &Server, maintenance: &Link, name: &str) -> Result<(), TargetError> {
    match is_ours(server, maintenance, name).await? {
        Some(true) => drop_database(server, maintenance, name).await,
        Some(false) | None => Ok(()),
    }
}

/// Refuses to go on where somebody else's database has a name that we need: the next attempt has another fence, and
/// with it another name.
pub(super) async fn expect_free(server: &Server, maintenance: &Link, name: &str) -> Result<(), TargetError> {
    match is_ours(server, maintenance, name).await? {
        Some(false) => Err(TargetError::Busy {
            target: server.shown().to_owned(),
            why: format!("a database {name}, which no restore has made, has the name that this restore would use"),
        }),
        Some(true) | None => Ok(()),
    }
}

/// Removes what restores with older fences left behind; a paused one of them then finds nothing to put in place.
pub(super) async fn sweep(server: &Server, maintenance: &Link, fence: u64) -> Result<(), TargetError> {
    let sql = "SELECT datname::text FROM pg_catalog.pg_database WHERE datconnlimit = $1";
    let rows = maintenance.query(sql, &[&MARK]).await.map_err(|e| server.ours("look for leftovers", e))?;
    for row in &rows {
        let found: String = row.try_get(0).map_err(|e| server.ours("look for leftovers", e))?;
        let suffix = found.strip_prefix(server.name()).unwrap_or_default();
        let left = suffix.strip_prefix("__r_").or_else(|| suffix.strip_prefix("__old_"));
        if left.and_then(|left| u64::from_str_radix(left, 16).ok()).is_some_and(|left| left <= fence) {
            drop_database(server, maintenance, &found).await?;
        }
    }
    Ok(())
}

/// Drops a database, whoever is connected to it.
pub(super) async fn drop_database(server: &Server, maintenance: &Link, name: &str) -> Result<(), TargetError> {
    let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(name));
    maintenance.batch_execute(&sql).await.map_err(|e| server.ours("drop a database", e))
}
