//! Archived jobs: listed with `archived=true`, and shown when Redis has forgotten them. Guards that a key sees no other
//! tenant's, and that what only jobs in Redis can do is not done to these.

use leasehold_engine::{JobView, Place};
use leasehold_jobs::policy::ErrorCode;

use super::{auth::Caller, job_view, jobs::JobPage, jobs::JobQuery, problem::Problem, state::ApiState};
use crate::archive::{ArchiveQuery, ShelfError};

/// A page of archived jobs; `tenant` is the one that was asked for or that the key is bound to.
///
/// # Errors
/// There is no archive, it cannot be read, or the query makes no sense for it.
pub(super) async fn page(
    state: &ApiState,
    query: JobQuery,
    tenant: Option<String>,
    limit: usize,
) -> Result<JobPage, Problem> {
    let shelf = state.shelf().ok_or_else(|| {
        Problem::invalid("archived", "no archive is configured").remedy("set archive.files, and restart the program")
    })?;
    if let Some(place) = query.place.filter(|place| !place.is_final()) {
        let ends = [Place::Succeeded, Place::Cancelled, Place::Dead].map(Place::as_str).join(", ");
        return Err(Problem::invalid("place", format!("no archived job is {place}")).limit(ends));
    }
    let ms = |at: Option<chrono::DateTime<chrono::FixedOffset>>| at.map(|at| at.timestamp_millis());
    let (since, until) = (ms(query.since), ms(query.until));
    if since.zip(until).is_some_and(|(since, until)| since >= until) {
        return Err(Problem::invalid("until", "it is not after `since`"));
    }
    let wanted = ArchiveQuery { tenant, kind: query.kind, place: query.place, queue: query.queue, since, until };
    let page = shelf.page(&wanted, query.cursor.as_deref(), limit).await?;
    let now = state.store().now().await?;
    let shown = page.jobs.iter().map(|view| {
        let mut job = job_view::summary(state, view, now);
        job.archived = true;
        job
    });
    Ok(JobPage { jobs: shown.collect(), next: page.next })
}

/// A job that Redis does not know (any more), if the archive has it and it is this caller's to see.
///
/// # Errors
/// The archive cannot be read.
pub(super) async fn find(state: &ApiState, caller: &Caller, id: &str) -> Result<Option<JobView>, Problem> {
    let (Some(shelf), Ok(id)) = (state.shelf(), id.parse()) else { return Ok(None) };
    Ok(shelf.find(&id, caller.key.tenant.as_deref()).await?)
}

impl From<ShelfError> for Problem {
    fn from(error: ShelfError) -> Self {
        if let ShelfError::BadCursor(_) = error {
            return Self::invalid("cursor", error.to_string()).remedy("begin anew without a cursor");
        }
        tracing::error!(code = error.code(), %error, "the archive cannot be read");
        Self::new(ErrorCode::TargetUnreachable, error.to_string()).remedy("look at archive.files and the log")
    }
}
