//! Jobs: listed, shown, their log.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, FixedOffset};
use leasehold_engine::{JobView, Place, store::JobFilter};
use leasehold_jobs::policy::{ErrorCode, Permission};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    archived,
    auth::Caller,
    extract::Query,
    job_view::{self, Job},
    problem::Problem,
    state::ApiState,
    times::rfc3339,
};

/// Which jobs to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct JobQuery {
    /// Of this tenant.
    tenant: Option<String>,
    /// Of this kind.
    pub(super) kind: Option<String>,
    /// In this place.
    #[param(value_type = Option<String>)]
    pub(super) place: Option<Place>,
    /// In this queue.
    pub(super) queue: Option<String>,
    /// Those that Redis has forgotten and the archive has, the newest first.
    archived: Option<bool>,
    /// Archived ones that ended at this time or later, RFC 3339.
    pub(super) since: Option<DateTime<FixedOffset>>,
    /// Archived ones that ended before this time, RFC 3339.
    pub(super) until: Option<DateTime<FixedOffset>>,
    /// `next` of the page before.
    pub(super) cursor: Option<String>,
    /// Jobs of a page.
    limit: Option<usize>,
}

/// A page of jobs.
#[derive(Serialize, ToSchema)]
pub(super) struct JobPage {
    pub(super) jobs: Vec<Job>,
    /// Where to go on; absent at the end. A page may be short and yet have more behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// Which part of a log.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Lines to pass over.
    skip: Option<usize>,
    /// Lines to give.
    limit: Option<usize>,
}

/// What a job wrote.
#[derive(Serialize, ToSchema)]
pub(super) struct JobLog {
    lines: Vec<LogLine>,
}

/// A line of a job's log.
#[derive(Serialize, ToSchema)]
pub(super) struct LogLine {
    at: String,
    text: String,
}

/// A job with its seq as `ETag`.
pub(super) fn with_etag(status: StatusCode, job: Job) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{}\"", job.seq)).unwrap_or(HeaderValue::from_static("\"0\""));
    (status, [(header::ETAG, tag)], Json(job)).into_response()
}

/// Lists jobs, without what may be long.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(JobQuery), responses((status = 200, body = JobPage)))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<JobQuery>,
) -> Result<Json<JobPage>, Problem> {
    caller.check(Permission::ReadJobs)?;
    if let Some(tenant) = &query.tenant {
        caller.check_tenant(tenant)?;
    }
    let limit = page_limit(&state, query.limit)?;
    let tenant = query.tenant.clone().or_else(|| caller.key.tenant.clone());
    if query.archived == Some(true) {
        return Ok(Json(archived::page(&state, query, tenant, limit).await?));
    }
    if query.since.or(query.until).is_some() {
        return Err(Problem::invalid("since", "only archived jobs are listed by time").remedy("add archived=true"));
    }
    let filter = JobFilter { tenant, kind: query.kind, place: query.place, queue: query.queue };
    let page = state.store().jobs(&filter, query.cursor.as_deref(), limit).await?;
    let now = state.store().now().await?;
    let mut jobs = Vec::with_capacity(page.jobs.len());
    for record in page.jobs {
        // Only a pending job that has begun before needs its steps to know its status.
        let begun = !record.place.is_final() && record.started_at > 0;
        let full = if begun { state.store().job(&record.id).await? } else { None };
        let view = full.unwrap_or(JobView { record, steps: Vec::new(), progress: Default::default() });
        jobs.push(job_view::summary(&state, &view, now));
    }
    Ok(Json(JobPage { jobs, next: page.next }))
}

/// The size of a page: what was asked for, within what is allowed.
pub(super) fn page_limit(state: &ApiState, asked: Option<usize>) -> Result<usize, Problem> {
    let server = &state.config().server;
    match asked.unwrap_or(server.page_size) {
        limit if (1..=server.max_page_size).contains(&limit) => Ok(limit),
        limit => Err(Problem::invalid("limit", format!("{limit} is out of range"))
            .limit(format!("1 to {}", server.max_page_size))),
    }
}

/// Shows a job.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = Job, headers(("ETag" = String, description = "Its seq.")))))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.check(Permission::ReadJobs)?;
    let (view, archived) = match caller.job(&state, &id).await {
        Err(problem) if problem.code() == ErrorCode::NotFound.as_str() => {
            (archived::find(&state, &caller, &id).await?.ok_or_else(|| elsewhere(&state, problem))?, true)
        }
        found => (found?, false),
    };
    let mut job = job_view::whole(&state, &view, state.store().now().await?);
    job.archived = archived;
    Ok(with_etag(StatusCode::OK, job))
}

/// A job that ended long after it was made is not found in the archive by its id alone.
fn elsewhere(state: &ApiState, problem: Problem) -> Problem {
    match state.shelf() {
        Some(_) => problem.remedy("if it ended long ago, look for it with archived=true, its tenant and since"),
        None => problem,
    }
}

/// Shows what a job wrote.
#[utoipa::path(get, path = "/v1/jobs/{id}/log", tag = "jobs", params(("id" = String, Path), LogQuery),
    responses((status = 200, body = JobLog)))]
pub(super) async fn log(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Json<JobLog>, Problem> {
    caller.check(Permission::ReadJobs)?;
    let view = caller.job(&state, &id).await?;
    let limit = page_limit(&state, query.limit)?;
    let skip = query.skip.unwrap_or(0).min(1 << 30);
    let lines = state.store().log(&view.record.id, skip, limit).await?;
    let read = |line: String| {
        let (at, text) = line.split_once(' ').unwrap_or(("0", &line));
        LogLine { at: rfc3339(at.parse().unwrap_or(0)), text: text.to_owned() }
    };
    Ok(Json(JobLog { lines: lines.into_iter().map(read).collect() }))
}
