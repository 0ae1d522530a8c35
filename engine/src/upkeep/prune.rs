//! Prune: forgets finished jobs whose time is over, kind by kind, after the archive has them. Guards that no job is
//! forgotten before it was put away: what fails to be put away stays where it is.

use std::fmt;

use async_trait::async_trait;

use super::{UpkeepOptions, relieve::relieve};
use crate::{
    model::{JobView, Place},
    store::{Entry, Expired, Retention, Store, StoreError},
};

/// Where finished jobs go before they are forgotten.
#[async_trait]
pub trait Archive: fmt::Debug + Send + Sync {
    /// Keeps these jobs. When it is done, they can be read again after a crash of everything.
    ///
    /// The same job may come twice (a crash between this and the forgetting); a reader must show it once.
    ///
    /// # Errors
    /// [`ArchiveError`]; none of them is forgotten then.
    async fn put(&self, jobs: &[JobView]) -> Result<(), ArchiveError>;
}

/// Jobs could not be put away.
#[derive(Debug, thiserror::Error)]
#[error("finished jobs could not be put away ({code}): {text}")]
pub struct ArchiveError {
    /// Stable code.
    pub code: &'static str,
    /// What was tried, and why it failed.
    pub text: String,
}

/// Entries looked at in one go.
const LIMIT: usize = 500;
/// With an archive, jobs are gathered until there are so many, so that it does not become a heap of tiny objects.
const GATHER: u64 = 200;
/// For how long a process has its turn, ms. One that dies while it has it delays the next by as much.
const TURN_MS: u64 = 60_000;

/// Forgets finished jobs whose time is over; how many entries. What could not be put away is kept, and said.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn prune(store: &Store, options: &UpkeepOptions) -> Result<usize, StoreError> {
    let mut gone = 0;
    for shard in 0..store.shards() {
        for (place, kind) in store.finished_kinds(shard).await? {
            // One process at a time puts jobs away, or each would put away the same.
            if options.archive.is_some() && !is_my_turn(store, options, shard).await? {
                break;
            }
            gone += prune_kind(store, options, shard, (place, &kind)).await?;
        }
    }
    Ok(gone + relieve(store, options).await?)
}

pub(super) async fn is_my_turn(store: &Store, options: &UpkeepOptions, shard: u16) -> Result<bool, StoreError> {
    store.take_turn(shard, "prune", &options.name, TURN_MS).await
}

async fn prune_kind(
    store: &Store,
    options: &UpkeepOptions,
    shard: u16,
    (place, kind): (Place, &str),
) -> Result<usize, StoreError> {
    let keep = options.retention(place, kind);
    let mut expired = store.expired(shard, place, kind, keep, LIMIT).await?;
    if options.archive.is_none() {
        return Ok(store.forget(shard, place, kind, &expired.entries).await?.entries);
    }
    if !ripe(&expired, keep, options.gather_ms) {
        return Ok(0);
    }
    let views = read_whole(store, place, &mut expired).await?;
    put_away(store, options, (shard, place, kind), (&expired.entries, &views)).await
}

/// Gives jobs to the archive, if there is one, and forgets them; how many entries.
pub(super) async fn put_away(
    store: &Store,
    options: &UpkeepOptions,
    (shard, place, kind): (u16, Place, &str),
    (entries, views): (&[Entry], &[JobView]),
) -> Result<usize, StoreError> {
    if let Some(archive) = options.archive.as_ref().filter(|_| !views.is_empty()) {
        if let Err(error) = archive.put(views).await {
            say_failed(store, &error, views.len()).await?;
            return Ok(0);
        }
        match store.note_archive(Ok(views.len())).await {
            // What is put away goes, or a full Redis would stay full for the sake of a count.
            Err(error) if error.is_out_of_memory() => {}
            noted => drop(noted?),
        }
    }
    Ok(store.forget(shard, place, kind, entries).await?.entries)
}

/// Whether there is enough to be put away, or it has waited for long enough.
fn ripe(expired: &Expired, keep: Retention, gather_ms: u64) -> bool {
    let some = GATHER.min(keep.max_count / 10 + 1);
    let enough = expired.over_count >= some || (expired.over_age_ms >= 0 && expired.entries.len() as u64 >= GATHER);
    enough || expired.over_age_ms >= i64::try_from(gather_ms).unwrap_or(i64::MAX)
}

/// Reads the jobs whole. What they are by then is what may be forgotten: one that left meanwhile is but an entry.
pub(super) async fn read_whole(store: &Store, place: Place, expired: &mut Expired) -> Result<Vec<JobView>, StoreError> {
    let ended: Vec<_> = expired.entries.iter().filter(|e| e.seq.is_some()).map(|e| e.id.clone()).collect();
    let (mut views, read) = store.views(&ended).await?;
    // What did not fit into this go is left for the next, with all behind it.
    let fits = |entry: &Entry| entry.seq.is_none() || ended[..read].contains(&entry.id);
    let many = expired.entries.iter().take_while(|entry| fits(entry)).count();
    expired.entries.truncate(many);
    views.retain(|view| view.record.place == place);
    for entry in &mut expired.entries {
        entry.seq = views.iter().find(|view| view.record.id == entry.id).map(|view| view.record.seq);
    }
    Ok(views)
}

async fn say_failed(store: &Store, error: &ArchiveError, jobs: usize) -> Result<(), StoreError> {
    let text = error.to_string();
    if store.note_archive(Err(&text)).await? {
        let document = serde_json::json!({ "code": error.code, "text": error.text, "jobs": jobs });
        store.alert("archive_failed", &document.to_string()).await?;
        tracing::error!(code = error.code, jobs, %error, "the archive fails: finished jobs stay in Redis until it is well");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_jobs_are_gathered_many_or_old_ones_are_put_away() {
        let keep = |max_count| Retention { max_age_ms: 1000, max_count };
        let of = |over_count, over_age_ms| Expired { over_count, over_age_ms, ..Expired::default() };
        assert!(!ripe(&of(0, -1), keep(10_000), 0), "nothing is over");
        assert!(!ripe(&of(199, 3_599_999), keep(10_000), 3_600_000));
        assert!(ripe(&of(200, -1), keep(10_000), 3_600_000));
        assert!(ripe(&of(0, 3_600_000), keep(10_000), 3_600_000));
        assert!(ripe(&of(1, -1), keep(0), 3_600_000), "who keeps none waits for none");
        assert!(!ripe(&of(1, -1), keep(10), 3_600_000) && ripe(&of(2, -1), keep(10), 3_600_000));
    }
}
