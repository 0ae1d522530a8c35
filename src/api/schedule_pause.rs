//! Schedules are paused and resumed: only that changes. A schedule that its rules would refuse now can be paused, and the
//! file and the key that it came from stay its own.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use leasehold_engine::store::SchedulePut;
use leasehold_jobs::policy::Permission;

use super::{
    auth::Caller,
    extract::Query,
    precondition,
    problem::Problem,
    schedule_view::{ScheduleView, TenantQuery},
    schedules::{answer, find},
    state::ApiState,
};

/// Pauses a schedule: it fires nothing, and what passes meanwhile is not missed. All else stays as it is.
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", tag = "schedules",
    params(("name" = String, Path), TenantQuery, ("If-Match" = Option<String>, Header, description = "The `ETag` that was seen; another one is refused.")),
    responses((status = 200, description = "It is paused.", body = ScheduleView)))]
pub(super) async fn pause_schedule(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    Query(query): Query<TenantQuery>,
) -> Result<Response, Problem> {
    switch(&state, &caller, (&name, query.tenant.as_deref()), &headers, true).await
}

/// Lets a schedule fire again, from now on. All else stays as it is.
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", tag = "schedules",
    params(("name" = String, Path), TenantQuery, ("If-Match" = Option<String>, Header, description = "The `ETag` that was seen; another one is refused.")),
    responses((status = 200, description = "It fires.", body = ScheduleView)))]
pub(super) async fn resume_schedule(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    Query(query): Query<TenantQuery>,
) -> Result<Response, Problem> {
    switch(&state, &caller, (&name, query.tenant.as_deref()), &headers, false).await
}

async fn switch(
    state: &ApiState,
    caller: &Caller,
    (name, tenant): (&str, Option<&str>),
    headers: &HeaderMap,
    paused: bool,
) -> Result<Response, Problem> {
    caller.check(Permission::WriteSchedules)?;
    let expected = precondition::seen_version(headers)?;
    let tenant = find(state, caller, name, tenant).await?.spec.tenant;
    let missing = || Problem::not_found("schedule", name);
    match state.store().pause_schedule(&tenant, name, paused, expected).await?.ok_or_else(missing)? {
        SchedulePut::Conflict(revision) => return Err(precondition::failed(headers, "schedule", revision)),
        // It is there already, so that there is room for it.
        SchedulePut::Ok(_) | SchedulePut::Full(_) => {}
    }
    tracing::info!(tenant, name, paused, by = caller.key.id, "a schedule was paused or resumed");
    let held = state.store().schedule(&tenant, name).await?.ok_or_else(missing)?;
    answer(state, StatusCode::OK, &held).await
}
