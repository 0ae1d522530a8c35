//! Restores into a new database, proves it, and puts it in the place of the old one.
//!
//! Invariant: at every moment the name leads to a whole database. Both renames are one transaction, in which the newest
//! fence, kept as a setting of the database where the whole server sees it, is checked under the database's own lock.

use std::process::Stdio;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::content::Content;
use super::super::run::Session;
use super::super::{OnProgress, RestoreFacts, RestorePlan};
use super::beside::{MARK, drop_database, drop_ours, expect_free, is_ours, new_name, old_name, sweep};
use super::connect::{Link, Server, TABLES, code, parts, quote};
use super::dump::{Watch, verify};
use super::owners::Ownership;
use super::session::PostgresSession;
use super::setup::Setup;
use super::{content, tools};
use crate::TargetError;

/// The longest name that leaves room for our suffixes in PostgreSQL's 63 bytes.
const LONGEST: usize = 40;

/// How often the swap is tried while somebody keeps connecting.
const SWAPS: u32 = 8;

/// Restores `plan.source` in the place of the server's database.
pub(super) async fn restore(
    server: &std::sync::Arc<Server>,
    plan: &RestorePlan,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<RestoreFacts, TargetError> {
    let name = server.name();
    if name.len() > LONGEST {
        return Err(TargetError::BadName { name: name.to_owned(), why: format!("longer than {LONGEST} bytes") });
    }
    let maintenance = server.maintenance().await?;
    let existed = server.exists(&maintenance, name).await?;
    if existed {
        PostgresSession::open(server, &plan.job).await?.claim(plan.fence).await?;
    }
    sweep(server, &maintenance, plan.fence).await?;
    let setup = match existed {
        true => Some(Setup::of(server, &maintenance, name).await?),
        false => None,
    };
    let (new, old) = (new_name(name, plan.fence), old_name(name, plan.fence));
    for name in [&new, &old] {
        expect_free(server, &maintenance, name).await?;
    }
    let swap = Swap { server, maintenance: &maintenance, setup: setup.as_ref(), fence: plan.fence };
    let done = replace(&swap, (&new, &old), plan, progress, cancel).await;
    match done {
        Ok(facts) => {
            drop_ours(server, &maintenance, &old).await?;
            Ok(facts)
        }
        Err(error) => {
            swap.put_back(&old).await;
            if let Err(error) = drop_ours(server, &maintenance, &new).await {
                tracing::warn!(database = new, %error, "a half restored database stays until the next restore");
            }
            Err(error)
        }
    }
}

/// Fills `new` from the backup, proves it, and puts it in place.
async fn replace(
    swap: &Swap<'_>,
    (new, old): (&str, &str),
    plan: &RestorePlan,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<RestoreFacts, TargetError> {
    let (server, maintenance) = (swap.server, swap.maintenance);
    let backup = verify(&plan.source, plan.sha256.as_deref()).await?;
    let total = backup.tables.len() as u64;
    let mut notes = fill(server, maintenance, (new, swap.setup), plan, total, (progress, cancel)).await?;
    let tables = content::row_counts(server, new).await?;
    if let Some((table, rows)) = backup.tables.iter().find(|(table, rows)| counted(&tables, table) != Some(**rows)) {
        return Err(TargetError::Corrupt {
            what: plan.source.display().to_string(),
            why: format!("table {table} has {rows} rows in the backup, and another number when restored"),
        });
    }
    let expected = content::checksum(server, new).await?.finish();
    stop_if_cancelled(cancel)?;
    if let Some(setup) = swap.setup {
        let missing = setup.put_on(server, maintenance, new).await?;
        notes.extend(missing.iter().map(|what| format!("this login may not carry over {what}")));
    }
    swap.done(new, swap.setup.is_some().then_some(old)).await?;
    prove(server, &expected).await.map(|()| RestoreFacts { bytes: backup.bytes, tables, notes })
}

/// A table's rows: the dump quotes other names than we do.
fn counted(tables: &std::collections::BTreeMap<String, u64>, dumped: &str) -> Option<u64> {
    let named = parts(dumped);
    tables.iter().find(|(table, _)| parts(table) == named).map(|(_, &rows)| rows)
}

/// Makes a database like the old one and fills it from the backup; says what is otherwise than in the backup.
async fn fill(
    server: &Server,
    maintenance: &Link,
    (new, setup): (&str, Option<&Setup>),
    plan: &RestorePlan,
    total: u64,
    (progress, cancel): (&OnProgress, &CancellationToken),
) -> Result<Vec<String>, TargetError> {
    drop_ours(server, maintenance, new).await?;
    let options = setup.map(Setup::options).unwrap_or_default();
    let sql = format!("CREATE DATABASE {} TEMPLATE template0 {options} CONNECTION LIMIT {MARK}", quote(new));
    maintenance.batch_execute(&sql).await.map_err(|e| server.ours("make a database beside it", e))?;
    let owner = setup.map(|setup| setup.owner.as_str());
    let ownership = Ownership::choose(server, maintenance, &plan.source, owner).await?;
    let mut command = tools::command("pg_restore")?;
    command.args(["--exit-on-error", "--no-password", "--verbose", "--dbname", new]).args(&ownership.arguments);
    command.arg(&plan.source);
    tools::connect(&mut command, server, new, &format!("leasehold/{}", plan.job));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| TargetError::io("run pg_restore for", &plan.source, error))?;
    let watch = Watch { tool: "pg_restore", mark: "processing data for table", text: "restoring tables", total };
    watch.end_of(&mut child, &plan.source, progress, cancel).await?;
    let link = server.connect(new, "leasehold").await?;
    // The backup brings an older fence along: ours must hold from the first moment.
    let sql =
        format!("{TABLES} UPDATE leasehold.fence SET fence = {}, pid = NULL, started = NULL; ANALYZE;", plan.fence);
    link.batch_execute(&sql).await.map_err(|e| server.ours("prepare what was restored", e))?;
    Ok(ownership.note.into_iter().collect())
}

/// Who puts one database in the place of another.
struct Swap<'s> {
    server: &'s Server,
    maintenance: &'s Link,
    /// How the old database is set up; `None` where there was none.
    setup: Option<&'s Setup>,
    fence: u64,
}

impl Swap<'_> {
    /// Puts `new` in the place of our database, and that one aside as `old`; all of it or nothing.
    async fn done(&self, new: &str, old: Option<&str>) -> Result<(), TargetError> {
        for attempt in 1.. {
            end_sessions(self.server, self.maintenance, &[self.server.name(), new]).await?;
            let swapped = self.once(new, old).await;
            if swapped.is_err() {
                let rolled_back = self.maintenance.batch_execute("ROLLBACK").await;
                rolled_back.map_err(|e| self.server.ours("roll back", e))?;
            }
            match swapped {
                // 55006: somebody connected in between.
                Err(TargetError::Sql { sqlstate, .. }) if sqlstate == "55006" && attempt < SWAPS => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => return other,
            }
        }
        Ok(())
    }

    async fn once(&self, new: &str, old: Option<&str>) -> Result<(), TargetError> {
        let Self { server, maintenance, fence, .. } = *self;
        let doing = "put the restored database in place";
        let run = async |sql: String| maintenance.batch_execute(&sql).await.map_err(|e| server.ours(doing, e));
        let name = quote(server.name());
        run("BEGIN".to_owned()).await?;
        if let Some(old) = old {
            // From here nobody can connect to it or set its fence until this transaction ends.
            run(format!("ALTER DATABASE {name} RENAME TO {}", quote(old))).await?;
            let seen = published_fence(server, maintenance, old).await?;
            if let Some(seen) = seen.filter(|&seen| seen > fence) {
                return Err(TargetError::StaleFence { target: server.shown().to_owned(), given: fence, seen });
            }
            run(format!("ALTER DATABASE {} CONNECTION LIMIT {MARK}", quote(old))).await?;
        }
        let limit = self.setup.map_or(-1, |setup| setup.limit);
        run(format!("ALTER DATABASE {} RENAME TO {name}", quote(new))).await?;
        run(format!("ALTER DATABASE {name} CONNECTION LIMIT {limit}")).await?;
        run(format!("ALTER DATABASE {name} SET leasehold.fence = '{fence}'")).await?;
        run("COMMIT".to_owned()).await
    }

    /// After a failure: if the old database stands aside, it comes back.
    async fn put_back(&self, old: &str) {
        let Self { server, maintenance, fence, .. } = *self;
        let back = async {
            if is_ours(server, maintenance, old).await? != Some(true) {
                return Ok(());
            }
            let broken = new_name(server.name(), fence);
            let there = server.exists(maintenance, server.name()).await?;
            self.done(old, there.then_some(broken.as_str())).await
        };
        if let Err(error) = back.await {
            tracing::error!(target = server.shown(), old, %error, "the old database could not be put back");
        }
    }
}

/// What stands in place now is what was proven before.
async fn prove(server: &Server, expected: &str) -> Result<(), TargetError> {
    let found = content::checksum(server, server.name()).await?.finish();
    match found == expected {
        true => Ok(()),
        // Somebody may have connected and written already: that is theirs to keep, and no damage.
        false => {
            tracing::warn!(
                target = server.shown(),
                "the restored database was written to before it could be read again"
            );
            Ok(())
        }
    }
}

async fn end_sessions(server: &Server, maintenance: &Link, databases: &[&str]) -> Result<(), TargetError> {
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity \
         WHERE datname = ANY($1) AND pid <> pg_catalog.pg_backend_pid()";
    maintenance.query(sql, &[&databases]).await.map(|_| ()).map_err(|e| server.ours("end its sessions", e))
}

/// Shows the whole server the newest fence of a database.
pub(super) async fn publish_fence(server: &Server, link: &Link, fence: u64) -> Result<(), TargetError> {
    let sql = format!("ALTER DATABASE {} SET leasehold.fence = '{fence}'", quote(server.name()));
    match link.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        // Only an owner may set it, and only an owner could restore over it.
        Err(error) if code(&error) == Some("42501") => Ok(()),
        Err(error) => Err(server.ours("show the fence", error)),
    }
}

async fn published_fence(server: &Server, maintenance: &Link, database: &str) -> Result<Option<u64>, TargetError> {
    let sql = "SELECT pg_catalog.max(pg_catalog.split_part(setting, '=', 2)::bigint) FROM pg_catalog.pg_database d \
         JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid AND s.setrole = 0, \
         pg_catalog.unnest(s.setconfig) AS setting WHERE d.datname = $1 AND setting LIKE 'leasehold.fence=%'";
    let row = maintenance.query_one(sql, &[&database]).await.map_err(|e| server.ours("read the fence", e))?;
    let seen: Option<i64> = row.try_get(0).map_err(|e| server.ours("read the fence", e))?;
    Ok(seen.and_then(|seen| u64::try_from(seen).ok()))
}

/// The checksum of what a backup restores to, from a database made for that alone.
pub(super) async fn checksum_of(server: &Server, backup: &std::path::Path) -> Result<String, TargetError> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).map_err(|error| TargetError::Unreachable {
        target: "the system's random numbers".to_owned(),
        doing: "name a database".to_owned(),
        source: error.to_string().into(),
    })?;
    let short: String = server.name().chars().take(LONGEST / 4).collect();
    let scratch = format!("{short}__c_{}", hex::encode(random));
    let maintenance = server.maintenance().await?;
    let plan = RestorePlan { source: backup.to_owned(), sha256: None, job: "checksum".to_owned(), fence: 0 };
    let cancel = CancellationToken::new();
    // Of the same sort as the database: what it cannot hold, and how it sorts, must show in the same way.
    let setup = match server.exists(&maintenance, server.name()).await? {
        true => Some(Setup::of(server, &maintenance, server.name()).await?),
        false => None,
    };
    let made = (scratch.as_str(), setup.as_ref());
    let filled = fill(server, &maintenance, made, &plan, 0, (&super::super::quiet(), &cancel)).await;
    let content = match filled {
        Ok(_) => content::checksum(server, &scratch).await.map(Content::finish),
        Err(error) => Err(error),
    };
    drop_database(server, &maintenance, &scratch).await?;
    content
}

/// Removes the database for good.
pub(super) async fn destroy(server: &std::sync::Arc<Server>, fence: u64) -> Result<bool, TargetError> {
    let maintenance = server.maintenance().await?;
    let existed = server.exists(&maintenance, server.name()).await?;
    if existed {
        PostgresSession::open(server, "destroy").await?.claim(fence).await?;
    }
    sweep(server, &maintenance, fence).await?;
    drop_database(server, &maintenance, server.name()).await?;
    Ok(existed)
}

fn stop_if_cancelled(cancel: &CancellationToken) -> Result<(), TargetError> {
    match cancel.is_cancelled() {
        true => Err(TargetError::Cancelled { doing: "restore".to_owned() }),
        false => Ok(()),
    }
}
