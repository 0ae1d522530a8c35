//! Schedules: written, shown, forgotten, looked ahead. A name is unique within its tenant.
//!
//! Invariant: what would never fire, in no zone, or would be refused at its first slot, is refused now.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use leasehold_engine::{
    UnixMs,
    model::{BadTimetable, Schedule, ScheduleRules, ScheduleSpec, Timetable},
    store::{SchedulePut, ScheduleRemoved},
};
use leasehold_jobs::{
    Refusal,
    policy::{ErrorCode, Permission, tenant::check_id},
};

use super::{
    auth::Caller,
    enqueue::{callback_of, new_callback, unknown_tenant},
    extract::{Document, Query},
    jobs::page_limit,
    precondition,
    problem::Problem,
    schedule_view::{ListQuery, Preview, PreviewQuery, ScheduleList, ScheduleRequest, ScheduleView, TenantQuery, view},
    state::ApiState,
    tenants,
};
use crate::schedules::Kept;

/// Slots of a preview when the caller does not say, and the most.
pub(super) const PREVIEW: (usize, usize) = (10, 1000);

/// Lists the schedules, by tenant and name.
#[utoipa::path(get, path = "/v1/schedules", tag = "schedules", params(ListQuery), responses((status = 200, body = ScheduleList)))]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<ScheduleList>, Problem> {
    caller.check(Permission::ReadQueues)?;
    if let Some(tenant) = &query.tenant {
        caller.check_tenant(tenant)?;
    }
    let limit = page_limit(&state, query.limit)?;
    let tenant = query.tenant.or_else(|| caller.key.tenant.clone());
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let after = after.as_ref().map(|(tenant, name)| (tenant.as_str(), name.as_str()));
    let page = state.store().schedules(tenant.as_deref(), after, limit).await?;
    let last = page.last().filter(|_| page.len() == limit);
    let next = last.map(|last| hex::encode(format!("{}\n{}", last.spec.tenant, last.spec.name)));
    let now = state.store().now().await?;
    Ok(Json(ScheduleList { schedules: page.iter().map(|schedule| view(schedule, now)).collect(), next }))
}

fn read_cursor(text: &str) -> Result<(String, String), Problem> {
    let bytes = hex::decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = bytes.as_deref().and_then(|text| text.split_once('\n'));
    let wrong = || Problem::invalid("cursor", "it is no cursor of this list").remedy("give `next` of the page before");
    pair.map(|(tenant, name)| (tenant.to_owned(), name.to_owned())).ok_or_else(wrong)
}

/// The schedule of this name, if it is this caller's to see; otherwise it does not exist (AC-199).
pub(super) async fn find(
    state: &ApiState,
    caller: &Caller,
    name: &str,
    asked: Option<&str>,
) -> Result<Schedule, Problem> {
    let missing = || Problem::not_found("schedule", name);
    check_id("name", name).map_err(|_| missing())?;
    if let Some(tenant) = asked {
        caller.check_tenant(tenant)?;
    }
    if let Some(tenant) = asked.or(caller.key.tenant.as_deref()) {
        return state.store().schedule(tenant, name).await?.ok_or_else(missing);
    }
    let mut found = state.store().schedules_named(name).await?;
    match found.len() {
        0 | 1 => found.pop().ok_or_else(missing),
        many => Err(Problem::new(ErrorCode::Conflict, format!("{many} tenants have a schedule `{name}`"))
            .field("tenant")
            .remedy("say whose with ?tenant=")),
    }
}

/// Shows a schedule.
#[utoipa::path(get, path = "/v1/schedules/{name}", tag = "schedules", params(("name" = String, Path), TenantQuery),
    responses((status = 200, body = ScheduleView, headers(("ETag" = String, description = "Its revision.")))))]
pub(super) async fn show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<TenantQuery>,
) -> Result<Response, Problem> {
    caller.check(Permission::ReadQueues)?;
    let schedule = find(&state, &caller, &name, query.tenant.as_deref()).await?;
    answer(&state, StatusCode::OK, &schedule).await
}

pub(super) async fn answer(state: &ApiState, status: StatusCode, schedule: &Schedule) -> Result<Response, Problem> {
    let tag = HeaderValue::from_str(&format!("\"{}\"", schedule.revision)).unwrap_or(HeaderValue::from_static("\"0\""));
    let now = state.store().now().await?;
    Ok((status, [(header::ETAG, tag)], Json(view(schedule, now))).into_response())
}

/// Makes a schedule, or replaces what is said of it. While its times stay the same, a slot that is due stays due.
#[utoipa::path(put, path = "/v1/schedules/{name}", tag = "schedules", request_body = ScheduleRequest,
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that was seen; another one is refused. `*`: whichever it has, if there is one."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is none.")),
    responses((status = 200, description = "Replaced, or there already.", body = ScheduleView), (status = 201, description = "New.", body = ScheduleView)))]
pub(super) async fn write(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    Document(ask): Document<ScheduleRequest>,
) -> Result<Response, Problem> {
    caller.check(Permission::WriteSchedules)?;
    caller.check_tenant(&ask.job.tenant)?;
    check_id("name", &name)?;
    let held = async || Ok(state.store().schedule(&ask.job.tenant, &name).await?.map(|held| held.revision));
    let expected = precondition::expected(&headers, "schedule", held).await?;
    let zone = ask.zone.clone().unwrap_or_else(|| state.rules().calendar().name().to_owned());
    let rules = ScheduleRules {
        cron: ask.cron.clone(),
        zone,
        missed: ask.missed,
        paused: ask.paused,
        made_by: caller.key.id.clone(),
        from_file: false,
    };
    let table = rules.timetable().map_err(bad_times)?;
    let tenant = ask.job.tenant.clone();
    let job = check_job(&state, &caller, &name, ask, &table).await?.to_bytes();
    let spec = ScheduleSpec { tenant, name, rules, job };
    let revision = match state.store().put_schedule(&spec, &table, expected).await? {
        SchedulePut::Ok(revision) => revision,
        SchedulePut::Conflict(revision) => return Err(precondition::failed(&headers, "schedule", revision)),
        SchedulePut::Full(most) => {
            return Err(Problem::new(ErrorCode::TooManyJobs, "there are as many schedules as a shard may have")
                .rule("ENG-07")
                .limit(format!("{most} schedules"))
                .remedy("remove schedules that are no longer needed"));
        }
    };
    tracing::info!(tenant = spec.tenant, name = spec.name, revision, by = caller.key.id, "a schedule was written");
    let held = state.store().schedule(&spec.tenant, &spec.name).await?;
    let held = held.ok_or_else(|| Problem::not_found("schedule", &spec.name))?;
    answer(&state, if revision == 1 { StatusCode::CREATED } else { StatusCode::OK }, &held).await
}

/// The job, asked for as if its first slot were now: what is refused then is refused at once.
async fn check_job(
    state: &ApiState,
    caller: &Caller,
    name: &str,
    ask: ScheduleRequest,
    table: &Timetable,
) -> Result<Kept, Problem> {
    let of_job = |problem: Problem| match problem.0.field.clone() {
        Some(field) => problem.field(format!("job.{field}")),
        None => problem.field("job"),
    };
    ask.job.check_labels().map_err(|taken| Problem::invalid(taken.field(), taken.to_string()))?;
    let tenant_id = ask.job.tenant.clone();
    let tenant = tenants::read(state, &tenant_id).await?.ok_or_else(|| of_job(unknown_tenant(&tenant_id)))?;
    let url = ask.job.callback_url.clone();
    let callback = url.as_deref().map(|url| callback_of(state, caller, url)).transpose().map_err(of_job)?;
    let kept = Kept { job: ask.job, callback };
    let now = state.store().now().await?;
    let first = table.next_after(now).unwrap_or(now);
    let refused = |no: Refusal| of_job(no.into());
    kept.clone().admit(state.catalogue(), tenant, (name, first), first).await.map_err(refused)?;
    if let Some(url) = &url {
        let made = state.endpoints().callback(new_callback(caller, url, &tenant_id), state.url_rules(), now).await;
        made.map_err(|error| of_job(super::webhooks::refused(error).field("callback_url")))?;
    }
    Ok(kept)
}

/// An expression or a zone that is refused.
pub(super) fn bad_times(bad: BadTimetable) -> Problem {
    let problem = Problem::invalid(bad.field(), bad.to_string()).rule("ENG-07");
    match &bad {
        BadTimetable::UnknownZone { nearest: Some(near), .. } => problem.remedy(format!("did you mean `{near}`?")),
        BadTimetable::UnknownZone { .. } => problem.remedy("give a name of the tz database, such as Asia/Shanghai"),
        BadTimetable::NeverFires { .. } => {
            problem.remedy("give a day that exists in some year; L is the last day of a month")
        }
        BadTimetable::Expression { .. } => {
            problem.remedy("give minute, hour, day of month, month and weekday, with the second before them if needed")
        }
    }
}

/// Forgets a schedule. The jobs that it made stay. One that a file says comes back at the next start.
#[utoipa::path(delete, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path), TenantQuery, ("If-Match" = Option<String>, Header, description = "The `ETag` that was seen; another one is refused.")),
    responses((status = 204)))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    Query(query): Query<TenantQuery>,
) -> Result<StatusCode, Problem> {
    caller.check(Permission::WriteSchedules)?;
    let expected = precondition::seen_version(&headers)?;
    let tenant = find(&state, &caller, &name, query.tenant.as_deref()).await?.spec.tenant;
    match state.store().remove_schedule(&tenant, &name, expected).await? {
        ScheduleRemoved::Ok => {}
        ScheduleRemoved::Conflict(revision) => return Err(precondition::failed(&headers, "schedule", revision)),
        ScheduleRemoved::Gone => return Err(Problem::not_found("schedule", &name)),
    }
    tracing::info!(tenant, name, by = caller.key.id, "a schedule was removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Shows the next slots of a schedule, as its zone shows them. A paused one is shown as if it were not.
#[utoipa::path(get, path = "/v1/schedules/{name}/preview", tag = "schedules", params(("name" = String, Path), PreviewQuery),
    responses((status = 200, body = Preview)))]
pub(super) async fn preview(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<PreviewQuery>,
) -> Result<Json<Preview>, Problem> {
    caller.check(Permission::ReadQueues)?;
    let schedule = find(&state, &caller, &name, query.tenant.as_deref()).await?;
    let count = query.count.unwrap_or(PREVIEW.0);
    if !(1..=PREVIEW.1).contains(&count) {
        return Err(Problem::invalid("count", format!("{count} is out of range")).limit(format!("1 to {}", PREVIEW.1)));
    }
    let rules = &schedule.spec.rules;
    let table = rules.timetable().map_err(bad_times)?;
    let from: UnixMs = match query.from {
        Some(from) => from.timestamp_millis(),
        None => state.store().now().await?,
    };
    let slots = table.preview(from, count).map_err(|far| Problem::invalid("from", far.to_string()))?;
    Ok(Json(Preview { name, cron: rules.cron.clone(), zone: rules.zone.clone(), slots }))
}
