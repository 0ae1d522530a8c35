//! Promote, rescue and prune by a clock that is watched. Guards that a jump of the store's clock takes no job from a worker that
//! lives, and that nothing is due or forgotten by it before somebody has looked.

use super::{LIMIT, UpkeepOptions, prune, say_rescued};
use crate::store::{ClockWatch, Pace, Store, StoreError};

/// Promotes what is due, unless the clock may have jumped since somebody looked at it last; how many.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn promote_by(store: &Store, pace: &Pace) -> Result<usize, StoreError> {
    // The first look is that of the rescue, at once.
    let Some(no_later) = pace.no_later() else { return Ok(0) };
    let mut moved = 0;
    for shard in 0..store.shards() {
        moved += store.promote_by(shard, LIMIT, no_later).await?;
    }
    Ok(moved)
}

/// Looks at the clock, then rescues jobs whose lease had run out by what it said; how many. After a jump nothing is
/// rescued for the length of a lease, in which live workers renew theirs.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn rescue_by(store: &Store, clock: &mut ClockWatch) -> Result<usize, StoreError> {
    let glance = clock.look(store).await?;
    if !glance.is_calm {
        return Ok(0);
    }
    let mut moved = 0;
    for shard in 0..store.shards() {
        // Not by the time of the script: the clock may jump between the look and the call.
        let ids = store.rescue_until(shard, LIMIT, glance.now).await?;
        say_rescued(&ids);
        moved += ids.len();
    }
    Ok(moved)
}

/// Prunes, unless the clock jumped and nobody has looked at it yet: by a wrong time, all might seem to be over.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn prune_by(store: &Store, options: &UpkeepOptions) -> Result<usize, StoreError> {
    match store.clock_jump().await? {
        Some(_) => Ok(0),
        None => prune(store, options).await,
    }
}
