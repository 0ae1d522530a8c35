//! Queues: how deep, how old, paused or not; and the workers that serve them.
//!
//! A queue is shared by all tenants, so that only a key for all tenants sees or stops it.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Path, State},
};
use leasehold_engine::{
    Place, UnixMs,
    store::{OldestWaiting, PlaceCount, WorkerSeen},
};
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
    let look = Look::at(&state).await?;
    let queues = look.names.iter().map(|name| look.queue(name)).collect();
    Ok(Json(QueueList { queues, workers: look.workers }))
}

/// What the store says of all queues, read once for a list.
struct Look {
    names: BTreeSet<String>,
    now: UnixMs,
    paused: BTreeMap<String, String>,
    counts: Vec<PlaceCount>,
    oldest: Vec<OldestWaiting>,
    workers: Vec<WorkerView>,
}

impl Look {
    async fn at(state: &ApiState) -> Result<Self, Problem> {
        let store = state.store();
        let (paused, counts) = (store.paused().await?, store.counts().await?);
        let mut names: BTreeSet<String> = state.catalogue().queues().into_iter().collect();
        names.extend(counts.iter().map(|count| count.queue.clone()));
        names.extend(paused.keys().filter(|name| *name != "*").cloned());
        let oldest = store.oldest_waiting().await?;
        let workers = store.workers().await?.iter().map(worker).collect();
        Ok(Self { names, now: store.now().await?, paused, counts, oldest, workers })
    }

    fn queue(&self, name: &str) -> QueueView {
        let why = self.paused.get(name).or_else(|| self.paused.get("*"));
        let counts = self.counts.iter().filter(|count| count.queue == name && count.jobs > 0);
        let jobs: Vec<_> = counts.map(|c| QueueCount { kind: c.kind.clone(), place: c.place, jobs: c.jobs }).collect();
        let oldest = self.oldest.iter().find(|oldest| oldest.queue == name);
        QueueView {
            name: name.to_owned(),
            paused: why.is_some(),
            reason: why.and_then(|why| pause_reason(why)),
            depth: jobs.iter().filter(|count| count.place == Place::Ready).map(|count| count.jobs).sum(),
            oldest_waiting_ms: oldest.map(|oldest| (self.now - oldest.since).max(0)),
            workers: self.workers.iter().filter(|worker| worker.queues.iter().any(|queue| queue == name)).count(),
            jobs,
        }
    }
}

fn worker(seen: &WorkerSeen) -> WorkerView {
    let said = WorkerDocument::of(seen);
    WorkerView {
        name: seen.name.clone(),
        queues: said.queues,
        slots: said.slots,
        running: said.running,
        alive_until: rfc3339(seen.alive_until),
    }
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
    let known = name == "*" || (check_id("name", name).is_ok() && Look::at(state).await?.names.contains(name));
    if known { Ok(()) } else { Err(Problem::not_found("queue", name)) }
}
