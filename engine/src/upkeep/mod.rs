//! Upkeep: promote, rescue, prune; one loop a file's verb, each a `tick` that tests call. Any number of processes may run it.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    model::Place,
    store::{Store, StoreError},
};

/// How long and how many finished jobs are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// At most this long, ms.
    pub max_age_ms: u64,
    /// At most so many a shard.
    pub max_count: u64,
}

/// Upkeep's settings.
#[derive(Debug, Clone)]
pub struct UpkeepOptions {
    /// How often due jobs are promoted (workers do it too), ms.
    pub promote_ms: u64,
    /// How often leases that ran out are looked for, ms.
    pub rescue_ms: u64,
    /// How often finished jobs are pruned, ms.
    pub prune_ms: u64,
    /// Kept: succeeded.
    pub succeeded: Retention,
    /// Kept: cancelled.
    pub cancelled: Retention,
    /// Kept: dead.
    pub dead: Retention,
}

impl Default for UpkeepOptions {
    /// Promote each 500 ms, rescue each second, prune each 10 s; succeeded 7 days, cancelled 30, dead 90, a million of each.
    fn default() -> Self {
        let days = |n: u64| Retention { max_age_ms: n * 86_400_000, max_count: 1_000_000 };
        Self {
            promote_ms: 500,
            rescue_ms: 1000,
            prune_ms: 10_000,
            succeeded: days(7),
            cancelled: days(30),
            dead: days(90),
        }
    }
}

/// Entries one tick touches at most; a full tick is followed by another at once.
const LIMIT: usize = 500;

/// Promotes what is due; how many.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn promote(store: &Store) -> Result<usize, StoreError> {
    let mut moved = 0;
    for shard in 0..store.shards() {
        moved += store.promote(shard, LIMIT).await?;
    }
    Ok(moved)
}

/// Rescues jobs of lost workers; how many.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn rescue(store: &Store) -> Result<usize, StoreError> {
    let mut moved = 0;
    for shard in 0..store.shards() {
        let ids = store.rescue(shard, LIMIT).await?;
        for id in &ids {
            tracing::warn!(job = %id, "rescued: its lease ran out");
        }
        moved += ids.len();
    }
    Ok(moved)
}

/// Prunes finished jobs; how many entries.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn prune(store: &Store, options: &UpkeepOptions) -> Result<usize, StoreError> {
    let mut gone = 0;
    for (place, keep) in
        [(Place::Succeeded, options.succeeded), (Place::Cancelled, options.cancelled), (Place::Dead, options.dead)]
    {
        for shard in 0..store.shards() {
            gone += store.prune(shard, place, keep.max_age_ms, keep.max_count, LIMIT).await?;
        }
    }
    Ok(gone)
}

/// The running loops. `stop` is complete on return and may be called twice.
pub struct Upkeep {
    stop: CancellationToken,
    loops: Vec<JoinHandle<()>>,
}

impl Upkeep {
    /// Starts the loops; never blocks.
    #[must_use]
    pub fn start(store: &Store, options: UpkeepOptions) -> Self {
        let stop = CancellationToken::new();
        let options = Arc::new(options);
        let (s1, s2, s3) = (store.clone(), store.clone(), store.clone());
        let keep = options.clone();
        let loops = vec![
            tokio::spawn(drive("promote", options.promote_ms, stop.clone(), move || {
                let s = s1.clone();
                async move { promote(&s).await }
            })),
            tokio::spawn(drive("rescue", options.rescue_ms, stop.clone(), move || {
                let s = s2.clone();
                async move { rescue(&s).await }
            })),
            tokio::spawn(drive("prune", options.prune_ms, stop.clone(), move || {
                let (s, o) = (s3.clone(), keep.clone());
                async move { prune(&s, &o).await }
            })),
        ];
        Self { stop, loops }
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

/// The one driver of all loops: tick, and again at once when the tick was full.
async fn drive<F, Fut>(name: &'static str, every_ms: u64, stop: CancellationToken, tick: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<usize, StoreError>>,
{
    while !stop.is_cancelled() {
        let pause = match tick().await {
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
