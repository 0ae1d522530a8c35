//! Gates: pauses, kill switches, limits, freezes and windows, as people see and change them.
//!
//! A gate is for everybody, so that only a key for all tenants sees or changes one. Who did it and why is kept with it,
//! and written to the log.

mod checks;
pub(super) mod freezes;
pub(super) mod limits;
pub(super) mod stops;
pub(super) mod windows;

use axum::{Json, extract::State};
use leasehold_engine::{
    UnixMs,
    model::gate::{ClockJump, Freeze, Gates, MAX_GATES, Note, Reach, Scope},
    store::GateSet,
};
use leasehold_jobs::policy::{Actor, ErrorCode, Permission};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    auth::Caller,
    changes,
    problem::Problem,
    state::ApiState,
    times::{if_any, rfc3339},
};

/// All that stands.
#[derive(Serialize, ToSchema)]
pub(super) struct GateList {
    /// Pauses and kill switches.
    stops: Vec<StopView>,
    limits: Vec<limits::LimitView>,
    /// Freezes, those of windows too.
    freezes: Vec<FreezeView>,
    /// The store's clock jumped, and nobody has looked yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<ClockView>,
    /// Kinds of which jobs are set aside, since no worker that looked knew them.
    parked_kinds: Vec<String>,
    /// Gates that this version cannot read; they stand nevertheless.
    unreadable: Vec<String>,
}

/// A pause or a kill switch.
#[derive(Serialize, ToSchema)]
#[schema(as = Stop)]
pub(super) struct StopView {
    /// pause or kill_switch.
    what: &'static str,
    /// all, queue, kind or tenant.
    scope: &'static str,
    /// Which one; `*` is all.
    name: String,
    #[serde(flatten)]
    note: NoteView,
}

/// Who, when and why.
#[derive(Serialize, ToSchema)]
#[schema(as = GateNote)]
pub(super) struct NoteView {
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    by: String,
    /// When it was put there.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

/// A jump of the store's clock.
#[derive(Serialize, ToSchema)]
#[schema(as = ClockJump)]
pub(super) struct ClockView {
    from: String,
    to: String,
    seen_at: String,
}

/// Which jobs a freeze or a window is about; what is left out is any.
#[derive(Serialize, Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reach)]
pub(super) struct ReachView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// A resource as `explain` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
}

/// Nothing that it is about starts while it stands, nor what would not end before it.
#[derive(Serialize, ToSchema)]
#[schema(as = Freeze)]
pub(super) struct FreezeView {
    /// `<window>#<n>` when a window made it.
    id: String,
    scope: ReachView,
    from: String,
    /// Left out when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    owner: String,
    /// The window that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    /// Whether it stands now.
    active: bool,
    #[serde(flatten)]
    note: NoteView,
}

/// For whom a gate is taken away, and why; kept in the log.
#[derive(Deserialize, Default, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhyQuery {
    #[serde(default)]
    reason: Option<String>,
}

impl From<&Note> for NoteView {
    fn from(note: &Note) -> Self {
        Self { reason: note.why.clone(), by: note.by.clone(), since: if_any(note.at) }
    }
}

impl From<&ClockJump> for ClockView {
    fn from(jump: &ClockJump) -> Self {
        Self { from: rfc3339(jump.from), to: rfc3339(jump.to), seen_at: rfc3339(jump.at) }
    }
}

impl From<Reach> for ReachView {
    fn from(Reach { kind, tenant, resource }: Reach) -> Self {
        Self { kind, tenant, resource }
    }
}

impl From<ReachView> for Reach {
    fn from(ReachView { kind, tenant, resource }: ReachView) -> Self {
        Self { kind, tenant, resource }
    }
}

impl FreezeView {
    fn of(freeze: &Freeze, now: UnixMs) -> Self {
        let mut note = NoteView::from(&freeze.note);
        note.reason.clone_from(&freeze.reason);
        Self {
            id: freeze.id.clone(),
            scope: freeze.reach.clone().into(),
            from: rfc3339(freeze.from),
            until: freeze.ends().map(rfc3339),
            owner: freeze.owner.clone(),
            window: freeze.window().map(str::to_owned),
            active: freeze.stops(now, 0),
            note,
        }
    }
}

fn stop(what: &'static str, (scope, note): (&Scope, &Note)) -> StopView {
    StopView { what, scope: scope.word(), name: scope.name().to_owned(), note: note.into() }
}

/// Lists all that stands.
#[utoipa::path(get, path = "/v1/gates", tag = "gates", responses((status = 200, body = GateList)))]
pub(super) async fn list_gates(State(state): State<ApiState>, caller: Caller) -> Result<Json<GateList>, Problem> {
    caller.check_everywhere(Permission::ReadQueues)?;
    let (gates, now) = (state.store().standing().await?, state.store().now().await?);
    let running = state.store().counts().await?;
    let kills = gates.kill_switches().map(|found| stop("kill_switch", found));
    let stops = kills.chain(gates.pauses().map(|found| stop("pause", found))).collect();
    let mut freezes: Vec<&Freeze> = gates.freezes().collect();
    freezes.sort_by_key(|freeze| freeze.from);
    let clock = gates.clock().map(ClockView::from);
    Ok(Json(GateList {
        stops,
        limits: gates.limits().map(|limit| limits::view(limit, &running)).collect(),
        freezes: freezes.into_iter().map(|freeze| FreezeView::of(freeze, now)).collect(),
        clock,
        parked_kinds: gates.parked.clone(),
        unreadable: gates.unreadable,
    }))
}

/// Who it is, when and why, as it is kept with the gate.
pub(super) async fn note(
    state: &ApiState,
    caller: &Caller,
    reason: Option<String>,
    actor: Option<&Actor>,
) -> Result<Note, Problem> {
    // The limits of a reason and of a name are those of every change.
    changes::note(caller, reason.clone(), actor)?;
    let by = actor.map_or_else(|| caller.key.id.clone(), |actor| actor.user_id.clone());
    Ok(Note { why: reason.unwrap_or_default(), by, at: state.store().now().await? })
}

/// The store's word about a change as an answer.
pub(super) fn done(set: GateSet) -> Result<(), Problem> {
    match set {
        GateSet::Set => Ok(()),
        GateSet::Full => Err(too_many()),
        GateSet::Changed => Err(Problem::new(ErrorCode::Conflict, "others keep changing the same gate")
            .remedy("read it again, and decide again")),
    }
}

fn too_many() -> Problem {
    Problem::new(ErrorCode::Conflict, "too many gates stand; each claim reads them all")
        .limit(format!("{MAX_GATES} gates"))
        .remedy("take some away: GET /v1/gates lists them")
}

/// Refuses when so many more would be too many.
fn check_room(gates: &Gates, more: usize) -> Result<(), Problem> {
    let many = gates.all.len() + gates.takes_ms.len() + gates.parked.len() + gates.unreadable.len();
    if many + more > MAX_GATES { Err(too_many()) } else { Ok(()) }
}
