//! Alerts: what somebody should look at, newest first. They speak of all tenants, so that only a key for all of them reads them.

use axum::{Json, extract::State};
use chrono::{DateTime, FixedOffset};
use leasehold_jobs::policy::Permission;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{auth::Caller, extract::Query, jobs::page_limit, problem::Problem, state::ApiState, times::rfc3339};

/// Which alerts to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AlertQuery {
    /// Those of this time or later, RFC 3339.
    since: Option<DateTime<FixedOffset>>,
    /// How many.
    limit: Option<usize>,
}

/// Alerts, newest first. About a thousand are kept.
#[derive(Serialize, ToSchema)]
pub(super) struct AlertList {
    alerts: Vec<AlertView>,
}

/// Something that somebody should look at.
#[derive(Serialize, ToSchema)]
pub(super) struct AlertView {
    id: String,
    /// `schedule_missed`, `schedule_stuck`, `clock_jumped`, …
    #[serde(rename = "type")]
    word: String,
    at: String,
    /// What it is about, by type.
    #[schema(value_type = Object)]
    about: Value,
}

/// Lists alerts: schedules that did not fire, a clock that jumped.
#[utoipa::path(get, path = "/v1/alerts", tag = "operations", params(AlertQuery), responses((status = 200, body = AlertList)))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<AlertQuery>,
) -> Result<Json<AlertList>, Problem> {
    caller.check_everywhere(Permission::ReadQueues)?;
    let limit = page_limit(&state, query.limit)?;
    let since = query.since.map_or(0, |since| since.timestamp_millis());
    let alerts = state.store().alerts(since, limit).await?.into_iter().map(|alert| AlertView {
        id: alert.id,
        word: alert.word,
        at: rfc3339(alert.at),
        about: serde_json::from_str(&alert.document).unwrap_or(Value::String(alert.document)),
    });
    Ok(Json(AlertList { alerts: alerts.collect() }))
}
