//! A job as callers see it. `place` is the engine's word, `status` the business' (design 3.2 and 5); both are told.
//!
//! Guards that no secret is shown: envelope fields that hold codes are never stored, and arguments or results whose
//! names say that they are secret are blotted out.

use std::collections::BTreeMap;

use leasehold_engine::{
    JobView, Place, Priority, Step, UnixMs, args_sha256,
    model::{ErrorDocument, Event, JobRecord, Wait},
};
use leasehold_jobs::{Envelope, policy::rules::DEFERRED_BY_MAINTENANCE};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    problem::QuotaState,
    state::ApiState,
    times::{if_any, instant, rfc3339},
};

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Job {
    /// Opaque.
    pub id: String,
    /// Which sort of job.
    pub kind: String,
    /// Whose.
    pub tenant: String,
    /// The queue that it waits in.
    pub queue: String,
    /// Where the engine has it: scheduled, blocked, ready, running, waiting, succeeded, cancelled, dead or unknown.
    #[schema(value_type = String)]
    pub place: Place,
    /// The business status of the kind.
    pub status: &'static str,
    /// The name of the status that customers see.
    pub status_name: &'static str,
    /// Order among ready jobs.
    #[schema(value_type = String)]
    pub priority: Priority,
    /// When it may start, or could.
    pub run_at: String,
    /// Attempts begun.
    pub attempt: u16,
    /// Attempts in all.
    pub max_attempts: u16,
    /// How far it says it is.
    pub progress: ProgressView,
    /// What it has begun and done; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepView>>,
    /// The outcome, once it succeeded; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorView>,
    /// When it was accepted.
    pub created_at: String,
    /// When its first attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it became final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// The caller's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The webhook endpoint of its `callback_url`: `GET /v1/webhooks/{id}` shows how it is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// In whose name it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<ActorView>,
    /// What the kind reads; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub args: Option<Value>,
    /// SHA-256 of the arguments, hex: what an answer to an approval is bound to; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_sha256: Option<String>,
    /// What happened, oldest first; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<EventView>>,
    /// Nothing can stop or change it any more.
    pub locked: bool,
    /// It runs and was asked to stop.
    pub cancel_requested: bool,
    /// `deferred_by_maintenance` while it waits for the end of the daily maintenance (SQL-16).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flag: Option<&'static str>,
    /// Redis has forgotten it: it is read from the archive, and can be neither changed nor revived.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// Rises with each change; the `ETag`.
    pub seq: u32,
    /// The state of its quota after its acceptance; only in the answer to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaState>,
}

/// How far a job says it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProgressView {
    /// 0 to 100.
    #[schema(maximum = 100)]
    pub percent: u8,
    /// What it is doing.
    pub text: String,
}

/// A step of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StepView {
    /// Unique in the job.
    pub name: String,
    /// step, sleep, signal, approval, spawn, children, critical or undo.
    pub sort: String,
    /// What it does to the world: read_only, idempotent, fenced or once.
    pub effect: String,
    /// Whether it ended well; it is not done again then.
    pub done: bool,
    /// What it waits for, while it does: `for` (time, signal, approval or children) and what belongs to that; of an approval
    /// who may answer, how many must agree, and the hash of the arguments that they agree to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub wait: Option<Value>,
    /// When it was first begun.
    pub begun_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_at: Option<String>,
}

/// Why an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorView {
    /// Stable.
    pub code: String,
    /// What was tried and what came of it.
    pub message: String,
    /// Whether another attempt was or will be made.
    pub retryable: bool,
}

/// The person in whose name a job runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ActorView {
    /// The id at the upstream system.
    pub user_id: String,
    /// The roles that the upstream vouched for.
    pub roles: Vec<String>,
}

/// Something that happened to a job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventView {
    /// Rises with each change of the job.
    pub seq: u32,
    /// accepted, scheduled, started, …
    #[serde(rename = "type")]
    pub word: String,
    /// When.
    pub at: String,
    /// The attempt it belongs to.
    pub attempt: u16,
    /// A reason, an error, a person: whatever came with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<Value>,
}

/// The whole job.
pub(super) fn whole(state: &ApiState, view: &JobView, now: UnixMs) -> Job {
    let record = &view.record;
    Job {
        steps: Some(view.steps.iter().map(step).collect()),
        result: json(&record.result).map(blotted),
        args: json(&record.args).map(blotted),
        args_sha256: Some(args_sha256(&record.args)),
        history: Some(record.events.iter().map(event).collect()),
        ..summary(state, view, now)
    }
}

/// The job without what may be long.
pub(super) fn summary(state: &ApiState, view: &JobView, now: UnixMs) -> Job {
    let record = &view.record;
    let status = state.catalogue().status(view);
    let envelope = Envelope::read(&record.meta).ok();
    let actor = envelope
        .as_ref()
        .map(|e| ActorView { user_id: e.actor.user_id.clone(), roles: e.actor.roles.iter().map(word).collect() });
    let callback = envelope.as_ref().and_then(|e| e.callback.as_ref()?.get("endpoint")?.as_str().map(str::to_owned));
    let (labels, correlation_id) = envelope.map(|e| (e.labels, e.correlation_id)).unwrap_or_default();
    Job {
        id: record.id.to_string(),
        kind: record.kind.clone(),
        tenant: record.tenant.clone(),
        queue: record.queue.clone(),
        place: record.place,
        status: status.id,
        status_name: status.name,
        priority: record.priority,
        run_at: rfc3339(record.run_at),
        attempt: record.attempt,
        max_attempts: record.retry.max_attempts,
        progress: ProgressView { percent: view.progress.percent, text: view.progress.text.clone() },
        steps: None,
        result: None,
        error: serde_json::from_slice(&record.error).ok().map(|e: ErrorDocument| ErrorView {
            code: e.code,
            message: e.message,
            retryable: e.retryable,
        }),
        created_at: rfc3339(record.created_at),
        started_at: if_any(record.started_at),
        finished_at: if_any(record.finished_at),
        labels,
        correlation_id,
        callback,
        actor,
        args: None,
        args_sha256: None,
        history: None,
        locked: locked(state, record, now),
        cancel_requested: record.cancel_requested,
        flag: deferred(record),
        archived: false,
        seq: record.seq,
        quota: None,
    }
}

/// Whether nothing can stop it any more: past its cut-off, or past its point of no return (SQL-10, X-30).
fn locked(state: &ApiState, record: &JobRecord, now: UnixMs) -> bool {
    let rule = state.rules().lead(&record.kind);
    let too_close = rule.is_some_and(|rule| rule.locked(instant(now), instant(record.run_at)));
    !record.place.is_final() && record.place != Place::Unknown && (record.sealed || too_close)
}

/// The flag of a job that waits for the end of the daily maintenance.
fn deferred(record: &JobRecord) -> Option<&'static str> {
    let last = record.events.last()?;
    (record.place == Place::Scheduled && last.note.contains(DEFERRED_BY_MAINTENANCE)).then_some(DEFERRED_BY_MAINTENANCE)
}

fn step(step: &Step) -> StepView {
    StepView {
        name: step.name.clone(),
        sort: word(&step.sort),
        effect: word(&step.effect),
        wait: step.wait.as_ref().and_then(wait),
        done: step.done,
        begun_at: rfc3339(step.begun_at),
        done_at: if_any(step.done_at),
    }
}

fn wait(wait: &Wait) -> Option<Value> {
    let mut shown = serde_json::to_value(wait).ok()?;
    shown["until"] = if_any(wait.until).into();
    Some(shown)
}

/// An event as it is shown.
pub(super) fn event(event: &Event) -> EventView {
    EventView {
        seq: event.seq,
        word: event.word.as_str().to_owned(),
        at: rfc3339(event.at),
        attempt: event.attempt,
        note: note(&event.note),
    }
}

/// A note is JSON or text.
fn note(text: &str) -> Option<Value> {
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    (!text.is_empty()).then(|| blotted(value))
}

fn json(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}

/// The word that serde writes for a plain enum.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Blots out values whose names say that they are secret.
fn blotted(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, inner)| {
                    let shown = if is_secret(&name) { Value::String("…".to_owned()) } else { blotted(inner) };
                    (name, shown)
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(blotted).collect()),
        other => other,
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "secret", "token", "api_key", "private_key"].iter().any(|word| name.ends_with(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_named_like_a_secret_is_blotted_out_at_any_depth() {
        let shown =
            blotted(json!({"script": "SELECT 1", "db": [{"Password": "pw", "name": "x"}], "client_secret": {"a": 1}}));
        assert_eq!(shown, json!({"script": "SELECT 1", "db": [{"Password": "…", "name": "x"}], "client_secret": "…"}));
    }

    #[test]
    fn a_note_is_json_or_text() {
        assert_eq!(note("{\"reason\":\"x\"}"), Some(json!({"reason": "x"})));
        assert_eq!(note("by hand"), Some(json!("by hand")));
        assert_eq!(note(""), None);
    }
}
