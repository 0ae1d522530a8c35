//! What people do to jobs: edit, cancel, revive, resolve. The store decides in one script; here its word becomes an answer.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use chrono::{DateTime, FixedOffset};
use leasehold_engine::{
    JobView, Place,
    store::{self, Cancelled, Edited, Resolved, Revived},
};
use leasehold_jobs::{
    Actor, Envelope, Submission, Verification,
    catalogue::What,
    policy::{ErrorCode, Permission, verify::code_refused},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    auth::Caller,
    enqueue::{ActorSchema, VerificationSchema},
    extract::{Document, MaybeDocument},
    job_view,
    jobs::with_etag,
    precondition,
    problem::Problem,
    state::ApiState,
    tenants,
};

/// A change to a job that has not started; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JobEdit {
    /// In whose name; the submitter when left out.
    #[serde(default)]
    #[schema(value_type = Option<ActorSchema>)]
    actor: Option<Actor>,
    /// The changed arguments.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    args: Value,
    /// The new planned time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "date-time")]
    run_at: Option<DateTime<FixedOffset>>,
    /// The user's second confirmation.
    #[serde(default)]
    confirmed: bool,
    /// A fresh code (SQL-17).
    #[serde(default)]
    #[schema(value_type = Option<VerificationSchema>)]
    verification: Option<Verification>,
}

/// Why a job is changed, and by whom.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// For people; kept in the history.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub(super) reason: Option<String>,
    /// In whose name.
    #[serde(default)]
    #[schema(value_type = Option<ActorSchema>)]
    pub(super) actor: Option<Actor>,
}

/// What became of an open step of an unknown job.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolution {
    /// Which step; may be left out when only one is open.
    #[serde(default)]
    #[schema(max_length = 200)]
    step: Option<String>,
    /// `true`: it was done, and is not done again. `false`: it was not, and will be.
    happened: bool,
    /// The step's result, when it happened.
    #[serde(default)]
    result: Option<Value>,
    /// How it is known.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// In whose name.
    #[serde(default)]
    #[schema(value_type = Option<ActorSchema>)]
    actor: Option<Actor>,
}

/// Edits a job that has not started.
#[utoipa::path(patch, path = "/v1/jobs/{id}", tag = "jobs", request_body = JobEdit,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The `ETag` that was seen; another one is refused.")),
    responses((status = 200, body = super::job_view::Job)))]
pub(super) async fn edit(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Document(ask): Document<JobEdit>,
) -> Result<Response, Problem> {
    caller.check(Permission::ChangeJobs)?;
    let view = caller.job(&state, &id).await?;
    let expected = precondition::seen_version(&headers)?;
    if let Some(seq) = expected.filter(|seq| *seq != view.record.seq) {
        return Err(changed(seq, view.record.seq));
    }
    let submission = submission(&state, &view, ask).await?;
    // The time rule is said first: whoever comes too late should not have to ask for a code to learn it.
    let too_late = || Problem::from(state.catalogue().too_late(&view, What::Edit, submission.now));
    if view.record.place == Place::Scheduled && past_cutoff(&state, &view, submission.now) {
        return Err(too_late());
    }
    let edit = state.catalogue().admit_edit(&view, &submission, expected).await?;
    match state.store().edit(&view.record.id, &edit).await? {
        Edited::Ok(_) => shown(&state, &caller, &id, StatusCode::OK).await,
        Edited::TooLate => Err(too_late()),
        Edited::Changed(now) => Err(changed(expected.unwrap_or(view.record.seq), now)),
        Edited::NotScheduled(place) => {
            Err(wrong_place(place, "only a job that has not begun can be edited").rule("SQL-17"))
        }
        Edited::TicketRefused { why, tries_left } => Err(code_refused(why, tries_left).into()),
        Edited::Gone => Err(Problem::not_found("job", &id)),
    }
}

fn past_cutoff(state: &ApiState, view: &JobView, now: leasehold_engine::UnixMs) -> bool {
    state.catalogue().cutoff(&view.record.kind, What::Edit).is_some_and(|cutoff| {
        let left = view.record.run_at - now;
        let least = i64::try_from(cutoff.lead_ms).unwrap_or(i64::MAX);
        left < least || (left == least && !cutoff.inclusive)
    })
}

async fn submission(state: &ApiState, view: &JobView, ask: JobEdit) -> Result<Submission, Problem> {
    let record = &view.record;
    let gone = || Problem::new(ErrorCode::UnknownTenant, format!("there is no tenant `{}` any more", record.tenant));
    let tenant = tenants::read(state, &record.tenant).await?.ok_or_else(gone)?;
    let envelope = Envelope::read(&record.meta).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    Ok(Submission {
        kind: record.kind.clone(),
        tenant,
        actor: ask.actor.unwrap_or(envelope.actor),
        args: ask.args,
        run_at: ask.run_at.map(|at| at.timestamp_millis()),
        now: state.store().now().await?,
        confirmed: ask.confirmed,
        verification: ask.verification,
        idempotency_key: None,
        priority: record.priority,
        labels: BTreeMap::new(),
        correlation_id: None,
        callback: None,
    })
}

fn changed(expected: u32, found: u32) -> Problem {
    Problem::new(ErrorCode::PreconditionFailed, format!("it was seen at {expected} and is at {found} by now"))
        .field("If-Match")
        .remedy("read it again, and decide again")
}

/// Cancels a job.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "jobs", request_body = Option<Reason>, params(("id" = String, Path)),
    responses((status = 200, description = "It is cancelled.", body = super::job_view::Job),
        (status = 202, description = "It was asked to stop: it runs, or a worker first undoes what it did or looks at an open step.", body = super::job_view::Job)))]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Response, Problem> {
    caller.check(Permission::ChangeJobs)?;
    let view = caller.job(&state, &id).await?;
    let note = note(&caller, why.reason, why.actor.as_ref())?;
    let cutoff = state.catalogue().cutoff(&view.record.kind, What::Cancel);
    match state.store().cancel(&view.record.id, &note, cutoff).await? {
        Cancelled::Now => shown(&state, &caller, &id, StatusCode::OK).await,
        Cancelled::Requested => shown(&state, &caller, &id, StatusCode::ACCEPTED).await,
        Cancelled::TooLate(_) => {
            Err(state.catalogue().too_late(&view, What::Cancel, state.store().now().await?).into())
        }
        Cancelled::Final(place) => Err(wrong_place(place, "it has ended")),
        Cancelled::Unknown => Err(wrong_place(Place::Unknown, "nobody knows whether its open step happened")
            .remedy("resolve it first: say whether it happened")),
        Cancelled::Gone => Err(Problem::not_found("job", &id)),
    }
}

/// Sends a dead or cancelled job back to work.
#[utoipa::path(post, path = "/v1/jobs/{id}/revive", tag = "jobs", request_body = Option<Reason>, params(("id" = String, Path)),
    responses((status = 200, body = super::job_view::Job)))]
pub(super) async fn revive(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    MaybeDocument(why): MaybeDocument<Reason>,
) -> Result<Response, Problem> {
    caller.check(Permission::RepairJobs)?;
    let view = caller.job(&state, &id).await?;
    let note = note(&caller, why.reason, why.actor.as_ref())?;
    match state.store().revive(&view.record.id, &note).await? {
        Revived::Ok(_) => shown(&state, &caller, &id, StatusCode::OK).await,
        Revived::NotFinal(place) => Err(wrong_place(place, "only a dead or cancelled job can be revived")),
        Revived::Gone => Err(Problem::not_found("job", &id)),
    }
}

/// Says what became of an open step of an unknown job. The job goes on when no other is open; one that was to be cancelled is
/// undone and cancelled.
#[utoipa::path(post, path = "/v1/jobs/{id}/resolve", tag = "jobs", request_body = Resolution, params(("id" = String, Path)),
    responses((status = 200, body = super::job_view::Job)))]
pub(super) async fn resolve(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Document(said): Document<Resolution>,
) -> Result<Response, Problem> {
    caller.check(Permission::RepairJobs)?;
    let view = caller.job(&state, &id).await?;
    if said.result.is_some() && !said.happened {
        return Err(Problem::invalid("result", "a step that did not happen has no result"));
    }
    let note = note(&caller, said.reason, said.actor.as_ref())?;
    let result = said.result.unwrap_or(Value::Null).to_string();
    let known = store::Resolution {
        step: said.step.as_deref().filter(|step| !step.is_empty()),
        happened: said.happened,
        result: result.as_bytes(),
    };
    match state.store().resolve(&view.record.id, known, &note).await? {
        Resolved::Ok(_) => shown(&state, &caller, &id, StatusCode::OK).await,
        Resolved::Several(open) => Err(which_step("several steps are open, and each is resolved by itself", &open)),
        Resolved::NotOpen(open) => Err(which_step("this step is not open", &open)),
        Resolved::NotUnknown(place) => Err(wrong_place(place, "only an unknown job can be resolved")),
        Resolved::Gone => Err(Problem::not_found("job", &id)),
    }
}

fn which_step(why: &str, open: &[String]) -> Problem {
    Problem::invalid("step", why).limit(format!("one of: {}", open.join(", "))).remedy("say which step it is about")
}

/// What the history keeps of who did it and why (ROLE-19).
pub(super) fn note(caller: &Caller, reason: Option<String>, actor: Option<&Actor>) -> Result<String, Problem> {
    if reason.as_ref().is_some_and(|text| text.chars().count() > 500) {
        return Err(Problem::invalid("reason", "a reason has at most 500 characters").limit("500 characters"));
    }
    if actor.is_some_and(|actor| actor.user_id.len() > 128) {
        return Err(Problem::invalid("actor.user_id", "it is too long").limit("128 bytes"));
    }
    let mut note = json!({ "key": caller.key.id });
    if let Some(text) = reason {
        note["reason"] = Value::String(text);
    }
    if let Some(actor) = actor {
        note["by"] = Value::String(actor.user_id.clone());
        note["roles"] = serde_json::to_value(&actor.roles).unwrap_or_default();
    }
    Ok(note.to_string())
}

fn wrong_place(place: Place, why: &str) -> Problem {
    Problem::new(ErrorCode::InvalidState, format!("the job is {place}: {why}"))
}

async fn shown(state: &ApiState, caller: &Caller, id: &str, status: StatusCode) -> Result<Response, Problem> {
    let view = caller.job(state, id).await?;
    let job = job_view::whole(state, &view, state.store().now().await?);
    Ok(with_etag(status, job))
}
