//! What a running job gets: its arguments, its steps, its token, its voice. Guards E4, E8 and E9 at each step.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Runner,
    leases::{Lease, Leases, Why},
    options::WorkerOptions,
    said::Mouth,
};
use crate::{
    model::{Effect, JobError, JobId, JobRecord, Recovery, UnixMs},
    store::{Begun, Ended, Opening, Settlement, Store, StoreError},
};

/// What all attempts of a worker share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) leases: Arc<Leases>,
    pub(crate) endings: mpsc::UnboundedSender<Settlement>,
    pub(crate) ask: Arc<Notify>,
    pub(crate) options: Arc<WorkerOptions>,
    pub(crate) runner: Arc<dyn Runner>,
}

/// What `verify` found out about an effect that a lost worker may have caused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified<T> {
    /// It happened, with this result.
    Happened(T),
    /// It did not happen: it may be done now.
    NotHappened,
    /// Nobody can tell: the job becomes unknown.
    CannotTell,
}

/// A running attempt's context. Cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) record: JobRecord,
    pub(crate) lease: Arc<Lease>,
    pub(crate) shared: Shared,
    pub(crate) mouth: Mouth,
    pub(crate) claimed: (UnixMs, Instant),
    begun: Mutex<HashSet<String>>,
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
            begun: Mutex::default(),
            note: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
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

    /// Which attempt this is; 1 is the first.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.inner.record.attempt
    }

    /// Whether no attempt follows when this one fails.
    #[must_use]
    pub fn is_last_attempt(&self) -> bool {
        !self.inner.record.retry.allows_after(self.attempt())
    }

    /// The fence of this claim: larger than that of any claim before. Hand it to the target, which refuses an older one.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.inner.lease.fence
    }

    /// Told when the job is cancelled, its lease is lost, or the worker aborts.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.lease.cancelled
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
        *self.inner.note.lock().unwrap_or_else(PoisonError::into_inner) = Some(note);
    }

    pub(crate) fn taken_note(&self) -> Option<serde_json::Value> {
        self.inner.note.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Runs a step, or gives what it gave before: a step that ended is never done again (E4).
    ///
    /// # Errors
    /// The step's own; `cancelled` when a cancel was confirmed before it began (E8); lost when the lease is another's.
    pub async fn step<T, F, Fut>(&self, name: &str, effect: Effect, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        self.run_step(name, Opening { effect, again: false, seal: false }, f).await
    }

    /// The same for a point of no return: once it began, a cancel comes too late.
    ///
    /// # Errors
    /// As [`Ctx::step`].
    pub async fn sealed_step<T, F, Fut>(&self, name: &str, effect: Effect, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        self.run_step(name, Opening { effect, again: false, seal: true }, f).await
    }

    /// Runs a step that must not be repeated. After a lost worker `verify` says whether it happened; when it cannot tell,
    /// the job becomes unknown and waits for proof.
    ///
    /// # Errors
    /// As [`Ctx::step`]; [`Recovery::Doubt`] when nobody can tell.
    pub async fn once<T, V, VFut, F, Fut>(&self, name: &str, verify: V, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        V: FnOnce() -> VFut,
        VFut: Future<Output = Result<Verified<T>, JobError>>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        let opening = Opening { effect: Effect::Once, again: false, seal: false };
        match self.open(name, opening).await? {
            Opened::Done(value) => decode(name, &value),
            Opened::Run => self.close(name, f().await?).await,
            Opened::InDoubt => match verify().await? {
                Verified::Happened(value) => self.close(name, value).await,
                Verified::NotHappened => {
                    self.begin(name, Opening { again: true, ..opening }).await?;
                    self.close(name, f().await?).await
                }
                Verified::CannotTell => {
                    let text = format!("a worker was lost in step `{name}`, and nobody can tell whether it happened");
                    Err(JobError::permanent("outcome_unknown", text).with(Recovery::Doubt))
                }
            },
        }
    }

    async fn run_step<T, F, Fut>(&self, name: &str, opening: Opening, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        match self.open(name, opening).await? {
            Opened::Done(value) => decode(name, &value),
            Opened::Run | Opened::InDoubt => self.close(name, f().await?).await,
        }
    }

    async fn open(&self, name: &str, opening: Opening) -> Result<Opened, JobError> {
        let new = self.inner.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        if !new {
            return Err(JobError::permanent(
                "step_name_twice",
                format!("two steps of this job are named `{name}`; a step's name is its identity"),
            ));
        }
        self.begin(name, opening).await
    }

    async fn begin(&self, name: &str, opening: Opening) -> Result<Opened, JobError> {
        let lease = &self.inner.lease;
        if lease.why() == Why::Abort {
            return Err(JobError::transient("worker_stops", "the worker stops before this step").with(Recovery::Lost));
        }
        if !lease.is_valid() {
            return Err(lost());
        }
        let begun = self.inner.shared.store.step_begin(self.id(), self.fence(), name, opening).await;
        match begun.map_err(|e| unreachable_store(&e))? {
            Begun::Run => Ok(Opened::Run),
            Begun::Done(value) => Ok(Opened::Done(value)),
            Begun::Open => Ok(Opened::InDoubt),
            Begun::Stale => Err(lost()),
            Begun::Cancelled => {
                Err(JobError::permanent("cancelled", format!("cancelled before step `{name}`"))
                    .with(Recovery::Cancelled))
            }
        }
    }

    async fn close<T: Serialize + DeserializeOwned>(&self, name: &str, value: T) -> Result<T, JobError> {
        let bytes = serde_json::to_vec(&value)
            .map_err(|e| JobError::permanent("internal", format!("step `{name}` gave no JSON: {e}")))?;
        let limit = self.inner.shared.options.max_result_bytes;
        if bytes.len() > limit {
            let text =
                format!("step `{name}` gave {} bytes; at most {limit} are kept (worker.max_result_bytes)", bytes.len());
            return Err(JobError::permanent("result_too_large", text));
        }
        let ended = self.inner.shared.store.step_end(self.id(), self.fence(), name, &bytes).await;
        match ended.map_err(|e| unreachable_store(&e))? {
            Ended::Ok => Ok(value),
            Ended::Already(first) => decode(name, &first),
            Ended::Stale => Err(lost()),
        }
    }
}

enum Opened {
    Run,
    Done(Bytes),
    InDoubt,
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

fn unreachable_store(error: &StoreError) -> JobError {
    JobError::transient(error.code(), error.to_string())
}
