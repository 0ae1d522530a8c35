//! The laboratory: a store on a Redis of its own, a clock that stands still, and an audit at the end.

use std::{sync::Arc, time::Duration};

use super::RedisServer;
use crate::{
    Place, Runner, Store, StoreOptions, Worker, WorkerOptions,
    model::{JobId, JobView, NewJob, UnixMs},
    store::JobFilter,
};

/// A store for one test. [`Lab::finish`] must be called: it audits, and complains of jobs left in `ready` or `running`.
pub struct Lab {
    /// The store.
    pub store: Store,
    /// Its Redis.
    pub redis: RedisServer,
    finished: bool,
}

/// 2026-11-22T04:00:00Z: noon in Shanghai.
pub const NOON: UnixMs = 1_795_320_000_000;

/// For workers of tests that move the clock: it is no jump to them. A worker looks at the clock when it starts, every few
/// seconds, and when it may have missed hints, so that by chance it would see what the test does, or not.
#[must_use]
pub fn unwatched_clock() -> WorkerOptions {
    WorkerOptions { max_jump_ms: u64::MAX, ..WorkerOptions::default() }
}

impl Lab {
    /// A store whose clock stands at [`NOON`].
    pub async fn new() -> Self {
        let lab = Self::with_running_clock().await;
        lab.store.set_time(NOON);
        lab
    }

    /// A store with the clock of its Redis.
    pub async fn with_running_clock() -> Self {
        Self::open(1).await
    }

    /// A store of several shards whose clock stands at [`NOON`].
    pub async fn with_shards(shards: u16) -> Self {
        let lab = Self::open(shards).await;
        lab.store.set_time(NOON);
        lab
    }

    async fn open(shards: u16) -> Self {
        let redis = RedisServer::start();
        let options = StoreOptions { shards, ..StoreOptions::new(redis.url()) };
        let store = Store::open(options).await.expect("a store");
        Self { store, redis, finished: false }
    }

    /// Moves the standing clock.
    pub fn at(&self, ms_after_noon: i64) {
        self.store.set_time(NOON + ms_after_noon);
    }

    /// Takes a job in and gives its id; panics when it is refused.
    pub async fn enqueue(&self, job: NewJob) -> JobId {
        let id = job.id.clone();
        let answers = self.store.enqueue(&[job], u64::MAX >> 12).await.expect("an answer");
        assert_eq!(answers, [crate::Enqueued::Accepted(id.clone())]);
        id
    }

    /// The job.
    pub async fn job(&self, id: &JobId) -> JobView {
        self.store.job(id).await.expect("an answer").expect("the job")
    }

    /// Where the job is.
    pub async fn place(&self, id: &JobId) -> Place {
        self.job(id).await.record.place
    }

    /// A worker that looks for work as often as one in production.
    pub async fn worker(&self, name: &str, runner: Arc<dyn Runner>) -> Worker {
        let options = WorkerOptions { name: name.to_owned(), slots: 16, ..unwatched_clock() };
        Worker::start(&self.store, runner, options).await.expect("a worker")
    }

    /// A worker that looks at the (standing) clock often, for tests that move it.
    pub async fn quick_worker(&self, runner: Arc<dyn Runner>) -> Worker {
        let options = WorkerOptions { slots: 8, poll_ms: 10, ..unwatched_clock() };
        Worker::start(&self.store, runner, options).await.expect("a worker")
    }

    /// Waits until the job is in `place`; told by the store, bounded by 20 s.
    pub async fn until(&self, id: &JobId, place: Place) -> JobView {
        let changes = self.store.changes(true);
        let mut hints = changes.listen();
        let wait = async {
            loop {
                let job = self.job(id).await;
                if job.record.place == place {
                    return job;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), hints.recv()).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), wait).await {
            Ok(job) => job,
            Err(_) => panic!("{id} is {:?}, not {place}", self.job(id).await.record),
        }
    }

    /// Looks whenever the store tells of a change, until it is so, at most for `patience`; whether it came to be.
    pub async fn comes_to_be(&self, patience: Duration, is_so: impl AsyncFn() -> bool) -> bool {
        let changes = self.store.changes(true);
        let mut hints = changes.listen();
        let wait = async {
            while !is_so().await {
                let _ = tokio::time::timeout(Duration::from_millis(100), hints.recv()).await;
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    /// Audits, and complains of jobs that are left in `ready` or `running`.
    pub async fn finish(mut self) {
        self.finished = true;
        let report = self.store.audit().await.expect("an audit");
        assert!(report.findings.is_empty(), "the audit found {:#?}", report.findings);
        for place in [Place::Ready, Place::Running] {
            let left = self
                .store
                .jobs(&JobFilter { place: Some(place), ..JobFilter::default() }, None, 10)
                .await
                .expect("a page");
            assert!(left.jobs.is_empty(), "left {place}: {:?}", left.jobs);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        assert!(self.finished || std::thread::panicking(), "a test must end with lab.finish().await");
    }
}
