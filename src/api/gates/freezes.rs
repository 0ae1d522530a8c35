//! Freezes: stretches of time in which nothing starts, each with a reason and an owner.
//!
//! To take one away is the emergency override, also for the closed time of a window: it is written to the log as such.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use chrono::{DateTime, FixedOffset};
use leasehold_engine::{
    model::gate::{FOREVER, Freeze, Gate},
    upkeep::windows::override_freeze,
};
use leasehold_jobs::{Actor, policy::Permission};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    FreezeView, ReachView, WhyQuery,
    checks::{self, Mistakes},
    done, note,
};
use crate::api::{
    auth::Caller,
    enqueue::ActorSchema,
    extract::{Document, Query},
    precondition,
    problem::Problem,
    state::ApiState,
};

/// A freeze to be put there.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct FreezeRequest {
    /// Which jobs; left out, all.
    #[serde(default)]
    scope: ReachView,
    /// Now, when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "date-time")]
    from: Option<DateTime<FixedOffset>>,
    /// The first instant after it.
    #[serde(default)]
    #[schema(value_type = String, format = "date-time")]
    until: Option<DateTime<FixedOffset>>,
    /// Why; it must be said.
    #[serde(default)]
    #[schema(value_type = String, max_length = 500)]
    reason: Option<String>,
    /// Who answers for it; must be said.
    #[serde(default)]
    #[schema(value_type = String, max_length = 200)]
    owner: Option<String>,
    /// In whose name.
    #[serde(default)]
    #[schema(value_type = Option<ActorSchema>)]
    actor: Option<Actor>,
}

async fn find(state: &ApiState, id: &str) -> Result<Freeze, Problem> {
    let found = state.store().standing().await?.freezes().find(|freeze| freeze.id == id).cloned();
    found.ok_or_else(|| Problem::not_found("freeze", id))
}

/// Shows a freeze.
#[utoipa::path(get, path = "/v1/freezes/{id}", tag = "gates", params(("id" = String, Path)), responses((status = 200, body = FreezeView)))]
pub(in crate::api) async fn show_freeze(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<FreezeView>, Problem> {
    caller.check_everywhere(Permission::ReadQueues)?;
    Ok(Json(FreezeView::of(&find(&state, &id).await?, state.store().now().await?)))
}

/// Puts a freeze there, instead of an earlier one of its id. Starts from the answer on obey it; what runs goes on.
#[utoipa::path(put, path = "/v1/freezes/{id}", tag = "gates", request_body = FreezeRequest,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "`*`: only when there is one."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is none.")),
    responses((status = 200, body = FreezeView)))]
pub(in crate::api) async fn put_freeze(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Document(ask): Document<FreezeRequest>,
) -> Result<Json<FreezeView>, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    checks::check_name("id", &id)?;
    let there = state.store().standing().await?.freezes().any(|freeze| freeze.id == id);
    precondition::check_presence(&headers, "freeze", there)?;
    let now = state.store().now().await?;
    let from = ask.from.map_or(now, checks::ms);
    let mut wrong = Mistakes::default();
    checks::check_reach(&state, &ask.scope, &mut wrong).await?;
    let until = match ask.until.map(checks::ms) {
        None => {
            wrong.add("until", "a freeze has an end: say when, RFC 3339");
            from
        }
        Some(until) => {
            if until <= from {
                wrong.add("until", "it ends before it begins");
            } else if until <= now {
                wrong.add("until", "it is over already");
            } else if until >= FOREVER {
                wrong.add("until", "it is too far away");
            }
            until
        }
    };
    wrong.check_text("reason", ask.reason.as_deref(), 500);
    wrong.check_text("owner", ask.owner.as_deref(), 200);
    wrong.refuse()?;
    let note = note(&state, &caller, None, ask.actor.as_ref()).await?;
    let (reason, owner) = (ask.reason.unwrap_or_default(), ask.owner.unwrap_or_default());
    let freeze = Freeze { id, reach: ask.scope.into(), from, until, reason, owner, note };
    done(state.store().put_gate(&Gate::Freeze(freeze.clone())).await?)?;
    let by = &freeze.note.by;
    tracing::warn!(
        freeze = freeze.id,
        from,
        until,
        reason = freeze.reason,
        owner = freeze.owner,
        by,
        "a freeze stands"
    );
    Ok(Json(FreezeView::of(&freeze, now)))
}

/// Takes a freeze away before its end: the emergency override. That of a window does not come back.
#[utoipa::path(delete, path = "/v1/freezes/{id}", tag = "gates", params(("id" = String, Path), WhyQuery), responses((status = 204)))]
pub(in crate::api) async fn remove_freeze(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(why): Query<WhyQuery>,
) -> Result<StatusCode, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let freeze = find(&state, &id).await?;
    let note = note(&state, &caller, why.reason, None).await?;
    override_freeze(state.store(), &id, &note).await?;
    let owner = freeze.owner;
    tracing::warn!(audit = true, freeze = id, owner, by = note.by, reason = note.why, "a freeze was overridden");
    Ok(StatusCode::NO_CONTENT)
}
