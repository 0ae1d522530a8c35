//! Webhook endpoints: registered, shown, switched, rotated, removed.
//!
//! An endpoint is seen by its tenant's keys, by keys for all tenants, and by the key that made it.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use leasehold_engine::model::EventWord;
use leasehold_jobs::policy::{ErrorCode, Permission, tenant::check_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    auth::Caller,
    enqueue::unknown_tenant,
    extract::{Document, nearest},
    problem::Problem,
    state::ApiState,
    tenants,
};
use crate::webhooks::{
    directory::{DirectoryError, NewEndpoint},
    endpoint::{Endpoint, EndpointView, EventPattern},
};

/// Deliveries of a removed endpoint that are forgotten in one step.
const FORGOTTEN_AT_ONCE: usize = 200;

/// An endpoint to be registered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookRequest {
    /// Where to: https; private addresses only where the configuration allows them.
    #[schema(example = "https://example.com/hooks", max_length = 2048)]
    url: String,
    /// `job.succeeded`, `job.*` or `*`; left out: `job.*`. The events are those under `webhooks` in this document.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    events: Vec<EventPattern>,
    /// Whose events; left out: every tenant's that the key sees.
    #[serde(default)]
    tenant: Option<String>,
}

/// An endpoint as it is shown.
#[derive(Serialize, ToSchema)]
pub(super) struct Webhook {
    id: String,
    /// It is the `callback_url` of jobs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    callback: bool,
    url: String,
    events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// enabled, degraded, disabled_auto or disabled.
    state: String,
    /// Why it is not enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    created_at: String,
    /// Since when no delivery has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<String>,
}

impl From<EndpointView> for Webhook {
    fn from(view: EndpointView) -> Self {
        let state = serde_json::to_value(view.state).ok().and_then(|v| v.as_str().map(str::to_owned));
        Self {
            id: view.id,
            callback: view.callback,
            url: view.url,
            events: view.events.iter().map(ToString::to_string).collect(),
            tenant: view.tenant,
            state: state.unwrap_or_default(),
            reason: view.reason,
            created_at: view.created_at,
            failing_since: view.failing_since,
        }
    }
}

/// An endpoint as its maker sees it, once.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedWebhook {
    #[serde(flatten)]
    webhook: Webhook,
    /// Signs the deliveries. It cannot be shown again.
    secret: String,
}

/// All endpoints that the caller sees.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookList {
    webhooks: Vec<Webhook>,
}

/// A change to an endpoint.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookEdit {
    /// On (again, also after it was given up), or off.
    enabled: bool,
}

/// A fresh secret.
#[derive(Serialize, ToSchema)]
pub(super) struct RotatedSecret {
    id: String,
    /// Signs from now on; the old one signs beside it for 24 hours. It cannot be shown again.
    secret: String,
}

/// What the book of endpoints refused, as a problem.
pub(super) fn refused(error: DirectoryError) -> Problem {
    match error {
        DirectoryError::Url(refused) => Problem::invalid("url", refused.to_string())
            .rule("ENG-06")
            .remedy("use https and a public address, or list the network in `webhooks.allow`"),
        DirectoryError::Busy => Problem::new(ErrorCode::Conflict, error.to_string()),
        DirectoryError::Store(store) => {
            tracing::warn!(error = %store, "the book of endpoints cannot be read");
            Problem::new(ErrorCode::StorageUnavailable, "the store cannot be reached")
        }
        other => {
            tracing::error!(error = %other, "the book of endpoints");
            Problem::new(ErrorCode::Internal, "the endpoint cannot be read or made")
        }
    }
}

/// The endpoint, if it is this caller's to see; otherwise it does not exist.
pub(super) async fn endpoint(state: &ApiState, caller: &Caller, id: &str) -> Result<Endpoint, Problem> {
    let found = state.endpoints().endpoint(id).await.map_err(refused)?;
    found
        .filter(|endpoint| sees(caller, endpoint.tenant.as_deref(), &endpoint.owner))
        .ok_or_else(|| Problem::not_found("webhook", id))
}

fn sees(caller: &Caller, tenant: Option<&str>, owner: &str) -> bool {
    caller.key.tenant.is_none()
        || (tenant.is_some() && caller.key.tenant.as_deref() == tenant)
        || owner == caller.key.id
}

/// Lists the endpoints, those of callback URLs too.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", responses((status = 200, body = WebhookList)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<WebhookList>, Problem> {
    caller.check(Permission::Webhooks)?;
    let seen = |endpoint: &Endpoint| sees(&caller, endpoint.tenant.as_deref(), &endpoint.owner);
    let views = state.endpoints().views(seen).await.map_err(refused)?;
    Ok(Json(WebhookList { webhooks: views.into_iter().map(Into::into).collect() }))
}

/// Registers an endpoint.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", request_body = WebhookRequest, responses((status = 201, body = CreatedWebhook)))]
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Document(ask): Document<WebhookRequest>,
) -> Result<(StatusCode, Json<CreatedWebhook>), Problem> {
    caller.check(Permission::Webhooks)?;
    let tenant = ask.tenant.or_else(|| caller.key.tenant.clone());
    if let Some(tenant) = &tenant {
        check_id("tenant", tenant)?;
        caller.check_tenant(tenant)?;
        tenants::read(&state, tenant).await?.ok_or_else(|| unknown_tenant(tenant))?;
    }
    ask.events.iter().try_for_each(check_pattern)?;
    if ask.events.len() > 32 {
        return Err(Problem::invalid("events", "at most 32 patterns").limit("32"));
    }
    check_room(&state, tenant.as_deref()).await?;
    let new = NewEndpoint { url: ask.url, events: ask.events, tenant, owner: caller.key.id.clone() };
    let now = state.store().now().await?;
    let (view, secret) = state.endpoints().register(new, state.url_rules(), now).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(CreatedWebhook { webhook: view.into(), secret: secret.reveal() })))
}

/// Each change of a job is made and sent once for each endpoint that hears it, so that their number is bounded (E7). Two that
/// are registered at the same moment may pass.
async fn check_room(state: &ApiState, tenant: Option<&str>) -> Result<(), Problem> {
    let most = state.config().webhooks.endpoints_per_tenant;
    let held = state.endpoints().endpoints().await.map_err(refused)?;
    let there = held.iter().filter(|endpoint| endpoint.tenant.as_deref() == tenant).count();
    if there < most {
        return Ok(());
    }
    let whose = tenant.map_or_else(|| "for all tenants".to_owned(), |tenant| format!("of tenant `{tenant}`"));
    Err(Problem::new(ErrorCode::Conflict, format!("there are {there} webhook endpoints {whose} already"))
        .rule("ENG-06")
        .limit(format!("{most} endpoints"))
        .remedy("remove one that is no longer needed, or raise `webhooks.endpoints_per_tenant`"))
}

/// Refuses what would never hear anything: a typing error that nobody would notice.
fn check_pattern(pattern: &EventPattern) -> Result<(), Problem> {
    let known: Vec<String> =
        (1..).map_while(EventWord::from_code).map(|word| format!("job.{}", word.as_str())).collect();
    if known.iter().any(|event| pattern.matches(event)) {
        return Ok(());
    }
    let problem = Problem::invalid("events", format!("no event is called `{pattern}`"));
    Err(match nearest(&pattern.to_string(), known.iter().map(String::as_str)) {
        Some(near) => problem.remedy(format!("did you mean `{near}`?")),
        None => problem.remedy("give `job.*`, or names of events such as `job.succeeded`"),
    })
}

/// Shows an endpoint.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)), responses((status = 200, body = Webhook)))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Webhook>, Problem> {
    caller.check(Permission::Webhooks)?;
    let endpoint = endpoint(&state, &caller, &id).await?;
    let health = state.endpoints().health(&id).await.map_err(refused)?;
    Ok(Json(endpoint.view(&health).into()))
}

/// Switches an endpoint on or off.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", tag = "webhooks", request_body = WebhookEdit, params(("id" = String, Path)),
    responses((status = 200, body = Webhook)))]
pub(super) async fn switch(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Document(ask): Document<WebhookEdit>,
) -> Result<Json<Webhook>, Problem> {
    caller.check(Permission::Webhooks)?;
    endpoint(&state, &caller, &id).await?;
    state.endpoints().switch(&id, ask.enabled).await.map_err(refused)?;
    show(State(state), caller, Path(id)).await
}

/// Forgets an endpoint and its deliveries.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.check(Permission::Webhooks)?;
    endpoint(&state, &caller, &id).await?;
    state.endpoints().remove(&id).await.map_err(refused)?;
    // With the endpoint nobody can list or replay them any more.
    for shard in 0..state.store().shards() {
        while state.store().deliveries_forget(shard, &id, FORGOTTEN_AT_ONCE).await? {}
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an endpoint a fresh secret.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate", tag = "webhooks", params(("id" = String, Path)), responses((status = 200, body = RotatedSecret)))]
pub(super) async fn rotate(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RotatedSecret>, Problem> {
    caller.check(Permission::Webhooks)?;
    if crate::webhooks::endpoint::is_callback(&endpoint(&state, &caller, &id).await?.id) {
        return Err(Problem::new(
            ErrorCode::InvalidState,
            "a callback is signed with the webhook secret of its API key",
        )
        .remedy("make a new API key"));
    }
    let now = state.store().now().await?;
    let fresh = state.endpoints().rotate(&id, now).await.map_err(refused)?;
    let secret = fresh.ok_or_else(|| Problem::not_found("webhook", &id))?.reveal();
    Ok(Json(RotatedSecret { id, secret }))
}
