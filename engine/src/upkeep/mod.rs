//! Upkeep: promote, rescue, prune, measure; one loop a verb, each a tick that tests call. Any number of processes may run it.

mod cascade;
mod clock;
mod deaths;
mod fire;
mod measure;
mod prune;
mod relieve;
pub mod windows;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use cascade::cascade;
pub use clock::{promote_by, prune_by, rescue_by};
pub use deaths::{Herald, tell_deaths};
use fire::fire_seen;
pub use fire::{SlotJobs, SlotRefusal, fire, fire_by};
pub use measure::measure;
pub use prune::{Archive, ArchiveError, prune};
pub use windows::windows;

pub use crate::store::Retention;
use crate::{
    model::{JobId, Place},
    store::{ClockWatch, Store, StoreError},
};

/// Upkeep's settings.
#[derive(Debug, Clone)]
pub struct UpkeepOptions {
    /// Name of this process, by which it takes turns with others.
    pub name: String,
    /// How often due jobs are promoted (workers do it too), and children of jobs that did not succeed cancelled, ms.
    pub promote_ms: u64,
    /// How often leases that ran out are looked for, ms.
    pub rescue_ms: u64,
    /// How long workers' leases last, ms: so long nothing is rescued after the clock jumped.
    pub lease_ms: u64,
    /// By how much the store's clock may differ from a steady one between two looks, ms; more is a jump.
    pub max_jump_ms: u64,
    /// How often finished jobs are pruned, ms.
    pub prune_ms: u64,
    /// Kept: succeeded.
    pub succeeded: Retention,
    /// Kept: cancelled.
    pub cancelled: Retention,
    /// Kept: dead.
    pub dead: Retention,
    /// Kept of single kinds, instead of the above.
    pub kinds: BTreeMap<(String, Place), Retention>,
    /// Where finished jobs go before they are forgotten; `None`: nowhere.
    pub archive: Option<Arc<dyn Archive>>,
    /// For how long jobs whose time is over may wait for others, so that many are put away together, ms.
    pub gather_ms: u64,
    /// How often the attempts of each kind are measured, ms.
    pub measure_ms: u64,
    /// How often the freezes of windows are written ahead, ms.
    pub windows_ms: u64,
}

impl UpkeepOptions {
    /// What is kept of a kind's jobs that ended in a place.
    #[must_use]
    pub fn retention(&self, place: Place, kind: &str) -> Retention {
        let general = match place {
            Place::Cancelled => self.cancelled,
            Place::Dead => self.dead,
            _ => self.succeeded,
        };
        self.kinds.get(&(kind.to_owned(), place)).copied().unwrap_or(general)
    }
}

impl Default for UpkeepOptions {
    /// Promote each 500 ms, rescue each second, prune each 10 s, measure each minute, write windows each 30 s; succeeded 7 days, cancelled 30, dead 90,
    /// a million of each; no archive.
    fn default() -> Self {
        let days = |n: u64| Retention { max_age_ms: n * 86_400_000, max_count: 1_000_000 };
        Self {
            name: format!("upkeep-{:08x}", rand::random::<u32>()),
            promote_ms: 500,
            rescue_ms: 1000,
            lease_ms: 15_000,
            max_jump_ms: 60_000,
            prune_ms: 10_000,
            succeeded: days(7),
            cancelled: days(30),
            dead: days(90),
            kinds: BTreeMap::new(),
            archive: None,
            gather_ms: 3_600_000,
            measure_ms: 60_000,
            windows_ms: 30_000,
        }
    }
}

/// Entries one tick touches at most; a full tick is followed by another at once.
const LIMIT: usize = 500;

/// Rescues jobs of lost workers; how many.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn rescue(store: &Store) -> Result<usize, StoreError> {
    let mut moved = 0;
    for shard in 0..store.shards() {
        let ids = store.rescue(shard, LIMIT).await?;
        say_rescued(&ids);
        moved += ids.len();
    }
    Ok(moved)
}

fn say_rescued(ids: &[JobId]) {
    for id in ids {
        tracing::warn!(job = %id, "rescued: its lease ran out");
    }
}

/// The running loops. `stop` is complete on return and may be called twice.
pub struct Upkeep {
    stop: CancellationToken,
    loops: Vec<JoinHandle<()>>,
    clock: Arc<Mutex<ClockWatch>>,
}

impl Upkeep {
    /// Starts the loops; never blocks.
    #[must_use]
    pub fn start(store: &Store, options: UpkeepOptions) -> Self {
        let stop = CancellationToken::new();
        let options = Arc::new(options);
        let (s1, s2, s3, s4) = (store.clone(), store.clone(), store.clone(), store.clone());
        let (s5, s6) = (store.clone(), store.clone());
        let clock = ClockWatch::new(options.max_jump_ms, options.lease_ms);
        let (pace, clock) = (clock.pace(), Arc::new(Mutex::new(clock)));
        let (keep, watch) = (options.clone(), clock.clone());
        let loops = vec![
            tokio::spawn(drive("promote", options.promote_ms, stop.clone(), move || {
                let (s, pace) = (s1.clone(), pace.clone());
                async move { promote_by(&s, &pace).await }
            })),
            tokio::spawn(drive("rescue", options.rescue_ms, stop.clone(), move || {
                let (s, clock) = (s2.clone(), clock.clone());
                async move { rescue_by(&s, &mut *clock.lock().await).await }
            })),
            tokio::spawn(drive("cascade", options.promote_ms, stop.clone(), move || {
                let s = s6.clone();
                async move { cascade(&s).await }
            })),
            tokio::spawn(drive("prune", options.prune_ms, stop.clone(), move || {
                let (s, o) = (s3.clone(), keep.clone());
                async move { prune_by(&s, &o).await }
            })),
            tokio::spawn(drive("measure", options.measure_ms, stop.clone(), move || {
                let s = s4.clone();
                async move { measure(&s).await }
            })),
            tokio::spawn(drive("windows", options.windows_ms, stop.clone(), move || {
                let s = s5.clone();
                async move { windows(&s).await }
            })),
        ];
        Self { stop, loops, clock: watch }
    }

    /// Fires schedules, too: each `every_ms`, with the jobs that `jobs` makes, as far as there are less than `max_live` in a shard.
    #[must_use]
    pub fn with_schedules(mut self, store: &Store, jobs: Arc<dyn SlotJobs>, every_ms: u64, max_live: u64) -> Self {
        let (store, clock, stop) = (store.clone(), self.clock.clone(), self.stop.clone());
        self.loops.push(tokio::spawn(drive("fire", every_ms, self.stop.clone(), move || {
            let (store, jobs, clock, stop) = (store.clone(), jobs.clone(), clock.clone(), stop.clone());
            async move {
                // Held for the look alone: what rescues jobs looks at the same clock, and does not wait for the jobs of schedules.
                let glance = clock.lock().await.look(&store).await?;
                fire_seen(&store, (&*jobs, max_live), glance, &stop).await
            }
        })));
        self
    }

    /// Tells of jobs that died with their worker, too: each `every_ms`.
    #[must_use]
    pub fn with_herald(mut self, store: &Store, herald: Arc<dyn Herald>, every_ms: u64) -> Self {
        let store = store.clone();
        self.loops.push(tokio::spawn(drive("deaths", every_ms, self.stop.clone(), move || {
            let (store, herald) = (store.clone(), herald.clone());
            async move { tell_deaths(&store, &*herald).await }
        })));
        self
    }

    /// Stops the loops and waits for them.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        for running in self.loops.drain(..) {
            let _ = running.await;
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How long a tick may go on when all stops: it may wait for a store that does not answer. It is cut short as by a crash.
const LAST: Duration = Duration::from_secs(5);

/// The one driver of all loops: tick, and again at once when the tick was full.
async fn drive<F, Fut>(name: &'static str, every_ms: u64, stop: CancellationToken, tick: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<usize, StoreError>>,
{
    while !stop.is_cancelled() {
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST).await;
        };
        let ticked = tokio::select! {
            biased;
            ticked = tick() => ticked,
            () = over => return,
        };
        let pause = match ticked {
            Ok(n) if n >= LIMIT => Duration::ZERO,
            Ok(_) => Duration::from_millis(every_ms),
            Err(error) => {
                tracing::warn!(name, code = error.code(), %error, "upkeep waits for the store");
                Duration::from_millis(every_ms.max(500))
            }
        };
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }
}
