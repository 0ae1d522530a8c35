//! The kinds that a caller may ask for, with the JSON Schema of their arguments.

use axum::{Json, extract::State};
use leasehold_jobs::{KindCard, policy::Permission};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{auth::Caller, problem::Problem, state::ApiState};

/// All kinds.
#[derive(Serialize, ToSchema)]
pub(super) struct KindList {
    #[schema(value_type = Vec<KindSchema>)]
    kinds: Vec<KindCard>,
}

/// A kind.
#[derive(ToSchema)]
#[schema(as = Kind)]
#[expect(dead_code, reason = "only its shape is shown")]
pub(super) struct KindSchema {
    /// Its stable name.
    kind: String,
    /// One sentence.
    summary: String,
    /// The queue that it waits in.
    queue: String,
    /// Whether a planned job of it may be edited.
    editable: bool,
    /// JSON Schema of `args`.
    #[schema(value_type = Object)]
    args: Value,
}

/// Lists the kinds.
#[utoipa::path(get, path = "/v1/kinds", tag = "kinds", responses((status = 200, body = KindList)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<KindList>, Problem> {
    caller.check(Permission::ReadJobs)?;
    Ok(Json(KindList { kinds: state.catalogue().cards() }))
}
