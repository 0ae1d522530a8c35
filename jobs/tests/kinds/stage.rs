//! A database that can be held in the middle of an operation, broken, and watched for two operations at once.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use leasehold_targets::TargetError;
use leasehold_targets::database::{
    BackupFacts, BackupPlan, Database, Estimate, ExecuteOptions, OnProgress, OnStatement, Probe, RestoreFacts,
    RestorePlan, ScriptReport, StatementOutcome,
};
use leasehold_targets::script::{Dialect, Script};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a test does to the databases of its estate.
#[derive(Default)]
pub(crate) struct Stage {
    /// Told when a held operation has begun.
    pub(crate) began: Notify,
    /// Lets the held operation go on.
    pub(crate) go_on: Notify,
    held: Mutex<Option<&'static str>>,
    held_until_cancelled: Mutex<Option<&'static str>>,
    lost_after: Mutex<Option<u32>>,
    broken_restores: AtomicU32,
    running: Mutex<Vec<String>>,
    /// Two operations that ran at the same time on one database.
    pub(crate) overlaps: Mutex<Vec<String>>,
    /// Operations in the order in which they began.
    pub(crate) order: Mutex<Vec<String>>,
}

impl Stage {
    /// Holds the next `backup`, `restore` or `execute`.
    pub(crate) fn hold(&self, what: &'static str) {
        *self.held.lock().unwrap() = Some(what);
    }

    /// Holds the next one until its token is cancelled.
    pub(crate) fn hold_until_cancelled(&self, what: &'static str) {
        *self.held_until_cancelled.lock().unwrap() = Some(what);
    }

    /// The next script stops for ever after so many statements, as if its worker were lost there.
    pub(crate) fn lose_after(&self, statements: u32) {
        *self.lost_after.lock().unwrap() = Some(statements);
    }

    /// Makes so many restores write rubbish and then fail.
    pub(crate) fn break_restores(&self, many: u32) {
        self.broken_restores.store(many, Ordering::SeqCst);
    }

    pub(crate) fn order(&self) -> Vec<String> {
        self.order.lock().unwrap().clone()
    }

    async fn enter(&self, what: &'static str, shown: &str, cancel: &CancellationToken) {
        self.order.lock().unwrap().push(what.to_owned());
        {
            let mut running = self.running.lock().unwrap();
            if running.iter().any(|other| other == shown) {
                self.overlaps.lock().unwrap().push(format!("{what} on {shown}"));
            }
            running.push(shown.to_owned());
        }
        let held = self.held.lock().unwrap().take_if(|held| *held == what).is_some();
        if held {
            self.began.notify_one();
            self.go_on.notified().await;
        }
        let held = self.held_until_cancelled.lock().unwrap().take_if(|held| *held == what).is_some();
        if held {
            self.began.notify_one();
            cancel.cancelled().await;
        }
    }

    fn leave(&self, shown: &str) {
        let mut running = self.running.lock().unwrap();
        if let Some(at) = running.iter().position(|other| other == shown) {
            running.remove(at);
        }
    }
}

/// A database on a stage.
pub(crate) struct Staged {
    pub(crate) inner: Arc<dyn Database>,
    pub(crate) stage: Arc<Stage>,
}

#[async_trait]
impl Database for Staged {
    fn engine(&self) -> &'static str {
        self.inner.engine()
    }

    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    fn shown(&self) -> String {
        self.inner.shown()
    }

    async fn probe(&self) -> Result<Probe, TargetError> {
        self.inner.probe().await
    }

    async fn create(&self) -> Result<bool, TargetError> {
        self.inner.create().await
    }

    async fn exists(&self) -> Result<bool, TargetError> {
        self.inner.exists().await
    }

    async fn size(&self) -> Result<u64, TargetError> {
        self.inner.size().await
    }

    async fn estimate(&self) -> Result<Estimate, TargetError> {
        self.inner.estimate().await
    }

    async fn backup(
        &self,
        plan: &BackupPlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<BackupFacts, TargetError> {
        self.stage.enter("backup", &self.shown(), &cancel).await;
        let done = self.inner.backup(plan, progress, cancel).await;
        self.stage.leave(&self.shown());
        done
    }

    async fn verify(&self, backup: &Path, sha256: Option<&str>) -> Result<BackupFacts, TargetError> {
        self.inner.verify(backup, sha256).await
    }

    async fn restore(
        &self,
        plan: &RestorePlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<RestoreFacts, TargetError> {
        self.stage.enter("restore", &self.shown(), &cancel).await;
        let broken = self.stage.broken_restores.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let done = if broken.is_ok() {
            let path = self.shown().trim_start_matches("sqlite:").to_owned();
            rusqlite::Connection::open(path)
                .unwrap()
                .execute_batch("DROP TABLE book; CREATE TABLE rubbish (x)")
                .unwrap();
            Err(TargetError::Corrupt { what: self.shown(), why: "the test broke the restore".to_owned() })
        } else {
            self.inner.restore(plan, progress, cancel).await
        };
        self.stage.leave(&self.shown());
        done
    }

    async fn execute(
        &self,
        script: &Script,
        options: &ExecuteOptions,
        observer: OnStatement,
        cancel: CancellationToken,
    ) -> Result<ScriptReport, TargetError> {
        self.stage.enter("execute", &self.shown(), &cancel).await;
        let lost_after = self.stage.lost_after.lock().unwrap().take();
        if let Some(many) = lost_after {
            let stop = CancellationToken::new();
            let (told, left) = (stop.clone(), AtomicU32::new(many));
            let stop_after: OnStatement = Arc::new(move |_| {
                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    told.cancel();
                }
            });
            if many == 0 {
                stop.cancel();
            }
            self.inner.execute(script, options, stop_after, stop).await.unwrap();
            self.stage.leave(&self.shown());
            self.stage.began.notify_one();
            return std::future::pending().await;
        }
        let done = self.inner.execute(script, options, observer, cancel).await;
        self.stage.leave(&self.shown());
        done
    }

    async fn recorded(&self, job: &str) -> Result<Vec<StatementOutcome>, TargetError> {
        self.inner.recorded(job).await
    }

    async fn clear_markers(&self, job: &str) -> Result<u64, TargetError> {
        self.inner.clear_markers(job).await
    }

    async fn checksum(&self) -> Result<String, TargetError> {
        self.inner.checksum().await
    }

    async fn checksum_of(&self, backup: &Path) -> Result<String, TargetError> {
        self.inner.checksum_of(backup).await
    }

    async fn destroy(&self, fence: u64) -> Result<bool, TargetError> {
        self.inner.destroy(fence).await
    }
}
