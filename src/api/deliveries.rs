//! What was sent to a webhook endpoint, attempt by attempt, and sending it again.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use leasehold_jobs::policy::{ErrorCode, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    auth::Caller,
    extract::{Document, Query},
    jobs::page_limit,
    problem::Problem,
    state::ApiState,
    times::rfc3339,
    webhooks::endpoint,
};

/// What the id of a delivery begins with.
const MESSAGE: &str = "msg_";

/// Where the listing goes on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryQuery {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Deliveries of a page.
    limit: Option<usize>,
}

/// A page of deliveries, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryPage {
    deliveries: Vec<DeliveryRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A delivery.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveryRow {
    /// `webhook-id`, the same in each attempt and replay.
    id: String,
    /// pending, delivered or exhausted.
    state: String,
    /// Attempts begun.
    attempts: u16,
    created_at: String,
    /// What is sent.
    #[schema(value_type = Object)]
    body: Value,
    /// Each attempt: when, status, error, how long, when next.
    #[schema(value_type = Vec<Object>)]
    log: Vec<Value>,
}

/// What to send again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// This delivery, whatever became of it.
    #[serde(default)]
    delivery: Option<String>,
    /// Those that failed for good since then.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "date-time")]
    failed_since: Option<chrono::DateTime<chrono::FixedOffset>>,
}

/// How many are sent again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    replayed: u64,
}

/// Lists the deliveries of an endpoint.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "webhooks", operation_id = "deliveries", params(("id" = String, Path), DeliveryQuery),
    responses((status = 200, body = DeliveryPage)))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<DeliveryQuery>,
) -> Result<Json<DeliveryPage>, Problem> {
    caller.check(Permission::Webhooks)?;
    endpoint(&state, &caller, &id).await?;
    let limit = page_limit(&state, query.limit)?;
    let (mut shard, mut after) = read_cursor(query.cursor.as_deref())?;
    let mut deliveries = Vec::new();
    while shard < state.store().shards() && deliveries.len() < limit {
        let want = limit - deliveries.len();
        let (page, older) = state.store().delivery_list(shard, &id, after.as_deref(), want).await?;
        deliveries.extend(page.into_iter().map(row));
        shard += u16::from(older.is_none());
        after = older;
    }
    let next = (shard < state.store().shards()).then(|| format!("{shard}.{}", after.unwrap_or_default()));
    Ok(Json(DeliveryPage { deliveries, next }))
}

fn row(view: leasehold_engine::store::DeliveryView) -> DeliveryRow {
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    DeliveryRow {
        state: view.state,
        attempts: view.attempt,
        created_at: rfc3339(view.first_at),
        body: json(&view.body),
        log: view.log.iter().map(|entry| json(entry)).collect(),
        id: view.id,
    }
}

/// The shard, and the delivery of it that was shown last: a count would show some twice while new ones come.
fn read_cursor(cursor: Option<&str>) -> Result<(u16, Option<String>), Problem> {
    let Some(text) = cursor else { return Ok((0, None)) };
    let parts = text.split_once('.').and_then(|(shard, last)| Some((shard.parse().ok()?, last)));
    let known = parts.filter(|(_, last)| last.is_empty() || last.starts_with(MESSAGE));
    let (shard, last) = known.ok_or_else(|| Problem::invalid("cursor", "it is not the `next` of a page"))?;
    Ok((shard, Some(last.to_owned()).filter(|last| !last.is_empty())))
}

/// Sends deliveries again: one, or those that failed for good since a time.
#[utoipa::path(post, path = "/v1/webhooks/{id}/replay", tag = "webhooks", request_body = Replay, params(("id" = String, Path)),
    responses((status = 202, body = Replayed)))]
pub(super) async fn replay(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Document(ask): Document<Replay>,
) -> Result<(StatusCode, Json<Replayed>), Problem> {
    caller.check(Permission::Webhooks)?;
    endpoint(&state, &caller, &id).await?;
    let replayed = match (ask.delivery, ask.failed_since) {
        (Some(delivery), None) => {
            let mut known = false;
            for shard in 0..state.store().shards() {
                known |= state.store().delivery_replay(shard, &id, &delivery).await?;
            }
            if !known {
                return Err(Problem::not_found("delivery", &delivery));
            }
            1
        }
        (None, Some(since)) => replay_failed(&state, &id, since.timestamp_millis()).await?,
        _ => return Err(Problem::new(ErrorCode::InvalidArgument, "say either `delivery` or `failed_since`")),
    };
    Ok((StatusCode::ACCEPTED, Json(Replayed { replayed })))
}

async fn replay_failed(state: &ApiState, id: &str, since: i64) -> Result<u64, Problem> {
    const PAGE: usize = 200;
    let mut replayed = 0;
    for shard in 0..state.store().shards() {
        let mut after = None;
        loop {
            let (page, older) = state.store().delivery_list(shard, id, after.as_deref(), PAGE).await?;
            for delivery in page.into_iter().filter(|d| d.state == "exhausted" && d.first_at >= since) {
                replayed += u64::from(state.store().delivery_replay(shard, id, &delivery.id).await?);
            }
            if older.is_none() {
                break;
            }
            after = older;
        }
    }
    Ok(replayed)
}
