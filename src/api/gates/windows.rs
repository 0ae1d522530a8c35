//! Windows: when jobs may start, or may not, by a cron expression on the clock of a zone.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use leasehold_engine::{
    UnixMs,
    model::{
        gate::FOREVER,
        window::{MOST, Mode, Stretch, Window},
    },
    store::Put,
    upkeep::{
        self,
        windows::{OVERRIDES, WINDOWS},
    },
};
use leasehold_jobs::{
    Actor,
    policy::{ErrorCode, Permission},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    NoteView, ReachView, WhyQuery, check_room,
    checks::{self, Mistakes},
    note,
};
use crate::api::{
    auth::Caller,
    enqueue::ActorSchema,
    extract::{Document, Query},
    precondition,
    problem::Problem,
    state::ApiState,
    times::rfc3339,
};

/// Whether jobs start inside a window, or outside.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WindowMode)]
pub(in crate::api) enum ModeView {
    /// Only inside.
    Allow,
    /// Only outside.
    Deny,
}

/// A window to be written.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct WindowRequest {
    /// Which jobs; left out, all.
    #[serde(default)]
    scope: ReachView,
    /// IANA name of a time zone, such as Asia/Shanghai.
    zone: String,
    /// When it begins: a cron expression such as `0 2 * * 0`; seconds may stand first; `L`, `W`, `#` are known.
    opens: String,
    /// How long it lasts, such as `4h` or `90m`: one minute to 366 days of real time.
    duration: String,
    mode: ModeView,
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

/// A window.
#[derive(Serialize, ToSchema)]
#[schema(as = Window)]
pub(in crate::api) struct WindowView {
    name: String,
    scope: ReachView,
    zone: String,
    opens: String,
    duration: String,
    duration_ms: u64,
    mode: ModeView,
    owner: String,
    #[serde(flatten)]
    note: NoteView,
    /// When nothing that it is about starts: now, and the next times.
    closed: Vec<ClosedView>,
}

/// A stretch of time in which nothing starts.
#[derive(Serialize, ToSchema)]
#[schema(as = ClosedTime)]
pub(in crate::api) struct ClosedView {
    /// The freeze that stands for it.
    freeze: String,
    from: String,
    /// Left out when it is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// A person took it away.
    overridden: bool,
}

/// All windows.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct WindowList {
    windows: Vec<WindowView>,
}

async fn view(state: &ApiState, name: &str, window: Window, now: UnixMs) -> Result<WindowView, Problem> {
    let gone = state.store().documents(OVERRIDES).await?;
    let mut note = NoteView::from(&window.note);
    note.reason.clone_from(&window.reason);
    let closed = |Stretch { from, until }: Stretch| {
        let freeze = format!("{name}#{}", from / 1000);
        let overridden = gone.contains_key(&freeze);
        ClosedView { freeze, from: rfc3339(from), until: (until < FOREVER).then(|| rfc3339(until)), overridden }
    };
    Ok(WindowView {
        name: name.to_owned(),
        closed: window.closed(now).unwrap_or_default().into_iter().map(closed).collect(),
        scope: window.reach.into(),
        zone: window.zone,
        opens: window.opens,
        duration: checks::duration_text(window.duration_ms),
        duration_ms: window.duration_ms,
        mode: if window.mode == Mode::Allow { ModeView::Allow } else { ModeView::Deny },
        owner: window.owner,
        note,
    })
}

fn read(name: &str, bytes: &[u8]) -> Result<Window, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        tracing::error!(window = name, %error, "the window cannot be read");
        Problem::new(ErrorCode::Internal, format!("window `{name}` cannot be read by this version"))
    })
}

/// Lists the windows.
#[utoipa::path(get, path = "/v1/windows", tag = "gates", responses((status = 200, body = WindowList)))]
pub(in crate::api) async fn list_windows(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<Json<WindowList>, Problem> {
    caller.check_everywhere(Permission::ReadQueues)?;
    let now = state.store().now().await?;
    let mut windows = Vec::new();
    for (name, document) in state.store().documents(WINDOWS).await? {
        windows.push(view(&state, &name, read(&name, &document.bytes)?, now).await?);
    }
    Ok(Json(WindowList { windows }))
}

/// Shows a window.
#[utoipa::path(get, path = "/v1/windows/{name}", tag = "gates", params(("name" = String, Path)),
    responses((status = 200, body = WindowView, headers(("ETag" = String, description = "Its version.")))))]
pub(in crate::api) async fn show_window(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    caller.check_everywhere(Permission::ReadQueues)?;
    let held = state.store().document(WINDOWS, &name).await?.ok_or_else(|| Problem::not_found("window", &name))?;
    let shown = view(&state, &name, read(&name, &held.bytes)?, state.store().now().await?).await?;
    Ok(with_version(StatusCode::OK, held.version, shown))
}

fn with_version(status: StatusCode, version: u32, shown: WindowView) -> Response {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    (status, [(header::ETAG, tag)], Json(shown)).into_response()
}

/// Writes a window; it holds from the answer on.
#[utoipa::path(put, path = "/v1/windows/{name}", tag = "gates", request_body = WindowRequest,
    params(("name" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that was seen; another one is refused. `*`: whichever it has, if there is one."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is none.")),
    responses((status = 200, description = "Replaced.", body = WindowView), (status = 201, description = "New.", body = WindowView)))]
pub(in crate::api) async fn put_window(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    Document(ask): Document<WindowRequest>,
) -> Result<Response, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    checks::check_name("name", &name)?;
    let held = async || Ok(state.store().document(WINDOWS, &name).await?.map(|document| document.version));
    let expected = precondition::expected(&headers, "window", held).await?;
    let now = state.store().now().await?;
    let window = accept(&state, &caller, ask, now).await?;
    check_room(&state.store().standing().await?, MOST)?;
    let document = serde_json::to_vec(&window).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    match state.store().put_document(WINDOWS, &name, &document, expected).await? {
        Put::Ok(version) => {
            upkeep::windows(state.store()).await?;
            tracing::info!(window = name, version, by = window.note.by, opens = window.opens, "the window is written");
            let shown = view(&state, &name, window, now).await?;
            Ok(with_version(if version == 1 { StatusCode::CREATED } else { StatusCode::OK }, version, shown))
        }
        Put::Conflict(version) => Err(precondition::failed(&headers, "window", version)),
    }
}

async fn accept(state: &ApiState, caller: &Caller, ask: WindowRequest, now: UnixMs) -> Result<Window, Problem> {
    let mut wrong = Mistakes::default();
    checks::check_reach(state, &ask.scope, &mut wrong).await?;
    wrong.check_text("reason", ask.reason.as_deref(), 500);
    wrong.check_text("owner", ask.owner.as_deref(), 200);
    let duration_ms = checks::duration(&ask.duration);
    let window = Window {
        reach: ask.scope.into(),
        zone: ask.zone,
        opens: ask.opens,
        duration_ms: duration_ms.unwrap_or_default(),
        mode: if matches!(ask.mode, ModeView::Allow) { Mode::Allow } else { Mode::Deny },
        reason: ask.reason.unwrap_or_default(),
        owner: ask.owner.unwrap_or_default(),
        note: note(state, caller, None, ask.actor.as_ref()).await?,
    };
    for (field, what) in window.complaints(now) {
        match (field, duration_ms) {
            ("duration", None) => wrong.add(field, format!("`{}` is not a duration such as 4h or 90m", ask.duration)),
            _ => wrong.add(field, what),
        }
    }
    wrong.refuse()?;
    Ok(window)
}

/// Takes a window away, with what it closes.
#[utoipa::path(delete, path = "/v1/windows/{name}", tag = "gates", params(("name" = String, Path), WhyQuery), responses((status = 204)))]
pub(in crate::api) async fn remove_window(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Query(why): Query<WhyQuery>,
) -> Result<StatusCode, Problem> {
    caller.check_everywhere(Permission::PauseQueues)?;
    let note = note(&state, &caller, why.reason, None).await?;
    if !state.store().delete_document(WINDOWS, &name).await? {
        return Err(Problem::not_found("window", &name));
    }
    upkeep::windows(state.store()).await?;
    tracing::warn!(audit = true, window = name, by = note.by, reason = note.why, "the window is taken away");
    Ok(StatusCode::NO_CONTENT)
}
