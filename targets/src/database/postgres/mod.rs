//! The PostgreSQL driver: the server's own `pg_dump` and `pg_restore`, and one session for a script.
//!
//! Invariant: a restore replaces the database by one transaction of two renames, in which the newest fence is checked.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::content::Content;
use super::run::{self, Session};
use super::{
    BackupFacts, BackupPlan, Database, Estimate, ExecuteOptions, OnProgress, OnStatement, Probe, RestoreFacts,
    RestorePlan, ScriptReport, StatementOutcome,
};
use crate::TargetError;
use crate::script::{Dialect, Script};

mod beside;
mod connect;
mod content;
mod dump;
mod owners;
mod restore;
mod session;
mod setup;
mod tools;

use connect::Server;
use session::PostgresSession;

/// One database of a server.
pub(super) struct Postgres {
    server: Arc<Server>,
}

impl Postgres {
    pub(super) fn new(config: tokio_postgres::Config, shown: String) -> Self {
        Self { server: Arc::new(Server::new(config, shown)) }
    }

    async fn number(&self, doing: &str, sql: &str) -> Result<u64, TargetError> {
        let link = self.server.connect(self.server.name(), "leasehold").await?;
        let number: i64 =
            link.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(|e| self.server.ours(doing, e))?;
        Ok(u64::try_from(number).unwrap_or(0))
    }
}

#[async_trait]
impl Database for Postgres {
    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn shown(&self) -> String {
        self.server.shown().to_owned()
    }

    async fn probe(&self) -> Result<Probe, TargetError> {
        let link = self.server.connect(self.server.name(), "leasehold").await?;
        let row =
            link.query_one("SHOW server_version", &[]).await.map_err(|e| self.server.ours("ask its version", e))?;
        let version = row.try_get(0).map_err(|e| self.server.ours("ask its version", e))?;
        Ok(Probe { engine: "postgres".to_owned(), version })
    }

    async fn create(&self) -> Result<bool, TargetError> {
        if self.exists().await? {
            return Ok(false);
        }
        let sql = format!("CREATE DATABASE {} TEMPLATE template0", connect::quote(self.server.name()));
        let link = self.server.maintenance().await?;
        link.batch_execute(&sql).await.map_err(|e| self.server.ours("create it", e))?;
        Ok(true)
    }

    async fn exists(&self) -> Result<bool, TargetError> {
        self.server.exists(&self.server.maintenance().await?, self.server.name()).await
    }

    async fn size(&self) -> Result<u64, TargetError> {
        self.number("ask its size", "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())").await
    }

    async fn estimate(&self) -> Result<Estimate, TargetError> {
        let database_bytes = self.size().await?;
        let sql = format!("SELECT count(*) FROM ({}) AS t", content::TABLES);
        let tables = self.number("count its tables", &sql).await?;
        Ok(Estimate { database_bytes, backup_bytes: database_bytes, tables })
    }

    async fn backup(
        &self,
        plan: &BackupPlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<BackupFacts, TargetError> {
        dump::backup(&self.server, plan, &progress, &cancel).await
    }

    async fn verify(&self, backup: &Path, sha256: Option<&str>) -> Result<BackupFacts, TargetError> {
        dump::verify(backup, sha256).await
    }

    async fn restore(
        &self,
        plan: &RestorePlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<RestoreFacts, TargetError> {
        restore::restore(&self.server, plan, &progress, &cancel).await
    }

    async fn execute(
        &self,
        script: &Script,
        options: &ExecuteOptions,
        observer: OnStatement,
        cancel: CancellationToken,
    ) -> Result<ScriptReport, TargetError> {
        let mut session = PostgresSession::open(&self.server, &options.job).await?;
        run::execute(&mut session, script, options, &observer, cancel).await
    }

    async fn recorded(&self, job: &str) -> Result<Vec<StatementOutcome>, TargetError> {
        let mut session = PostgresSession::open(&self.server, job).await?;
        let markers = session.load(job).await?;
        let shown = |marker: run::Marker| StatementOutcome {
            unknown: !marker.done || marker.outcome.unknown,
            ..marker.outcome
        };
        Ok(markers.into_iter().map(shown).collect())
    }

    async fn clear_markers(&self, job: &str) -> Result<u64, TargetError> {
        PostgresSession::open(&self.server, job).await?.clear(job).await
    }

    async fn checksum(&self) -> Result<String, TargetError> {
        content::checksum(&self.server, self.server.name()).await.map(Content::finish)
    }

    async fn checksum_of(&self, backup: &Path) -> Result<String, TargetError> {
        restore::checksum_of(&self.server, backup).await
    }

    async fn destroy(&self, fence: u64) -> Result<bool, TargetError> {
        restore::destroy(&self.server, fence).await
    }
}
