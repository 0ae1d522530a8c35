//! Queues: how deep, how old, paused or not; and the workers that serve them.
//!
//! A queue is shared by all tenants, so that only a key for all tenants sees or stops it.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Path, State},
};
use leasehold_engine::{
    Place, UnixMs,
    model::gate::{Gate, Gates, Note, Scope},
    store::{OldestWaiting, PlaceCount, WorkerSeen},
};
use leasehold_jobs::policy::{Permission, tenant::check_id};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::Caller, changes::Reason, explain::WorkerDocument, extract::MaybeDocument, gates, problem::Problem,
    state::ApiState, times::rfc3339,
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
    /// Whether nothing is claimed from it, also because all queues are paused or a kill switch is on for everything.
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
    /// The kinds that it knows.
    kinds: Vec<String>,
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
    gates: Gates,
    counts: Vec<PlaceCount>,
    oldest: Vec<OldestWaiting>,
    workers: Vec<WorkerView>,
}

impl Look {
    async fn at(state: &ApiState) -> Result<Self, Problem> {
        let store = state.store();
        let (gates, counts) = (store.standing().await?, store.counts().await?);
        let mut names: BTreeSet<String> = state.catalogue().queues().into_iter().collect();
        names.extend(counts.iter().map(|count| count.queue.clone()));
        names.extend(gates.pauses().filter(|(scope, _)| scope.word() == "queue").map(|(s, _)| s.name().to_owned()));
        let oldest = store.oldest_waiting().await?;
        let workers = store.workers().await?.iter().map(worker).collect();
        Ok(Self { names, now: store.now().await?, gates, counts, oldest, workers })
    }

    /// What stops it: its own pause first, since that one has the nearer reason.
    fn stop(&self, name: &str) -> Option<&Note> {
        let found = |scope: Scope| {
            self.gates.all.iter().find_map(|gate| match gate {
                Gate::Pause(on, note) | Gate::KillSwitch(on, note) if *on == scope => Some(note),
                _ => None,
            })
        };
        found(Scope::Queue(name.to_owned())).or_else(|| found(Scope::All))
    }

    fn queue(&self, name: &str) -> QueueView {
        let why = self.stop(name);
        let counts = self.counts.iter().filter(|count| count.queue == name && count.jobs > 0);
        let jobs: Vec<_> = counts.map(|c| QueueCount { kind: c.kind.clone(), place: c.place, jobs: c.jobs }).collect();
        let oldest = self.oldest.iter().find(|oldest| oldest.queue == name);
        QueueView {
            name: name.to_owned(),
            paused: why.is_some(),
            reason: why.map(|note| note.why.clone()).filter(|why| !why.is_empty()),
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
        kinds: said.kinds,
        slots: said.slots,
        running: said.running,
        alive_until: rfc3339(seen.alive_until),
    }
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
    let note = gates::note(&state, &caller, why.reason, why.actor.as_ref()).await?;
    gates::done(state.store().pause(&scope(&name), &note).await?)?;
    tracing::info!(queue = name, by = note.by, reason = note.why, "the queue is paused");
    list(State(state), caller).await
}

/// Lets claims from a queue go on; `*` undoes a pause of every queue.
#[utoipa::path(post, path = "/v1/queues/{name}/resume", tag = "queues", request_body = Option<Reason>,
    params(("name" = String, Path)), responses((status = 200, body = QueueList)))]
pub(super) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<QueueList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    check_name(&state, &name).await?;
    let note = gates::note(&state, &caller, why.reason, why.actor.as_ref()).await?;
    gates::done(state.store().resume(&scope(&name)).await?)?;
    tracing::info!(queue = name, by = note.by, reason = note.why, "the queue is resumed");
    list(State(state), caller).await
}

fn scope(name: &str) -> Scope {
    if name == "*" { Scope::All } else { Scope::Queue(name.to_owned()) }
}

async fn check_name(state: &ApiState, name: &str) -> Result<(), Problem> {
    if name == "*" { Ok(()) } else { check_one(state, name).await }
}

/// A queue that nobody knows is a slip; a gate before it would do nothing and look as if it did.
pub(super) async fn check_one(state: &ApiState, name: &str) -> Result<(), Problem> {
    let known = check_id("name", name).is_ok() && Look::at(state).await?.names.contains(name);
    if known { Ok(()) } else { Err(Problem::not_found("queue", name)) }
}
