//! Leasehold's own figures, through the engine as the service uses it: a store, a worker process's worker, everything on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use leasehold_engine::{
    Ctx, Enqueued, JobError, NewJob, Place, Runner, Store, StoreOptions, UnixMs, Verdict, Worker, WorkerOptions,
};
use tokio::sync::mpsc;

use crate::measure::{Latencies, Rate, payload};
use crate::server::Server;

/// As many a call as the peer's addBulk gets.
const BATCH: usize = 500;
const LANES: usize = 4;
const TENANT: &str = "t-bench";
const SMALL_TENANT: &str = "t-small";
const NO_LIMIT: u64 = u64::MAX >> 12;
/// As many no-op jobs at a time as keep the store busy; each waits for the round trip that settles it.
const SLOTS: usize = 2000;

/// A kind that does nothing but say when it started.
struct Noop {
    started: mpsc::UnboundedSender<Start>,
    runs: Arc<AtomicUsize>,
}

/// The start of one job.
struct Start {
    at: Instant,
    late_ms: f64,
    /// Whether it is the job of the tenant that has few.
    of_small: bool,
}

#[async_trait]
impl Runner for Noop {
    fn kinds(&self) -> Vec<String> {
        vec!["noop".to_owned()]
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let late_ms = unix_ms() - ctx.record().run_at as f64;
        let _ = self.started.send(Start { at: Instant::now(), late_ms, of_small: ctx.tenant() == SMALL_TENANT });
        Ok(Verdict::Done(serde_json::Value::Null))
    }
}

/// A worker with the no-op kind, and what its jobs say.
struct Running {
    worker: Worker,
    starts: mpsc::UnboundedReceiver<Start>,
    runs: Arc<AtomicUsize>,
}

impl Running {
    async fn start(store: &Store, slots: usize) -> anyhow::Result<Self> {
        let (started, starts) = mpsc::unbounded_channel();
        let runs = Arc::new(AtomicUsize::new(0));
        let noop = Arc::new(Noop { started, runs: runs.clone() });
        let worker = Worker::start(store, noop, WorkerOptions { slots, ..WorkerOptions::default() }).await?;
        Ok(Self { worker, starts, runs })
    }

    async fn next(&mut self, patience: Duration) -> anyhow::Result<Start> {
        let start = tokio::time::timeout(patience, self.starts.recv()).await.context("no job started in time")?;
        start.context("the worker is gone")
    }

    async fn stop(mut self) {
        self.worker.drain(Duration::from_secs(10)).await;
    }
}

fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

async fn open(server: &Server) -> anyhow::Result<Store> {
    Ok(Store::open(StoreOptions::new(server.url())).await?)
}

fn job(store: &Store, run_at: Option<UnixMs>) -> NewJob {
    NewJob { run_at, ..NewJob::new(store.new_id(TENANT), "noop", TENANT, payload()) }
}

async fn take_in(store: &Store, count: usize, run_at: Option<UnixMs>) -> anyhow::Result<()> {
    let jobs: Vec<NewJob> = (0..count).map(|_| job(store, run_at)).collect();
    let answers = store.enqueue(&jobs, NO_LIMIT).await?;
    ensure!(answers.iter().all(|answer| matches!(answer, Enqueued::Accepted(_))), "a job was refused");
    Ok(())
}

/// Enqueues `count` jobs in batches, four in flight, as [`crate::bare::fill`] does.
pub(crate) async fn fill(server: &Server, count: usize, run_at: Option<UnixMs>) -> anyhow::Result<Rate> {
    let store = open(server).await?;
    let started = Instant::now();
    let lanes = (0..LANES).map(|lane| {
        let store = store.clone();
        tokio::spawn(async move {
            for from in (lane * BATCH..count).step_by(LANES * BATCH) {
                take_in(&store, BATCH.min(count - from), run_at).await?;
            }
            anyhow::Ok(())
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await??;
    }
    Ok(Rate::since(started, count))
}

/// Runs `count` no-op jobs that are already there; from the first start to the last settlement.
pub(crate) async fn drain(server: &Server, count: usize) -> anyhow::Result<Rate> {
    let store = open(server).await?;
    let mut running = Running::start(&store, SLOTS).await?;
    let first = running.next(Duration::from_secs(10)).await?.at;
    let deadline = first + Duration::from_secs(120);
    while running.runs.load(Ordering::Relaxed) < count || running.worker.running() > 0 {
        ensure!(Instant::now() < deadline, "not drained within two minutes");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = Rate::since(first, count);
    running.stop().await;
    let succeeded = places(&store, Place::Succeeded).await?;
    ensure!(succeeded == count as u64, "{succeeded} of {count} jobs are recorded as succeeded");
    Ok(rate)
}

async fn places(store: &Store, place: Place) -> anyhow::Result<u64> {
    let counts = store.counts().await?;
    Ok(counts.iter().filter(|count| count.place == place).map(|count| count.jobs).sum())
}

/// Enqueue to start, one job at a time on an idle queue.
pub(crate) async fn idle(server: &Server, count: usize) -> anyhow::Result<Latencies> {
    let store = open(server).await?;
    let mut running = Running::start(&store, 32).await?;
    let mut milliseconds = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep(Duration::from_millis(20)).await; // let the worker go idle between two jobs
        let asked = Instant::now();
        take_in(&store, 1, None).await?;
        let start = running.next(Duration::from_secs(10)).await?;
        milliseconds.push(start.at.duration_since(asked).as_secs_f64() * 1000.0);
    }
    running.stop().await;
    Ok(Latencies::new(milliseconds))
}

/// How late planned jobs start, beside `others` that are planned for much later.
pub(crate) async fn planned(server: &Server, count: usize, others: usize) -> anyhow::Result<Latencies> {
    let tomorrow = unix_ms() as UnixMs + 86_400_000;
    fill(server, others, Some(tomorrow)).await?;
    let store = open(server).await?;
    let mut running = Running::start(&store, 32).await?;
    let soon = store.now().await? + 1_000;
    let jobs: Vec<NewJob> = (0..count).map(|n| job(&store, Some(soon + 10 * n as UnixMs))).collect();
    store.enqueue(&jobs, NO_LIMIT).await?;
    let mut milliseconds = Vec::with_capacity(count);
    for _ in 0..count {
        milliseconds.push(running.next(Duration::from_secs(30)).await?.late_ms);
    }
    ensure!(milliseconds.iter().all(|late| *late > -2.0), "a job started before its time");
    running.stop().await;
    Ok(Latencies::new(milliseconds))
}

/// How long single jobs of one tenant wait while `backlog` jobs of another are ready and the worker is fully loaded.
pub(crate) async fn beside_a_backlog(server: &Server, backlog: usize) -> anyhow::Result<Latencies> {
    fill(server, backlog, None).await?;
    let store = open(server).await?;
    let mut running = Running::start(&store, SLOTS).await?;
    running.next(Duration::from_secs(10)).await?;
    let mut milliseconds = Vec::new();
    while running.runs.load(Ordering::Relaxed) < backlog * 9 / 10 {
        let job = NewJob::new(store.new_id(SMALL_TENANT), "noop", SMALL_TENANT, payload());
        let asked = Instant::now();
        store.enqueue(&[job], NO_LIMIT).await?;
        let start = loop {
            let start = running.next(Duration::from_secs(30)).await?;
            if start.of_small {
                break start;
            }
        };
        milliseconds.push(start.at.duration_since(asked).as_secs_f64() * 1000.0);
    }
    running.stop().await;
    Ok(Latencies::new(milliseconds))
}
