//! Workers: claim jobs, run them, settle them. Guards that work goes on only under a lease (E9) and ends under its fence (E3).

mod attempt;
mod backend;
mod ctx;
mod cycle;
mod leases;
mod options;
mod renew;
mod said;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use ctx::{Ctx, Verified};
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

    /// Runs one attempt of a job.
    ///
    /// # Errors
    /// [`JobError`] says what failed and whether to try again.
    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError>;
}

/// A running worker. `start` never blocks; `drain` is complete on return and may be called twice.
pub struct Worker {
    leases: Arc<leases::Leases>,
    stop_claiming: CancellationToken,
    stop_all: CancellationToken,
    loops: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts a worker: an apalis worker for the attempts, one task for claims and settlements, one for leases.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn start(store: &Store, runner: Arc<dyn Runner>, options: WorkerOptions) -> Result<Self, StoreError> {
        let options = Arc::new(options);
        let leases = Arc::new(leases::Leases::default());
        let (stop_claiming, stop_all) = (CancellationToken::new(), CancellationToken::new());
        let (endings, settle) = mpsc::unbounded_channel();
        let (claimed, jobs) = mpsc::unbounded_channel();
        let own = store.with_own_connection(Duration::from_secs(5), 3).await?;
        let renewing = store.with_own_connection(Duration::from_millis(options.renew_ms.clamp(200, 5000)), 0).await?;
        let lively =
            renew::Renewal { store: renewing, leases: leases.clone(), options: options.clone(), kinds: runner.kinds() };
        let shared =
            ctx::Shared { store: store.clone(), leases: leases.clone(), endings, options: options.clone(), runner };
        let cycle = cycle::Cycle::new(own, shared, claimed, settle, stop_claiming.clone());
        let loops = vec![
            tokio::spawn(cycle.run(stop_all.clone())),
            tokio::spawn(lively.run(stop_all.clone())),
            tokio::spawn(backend::serve(options.name.clone(), jobs, stop_all.clone())),
        ];
        Ok(Self { leases, stop_claiming, stop_all, loops })
    }

    /// How many jobs it runs now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.leases.len()
    }

    /// Stops claiming, waits for what runs, at most `patience`; then aborts: what is left goes back to `ready`, uncounted.
    pub async fn drain(&mut self, patience: Duration) {
        self.stop_claiming.cancel();
        if tokio::time::timeout(patience, self.leases.empty()).await.is_err() {
            self.abort().await;
        }
        self.end().await;
    }

    /// Hands back everything at once.
    pub async fn abort(&mut self) {
        self.stop_claiming.cancel();
        self.leases.cancel_all(leases::Why::Abort);
        let _ = tokio::time::timeout(Duration::from_secs(10), self.leases.empty()).await;
    }

    async fn end(&mut self) {
        self.stop_all.cancel();
        for running in self.loops.drain(..) {
            let _ = running.await;
        }
    }
}

impl Drop for Worker {
    /// A worker that was not drained leaves its jobs to be rescued; nothing renews their leases, so they stop here.
    fn drop(&mut self) {
        self.leases.cancel_all(leases::Why::Lost);
        self.stop_all.cancel();
    }
}
