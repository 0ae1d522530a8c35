//! Child jobs: spawned with the step that names them, waited for without a worker. Guards that a job waits for its own
//! children only, so that no two jobs wait for each other.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Ctx, decode, lost, unreachable_store};
use crate::{
    model::{Awaited, Effect, JobError, JobId, NewJob, Place, Sort},
    store::{MOST_CHILDREN, Opening, Spawned, StoreError, Suspended, Until, Wanted},
};

/// What a child that did not succeed (dead or cancelled) means for the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildFailure {
    /// The wait fails, permanently, with `child_failed`; what is still running is cancelled when the parent dies of it.
    Fail,
    /// It is told like the others.
    Collect,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// The child.
    pub id: JobId,
    /// `succeeded`, `cancelled` or `dead`.
    pub place: Place,
}

impl Ctx {
    /// Takes a child in, atomically with the step `name`: done again, the step gives the first child. The child must lie in
    /// the job's own shard (that of its tenant). Children of a job that dies or is cancelled are cancelled; those of a job
    /// that succeeded go on. At most 1,000 a job.
    ///
    /// # Errors
    /// Permanent: `child_of_other_shard`, `too_many_children`, `child_refused`; else as [`Ctx::step`].
    pub async fn spawn_child(&self, name: &str, mut job: NewJob) -> Result<JobId, JobError> {
        let call = self.call(name, Sort::Spawn).await?;
        if let Some(held) = &call.done {
            return decode(name, held);
        }
        if job.id.shard() != self.id().shard() {
            let text = format!("step `{name}`: a child lies in its parent's shard; spawn it for the parent's tenant");
            return Err(JobError::permanent("child_of_other_shard", text));
        }
        job.parent = Some(self.id().clone());
        let opening = Opening { sort: call.sort, ordinal: call.ordinal, ..Opening::of(Effect::Idempotent) };
        let spawned = self.inner.shared.store.spawn((self.id(), self.fence()), name, opening, &job).await;
        match spawned {
            Ok(Spawned::Child(child)) => Ok(child),
            Ok(Spawned::Stale) => Err(lost()),
            Ok(Spawned::Cancelled) => Err(super::cancelled(name)),
            Ok(Spawned::TooMany) => Err(JobError::permanent(
                "too_many_children",
                format!("step `{name}`: a job has at most {MOST_CHILDREN} children"),
            )),
            Ok(Spawned::Refused(word)) => {
                Err(JobError::permanent("child_refused", format!("step `{name}`: the child was not taken in: {word}")))
            }
            Err(error @ (StoreError::TooLong { .. } | StoreError::BadName { .. })) => {
                Err(JobError::permanent("child_refused", format!("step `{name}`: {error}")))
            }
            Err(error) => Err(unreachable_store(&error)),
        }
    }

    /// Waits until all of these children have ended; no worker is held. With [`ChildFailure::Fail`] the first that did not
    /// succeed ends the wait.
    ///
    /// # Errors
    /// Permanent: `not_a_child`, `child_failed`; else as [`Ctx::sleep`].
    pub async fn wait_all(&self, name: &str, ids: &[JobId], policy: ChildFailure) -> Result<Vec<ChildEnd>, JobError> {
        self.wait_children(name, ids, true, policy).await
    }

    /// Waits until at least one of these children has ended; gives those that have. The others go on.
    ///
    /// # Errors
    /// As [`Ctx::wait_all`]; with [`ChildFailure::Fail`] one that did not succeed among them fails the wait.
    pub async fn wait_any(&self, name: &str, ids: &[JobId], policy: ChildFailure) -> Result<Vec<ChildEnd>, JobError> {
        self.wait_children(name, ids, false, policy).await
    }

    /// What a child that succeeded gave, kept as a step of this job, so that it stays known when the child is forgotten.
    ///
    /// # Errors
    /// Permanent: `not_a_child`, `child_failed` when it did not succeed, `step_changed` when it gave something else.
    pub async fn child_result<T: Serialize + DeserializeOwned>(&self, name: &str, id: &JobId) -> Result<T, JobError> {
        let read = || async {
            let view = self.store().job(id).await.map_err(|e| unreachable_store(&e))?;
            let mine = view.filter(|view| view.record.parent.as_ref() == Some(self.id()));
            let Some(record) = mine.map(|view| view.record) else { return Err(not_a_child(name, id.as_str())) };
            match record.place {
                Place::Succeeded if record.result.is_empty() => decode(name, b"null"),
                Place::Succeeded => decode(name, &record.result),
                place => Err(failed(name, &[ChildEnd { id: id.clone(), place }])),
            }
        };
        self.step(name, Effect::ReadOnly, read).await
    }

    async fn wait_children(
        &self,
        name: &str,
        ids: &[JobId],
        all: bool,
        policy: ChildFailure,
    ) -> Result<Vec<ChildEnd>, JobError> {
        let call = self.call(name, Sort::Children).await?;
        let fail = policy == ChildFailure::Fail;
        let ends: Vec<ChildEnd> = match &call.done {
            Some(held) => decode(name, held)?,
            None => {
                if ids.len() > MOST_CHILDREN {
                    return Err(JobError::permanent(
                        "too_many_children",
                        format!("step `{name}` waits for {}", ids.len()),
                    ));
                }
                let awaited = Awaited::Children { all, many: ids.len() };
                let wanted = Wanted::Children { ids, all, fail };
                match self.suspend(&call, wanted, Until::Never, &awaited).await? {
                    Suspended::Done(held) => decode(name, &held)?,
                    Suspended::NotChild(id) => return Err(not_a_child(name, &id)),
                    other => return Err(self.suspended(name, &other, true)),
                }
            }
        };
        let spoiled = ends.iter().any(|end| end.place != Place::Succeeded);
        if fail && spoiled { Err(failed(name, &ends)) } else { Ok(ends) }
    }
}

fn not_a_child(name: &str, id: &str) -> JobError {
    JobError::permanent(
        "not_a_child",
        format!("step `{name}`: job {id} is no child of this job; only its own can be waited for"),
    )
}

fn failed(name: &str, ends: &[ChildEnd]) -> JobError {
    let bad: Vec<_> = ends.iter().filter(|end| end.place != Place::Succeeded).collect();
    let first = bad.first().map_or(String::new(), |end| format!("; child {} is {}", end.id, end.place));
    JobError::permanent("child_failed", format!("step `{name}`: {} of the children did not succeed{first}", bad.len()))
}
