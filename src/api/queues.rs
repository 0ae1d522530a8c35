//! Queues: how deep, how old, paused or not; and the workers that serve them.
//!
//! A queue is shared by all tenants, so that only a key for all tenants sees or stops it.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Path, State},
};
use leasehold_engine::{Place, UnixMs};
use leasehold_jobs::policy::{Permission, tenant::check_id};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    auth::Caller,
    changes::{Reason, note},
    explain::WorkerDocument,
    extract::MaybeDocument,
    problem::Problem,
    state::ApiState,
    times::rfc3339,
};

/// All queues.
#[derive(Serialize, ToSchema)]
pub(super) struct QueueList {
    queues: Vec<QueueView>,
    workers: Vec<WorkerView>,
}

/// A queue.
#[derive(Serialize, ToSchema)]
pub(super) struct QueueView {
    name: String,
    /// Whether nothing is claimed from it, also because all queues are paused.
    paused: bool,
    /// Why, if somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Jobs that may run now.
    depth: u64,
    /// Since how many ms the oldest of them could have run.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_waiting_ms: Option<i64>,
    /// Workers that live and serve it.
    workers: usize,
    /// Jobs by kind and place.
    jobs: Vec<QueueCount>,
}

/// How many jobs of a kind are in a place.
#[derive(Serialize, ToSchema)]
pub(super) struct QueueCount {
    kind: String,
    #[schema(value_type = String)]
    place: Place,
    jobs: u64,
}

/// A worker that said that it lives.
#[derive(Serialize, ToSchema)]
pub(super) struct WorkerView {
    name: String,
    queues: Vec<String>,
    slots: u64,
    running: u64,
    alive_until: String,
}

/// Lists the queues and the workers.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", responses((status = 200, body = QueueList)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<QueueList>, Problem> {
    caller.check_everywhere(Permission::ReadQueues)?;
    let workers: Vec<WorkerView> = state.store().workers().await?.iter().map(worker).collect();
    let names = names(&state).await?;
    let mut queues = Vec::with_capacity(names.len());
    for name in names {
        queues.push(view(&state, name, &workers).await?);
    }
    Ok(Json(QueueList { queues, workers }))
}

fn worker(seen: &leasehold_engine::store::WorkerSeen) -> WorkerView {
    let said = WorkerDocument::of(seen);
    WorkerView {
        name: seen.name.clone(),
        queues: said.queues,
        slots: said.slots,
        running: said.running,
        alive_until: rfc3339(seen.alive_until),
    }
}

async fn names(state: &ApiState) -> Result<BTreeSet<String>, Problem> {
    let mut names: BTreeSet<String> = state.catalogue().queues().into_iter().collect();
    names.extend(state.store().counts().await?.into_iter().map(|count| count.queue));
    names.extend(state.store().paused().await?.into_keys().filter(|name| name != "*"));
    Ok(names)
}

async fn view(state: &ApiState, name: String, workers: &[WorkerView]) -> Result<QueueView, Problem> {
    let now: UnixMs = state.store().now().await?;
    let paused: BTreeMap<String, String> = state.store().paused().await?;
    let why = paused.get(&name).or_else(|| paused.get("*"));
    let counts = state.store().counts().await?.into_iter().filter(|count| count.queue == name && count.jobs > 0);
    let jobs: Vec<_> = counts.map(|c| QueueCount { kind: c.kind, place: c.place, jobs: c.jobs }).collect();
    let oldest = state.store().oldest_waiting().await?.into_iter().find(|oldest| oldest.queue == name);
    Ok(QueueView {
        paused: why.is_some(),
        reason: why.and_then(|why| pause_reason(why)),
        depth: jobs.iter().filter(|count| count.place == Place::Ready).map(|count| count.jobs).sum(),
        oldest_waiting_ms: oldest.map(|oldest| (now - oldest.since).max(0)),
        workers: workers.iter().filter(|worker| worker.queues.contains(&name)).count(),
        jobs,
        name,
    })
}

/// The reason in what [`pause`] kept.
pub(super) fn pause_reason(kept: &str) -> Option<String> {
    let text = match serde_json::from_str::<Value>(kept) {
        Ok(kept) => kept.get("reason")?.as_str()?.to_owned(),
        Err(_) => kept.to_owned(),
    };
    (!text.is_empty()).then_some(text)
}

/// Stops claims from a queue; `*` is every queue. What runs goes on.
#[utoipa::path(post, path = "/v1/queues/{name}/pause", tag = "queues", request_body = Option<Reason>,
    params(("name" = String, Path)), responses((status = 200, body = QueueList)))]
pub(super) async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<QueueList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    check_name(&state, &name).await?;
    let note = note(&caller, why.reason, why.actor.as_ref())?;
    state.store().pause(&name, &note).await?;
    tracing::info!(queue = name, by = caller.key.id, "the queue is paused");
    list(State(state), caller).await
}

/// Lets claims from a queue go on; `*` undoes a pause of every queue.
#[utoipa::path(post, path = "/v1/queues/{name}/resume", tag = "queues", request_body = Option<Reason>,
    params(("name" = String, Path)), responses((status = 200, body = QueueList)))]
pub(super) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    MaybeDocument(_): MaybeDocument<Reason>,
) -> Result<Json<QueueList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    check_name(&state, &name).await?;
    state.store().resume(&name).await?;
    tracing::info!(queue = name, by = caller.key.id, "the queue is resumed");
    list(State(state), caller).await
}

/// A queue that nobody knows is a slip; pausing it would do nothing and look as if it did.
async fn check_name(state: &ApiState, name: &str) -> Result<(), Problem> {
    let known = name == "*" || (check_id("name", name).is_ok() && names(state).await?.contains(name));
    if known { Ok(()) } else { Err(Problem::not_found("queue", name)) }
}
