//! "Why is it not running?": every reason that is known now, so that nobody has to guess.

use axum::{
    Json,
    extract::{Path, State},
};
use leasehold_engine::{Effect, JobView, Place, UnixMs, model::EventWord, store::WorkerSeen};
use leasehold_jobs::policy::{Permission, rules::SQL_UPDATE};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    auth::Caller,
    problem::Problem,
    state::ApiState,
    times::{instant, rfc3339},
};

/// What a worker says of itself.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct WorkerDocument {
    pub(super) queues: Vec<String>,
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
    /// Every reason, the weightiest first.
    reasons: Vec<Reason>,
}

/// One reason.
#[derive(Serialize, ToSchema)]
#[schema(as = ExplainedReason)]
pub(super) struct Reason {
    /// planned_time, retry_delay, maintenance_window, resource_held, queue_paused, no_live_worker, workers_busy,
    /// waiting_for_a_worker, running, cancel_requested, waiting, outcome_unknown or ended.
    code: &'static str,
    /// For people.
    text: String,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// The job that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// The resource, the queue, the step or the worker it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
}

impl Reason {
    fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), until: None, job: None, about: None }
    }

    fn until(mut self, at: UnixMs) -> Self {
        self.until = Some(rfc3339(at));
        self
    }

    fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }
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
    let now = state.store().now().await?;
    let mut reasons = of_place(&view);
    if !view.record.place.is_final() && !matches!(view.record.place, Place::Running | Place::Unknown) {
        reasons.extend(of_maintenance(&state, &view, now));
        reasons.extend(of_resource(&state, &caller, &view).await?);
        reasons.extend(of_queue(&state, &view).await?);
    }
    Ok(Json(Explanation { job: view.record.id.to_string(), place: view.record.place, reasons }))
}

/// What the place itself says.
fn of_place(view: &JobView) -> Vec<Reason> {
    let record = &view.record;
    let mut reasons = Vec::new();
    if record.cancel_requested && !record.place.is_final() {
        reasons.push(Reason::new("cancel_requested", "it was asked to stop and begins no further step"));
    }
    match record.place {
        Place::Scheduled => reasons.push(scheduled(view)),
        Place::Running => {
            let open = view.steps.iter().find(|step| !step.done);
            let text = format!("attempt {} of {} runs", record.attempt, record.retry.max_attempts);
            let reason = Reason::new("running", text);
            reasons.push(match open {
                Some(step) => reason.about(&step.name),
                None => reason,
            });
        }
        Place::Waiting => reasons.push(Reason::new("waiting", "it is suspended until it is told to go on")),
        Place::Unknown => {
            let open = view.steps.iter().find(|step| !step.done && step.effect == Effect::Once);
            let text = "its worker was lost inside a step that may not be repeated; say what happened: POST …/resolve";
            reasons.push(Reason::new("outcome_unknown", text).about(open.map_or("?", |step| &step.name)));
        }
        Place::Succeeded | Place::Cancelled | Place::Dead => {
            let text = match record.place {
                Place::Dead => "it failed for good; `error` says why, and POST …/revive sends it back",
                Place::Cancelled => "it was cancelled; POST …/revive sends it back",
                _ => "it is done",
            };
            reasons.push(Reason::new("ended", text));
        }
        Place::Blocked | Place::Ready => {}
    }
    reasons
}

fn scheduled(view: &JobView) -> Reason {
    let record = &view.record;
    let failed = record
        .events
        .iter()
        .rev()
        .find(|e| matches!(e.word, EventWord::Retrying | EventWord::Edited | EventWord::Revived));
    let reason = match failed {
        Some(event) if event.word == EventWord::Retrying && record.attempt > 0 => {
            let text =
                format!("attempt {} of {} failed; it is tried again later", record.attempt, record.retry.max_attempts);
            Reason::new("retry_delay", text)
        }
        _ => Reason::new("planned_time", "its planned time has not come"),
    };
    reason.until(record.run_at)
}

/// The daily maintenance that its time falls into, or that goes on now (SQL-16).
fn of_maintenance(state: &ApiState, view: &JobView, now: UnixMs) -> Option<Reason> {
    let rules = state.rules();
    let at = instant(view.record.run_at.max(now));
    let until =
        (view.record.kind == SQL_UPDATE).then(|| rules.sql.maintenance.blocked_until(rules.calendar(), at))??;
    let window = rules.sql.maintenance.window.map(|w| w.to_string()).unwrap_or_default();
    let text = format!("databases are maintained daily at {window} ({}); nothing starts then", rules.calendar().name());
    Some(Reason::new("maintenance_window", text).until(until.timestamp_millis()).about(window))
}

/// The job that holds its resource.
async fn of_resource(state: &ApiState, caller: &Caller, view: &JobView) -> Result<Option<Reason>, Problem> {
    let record = &view.record;
    if record.resource.is_empty() || record.holds_resource {
        return Ok(None);
    }
    let holder = state.store().resource_holder(&record.tenant, &record.resource).await?;
    let Some(holder) = holder.filter(|id| *id != record.id) else { return Ok(None) };
    let text = "another job holds what it works on; they go one at a time (ENG-09)";
    let mut reason = Reason::new("resource_held", text).about(&record.resource);
    let held_by = state.store().job(&holder).await?;
    // Resources are named per tenant, but the name of a job is shown only to who may see that job.
    reason.job = held_by.filter(|held| caller.sees(&held.record.tenant)).map(|held| held.record.id.to_string());
    Ok(Some(reason))
}

/// What its queue is waiting for.
async fn of_queue(state: &ApiState, view: &JobView) -> Result<Vec<Reason>, Problem> {
    let queue = &view.record.queue;
    let mut reasons = Vec::new();
    let paused = state.store().paused().await?;
    for name in [queue.as_str(), "*"] {
        if let Some(why) = paused.get(name) {
            let text = match super::queues::pause_reason(why) {
                Some(reason) => format!("the queue is paused: {reason}"),
                None => "the queue is paused".to_owned(),
            };
            reasons.push(Reason::new("queue_paused", text).about(name));
        }
    }
    let workers: Vec<_> = state.store().workers().await?.iter().map(WorkerDocument::of).collect();
    let serving: Vec<_> = workers.iter().filter(|worker| worker.queues.iter().any(|q| q == queue)).collect();
    if serving.is_empty() {
        reasons.push(Reason::new("no_live_worker", "no worker that lives serves its queue").about(queue));
    } else if view.record.place == Place::Ready && reasons.is_empty() {
        let (running, slots): (u64, u64) = serving.iter().fold((0, 0), |(r, s), w| (r + w.running, s + w.slots));
        reasons.push(match running >= slots {
            true => {
                Reason::new("workers_busy", format!("all {slots} slots of the queue's workers are taken")).about(queue)
            }
            false => Reason::new("waiting_for_a_worker", "it is in line and will be taken in a moment").about(queue),
        });
    }
    Ok(reasons)
}
