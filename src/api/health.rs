//! Probes. `/livez` never asks the store: an outage of Redis must not make a supervisor restart the program.

use std::time::Duration;

use axum::{Json, extract::State};
use leasehold_engine::store::Severity;
use leasehold_jobs::policy::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{problem::Problem, state::ApiState};

/// A probe is answered within this, whatever Redis does.
const PROBE: Duration = Duration::from_secs(2);

/// What a probe says.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    status: &'static str,
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, body = Health)), security(()))]
pub(super) async fn livez() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The store answers, takes and keeps what it is given, and the program is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = 200, body = Health)), security(()))]
pub(super) async fn readyz(State(state): State<ApiState>) -> Result<Json<Health>, Problem> {
    state.check_open()?;
    let found = state.store().clone().with_patience(PROBE).durability().await?;
    let is_serious = |severity| match severity {
        Severity::DataLoss => !state.accepts_losses(),
        Severity::Full => true,
        Severity::Warning => false,
    };
    match found.complaints.iter().find(|complaint| is_serious(complaint.severity)) {
        None => Ok(Json(Health { status: "ok" })),
        Some(complaint) => {
            Err(Problem::new(ErrorCode::StorageUnavailable, format!("{}: {}", complaint.code, complaint.text))
                .remedy("see `leasehold doctor`"))
        }
    }
}
