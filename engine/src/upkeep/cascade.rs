//! Cascade: cancels the children of jobs that were cancelled or failed. Guards that a tree ends as a whole, also when the
//! process that ended its root died at once.

use crate::store::{Store, StoreError};

/// Parents of a shard in one tick at most.
const LIMIT: usize = 500;

/// Cancels the children of all jobs that were cancelled or failed; in how many calls.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn cascade(store: &Store) -> Result<usize, StoreError> {
    let mut calls = 0;
    for shard in 0..store.shards() {
        for _ in 0..LIMIT {
            let left = store.cascade(shard).await?;
            calls += 1;
            if left == 0 {
                break;
            }
        }
    }
    Ok(calls)
}
