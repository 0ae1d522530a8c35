//! What a running job gets: its arguments, its steps, its waits, its token, its voice. Guards E4, E8 and E9 at each step.
//!
//! A job that was suspended starts at the top again; what it did before is answered from its journal. So the code between two
//! calls of the context must do the same whenever it is run: what may differ (time, chance, the world) belongs in a step, and
//! an error that the code recovers from belongs in a step's value.

mod approval;
mod children;
mod critical;
mod replay;
mod step;
mod undo;
mod wait;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, OnceCell, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Runner,
    declared::Declared,
    leases::{Lease, Leases},
    options::WorkerOptions,
    said::Mouth,
    watch::Watch,
};
use crate::{
    model::{JobError, JobId, JobRecord, Journal, Recovery, UnixMs},
    store::{Settlement, Store, StoreError},
};

pub use approval::args_sha256;
pub use children::{ChildEnd, ChildFailure};
pub(super) use replay::Ended;
use replay::Visited;
pub use step::Verified;
pub(super) use undo::Undo;
pub use wait::Signal;
pub(super) use wait::Suspension;

/// What all attempts of a worker share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) leases: Arc<Leases>,
    pub(crate) endings: mpsc::UnboundedSender<Settlement>,
    pub(crate) ask: Arc<Notify>,
    pub(crate) options: Arc<WorkerOptions>,
    pub(crate) runner: Arc<dyn Runner>,
    /// The steps that kinds declare; a kind that is not here declares none.
    pub(crate) declared: Arc<Declared>,
    pub(crate) watch: Watch,
}

/// A running attempt's context. Cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    inner: Arc<Inner>,
    shield: Shield,
}

/// What a context's token is deaf to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shield {
    /// Nothing.
    None,
    /// A cancel and an abort: they wait for the end of the critical section.
    Critical,
    /// A cancel: it is what the undo is for.
    Undo,
}

pub(crate) struct Inner {
    pub(crate) record: JobRecord,
    pub(crate) lease: Arc<Lease>,
    pub(crate) shared: Shared,
    pub(crate) mouth: Mouth,
    pub(crate) claimed: (UnixMs, Instant),
    journal: OnceCell<Journal>,
    visited: Mutex<Visited>,
    suspension: Mutex<Option<Suspension>>,
    undos: Mutex<Vec<Undo>>,
    note: Mutex<Option<serde_json::Value>>,
}

impl Ctx {
    pub(crate) fn new(record: JobRecord, lease: Arc<Lease>, shared: Shared, claimed: (UnixMs, Instant)) -> Self {
        let inner = Inner {
            record,
            lease,
            shared,
            mouth: Mouth::default(),
            claimed,
            journal: OnceCell::new(),
            visited: Mutex::default(),
            suspension: Mutex::default(),
            undos: Mutex::default(),
            note: Mutex::default(),
        };
        Self { inner: Arc::new(inner), shield: Shield::None }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// The job.
    #[must_use]
    pub fn id(&self) -> &JobId {
        &self.inner.record.id
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.inner.record.kind
    }

    /// Its tenant.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.inner.record.tenant
    }

    /// Its arguments.
    #[must_use]
    pub fn args(&self) -> &Bytes {
        &self.inner.record.args
    }

    /// Its meta document.
    #[must_use]
    pub fn meta(&self) -> &Bytes {
        &self.inner.record.meta
    }

    /// Its record as it was claimed.
    #[must_use]
    pub fn record(&self) -> &JobRecord {
        &self.inner.record
    }

    /// Which attempt this is; 1 is the first. A run that ended in a wait is not counted.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.inner.record.attempt
    }

    /// Whether no attempt follows when this one fails.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        !self.inner.record.retry.allows_after(self.attempt())
    }

    /// Whether this run only closes the job: its workers were lost after it began a `Fenced` step, and no attempt is left. It
    /// should begin nothing more, find out what the target and the journal hold, and settle with that. There are at most two
    /// such runs; a job that is lost there, too, or fails in a way that would be tried again, is unknown.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.inner.record.closing
    }

    /// The fence of this claim: larger than that of any claim before. Hand it to the target, which refuses an older one.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.inner.lease.fence
    }

    /// Told when the job is cancelled, its lease is lost, or the worker aborts. In a critical section it is told of a lost
    /// lease alone, in an undo of everything but a cancel.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        match self.shield {
            Shield::None => &self.inner.lease.cancelled,
            Shield::Critical => self.inner.lease.lost(),
            Shield::Undo => self.inner.lease.stopped(),
        }
    }

    /// The store's time, ms. What decides in a job is decided by this.
    ///
    /// # Errors
    /// [`JobError`] (transient) when the store cannot be reached.
    pub async fn now(&self) -> Result<UnixMs, JobError> {
        self.inner.shared.store.now().await.map_err(|e| unreachable_store(&e))
    }

    /// The store, for jobs that enqueue jobs.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.shared.store
    }

    /// Tells how far the job is. Sent at most every 200 ms, told to listeners at most once a second.
    pub fn progress(&self, percent: u8, text: impl Into<String>) {
        self.inner.mouth.progress(percent, text.into());
    }

    /// Adds a line to the job's log (the last 1,000 are kept).
    pub fn log(&self, line: impl Into<String>) {
        let line = line.into();
        tracing::debug!(job = %self.id(), kind = self.kind(), line, "job");
        self.inner.mouth.line(line);
    }

    /// Sets the document that is told with the event that ends this attempt; at most 4 KiB of JSON.
    pub fn note(&self, note: serde_json::Value) {
        *lock(&self.inner.note) = Some(note);
    }

    pub(crate) fn taken_note(&self) -> Option<serde_json::Value> {
        lock(&self.inner.note).take()
    }

    pub(crate) fn taken_suspension(&self) -> Option<Suspension> {
        lock(&self.inner.suspension).take()
    }

    fn shielded(&self, shield: Shield) -> Self {
        Self { inner: self.inner.clone(), shield }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, JobError> {
    serde_json::from_slice(bytes).map_err(|e| {
        JobError::permanent(
            "step_changed",
            format!("the kept result of step `{name}` cannot be read by this version: {e}"),
        )
    })
}

fn lost() -> JobError {
    JobError::transient("lease_lost", "another worker holds this job").with(Recovery::Lost)
}

fn cancelled(name: &str) -> JobError {
    JobError::permanent("cancelled", format!("cancelled before step `{name}`")).with(Recovery::Cancelled)
}

fn unreachable_store(error: &StoreError) -> JobError {
    let told = JobError::transient(error.code(), error.to_string());
    if error.is_away() { told.with(Recovery::Away) } else { told }
}
