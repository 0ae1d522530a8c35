//! Jobs: asked for, listed, shown, their log.
//!
//! An enqueue is one script in the store; its id is made here, so that a lost reply is asked for again with the same
//! id and never makes a second job (E10).

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, FixedOffset};
use leasehold_engine::{JobId, JobView, Place, Priority, store::JobFilter};
use leasehold_jobs::{
    Actor, Submission, Tenant, Verification,
    policy::{ErrorCode, Permission},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    auth::Caller,
    extract::{Document, Query},
    idempotency,
    job_view::{self, Job},
    problem::{Problem, QuotaState},
    state::ApiState,
    tenants,
    times::rfc3339,
};
use crate::webhooks::{body::callback_meta, directory::DirectoryError};

/// What a caller asks for.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobRequest {
    /// One of `GET /v1/kinds`.
    pub kind: String,
    /// Whose job it is.
    pub tenant: String,
    /// In whose name (ROLE-19).
    #[schema(value_type = ActorSchema)]
    pub actor: Actor,
    /// What the kind reads; its schema is at `GET /v1/kinds`.
    #[serde(default = "no_args")]
    #[schema(value_type = Object)]
    pub args: Value,
    /// When it is to run; now when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "date-time", example = "2026-11-22T22:00:00+08:00")]
    pub run_at: Option<DateTime<FixedOffset>>,
    /// critical, high, normal or low.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "normal")]
    pub priority: Priority,
    /// Told of every change of this job, signed with the webhook secret of the API key.
    #[serde(default)]
    pub callback_url: Option<String>,
    /// The caller's own words, shown and told with the job.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The caller's own id of whatever this belongs to.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// The user's second confirmation (VERIFY-03).
    #[serde(default)]
    pub confirmed: bool,
    /// The code that was sent to the user (VERIFY-01).
    #[serde(default, skip_serializing)]
    #[schema(value_type = Option<VerificationSchema>)]
    pub verification: Option<Verification>,
}

/// The person in whose name a job is asked for.
#[derive(ToSchema)]
#[schema(as = Actor)]
#[expect(dead_code, reason = "only its shape is shown")]
pub(super) struct ActorSchema {
    /// The id at the upstream system.
    user_id: String,
    /// The roles that the upstream vouches for.
    roles: Vec<String>,
    /// Where a verification code goes.
    mobile: Option<String>,
    /// Where e-mail goes.
    email: Option<String>,
    /// Where instant messages go.
    yunzhijia_id: Option<String>,
}

/// A code that was sent to the user.
#[derive(ToSchema)]
#[schema(as = Verification)]
#[expect(dead_code, reason = "only its shape is shown")]
pub(super) struct VerificationSchema {
    /// Of the result of the `verification_code` job.
    challenge_id: String,
    /// What the user typed.
    code: String,
}

fn no_args() -> Value {
    Value::Object(serde_json::Map::new())
}

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

/// Asks for a job.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = JobRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and request give the first job again.")),
    responses((status = 202, body = Job, headers(
        ("Location" = String, description = "The job."), ("ETag" = String, description = "Its seq."),
        ("Idempotent-Replayed" = Option<String>, description = "`true`: it is the first job of the key.")))))]
pub(super) async fn enqueue(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    Document(ask): Document<JobRequest>,
) -> Result<Response, Problem> {
    caller.check(Permission::Enqueue)?;
    caller.check_tenant(&ask.tenant)?;
    let key = idempotency::key_of(&headers)?;
    let digest = idempotency::digest(&ask)?;
    let missing = || {
        Problem::new(ErrorCode::UnknownTenant, format!("there is no tenant `{}`", short(&ask.tenant))).field("tenant")
    };
    let tenant = tenants::read(&state, &ask.tenant).await?.ok_or_else(missing)?;
    let tenant_id = tenant.id.clone();
    let first = |problem| idempotency::first_or(&state, &tenant_id, key.as_deref(), digest, problem);
    let accepted = match accept(&state, &caller, ask, tenant, key.clone(), digest).await {
        Ok(accepted) => accepted,
        // A repeat must find its first job although the rules would say no by now: the quota is used, the time is past.
        Err(problem) => Accepted { id: first(problem).await?, replayed: true, quota: None },
    };
    answer(&state, accepted).await
}

struct Accepted {
    id: JobId,
    replayed: bool,
    quota: Option<QuotaState>,
}

async fn accept(
    state: &ApiState,
    caller: &Caller,
    ask: JobRequest,
    tenant: Tenant,
    key: Option<String>,
    digest: [u8; 32],
) -> Result<Accepted, Problem> {
    state.memory_left().await?;
    let now = state.store().now().await?;
    let submission = Submission {
        kind: ask.kind,
        tenant,
        actor: ask.actor,
        args: ask.args,
        run_at: ask.run_at.map(|at| at.timestamp_millis()),
        now,
        confirmed: ask.confirmed,
        verification: ask.verification,
        idempotency_key: key,
        priority: ask.priority,
        labels: ask.labels,
        correlation_id: ask.correlation_id,
        // Checked at once, made only when the rules have said yes.
        callback: ask.callback_url.as_ref().map(|_| Value::Null),
    };
    let mut submission = submission;
    if let Some(url) = &ask.callback_url {
        let endpoint = crate::webhooks::endpoint_url::EndpointUrl::parse(url, state.url_rules())
            .map_err(|refused| callback_refused(DirectoryError::Url(refused)))?;
        submission.callback =
            Some(callback_meta(&crate::webhooks::endpoint::callback_id(&caller.key.id, &endpoint.to_string())));
    }
    let mut admitted = state.catalogue().admit(&submission).await?;
    if let Some(idempotency) = &mut admitted.idempotency {
        idempotency.digest = digest;
    }
    if let Some(url) = &ask.callback_url {
        let (key, secret) = (&caller.key.id, &caller.key.webhook_secret);
        state.endpoints().callback(key, url, secret, state.url_rules(), now).await.map_err(callback_refused)?;
    }
    let job = admitted.job(state.store().new_id(&admitted.tenant));
    let mut answers = state.store().enqueue(std::slice::from_ref(&job), state.config().limits.max_waiting_jobs).await?;
    let answer = answers.pop().ok_or_else(|| Problem::new(ErrorCode::Internal, "the store gave no answer"))?;
    let (id, replayed) = state.catalogue().accepted(&admitted, answer.clone()).map_err(|refusal| match &answer {
        leasehold_engine::Enqueued::Conflict(id) => Problem::from(refusal).job(id),
        _ => refusal.into(),
    })?;
    let quota = match &admitted.allowance {
        Some(allowance) => {
            let used = state.store().allowance_used(&admitted.tenant, &allowance.name).await?;
            Some(QuotaState::from(&allowance.state(state.rules().calendar(), used)))
        }
        None => None,
    };
    Ok(Accepted { id, replayed, quota })
}

fn callback_refused(error: DirectoryError) -> Problem {
    super::webhooks::refused(error).field("callback_url")
}

async fn answer(state: &ApiState, accepted: Accepted) -> Result<Response, Problem> {
    let held = state.store().job(&accepted.id).await?;
    let view = held.ok_or_else(|| {
        Problem::new(ErrorCode::Gone, "the first job of this key is no longer kept").job(&accepted.id)
    })?;
    let mut job = job_view::whole(state, &view, state.store().now().await?);
    job.quota = accepted.quota;
    let location = format!("/v1/jobs/{}", accepted.id);
    let mut response = with_etag(StatusCode::ACCEPTED, job);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/v1/jobs")));
    if accepted.replayed {
        headers.insert(HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));
    }
    Ok(response)
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

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
