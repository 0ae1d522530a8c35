//! Workers: claim jobs, run them, settle them. Guards that work goes on only under a lease (E9) and ends under its fence (E3).

mod asking;
mod attempt;
mod backend;
mod ctx;
mod cycle;
mod declared;
mod ending;
mod leases;
mod options;
mod renew;
mod room;
mod said;
mod unwind;
mod watch;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use ctx::{ChildEnd, ChildFailure, Ctx, Signal, Verified, args_sha256};
pub use declared::StartError;
pub use options::{Observer, WorkerOptions};

use crate::{
    model::{JobError, Verdict},
    store::{Store, StoreError},
};

/// What a worker runs: the kinds, behind one door.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// The kinds it knows; told with the heartbeat.
    fn kinds(&self) -> Vec<String>;

    /// The names of each kind's steps, waits, spawns and critical sections; a name that ends in `*` stands for all that begin
    /// so. A kind that is not here, or with no names, declares none, and may use any.
    fn steps(&self) -> Vec<(String, Vec<String>)> {
        Vec::new()
    }

    /// Runs one attempt of a job.
    ///
    /// # Errors
    /// [`JobError`] says what failed and whether to try again.
    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError>;
}

/// A running worker. `start` never blocks; `drain` is complete on return and may be called twice.
pub struct Worker {
    lanes: Vec<Arc<leases::Leases>>,
    stop_claiming: CancellationToken,
    stop_all: CancellationToken,
    ask: Arc<Notify>,
    room: Arc<room::Room>,
    loops: Vec<JoinHandle<()>>,
}

/// A worker with so many slots gets a second lane: while one waits for the disk behind Redis, the other is served.
const SLOTS_FOR_TWO_LANES: usize = 128;

impl Worker {
    /// Starts a worker: in each lane an apalis worker for the attempts and a task for claims and settlements; one task
    /// renews all leases.
    ///
    /// # Errors
    /// [`StartError::Store`] when the store cannot be reached; [`StartError::StepTwice`] when a kind's steps cannot be told
    /// apart.
    pub async fn start(store: &Store, runner: Arc<dyn Runner>, options: WorkerOptions) -> Result<Self, StartError> {
        let declared = Arc::new(declared::steps_of(&*runner)?);
        let many = if options.slots < SLOTS_FOR_TWO_LANES { 1 } else { 2 };
        let mut worker = Self {
            lanes: (0..many).map(|_| Arc::default()).collect(),
            stop_claiming: CancellationToken::new(),
            stop_all: CancellationToken::new(),
            ask: Arc::default(),
            room: Arc::default(),
            loops: Vec::new(),
        };
        let watch = watch::Watch::begin(store, &options).await?;
        worker.room.look(store).await;
        for lane in 0..many {
            worker.open_lane(store, (&runner, &declared, &watch), &options, lane).await?;
        }
        let patience = Duration::from_millis(options.renew_ms.clamp(200, 5000));
        let store = store.with_own_connection(patience, 0).await?;
        let renewal = renew::Renewal {
            store,
            lanes: worker.lanes.clone(),
            options: Arc::new(options),
            kinds: runner.kinds(),
            ask: worker.ask.clone(),
            watch,
            room: worker.room.clone(),
        };
        worker.loops.push(tokio::spawn(renew::guard(worker.lanes.clone(), worker.stop_all.clone())));
        worker.loops.push(tokio::spawn(renewal.run(worker.stop_all.clone())));
        Ok(worker)
    }

    async fn open_lane(
        &mut self,
        store: &Store,
        (runner, declared, watch): (&Arc<dyn Runner>, &Arc<declared::Declared>, &watch::Watch),
        options: &WorkerOptions,
        lane: usize,
    ) -> Result<(), StoreError> {
        let slots = options.slots.div_ceil(self.lanes.len());
        let options = Arc::new(WorkerOptions { name: format!("{}.{lane}", options.name), slots, ..options.clone() });
        let (endings, settle) = mpsc::unbounded_channel();
        let (claimed, jobs) = mpsc::unbounded_channel();
        // Longer than a third of a lease, and an answer is not worth much.
        let patience = Duration::from_millis((options.lease_ms / 3).clamp(200, 5000));
        let own = store.with_own_connection(patience, 0).await?;
        let asking = asking::Asking::new(&options.name, own.shards(), store.now().await?, patience);
        let name = options.name.clone();
        let (leases, ask) = (self.lanes[lane].clone(), self.ask.clone());
        let (runner, declared, watch) = (runner.clone(), declared.clone(), watch.clone());
        let shared = ctx::Shared { store: store.clone(), leases, endings, ask, options, runner, declared, watch };
        let (stop, room) = (self.stop_claiming.clone(), self.room.clone());
        let cycle = cycle::Cycle::new((own, asking), shared, (claimed, settle), stop, room);
        self.loops.push(tokio::spawn(cycle.run(self.stop_all.clone())));
        self.loops.push(tokio::spawn(backend::serve(name, jobs, self.stop_all.clone())));
        Ok(())
    }

    /// How many jobs it runs now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.lanes.iter().map(|lane| lane.len()).sum()
    }

    /// Asks whether a job is in a critical section, also while the worker drains.
    pub fn critical(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let lanes = self.lanes.clone();
        move || lanes.iter().any(|lane| lane.any_critical())
    }

    /// Stops claiming, waits for what runs, at most `patience`; then aborts: what is left goes back to `ready`, uncounted.
    pub async fn drain(&mut self, patience: Duration) {
        self.stop_claiming.cancel();
        if tokio::time::timeout(patience, self.empty()).await.is_err() {
            self.abort().await;
        }
        self.end().await;
    }

    /// Hands back everything at once, but for critical sections: it waits for their end.
    pub async fn abort(&mut self) {
        self.stop_claiming.cancel();
        self.stop(leases::Why::Abort);
        while tokio::time::timeout(Duration::from_secs(10), self.empty()).await.is_err() {
            if !self.lanes.iter().any(|lane| lane.any_critical()) {
                break;
            }
            tracing::warn!("the worker's end waits for a critical section");
        }
    }

    /// Ends as a killed process does: what runs is not handed back. On return nothing of it speaks to the store any more, so that a
    /// test may move the clock and need not fear a renewal or a claim that was on its way.
    #[cfg(feature = "testing")]
    pub async fn vanish(mut self) {
        self.stop(leases::Why::Lost);
        self.stop_claiming.cancel();
        self.end().await;
    }

    async fn empty(&self) {
        for lane in &self.lanes {
            lane.empty().await;
        }
    }

    fn stop(&self, why: leases::Why) {
        for lane in &self.lanes {
            lane.cancel_all(why);
        }
    }

    async fn end(&mut self) {
        self.stop_all.cancel();
        // One that is given up while it waits here leaves the rest of the loops to the next.
        while let Some(running) = self.loops.last_mut() {
            let _ = running.await;
            self.loops.pop();
        }
    }
}

impl Drop for Worker {
    /// A worker that was not drained leaves its jobs to be rescued; nothing renews their leases, so they stop here.
    fn drop(&mut self) {
        self.stop(leases::Why::Lost);
        self.stop_claiming.cancel();
        self.stop_all.cancel();
    }
}
