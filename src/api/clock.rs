//! The store's clock: a jump of it stops destructive jobs until somebody has looked, and this is where they say so.
//!
//! `GET /v1/gates` shows the jump that stands, `GET /v1/alerts` the ones that were.

use axum::{Json, extract::State};
use leasehold_jobs::policy::Permission;

use super::{
    auth::Caller,
    changes::Reason,
    extract::MaybeDocument,
    gates::{GateList, list_gates, note},
    problem::Problem,
    state::ApiState,
};

/// Accepts the time that the store's clock shows now: destructive jobs start again. Nothing happens when it has not jumped.
#[utoipa::path(post, path = "/v1/clock/accept", tag = "gates", request_body = Option<Reason>,
    responses((status = 200, body = GateList)))]
pub(super) async fn accept_clock(
    State(state): State<ApiState>,
    caller: Caller,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<GateList>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let note = note(&state, &caller, why.reason, why.actor.as_ref()).await?;
    if let Some(jump) = state.store().accept_clock(&note).await? {
        tracing::info!(from = jump.from, to = jump.to, by = note.by, reason = note.why, "the clock's jump is accepted");
    }
    list_gates(State(state), caller).await
}
