//! An enqueue: from a caller's request to a job that is never lost (ENG-01, ENG-03).
//!
//! One script in the store takes the job in whole or refuses it whole. The job's id is made here, so that a lost reply is
//! asked for again with the same id and never makes a second job (E10).

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, FixedOffset};
use leasehold_engine::{Enqueued, JobId, Priority, UnixMs};
use leasehold_jobs::{
    Actor, Admitted, Submission, Tenant, Verification,
    policy::{ErrorCode, Permission},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    auth::Caller,
    extract::Document,
    idempotency,
    job_view::{self, Job},
    jobs::with_etag,
    problem::{Problem, QuotaState},
    state::ApiState,
    tenants,
};
use crate::webhooks::{
    body::callback_meta,
    directory::{DirectoryError, NewCallback},
    endpoint::callback_id,
    endpoint_url::EndpointUrl,
};

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
    state.check_open()?;
    caller.check_tenant(&ask.tenant)?;
    let key = idempotency::key_of(&headers)?;
    let digest = idempotency::digest(&ask)?;
    let tenant = tenants::read(&state, &ask.tenant).await?.ok_or_else(|| unknown_tenant(&ask.tenant))?;
    let tenant_id = tenant.id.clone();
    let first = |problem| idempotency::first_or(&state, &tenant_id, key.as_deref(), digest, problem);
    let accepted = match accept(&state, &caller, ask, tenant, key.clone().map(|key| (key, digest))).await {
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
    key: Option<(String, [u8; 32])>,
) -> Result<Accepted, Problem> {
    state.memory_left().await?;
    let now = state.store().now().await?;
    let callback_url = ask.callback_url.clone();
    let callback = callback_url.as_deref().map(|url| callback_of(state, caller, url)).transpose()?;
    let (key, digest) = key.unzip();
    let mut admitted = state.catalogue().admit(&submission(ask, tenant, key, callback, now)).await?;
    if let (Some(idempotency), Some(digest)) = (&mut admitted.idempotency, digest) {
        idempotency.digest = digest;
    }
    if let Some(url) = &callback_url {
        let ask = new_callback(caller, url, &admitted.tenant);
        state.endpoints().callback(ask, state.url_rules(), now).await.map_err(callback_refused)?;
    }
    let (id, replayed) = take_in(state, &admitted).await?;
    Ok(Accepted { id, replayed, quota: quota(state, &admitted).await })
}

fn submission(
    ask: JobRequest,
    tenant: Tenant,
    idempotency_key: Option<String>,
    callback: Option<Value>,
    now: UnixMs,
) -> Submission {
    Submission {
        kind: ask.kind,
        tenant,
        actor: ask.actor,
        args: ask.args,
        run_at: ask.run_at.map(|at| at.timestamp_millis()),
        now,
        confirmed: ask.confirmed,
        verification: ask.verification,
        idempotency_key,
        priority: ask.priority,
        labels: ask.labels,
        correlation_id: ask.correlation_id,
        callback,
    }
}

/// What the job keeps of its callback. The URL is checked here; its endpoint is made when the rules have said yes.
pub(super) fn callback_of(state: &ApiState, caller: &Caller, url: &str) -> Result<Value, Problem> {
    let url = EndpointUrl::parse(url, state.url_rules()).map_err(|refused| callback_refused(refused.into()))?;
    Ok(callback_meta(&callback_id(&caller.key.id, &url.to_string())))
}

/// A callback of the caller's, signed with the webhook secret of its key.
pub(super) fn new_callback<'a>(caller: &'a Caller, url: &'a str, tenant: &'a str) -> NewCallback<'a> {
    NewCallback { key: &caller.key.id, url, secret: &caller.key.webhook_secret, tenant }
}

fn callback_refused(error: DirectoryError) -> Problem {
    super::webhooks::refused(error).field("callback_url")
}

async fn take_in(state: &ApiState, admitted: &Admitted) -> Result<(JobId, bool), Problem> {
    let job = admitted.job(state.store().new_id(&admitted.tenant));
    let max_live = state.config().limits.max_waiting_jobs;
    let mut answers = state.store().enqueue(std::slice::from_ref(&job), max_live).await?;
    let answer = answers.pop().ok_or_else(|| Problem::new(ErrorCode::Internal, "the store gave no answer"))?;
    let first = match &answer {
        Enqueued::Conflict(id) => Some(id.clone()),
        _ => None,
    };
    state.catalogue().accepted(admitted, answer).map_err(|refusal| match first {
        Some(id) => Problem::from(refusal).job(&id),
        None => refusal.into(),
    })
}

/// The quota after the acceptance. The job is in by now: a store that went away meanwhile does not make it a failure.
async fn quota(state: &ApiState, admitted: &Admitted) -> Option<QuotaState> {
    let allowance = admitted.allowance.as_ref()?;
    let used = state.store().allowance_used(&admitted.tenant, &allowance.name).await.ok()?;
    Some(QuotaState::from(&allowance.state(state.rules().calendar(), used)))
}

async fn answer(state: &ApiState, accepted: Accepted) -> Result<Response, Problem> {
    let id = &accepted.id;
    let mut response = match (state.store().job(id).await, state.store().now().await) {
        (Ok(Some(view)), Ok(now)) => {
            let mut job = job_view::whole(state, &view, now);
            job.quota = accepted.quota;
            with_etag(StatusCode::ACCEPTED, job)
        }
        (Ok(None), _) => {
            return Err(Problem::new(ErrorCode::Gone, "the first job of this key is no longer kept").job(id));
        }
        // It is in, and cannot be shown now: to say no would make the caller ask for it again.
        _ => (StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response(),
    };
    let location = HeaderValue::from_str(&format!("/v1/jobs/{id}"));
    response.headers_mut().insert(header::LOCATION, location.unwrap_or(HeaderValue::from_static("/v1/jobs")));
    if accepted.replayed {
        let name = HeaderName::from_static("idempotent-replayed");
        response.headers_mut().insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}

pub(super) fn unknown_tenant(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::new(ErrorCode::UnknownTenant, format!("there is no tenant `{shown}`")).field("tenant")
}
