//! Jobs: listed, shown, their log.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use leasehold_engine::{JobView, Place, store::JobFilter};
use leasehold_jobs::policy::Permission;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
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
    kind: Option<String>,
    /// In this place.
    #[param(value_type = Option<String>)]
    place: Option<Place>,
    /// In this queue.
    queue: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Jobs of a page.
    limit: Option<usize>,
}

/// A page of jobs.
#[derive(Serialize, ToSchema)]
pub(super) struct JobPage {
    jobs: Vec<Job>,
    /// Where to go on; absent at the end. A page may be short and yet have more behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
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
    let tenant = query.tenant.or_else(|| caller.key.tenant.clone());
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
    let view = caller.job(&state, &id).await?;
    let job = job_view::whole(&state, &view, state.store().now().await?);
    Ok(with_etag(StatusCode::OK, job))
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
