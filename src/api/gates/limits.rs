//! Limits: how many jobs of a queue, a kind or a key run at a time, and how many start in a period.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use leasehold_engine::{
    Place,
    model::gate::{Gate, Limit, LimitScope, MAX_RATE, Rate},
    store::PlaceCount,
};
use leasehold_jobs::{Actor, policy::Permission};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    NoteView, WhyQuery,
    checks::{self, Mistakes},
    done, note,
};
use crate::api::{
    auth::Caller,
    enqueue::ActorSchema,
    extract::{Document, Query},
    precondition,
    problem::Problem,
    queues,
    state::ApiState,
};

/// Jobs at a time that a limit may name at the most.
const MAX_RUNNING: u64 = 1_000_000;
/// The shortest and the longest period of a rate, ms.
const PERIOD_MS: std::ops::RangeInclusive<u64> = 100..=31 * 86_400_000;

/// A limit. It is counted in each shard of the store by itself; a store has one unless it was made with more.
#[derive(Serialize, ToSchema)]
#[schema(as = Limit)]
pub(in crate::api) struct LimitView {
    /// queue, kind, or key (each key of the kind by itself).
    of: &'static str,
    /// The queue or the kind.
    name: String,
    /// Jobs at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_running: Option<u32>,
    /// Starts in any stretch of time of this length.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateView>,
    /// Jobs that run now; left out for keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u64>,
    #[serde(flatten)]
    note: NoteView,
}

/// A rate.
#[derive(Serialize, ToSchema)]
#[schema(as = Rate)]
pub(super) struct RateView {
    count: u32,
    per: String,
    per_ms: u64,
}

/// A limit to be set; at least one of the two is said.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LimitRequest {
    /// Jobs at a time, 1 to 1,000,000.
    #[serde(default)]
    max_running: Option<u64>,
    #[serde(default)]
    rate: Option<RateRequest>,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// In whose name.
    #[serde(default)]
    #[schema(value_type = Option<ActorSchema>)]
    actor: Option<Actor>,
}

/// A rate to be set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RateRequest {
    /// Starts, 1 to 10,000.
    count: u64,
    /// The period, such as `1m` or `90s`; from 100 ms to 31 days.
    #[serde(default)]
    per: Option<String>,
    /// The same in ms.
    #[serde(default)]
    per_ms: Option<u64>,
}

impl RateRequest {
    fn read(&self, wrong: &mut Mistakes) -> Option<Rate> {
        let count = u32::try_from(self.count).ok().filter(|count| (1..=MAX_RATE).contains(count));
        if count.is_none() {
            wrong.add("rate.count", format!("starts in a period are 1 to {MAX_RATE}"));
        }
        let period_ms = match (&self.per, self.per_ms) {
            (Some(text), None) => checks::duration(text),
            (None, Some(ms)) => Some(ms),
            _ => {
                wrong.add("rate.per", "say the period once: `per` such as 1m, or `per_ms`");
                return None;
            }
        };
        let period_ms = period_ms.filter(|ms| PERIOD_MS.contains(ms));
        if period_ms.is_none() {
            wrong.add("rate.per", "a period is from 100 ms to 31 days, such as 1m or 90s");
        }
        Some(Rate { count: count?, period_ms: period_ms? })
    }
}

/// A limit with what runs under it.
pub(super) fn view(limit: &Limit, counts: &[PlaceCount]) -> LimitView {
    let mine = |count: &&PlaceCount| match &limit.scope {
        LimitScope::Queue(name) => count.queue == *name,
        LimitScope::Kind(name) | LimitScope::Key(name) => count.kind == *name,
    };
    let running =
        counts.iter().filter(|count| count.place == Place::Running).filter(mine).map(|count| count.jobs).sum();
    let rate =
        |rate: Rate| RateView { count: rate.count, per: checks::duration_text(rate.period_ms), per_ms: rate.period_ms };
    LimitView {
        of: limit.scope.word(),
        name: limit.scope.name().to_owned(),
        max_running: limit.max_running,
        rate: limit.rate.map(rate),
        running: (!matches!(limit.scope, LimitScope::Key(_))).then_some(running),
        note: (&limit.note).into(),
    }
}

async fn scope(state: &ApiState, of: &str, name: &str) -> Result<LimitScope, Problem> {
    let scope = LimitScope::of(of, name).ok_or_else(|| Problem::not_found("sort of limit", of))?;
    match scope {
        LimitScope::Queue(_) => queues::check_one(state, name).await?,
        _ => checks::check_kind(state, name).await?,
    }
    Ok(scope)
}

/// Sets a limit, instead of an earlier one of its name. Starts from the answer on obey it; what runs goes on.
#[utoipa::path(put, path = "/v1/limits/{of}/{name}", tag = "gates", request_body = LimitRequest,
    params(("of" = String, Path, description = "queue, kind, or key (each key of the kind by itself)"), ("name" = String, Path),
        ("If-Match" = Option<String>, Header, description = "`*`: only when there is one."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is none.")),
    responses((status = 200, body = LimitView)))]
pub(in crate::api) async fn put_limit(
    State(state): State<ApiState>,
    caller: Caller,
    Path((of, name)): Path<(String, String)>,
    headers: HeaderMap,
    Document(ask): Document<LimitRequest>,
) -> Result<Json<LimitView>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let scope = scope(&state, &of, &name).await?;
    let there = state.store().standing().await?.limits().any(|limit| limit.scope == scope);
    precondition::check_presence(&headers, "limit", there)?;
    let mut wrong = Mistakes::default();
    let max_running = ask.max_running.filter(|max| (1..=MAX_RUNNING).contains(max)).and_then(|max| max.try_into().ok());
    if ask.max_running.is_some() && max_running.is_none() {
        wrong.add("max_running", format!("jobs at a time are 1 to {MAX_RUNNING}; to stop all, pause it"));
    }
    let rate = ask.rate.as_ref().and_then(|rate| rate.read(&mut wrong));
    if ask.max_running.is_none() && ask.rate.is_none() {
        wrong.add("max_running", "say `max_running`, `rate`, or both; DELETE takes the limit away");
    }
    wrong.refuse()?;
    let note = note(&state, &caller, ask.reason, ask.actor.as_ref()).await?;
    let limit = Limit { scope, max_running, rate, note };
    done(state.store().put_gate(&Gate::Limit(limit.clone())).await?)?;
    tracing::info!(of, name, by = limit.note.by, ?max_running, ?rate, "the limit is set");
    Ok(Json(view(&limit, &state.store().counts().await?)))
}

/// Takes a limit away; who waited for it goes on.
#[utoipa::path(delete, path = "/v1/limits/{of}/{name}", tag = "gates",
    params(("of" = String, Path, description = "queue, kind or key"), ("name" = String, Path), WhyQuery), responses((status = 204)))]
pub(in crate::api) async fn remove_limit(
    State(state): State<ApiState>,
    caller: Caller,
    Path((of, name)): Path<(String, String)>,
    Query(why): Query<WhyQuery>,
) -> Result<StatusCode, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let missing = || Problem::not_found("limit", &format!("{of} {name}"));
    let scope = LimitScope::of(&of, &name).ok_or_else(missing)?;
    if !state.store().standing().await?.limits().any(|limit| limit.scope == scope) {
        return Err(missing());
    }
    let note = note(&state, &caller, why.reason, None).await?;
    state.store().gate_remove(&scope.field()).await?;
    tracing::info!(of, name, by = note.by, reason = note.why, "the limit is taken away");
    Ok(StatusCode::NO_CONTENT)
}
