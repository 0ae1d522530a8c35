//! One connection that runs a script's statements and keeps their markers.
//!
//! Invariant: our own statements are the last of each transaction, named in full, after the role, the search path and
//! the limits that the script may have set were put aside for the rest of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::super::run::{Broke, Limits, Marker, Session};
use super::super::{StatementError, StatementOutcome};
use super::connect::{Link, Server, TABLES, code, literal, said};
use crate::TargetError;
use crate::script::Statement;

/// Puts aside what a script may have set, up to the end of the transaction.
const OWN_GROUND: &str = "SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE NONE; \
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
    SET LOCAL session_replication_role = DEFAULT; SET LOCAL row_security = off;";

/// The same for a login that is no superuser, who cannot set the last but one.
const OWN_GROUND_PLAIN: &str = "SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE NONE; \
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;";

/// A connection to a database.
pub(super) struct PostgresSession {
    server: Arc<Server>,
    link: Link,
    own_ground: &'static str,
    /// A cancel was sent, and may still hit whatever runs next.
    cancel_sent: bool,
    in_transaction: bool,
    savepoint: bool,
}

/// How long sending a cancel may take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);

impl PostgresSession {
    pub(super) async fn open(server: &Arc<Server>, job: &str) -> Result<Self, TargetError> {
        let link = server.connect(server.name(), &format!("leasehold/{job}")).await?;
        let is_superuser = link
            .query_one("SELECT pg_catalog.current_setting('is_superuser') = 'on'", &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|e| server.ours("ask who we are", e))?;
        let own_ground = if is_superuser { OWN_GROUND } else { OWN_GROUND_PLAIN };
        Ok(Self {
            server: Arc::clone(server),
            link,
            own_ground,
            cancel_sent: false,
            in_transaction: false,
            savepoint: false,
        })
    }

    async fn batch(&self, doing: &str, sql: &str) -> Result<(), TargetError> {
        self.link.batch_execute(sql).await.map_err(|e| self.server.ours(doing, e))
    }

    /// Makes our schema if it is not there, without touching anything if it is.
    async fn make_tables(&self) -> Result<(), TargetError> {
        let sql = "SELECT pg_catalog.to_regclass('leasehold.fence') IS NOT NULL \
                   AND pg_catalog.to_regclass('leasehold.statements') IS NOT NULL";
        let there: bool = self
            .link
            .query_one(sql, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|e| self.server.ours("look for its tables", e))?;
        if there {
            return Ok(());
        }
        // Two sessions may come here at once; one makes the tables, the other waits.
        let sql = format!("BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(5282716); {TABLES} COMMIT;");
        self.batch("make its tables", &sql).await
    }

    pub(super) async fn clear(&self, job: &str) -> Result<u64, TargetError> {
        self.make_tables().await?;
        let sql = "DELETE FROM leasehold.statements WHERE job = $1";
        self.link.execute(sql, &[&job]).await.map_err(|e| self.server.ours("forget markers", e))
    }

    /// Ends the connection of an older holder: it may be paused in a transaction, holding locks.
    async fn end_older_holder(&self, fence: i64) -> Result<(), TargetError> {
        let sql = "SELECT pg_catalog.pg_terminate_backend(a.pid, 10000) FROM leasehold.fence f \
             JOIN pg_catalog.pg_stat_activity a ON a.pid = f.pid AND a.backend_start = f.started \
             WHERE f.fence <= $1 AND a.pid <> pg_catalog.pg_backend_pid()";
        self.link.query(sql, &[&fence]).await.map(|_| ()).map_err(|e| self.server.ours("end an older holder", e))
    }

    async fn seen(&self) -> Result<u64, TargetError> {
        let row = self.link.query_one("SELECT fence FROM leasehold.fence WHERE one = 1", &[]).await;
        let seen: i64 = row.and_then(|row| row.try_get(0)).map_err(|e| self.server.ours("read the fence", e))?;
        Ok(u64::try_from(seen).unwrap_or(0))
    }

    async fn stale(&self, given: u64) -> TargetError {
        match self.seen().await {
            Ok(seen) => TargetError::StaleFence { target: self.server.shown().to_owned(), given, seen },
            Err(error) => error,
        }
    }

    fn broke(&self, doing: &str, error: tokio_postgres::Error) -> Broke {
        match said("", &error) {
            Some(said) if !self.link.is_closed() => Broke::Sql(said),
            _ => Broke::Ended(self.server.ours(doing, error)),
        }
    }

    /// Runs one statement to its end. The extended protocol refuses more than one in a text.
    async fn run_one(&self, text: &str, max_rows: Option<u64>) -> Result<Count, tokio_postgres::Error> {
        let statement = self.link.prepare(text).await?;
        if !statement.params().is_empty() {
            return Ok(Count::Parameters);
        }
        let none: [&(dyn tokio_postgres::types::ToSql + Sync); 0] = [];
        let stream = self.link.query_raw(&statement, none).await?;
        tokio::pin!(stream);
        let mut count = 0;
        while stream.try_next().await?.is_some() {
            count += 1;
            if max_rows.is_some_and(|most| count > most) {
                return Ok(Count::TooMany);
            }
        }
        Ok(Count::Rows(stream.rows_affected().unwrap_or(count)))
    }

    /// Lets a cancel that came late hit nothing of ours.
    async fn absorb_cancel(&mut self) {
        if std::mem::take(&mut self.cancel_sent) {
            let _ = self.link.batch_execute("SELECT pg_catalog.pg_sleep(0.01)").await;
        }
    }

    fn marker_sql(job: &str, fence: u64, marker: &Marker) -> Result<String, TargetError> {
        let outcome = serde_json::to_string(&marker.outcome)
            .map_err(|error| TargetError::Corrupt { what: "a marker".to_owned(), why: error.to_string() })?;
        Ok(format!(
            "INSERT INTO leasehold.statements AS s (job, idx, fence, state, digest, outcome) \
             VALUES ({}, {}, {}, '{}', '{}', {}) ON CONFLICT (job, idx) DO UPDATE SET fence = excluded.fence, \
             state = excluded.state, outcome = excluded.outcome, at = pg_catalog.clock_timestamp() \
             WHERE s.state = 'begun' AND excluded.state = 'done';",
            literal(job),
            marker.outcome.index,
            fence,
            if marker.done { "done" } else { "begun" },
            marker.digest,
            literal(&outcome),
        ))
    }
}

fn is_copy(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("copy"))
}

/// What a statement returned.
enum Count {
    /// Rows returned or changed.
    Rows(u64),
    /// More than it may; the rest was not read.
    TooMany,
    /// It has parameters, and was not run.
    Parameters,
}

/// The row counts of the statements of a batch.
fn counts(answers: &[SimpleQueryMessage]) -> Vec<u64> {
    let count = |answer: &SimpleQueryMessage| match answer {
        SimpleQueryMessage::CommandComplete(count) => Some(*count),
        _ => None,
    };
    answers.iter().filter_map(count).collect()
}

#[async_trait]
impl Session for PostgresSession {
    async fn claim(&mut self, fence: u64) -> Result<(), TargetError> {
        self.make_tables().await?;
        let given = i64::try_from(fence).unwrap_or(i64::MAX);
        self.end_older_holder(given).await?;
        let sql = "UPDATE leasehold.fence SET fence = $1, pid = pg_catalog.pg_backend_pid(), \
             started = (SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()) \
             WHERE one = 1 AND fence <= $1";
        match self.link.execute(sql, &[&given]).await.map_err(|e| self.server.ours("raise the fence", e))? {
            1 => super::restore::publish_fence(&self.server, &self.link, fence).await,
            _ => Err(self.stale(fence).await),
        }
    }

    async fn load(&mut self, job: &str) -> Result<Vec<Marker>, TargetError> {
        self.make_tables().await?;
        let sql = "SELECT state, digest, outcome FROM leasehold.statements WHERE job = $1 ORDER BY idx";
        let rows = self.link.query(sql, &[&job]).await.map_err(|e| self.server.ours("read markers", e))?;
        rows.iter()
            .map(|row| {
                let read = |at| row.try_get::<_, String>(at).map_err(|e| self.server.ours("read markers", e));
                let outcome: StatementOutcome =
                    serde_json::from_str(&read(2)?).map_err(|error| TargetError::Corrupt {
                        what: format!("a marker in {}", self.server.shown()),
                        why: error.to_string(),
                    })?;
                Ok(Marker { done: read(0)? == "done", digest: read(1)?, outcome })
            })
            .collect()
    }

    async fn begin(&mut self) -> Result<(), TargetError> {
        self.absorb_cancel().await;
        self.batch("open a transaction", "BEGIN READ WRITE; SAVEPOINT leasehold_statement").await?;
        (self.in_transaction, self.savepoint) = (true, true);
        Ok(())
    }

    async fn begin_as(&mut self, words: Option<&str>) -> Result<(), Broke> {
        self.absorb_cancel().await;
        let words = words.unwrap_or("BEGIN READ WRITE");
        self.run_one(words, None).await.map_err(|error| self.broke("open a transaction", error))?;
        (self.in_transaction, self.savepoint) = (true, false);
        Ok(())
    }

    async fn run(&mut self, text: &str, limits: &Limits) -> Result<u64, Broke> {
        let limit = async {
            match limits.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let token = self.link.cancel_token();
        let (done, fired) = {
            let work = self.run_one(text, limits.max_rows);
            tokio::pin!(work);
            let fired = tokio::select! {
                biased;
                done = &mut work => Err(done),
                () = limits.cancel.cancelled() => Ok(Broke::Cancelled),
                () = limit => Ok(Broke::Sql(StatementError::new(
                    "statement_timeout", "it took longer than one statement may"))),
            };
            match fired {
                Err(done) => (done, None),
                Ok(fired) => {
                    // If it cannot be sent, the statement's own end is what we wait for.
                    let _ = tokio::time::timeout(CANCEL_PATIENCE, token.cancel_query(NoTls)).await;
                    (work.await, Some(fired))
                }
            }
        };
        self.cancel_sent |= fired.is_some();
        let ended = |error| Broke::Ended(self.server.ours("run a statement", error));
        match (done, fired) {
            (Ok(Count::TooMany), _) => {
                let text = "it returns more rows than a statement may";
                Err(Broke::Sql(StatementError::new("too_many_rows", text)))
            }
            (Ok(Count::Parameters), _) => {
                let text = "a script has no values for parameters such as $1; write the value in its place";
                Err(Broke::Sql(StatementError::new("parameters", text)))
            }
            // Outside of a transaction it is done, however late.
            (Ok(Count::Rows(count)), Some(_)) if !self.in_transaction => Ok(count),
            (Ok(Count::Rows(count)), None) => Ok(count),
            (Err(error), _) if self.link.is_closed() || error.is_closed() => Err(ended(error)),
            (_, Some(fired)) => Err(fired),
            (Err(error), None) => match said(text, &error) {
                Some(said) if said.code.starts_with("57P") => Err(ended(error)),
                Some(said) => Err(Broke::Sql(said)),
                None if is_copy(text) => {
                    let text = "COPY … TO STDOUT and COPY … FROM STDIN speak with a client, and a script has none; \
                                write SELECT or INSERT, or COPY with a file or a program of the server";
                    Err(Broke::Sql(StatementError::new("copy_without_client", text)))
                }
                None => Err(Broke::Sql(StatementError::new("driver", error.to_string()))),
            },
        }
    }

    async fn undo(&mut self) -> Result<(), TargetError> {
        if self.cancel_sent {
            self.rollback().await?;
            return self.begin().await;
        }
        self.batch("undo a statement", "ROLLBACK TO SAVEPOINT leasehold_statement").await
    }

    async fn record(&mut self, job: &str, fence: u64, markers: &[Marker]) -> Result<(), Broke> {
        // The savepoint takes a read-only mode that the statement set with it.
        let release = if self.savepoint { "RELEASE SAVEPOINT leasehold_statement;" } else { "" };
        let mut sql = format!(
            "{release} {} UPDATE leasehold.fence SET fence = {fence} WHERE one = 1 AND fence <= {fence};",
            self.own_ground
        );
        let before = self.own_ground.matches(';').count() + release.matches(';').count();
        self.savepoint = false;
        for marker in markers {
            sql.push_str(&Self::marker_sql(job, fence, marker)?);
        }
        let answers = match self.link.simple_query(&sql).await {
            Ok(answers) => counts(&answers),
            Err(error) => return Err(self.broke("write a marker", error)),
        };
        if answers.get(before) != Some(&1) {
            self.rollback().await?;
            return Err(Broke::Ended(self.stale(fence).await));
        }
        if answers.iter().skip(before + 1).any(|&count| count != 1) {
            self.rollback().await?;
            return Err(Broke::Ended(TargetError::Busy {
                target: self.server.shown().to_owned(),
                why: format!("another run of job {job} has recorded the same statement"),
            }));
        }
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Broke> {
        self.link.batch_execute("COMMIT").await.map_err(|error| self.broke("commit", error))?;
        self.in_transaction = false;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), TargetError> {
        // Outside of a transaction it is a warning.
        let mut rolled_back = self.link.batch_execute("ROLLBACK").await;
        if rolled_back.as_ref().is_err_and(|error| code(error) == Some("57014")) {
            rolled_back = self.link.batch_execute("ROLLBACK").await;
        }
        rolled_back.map_err(|e| self.server.ours("roll back", e))?;
        self.in_transaction = false;
        self.absorb_cancel().await;
        Ok(())
    }

    async fn reopen(&mut self, job: &str, fence: u64) -> Result<(), TargetError> {
        *self = Self::open(&self.server, job).await?;
        self.claim(fence).await
    }

    fn may_retry(&self, error: &StatementError) -> bool {
        error.code == "40001" || error.code == "40P01"
    }

    /// SQLSTATE 25001 says it; a procedure or a `DO` that commits says 2D000.
    fn needs_alone(&self, statement: &Statement, error: &StatementError) -> bool {
        let word = statement.text.split_whitespace().next().unwrap_or_default();
        let commits = word.eq_ignore_ascii_case("call") || word.eq_ignore_ascii_case("do");
        error.code == "25001" || (error.code == "2D000" && commits)
    }
}
