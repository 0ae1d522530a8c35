//! The store's clock: a jump of it stops destructive jobs until somebody has looked, and this is where they say so.
//!
//! `GET /v1/gates` shows the jump that stands, `GET /v1/alerts` the ones that were.

use axum::{Json, extract::State};
use leasehold_jobs::policy::Permission;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    auth::Caller,
    changes::Reason,
    extract::MaybeDocument,
    gates::{ClockView, GateList, list_gates, note},
    problem::Problem,
    state::ApiState,
};

/// What somebody has accepted, and what stands now.
#[derive(Serialize, ToSchema)]
pub(super) struct ClockAccepted {
    /// The jump; left out when none stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<ClockView>,
    #[serde(flatten)]
    gates: GateList,
}

/// Accepts the time that the store's clock shows now: destructive jobs start again. Nothing happens when it has not jumped.
#[utoipa::path(post, path = "/v1/clock/accept", tag = "gates", request_body = Option<Reason>,
    responses((status = 200, body = ClockAccepted)))]
pub(super) async fn accept_clock(
    State(state): State<ApiState>,
    caller: Caller,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Json<ClockAccepted>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let note = note(&state, &caller, why.reason, why.actor.as_ref()).await?;
    let accepted = state.store().accept_clock(&note).await?;
    if let Some(jump) = &accepted {
        tracing::info!(from = jump.from, to = jump.to, by = note.by, reason = note.why, "the clock's jump is accepted");
    }
    let Json(gates) = list_gates(State(state), caller).await?;
    Ok(Json(ClockAccepted { accepted: accepted.as_ref().map(ClockView::from), gates }))
}
