//! Deaths: a job whose last worker was lost has no attempt left that could tell of it. Guards that somebody is told,
//! at least once, whatever crashes between.

use async_trait::async_trait;

use super::LIMIT;
use crate::{
    model::{JobView, Place},
    store::{Store, StoreError},
};

/// Tells people of a job that died with its worker: the service's part, which knows whom.
#[async_trait]
pub trait Herald: Send + Sync + 'static {
    /// Tells of it; it may be asked for the same job twice, and must tell once.
    ///
    /// # Errors
    /// Why it cannot be told now; it is asked again.
    async fn died(&self, job: &JobView) -> Result<(), String>;
}

/// Tells of the jobs that died with their worker; how many.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn tell_deaths(store: &Store, herald: &dyn Herald) -> Result<usize, StoreError> {
    let mut told = 0;
    for shard in 0..store.shards() {
        say_never_told(store, shard).await?;
        for id in store.untold(shard, LIMIT).await? {
            // One that was revived or forgotten meanwhile is no news.
            if let Some(job) = store.job(&id).await?.filter(|job| job.record.place == Place::Dead)
                && let Err(error) = herald.died(&job).await
            {
                tracing::warn!(job = %id, error, "nobody could be told of a job that died; it is tried again");
                continue;
            }
            store.note_told(&id).await?;
            told += 1;
        }
    }
    Ok(told)
}

/// When there were too many to be kept until somebody could be told.
async fn say_never_told(store: &Store, shard: u16) -> Result<(), StoreError> {
    let jobs = store.never_told(shard).await?;
    if jobs > 0 {
        tracing::error!(jobs, "nobody was told of jobs that died with their worker: there were too many");
        store.alert("deaths_untold", &serde_json::json!({ "jobs": jobs }).to_string()).await?;
    }
    Ok(())
}
