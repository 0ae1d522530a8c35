//! Relief: when Redis' memory runs short, the oldest finished jobs go before their time is over. Guards that finished jobs,
//! which only lie there, keep no others out (E7), and that none goes before it was put away.

use super::{UpkeepOptions, prune};
use crate::{
    model::{JobId, JobView, Place},
    store::{Entry, Expired, Memory, Retention, Store, StoreError},
};

/// Above this share of Redis' memory, in percent, finished jobs go early; jobs are refused from 90 on.
const PERCENT: u64 = 80;
/// What ended less than this long ago stays: whoever waits for the job still reads it, ms.
const YOUNG_MS: u64 = 60_000;
/// Entries of a list looked at in one go.
const ENTRIES: usize = 200;
/// Lists gone through in one tick, each bounded in entries and bytes.
const LISTS: usize = 20;

/// The oldest finished jobs of a kind.
struct Old {
    shard: u16,
    place: Place,
    kind: String,
    expired: Expired,
}

/// Forgets the oldest finished jobs, after the archive has them, until enough memory is free; how many entries.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub(super) async fn relieve(store: &Store, options: &UpkeepOptions) -> Result<usize, StoreError> {
    let mut memory = store.memory().await?;
    if !memory.is_above(PERCENT) {
        return Ok(0);
    }
    let mut gone = 0;
    for old in oldest_first(store, options).await?.into_iter().take(LISTS) {
        gone += forget_some(store, options, old, memory).await?;
        memory = store.memory().await?;
        if !memory.is_above(PERCENT) {
            break;
        }
    }
    if gone > 0 {
        tracing::warn!(
            jobs = gone,
            code = "memory_short",
            "finished jobs went before their time: Redis' memory is short"
        );
    }
    Ok(gone)
}

/// Dead ones last: somebody may want to send them back.
async fn oldest_first(store: &Store, options: &UpkeepOptions) -> Result<Vec<Old>, StoreError> {
    let keep = Retention { max_age_ms: YOUNG_MS, max_count: u64::MAX };
    let mut found = Vec::new();
    for shard in 0..store.shards() {
        if options.archive.is_some() && !prune::is_my_turn(store, options, shard).await? {
            continue;
        }
        for (place, kind) in store.finished_kinds(shard).await? {
            let expired = store.expired(shard, place, &kind, keep, ENTRIES).await?;
            if !expired.entries.is_empty() {
                found.push(Old { shard, place, kind, expired });
            }
        }
    }
    found.sort_by_key(|old| (old.place == Place::Dead, -old.expired.over_age_ms));
    Ok(found)
}

async fn forget_some(
    store: &Store,
    options: &UpkeepOptions,
    mut old: Old,
    memory: Memory,
) -> Result<usize, StoreError> {
    let wanted = memory.used.saturating_sub(memory.max / 100 * PERCENT);
    let many = store.enough(old.shard, &old.expired.entries, wanted).await?;
    old.expired.entries.truncate(many);
    let mut views = prune::read_whole(store, old.place, &mut old.expired).await?;
    if let Some(child) = first_awaited(store, &views).await? {
        let at = |entry: &Entry| entry.id == child;
        let before = old.expired.entries.iter().position(at).unwrap_or(0);
        old.expired.entries.truncate(before);
        views.retain(|view| old.expired.entries.iter().any(|entry| entry.id == view.record.id));
    }
    prune::put_away(store, options, (old.shard, old.place, &old.kind), (&old.expired.entries, &views)).await
}

/// The first whose parent has not ended: it may still want the child's result.
async fn first_awaited(store: &Store, views: &[JobView]) -> Result<Option<JobId>, StoreError> {
    for view in views {
        let Some(parent) = &view.record.parent else { continue };
        if store.job(parent).await?.is_some_and(|parent| !parent.record.place.is_final()) {
            return Ok(Some(view.record.id.clone()));
        }
    }
    Ok(None)
}
