//! Tenants: their documents, their quotas, their backups.
//!
//! A tenant is never deleted here: what a lease leaves behind is ended by the expiry's own rules, not by a request.
//! Only a key for all tenants writes a document: it says where databases are and when a lease ends.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use leasehold_engine::store::Put;
use leasehold_jobs::{
    Backup, Tenant,
    policy::{
        ErrorCode, Permission, address,
        quota::{Period, Scope, Subject},
        tenant::check_id,
    },
    services::TENANTS,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    auth::Caller,
    extract::{Query, RawDocument, parse},
    precondition,
    problem::{Problem, QuotaState},
    state::ApiState,
    times::{instant, rfc3339},
};

/// All tenants that the caller sees.
#[derive(Serialize, ToSchema)]
pub(super) struct TenantList {
    #[schema(value_type = Vec<TenantSchema>)]
    tenants: Vec<Tenant>,
}

/// A tenant's document; its schema is filled in from the type that the rules use.
#[derive(ToSchema)]
#[schema(as = Tenant)]
pub(super) struct TenantSchema {}

/// The quotas of a tenant.
#[derive(Serialize, ToSchema)]
pub(super) struct QuotaList {
    quotas: Vec<QuotaView>,
}

/// A quota.
#[derive(Serialize, ToSchema)]
pub(super) struct QuotaView {
    /// The operation.
    operation: String,
    /// day, month or year.
    #[schema(value_type = String)]
    per: Period,
    /// Who shares the units: tenant, data_center or user.
    #[schema(value_type = String)]
    scope: Scope,
    /// Units that are left.
    remaining: u32,
    #[serde(flatten)]
    state: QuotaState,
}

/// Whose counters, where a quota is not the tenant's as a whole.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QuotaQuery {
    /// For quotas of a data center.
    data_center: Option<String>,
    /// For quotas of a user.
    user: Option<String>,
}

/// The backups of a tenant, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct BackupList {
    backups: Vec<BackupView>,
}

/// A backup that is there, complete and read back.
#[derive(Serialize, ToSchema)]
pub(super) struct BackupView {
    id: String,
    data_center: String,
    name: String,
    description: String,
    /// manual, pre_sql or safety.
    #[schema(value_type = String)]
    origin: leasehold_jobs::Origin,
    engine: String,
    bytes: u64,
    sha256: String,
    job_id: String,
    created_at: String,
}

impl From<Backup> for BackupView {
    fn from(b: Backup) -> Self {
        Self {
            id: b.id,
            data_center: b.data_center,
            name: b.name,
            description: b.description,
            origin: b.origin,
            engine: b.engine,
            bytes: b.bytes,
            sha256: b.sha256,
            job_id: b.job,
            created_at: rfc3339(b.created_at),
        }
    }
}

/// A tenant's document.
pub(super) async fn read(state: &ApiState, id: &str) -> Result<Option<Tenant>, Problem> {
    let held = state.store().document(TENANTS, id).await?;
    held.map(|document| Tenant::parse(id, &document.bytes)).transpose().map_err(|refusal| unreadable(id, &refusal))
}

fn unreadable(id: &str, refusal: &leasehold_jobs::Refusal) -> Problem {
    tracing::error!(tenant = id, %refusal, "the tenant's document cannot be read");
    Problem::new(ErrorCode::Internal, format!("the document of tenant `{id}` cannot be read by this version"))
}

/// Lists the tenants.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", responses((status = 200, body = TenantList)))]
pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Json<TenantList>, Problem> {
    caller.check(Permission::ReadTenants)?;
    let held = state.store().documents(TENANTS).await?;
    let mine = held.into_iter().filter(|(id, _)| caller.sees(id));
    let read =
        mine.map(|(id, document)| Tenant::parse(&id, &document.bytes).map_err(|refusal| unreadable(&id, &refusal)));
    Ok(Json(TenantList { tenants: read.collect::<Result<_, _>>()? }))
}

/// Shows a tenant.
#[utoipa::path(get, path = "/v1/tenants/{id}", tag = "tenants", params(("id" = String, Path)),
    responses((status = 200, body = TenantSchema, headers(("ETag" = String, description = "Its version.")))))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller.check(Permission::ReadTenants)?;
    caller.check_tenant(&id)?;
    let held = state.store().document(TENANTS, &id).await?.ok_or_else(|| Problem::not_found("tenant", &id))?;
    let tenant = Tenant::parse(&id, &held.bytes).map_err(|refusal| unreadable(&id, &refusal))?;
    Ok(with_version(StatusCode::OK, held.version, tenant))
}

/// Writes a tenant's document.
#[utoipa::path(put, path = "/v1/tenants/{id}", tag = "tenants", request_body = TenantSchema,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that was seen; another one is refused. `*`: whichever it has, if there is one."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is none.")),
    responses((status = 200, description = "Replaced.", body = TenantSchema), (status = 201, description = "New.", body = TenantSchema)))]
pub(super) async fn write(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    RawDocument(bytes): RawDocument,
) -> Result<Response, Problem> {
    caller.check(Permission::WriteTenants)?;
    caller.check_tenant(&id)?;
    caller.check_everywhere(Permission::WriteTenants)?;
    check_id("id", &id)?;
    let held = async || Ok(state.store().document(TENANTS, &id).await?.map(|document| document.version));
    let expected = precondition::expected(&headers, "tenant", held).await?;
    // Read as a value first: a slip in the syntax is told with its line and column.
    let _: Value = parse(&bytes)?;
    let tenant = Tenant::parse(&id, &bytes)?;
    tenant.check_shown()?;
    check_places(&state, &tenant).await?;
    let document = serde_json::to_vec(&tenant).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    match state.store().put_document(TENANTS, &id, &document, expected).await? {
        Put::Ok(version) => {
            tracing::info!(tenant = id, version, by = caller.key.id, "the tenant's document was written");
            Ok(with_version(if version == 1 { StatusCode::CREATED } else { StatusCode::OK }, version, tenant))
        }
        Put::Conflict(version) => Err(precondition::failed(&headers, "tenant", version)),
    }
}

/// Two that are written at the same moment may pass; `leasehold doctor` names what was let in so, or before this was checked.
async fn check_places(state: &ApiState, tenant: &Tenant) -> Result<(), Problem> {
    let held = state.store().documents(TENANTS).await?;
    let others: Vec<Tenant> = held.iter().filter_map(|(id, held)| Tenant::parse(id, &held.bytes).ok()).collect();
    Ok(address::check_places(tenant, &others)?)
}

fn with_version(status: StatusCode, version: u32, tenant: Tenant) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    (status, [(header::ETAG, tag)], Json(tenant)).into_response()
}

/// Shows what is left of the quotas, and when they start anew (QUOTA-04).
#[utoipa::path(get, path = "/v1/tenants/{id}/quotas", tag = "tenants", params(("id" = String, Path), QuotaQuery),
    responses((status = 200, body = QuotaList)))]
pub(super) async fn quotas(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<QuotaQuery>,
) -> Result<Json<QuotaList>, Problem> {
    caller.check(Permission::ReadTenants)?;
    caller.check_tenant(&id)?;
    read(&state, &id).await?.ok_or_else(|| Problem::not_found("tenant", &id))?;
    let rules = state.rules();
    let now = instant(state.store().now().await?);
    let mut quotas = Vec::new();
    for (operation, rule) in &rules.quota {
        let (data_center, user) = (query.data_center.as_deref(), query.user.as_deref());
        let known = match rule.scope {
            Scope::Tenant => true,
            Scope::DataCenter => data_center.is_some(),
            Scope::User => user.is_some(),
        };
        if !known {
            continue;
        }
        let subject =
            Subject { tenant: &id, data_center: data_center.unwrap_or_default(), user: user.unwrap_or_default() };
        let allowance = rule.allowance(rules.calendar(), now, operation, subject);
        let used = state.store().allowance_used(&id, &allowance.name).await?;
        let state = QuotaState::from(&allowance.state(rules.calendar(), used));
        let remaining = state.limit.saturating_sub(state.used);
        quotas.push(QuotaView { operation: operation.clone(), per: rule.per, scope: rule.scope, remaining, state });
    }
    Ok(Json(QuotaList { quotas }))
}

/// Lists the backups of a tenant.
#[utoipa::path(get, path = "/v1/tenants/{id}/backups", tag = "tenants", params(("id" = String, Path)),
    responses((status = 200, body = BackupList)))]
pub(super) async fn backups(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BackupList>, Problem> {
    caller.check(Permission::ReadTenants)?;
    caller.check_tenant(&id)?;
    read(&state, &id).await?.ok_or_else(|| Problem::not_found("tenant", &id))?;
    let mut backups = state.catalogue().services().backups().list(&id).await?;
    backups.reverse();
    Ok(Json(BackupList { backups: backups.into_iter().map(BackupView::from).collect() }))
}
