//! Measure: how long the jobs of each kind have a worker at a time, for those who decide whether one still fits before a freeze.
//! Guards that the figure is of real ends, of the longest stretch of a job that was suspended, and is written only when it changed enough to matter.

use std::collections::BTreeSet;

use crate::{
    model::{Place, UnixMs},
    store::{GateSet, Store, StoreError},
};

/// The newest attempts of a kind that are looked at, in each shard.
const LOOK: usize = 200;
/// Fewer say nothing.
const ENOUGH: usize = 20;

/// Measures every kind and writes what changed by more than a tenth to the gates; how many kinds changed.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn measure(store: &Store) -> Result<usize, StoreError> {
    let mut kinds = BTreeSet::new();
    for shard in 0..store.shards() {
        let done = |(place, kind)| (place == Place::Succeeded).then_some(kind);
        kinds.extend(store.finished_kinds(shard).await?.into_iter().filter_map(done));
    }
    let (known, mut changed) = (store.gates().await?, 0);
    for kind in kinds {
        let mut ended = Vec::new();
        for shard in 0..store.shards() {
            ended.extend(store.newest_stretches(shard, Place::Succeeded, &kind, LOOK).await?);
        }
        let field = format!("d {kind}");
        let held = known.get(&field).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        if let Some(p95) = usual(&mut ended).filter(|p95| is_news(held, *p95)) {
            changed += usize::from(store.gate_set(&field, p95.to_string().as_bytes()).await? == GateSet::Set);
        }
    }
    Ok(changed)
}

/// The duration, in ms, that 95 of 100 of the newest did not exceed; `None` for too few. Given: when each ended, and its own.
fn usual(ended: &mut Vec<(UnixMs, u64)>) -> Option<u64> {
    ended.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
    ended.truncate(LOOK);
    let mut took: Vec<u64> = ended.iter().map(|(_, ms)| *ms).collect();
    took.sort_unstable();
    let rank = (took.len() * 95).div_ceil(100);
    (took.len() >= ENOUGH).then(|| took[rank - 1])
}

/// Whether a figure differs from the one that is held by more than a tenth of it.
fn is_news(held: Option<u64>, now: u64) -> bool {
    held.is_none_or(|held| held.abs_diff(now) * 10 > held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_five_of_a_hundred_do_not_take_longer() {
        let mut ended: Vec<_> = (1..=100).map(|ms| (1000, ms)).collect();
        assert_eq!(usual(&mut ended), Some(95));
        assert_eq!(usual(&mut vec![(1000, 7); 19]), None, "too few say nothing");
        assert_eq!(usual(&mut vec![(1000, 7); 20]), Some(7));
    }

    #[test]
    fn only_the_newest_count() {
        let old = (0..200).map(|n| (n, 9));
        let new = (0..200).map(|n| (10_000 + n, 5));
        assert_eq!(usual(&mut old.chain(new).collect()), Some(5));
    }

    #[test]
    fn a_change_of_up_to_a_tenth_is_no_news() {
        assert!(is_news(None, 0) && !is_news(Some(100), 110) && !is_news(Some(100), 90));
        assert!(is_news(Some(100), 111) && is_news(Some(100), 89) && is_news(Some(0), 1));
    }
}
