//! Pauses of kinds and tenants, and the kill switch.

use axum::{
    Json,
    extract::{Path, State},
};
use leasehold_engine::model::gate::Scope;
use leasehold_jobs::{Actor, policy::Permission};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{GateList, checks, done, list_gates, note};
use crate::api::{
    auth::Caller,
    changes::Reason,
    enqueue::ActorSchema,
    extract::{Document, MaybeDocument, Query},
    problem::Problem,
    state::ApiState,
};

/// What the kill switch stops.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum KillScope {
    /// Everything.
    All,
    /// One kind.
    Kind,
}

/// The emergency stop.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct KillSwitch {
    scope: KillScope,
    /// The kind, when the scope is one.
    #[serde(default)]
    kind: Option<String>,
    /// Why; it must be said.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// In whose name.
    #[serde(default)]
    #[schema(value_type = Option<ActorSchema>)]
    actor: Option<Actor>,
}

/// Which kill switch.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct KillQuery {
    /// That of this kind; left out, that of everything.
    #[serde(default)]
    kind: Option<String>,
    /// Why; kept in the log.
    #[serde(default)]
    reason: Option<String>,
}

async fn pause(state: ApiState, caller: Caller, scope: Scope, why: Reason) -> Result<Json<GateList>, Problem> {
    let note = note(&state, &caller, why.reason, why.actor.as_ref()).await?;
    done(state.store().pause(&scope, &note).await?)?;
    tracing::info!(scope = scope.word(), name = scope.name(), by = note.by, reason = note.why, "paused");
    list_gates(State(state), caller).await
}

async fn resume(state: ApiState, caller: Caller, scope: Scope, why: Reason) -> Result<Json<GateList>, Problem> {
    let note = note(&state, &caller, why.reason, why.actor.as_ref()).await?;
    done(state.store().resume(&scope).await?)?;
    tracing::info!(scope = scope.word(), name = scope.name(), by = note.by, reason = note.why, "resumed");
    list_gates(State(state), caller).await
}

/// Stops starts of a kind, in every queue. What runs goes on.
#[utoipa::path(post, path = "/v1/kinds/{kind}/pause", tag = "gates", request_body = Option<Reason>,
    params(("kind" = String, Path)), responses((status = 200, body = GateList)))]
pub(in crate::api) async fn pause_kind(
    State(state): State<ApiState>,
    caller: Caller,
    Path(kind): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<GateList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    checks::check_kind(&state, &kind).await?;
    pause(state, caller, Scope::Kind(kind), why).await
}

/// Lets starts of a kind go on; a kill switch stays.
#[utoipa::path(post, path = "/v1/kinds/{kind}/resume", tag = "gates", request_body = Option<Reason>,
    params(("kind" = String, Path)), responses((status = 200, body = GateList)))]
pub(in crate::api) async fn resume_kind(
    State(state): State<ApiState>,
    caller: Caller,
    Path(kind): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<GateList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let scope = Scope::Kind(kind.clone());
    // A kind that nobody knows any more may still be paused.
    if state.store().standing().await?.stops(&scope).next().is_none() {
        checks::check_kind(&state, &kind).await?;
    }
    resume(state, caller, scope, why).await
}

/// Stops starts of a tenant's jobs. What runs goes on.
#[utoipa::path(post, path = "/v1/tenants/{id}/pause", tag = "gates", request_body = Option<Reason>,
    params(("id" = String, Path)), responses((status = 200, body = GateList)))]
pub(in crate::api) async fn pause_tenant(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<GateList>, Problem> {
    caller.check_tenant(&id)?;
    caller.check_everywhere(Permission::PauseQueues)?;
    checks::check_tenant(&state, &id).await?;
    pause(state, caller, Scope::Tenant(id), why).await
}

/// Lets starts of a tenant's jobs go on.
#[utoipa::path(post, path = "/v1/tenants/{id}/resume", tag = "gates", request_body = Option<Reason>,
    params(("id" = String, Path)), responses((status = 200, body = GateList)))]
pub(in crate::api) async fn resume_tenant(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<GateList>, Problem> {
    caller.check_tenant(&id)?;
    caller.check_everywhere(Permission::PauseQueues)?;
    checks::check_tenant(&state, &id).await?;
    resume(state, caller, Scope::Tenant(id), why).await
}

/// Switches the kill switch on: from the answer on nothing within its scope is started, by any worker.
#[utoipa::path(post, path = "/v1/kill-switch", tag = "gates", request_body = KillSwitch,
    responses((status = 200, body = GateList)))]
pub(in crate::api) async fn kill(
    State(state): State<ApiState>,
    caller: Caller,
    Document(ask): Document<KillSwitch>,
) -> Result<Json<GateList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let mut wrong = checks::Mistakes::default();
    let scope = match (ask.scope, ask.kind) {
        (KillScope::All, None) => Scope::All,
        (KillScope::All, Some(kind)) => {
            wrong.add("kind", "the scope is all: leave the kind out, or make the scope `kind`");
            Scope::Kind(kind)
        }
        (KillScope::Kind, None) => {
            wrong.add("kind", "the scope is a kind: say which");
            Scope::All
        }
        (KillScope::Kind, Some(kind)) => {
            if checks::check_kind(&state, &kind).await.is_err() {
                wrong.add("kind", format!("there is no kind `{kind}`"));
            }
            Scope::Kind(kind)
        }
    };
    wrong.check_text("reason", ask.reason.as_deref(), 500);
    wrong.refuse()?;
    let note = note(&state, &caller, ask.reason, ask.actor.as_ref()).await?;
    done(state.store().kill(&scope, &note).await?)?;
    tracing::warn!(scope = scope.word(), name = scope.name(), by = note.by, reason = note.why, "kill switch on");
    list_gates(State(state), caller).await
}

/// Switches the kill switch off; pauses stay.
#[utoipa::path(delete, path = "/v1/kill-switch", tag = "gates", params(KillQuery), responses((status = 200, body = GateList)))]
pub(in crate::api) async fn unkill(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<KillQuery>,
) -> Result<Json<GateList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let scope = query.kind.map_or(Scope::All, Scope::Kind);
    if !state.store().standing().await?.kill_switches().any(|(on, _)| *on == scope) {
        return Err(Problem::not_found("kill switch that is on for", scope.name()));
    }
    let note = note(&state, &caller, query.reason, None).await?;
    done(state.store().unkill(&scope).await?)?;
    tracing::warn!(scope = scope.word(), name = scope.name(), by = note.by, reason = note.why, "kill switch off");
    list_gates(State(state), caller).await
}
