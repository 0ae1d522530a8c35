//! "Why is it not running?": every reason that is known now, in order, so that nobody has to guess.
//!
//! The engine tells what its gates, resources, limits and workers say; the rules of the business are added here.

use axum::{
    Json,
    extract::{Path, State},
};
use leasehold_engine::{
    JobId, JobView, Place, UnixMs,
    model::explain::{Reason, Seen, explain as reasons_of},
    store::WorkerSeen,
};
use leasehold_jobs::policy::{Permission, rules::SQL_UPDATE};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    auth::Caller,
    problem::Problem,
    state::ApiState,
    times::{instant, rfc3339},
};

/// Reasons that are told before the daily maintenance.
const BEFORE_MAINTENANCE: [&str; 4] = ["cancel_requested", "planned_time", "retry_delay", "sleep"];
/// Jobs that one reason names at the most.
const NAMED: usize = 20;

/// What a worker says of itself.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct WorkerDocument {
    pub(super) queues: Vec<String>,
    pub(super) kinds: Vec<String>,
    pub(super) slots: u64,
    pub(super) running: u64,
}

impl WorkerDocument {
    pub(super) fn of(worker: &WorkerSeen) -> Self {
        serde_json::from_str(&worker.document).unwrap_or_default()
    }
}

/// Why a job is where it is.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    job: String,
    #[schema(value_type = String)]
    place: Place,
    /// Every reason, in order: its time, windows and freezes, pauses and kill switches, resources, limits, workers, what
    /// it waits for.
    reasons: Vec<ReasonView>,
}

/// One reason.
#[derive(Serialize, ToSchema)]
#[schema(as = ExplainedReason)]
pub(super) struct ReasonView {
    /// planned_time, retry_delay, sleep, maintenance_window, window_closed, frozen, does_not_fit, queue_paused, kind_paused,
    /// tenant_paused, kill_switch, resource_held, resource_queue, concurrency_limit, rate_limit, no_live_worker,
    /// unknown_kind, code_changed, clock_jumped, signal, approval, children, waiting, workers_busy, waiting_for_a_worker,
    /// going_on, running, cancel_requested, outcome_unknown or ended.
    code: &'static str,
    /// For people.
    text: String,
    /// When it clears, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// The resource, queue, kind, freeze, step … it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    /// The job that is in the way; the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// All of them, at most 20, as far as they are the caller's to see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<String>,
    /// Who may end it, such as `role:it_ops`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    who: Vec<String>,
}

/// Lists every reason that is known now.
#[utoipa::path(get, path = "/v1/jobs/{id}/explain", tag = "jobs", params(("id" = String, Path)), responses((status = 200, body = Explanation)))]
pub(super) async fn explain(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Explanation>, Problem> {
    caller.check(Permission::ReadJobs)?;
    let view = caller.job(&state, &id).await?;
    let seen = state.store().seen(&view.record.id).await?.ok_or_else(|| Problem::not_found("job", &id))?;
    let mut reasons = Vec::new();
    for reason in reasons_of(&seen) {
        reasons.push(shown(&state, &caller, reason).await?);
    }
    let at = reasons.iter().take_while(|reason| BEFORE_MAINTENANCE.contains(&reason.code)).count();
    reasons.splice(at..at, of_maintenance(&state, &seen));
    Ok(Json(Explanation { job: view.record.id.to_string(), place: seen.job.record.place, reasons }))
}

async fn shown(state: &ApiState, caller: &Caller, reason: Reason) -> Result<ReasonView, Problem> {
    let jobs = seen_by(state, caller, &reason.jobs).await?;
    Ok(ReasonView {
        code: reason.code,
        text: reason.text,
        until: reason.until.map(rfc3339),
        about: reason.about,
        job: jobs.first().cloned(),
        jobs,
        who: reason.who,
    })
}

/// Resources may be shared between tenants, but the name of a job is shown only to who may see that job.
async fn seen_by(state: &ApiState, caller: &Caller, jobs: &[JobId]) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    for id in jobs.iter().take(NAMED) {
        let mine = match caller.key.tenant {
            None => true,
            Some(_) => state.store().job(id).await?.is_some_and(|job: JobView| caller.sees(&job.record.tenant)),
        };
        names.extend(mine.then(|| id.to_string()));
    }
    Ok(names)
}

/// The daily maintenance that its time falls into, or that goes on now (SQL-16).
fn of_maintenance(state: &ApiState, seen: &Seen) -> Option<ReasonView> {
    let (rules, record) = (state.rules(), &seen.job.record);
    let waits = matches!(record.place, Place::Scheduled | Place::Blocked | Place::Ready | Place::Waiting);
    let at: UnixMs = record.run_at.max(seen.now);
    let until = (waits && record.kind == SQL_UPDATE)
        .then(|| rules.sql.maintenance.blocked_until(rules.calendar(), instant(at)))??;
    let window = rules.sql.maintenance.window.map(|w| w.to_string()).unwrap_or_default();
    Some(ReasonView {
        code: "maintenance_window",
        text: format!("databases are maintained daily at {window} ({}); nothing starts then", rules.calendar().name()),
        until: Some(rfc3339(until.timestamp_millis())),
        about: Some(window),
        job: None,
        jobs: Vec::new(),
        who: Vec::new(),
    })
}
