//! API keys: made, listed, revoked. A key and its webhook secret are shown once; a revoked key stops working at once,
//! because each request looks it up.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use leasehold_engine::{Store, StoreError, store::Document as Stored};
use leasehold_jobs::policy::{ErrorCode, KeyRole, Permission, shown::check_name, tenant::check_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    auth::{ApiKey, Caller, FreshKey, KEYS, KEYS_USED},
    extract::Document,
    problem::Problem,
    state::ApiState,
    tenants,
    times::rfc3339,
};

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// For people, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Of `admin`, `operator`, `caller`, `monitor`.
    #[schema(value_type = Vec<String>, min_items = 1)]
    roles: Vec<KeyRole>,
    /// Whose things it sees; left out: all tenants'.
    tenant: Option<String>,
}

/// A key as it is listed.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyView {
    id: String,
    name: String,
    #[schema(value_type = Vec<String>)]
    roles: Vec<KeyRole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    created_at: String,
    /// To the minute, best effort.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
}

/// A key as its maker sees it, once.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedKey {
    #[serde(flatten)]
    view: KeyView,
    /// The key itself. It cannot be shown again.
    key: String,
    /// Signs the callbacks of the jobs that this key enqueues. It cannot be shown again.
    webhook_secret: String,
}

/// All keys.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyList {
    keys: Vec<KeyView>,
}

/// Makes a key and stores its hash. `leasehold up` makes the first one with this, the CLI and the API the others.
///
/// # Errors
/// [`Problem`] when the store cannot be reached or there is no randomness.
pub async fn create_key(
    store: &Store,
    name: &str,
    roles: Vec<KeyRole>,
    tenant: Option<String>,
) -> Result<FreshKey, Problem> {
    let fresh = ApiKey::generate(name, roles, tenant, store.now().await?)?;
    let document = serde_json::to_vec(&fresh.stored).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    store.put_document(KEYS, &fresh.stored.id, &document, Some(0)).await?;
    Ok(fresh)
}

/// Lists the keys.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", responses((status = 200, body = KeyList)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<KeyList>, Problem> {
    caller.check(Permission::Keys)?;
    let used = state.store().documents(KEYS_USED).await?;
    let keys = all(state.store()).await?;
    let mine = keys.into_iter().filter(|key| sees(&caller, key)).map(|key| view(&key, &used));
    Ok(Json(KeyList { keys: mine.collect() }))
}

/// Makes a key.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = NewKey, responses((status = 201, body = CreatedKey)))]
pub(super) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Document(mut ask): Document<NewKey>,
) -> Result<(StatusCode, Json<CreatedKey>), Problem> {
    caller.check(Permission::Keys)?;
    if ask.roles.is_empty() {
        return Err(Problem::invalid("roles", "a key needs at least one role"));
    }
    if ask.name.trim().is_empty() || ask.name.chars().count() > 100 {
        return Err(Problem::invalid("name", "a name has 1 to 100 characters"));
    }
    check_name("ENG-12", "name", &ask.name)?;
    // A key that is bound to a tenant makes keys for that tenant alone.
    ask.tenant = ask.tenant.or_else(|| caller.key.tenant.clone());
    if let Some(tenant) = &ask.tenant {
        check_id("tenant", tenant)?;
        caller.check_tenant(tenant)?;
        // A key for a tenant that is not there is a slip of the pen, which nobody would notice before it is used.
        tenants::read(&state, tenant).await?.ok_or_else(|| Problem::not_found("tenant", tenant).field("tenant"))?;
    }
    let fresh = create_key(state.store(), &ask.name, ask.roles, ask.tenant).await?;
    tracing::info!(key = fresh.stored.id, by = caller.key.id, "an API key was made");
    let created = CreatedKey {
        view: view(&fresh.stored, &BTreeMap::new()),
        key: fresh.token,
        webhook_secret: fresh.webhook_secret.reveal(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revokes a key at once.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "keys", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.check(Permission::Keys)?;
    let keys = all(state.store()).await?;
    let missing = || Problem::not_found("key", &id);
    let key = keys.iter().find(|key| key.id == id && sees(&caller, key)).ok_or_else(missing)?;
    let is_admin = |key: &ApiKey| key.roles.contains(&KeyRole::Admin) && key.tenant.is_none();
    if is_admin(key) && keys.iter().filter(|key| is_admin(key)).count() == 1 {
        return Err(Problem::new(ErrorCode::Conflict, "it is the last admin key for all tenants")
            .remedy("make another admin key first"));
    }
    state.store().delete_document(KEYS, &id).await?;
    state.store().delete_document(KEYS_USED, &id).await?;
    tracing::info!(key = id, by = caller.key.id, "an API key was revoked");
    Ok(StatusCode::NO_CONTENT)
}

async fn all(store: &Store) -> Result<Vec<ApiKey>, StoreError> {
    let held = store.documents(KEYS).await?;
    Ok(held.into_values().filter_map(|d| serde_json::from_slice(&d.bytes).ok()).collect())
}

fn sees(caller: &Caller, key: &ApiKey) -> bool {
    caller.key.tenant.is_none() || caller.key.tenant == key.tenant
}

fn view(key: &ApiKey, used: &BTreeMap<String, Stored>) -> KeyView {
    let used_at = used.get(&key.id).and_then(|d| std::str::from_utf8(&d.bytes).ok()?.parse().ok());
    KeyView {
        id: key.id.clone(),
        name: key.name.clone(),
        roles: key.roles.clone(),
        tenant: key.tenant.clone(),
        created_at: rfc3339(key.created_at),
        last_used_at: used_at.map(rfc3339),
    }
}
