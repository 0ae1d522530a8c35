//! Signals and answers: what people and upstream systems tell a job that waits, or will.
//!
//! Guards that an open approval is answered only by those who may; the engine judges every answer again when it reads it.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use leasehold_engine::{
    JobView, args_sha256,
    model::{Answer, Choice, NotAllowed},
    store::{MOST_SIGNALS, SIGNAL_BYTES, Signalled},
};
use leasehold_jobs::{
    Actor, Envelope,
    policy::{ErrorCode, Permission},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    auth::Caller, changes::note, enqueue::ActorSchema, extract::MaybeDocument, idempotency::key_of, problem::Problem,
    state::ApiState,
};

/// A signal; with a `decision` it answers the approval of that name.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignalRequest {
    /// In whose name. An answer needs one.
    #[serde(default)]
    #[schema(value_type = Option<ActorSchema>)]
    actor: Option<Actor>,
    /// What the job is told, of an answer what it is told with the decision (the fields of a form); any JSON, at most 64 KiB.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    payload: Option<Value>,
    /// `approve` or `refuse`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    decision: Option<Choice>,
    /// Why; kept with the answer and in the history.
    #[serde(default)]
    #[schema(max_length = 500)]
    comment: Option<String>,
    /// The hash of the arguments that were seen (the job's `args_sha256`); refused when they have changed since. An answer that
    /// comes before the job asks needs it.
    #[serde(default)]
    args_sha256: Option<String>,
}

/// What came of a signal.
#[derive(Serialize, ToSchema)]
pub(super) struct SignalAnswer {
    /// The job.
    job: String,
    /// The signal.
    signal: String,
    /// `woken`: the job waited for it and goes on. `kept`: it is there when the job asks. `duplicate`: its key was counted
    /// before.
    outcome: &'static str,
}

/// Sends a signal to a job, or answers one of its approvals. Kept when it comes early, counted once by its `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/jobs/{id}/signals/{name}", tag = "jobs", request_body = Option<SignalRequest>,
    params(("id" = String, Path), ("name" = String, Path, description = "The signal, or the approval that is answered."),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 128 bytes; the same key counts once.")),
    responses((status = 202, body = SignalAnswer)))]
pub(super) async fn signal(
    State(state): State<ApiState>,
    caller: Caller,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
    MaybeDocument(ask): MaybeDocument<SignalRequest>,
) -> Result<(StatusCode, Json<SignalAnswer>), Problem> {
    caller.check(Permission::ChangeJobs)?;
    check_name(&name)?;
    let key = key_of(&headers)?.unwrap_or_default();
    let view = caller.job(&state, &id).await?;
    let note = told(&caller, &name, &ask)?;
    let payload = payload(&view, &name, &ask)?;
    let outcome = match state.store().signal(&view.record.id, &name, &key, payload.as_bytes(), &note).await? {
        Signalled::Woken => "woken",
        Signalled::Kept => "kept",
        Signalled::Duplicate => "duplicate",
        Signalled::Final(place) => {
            return Err(Problem::new(ErrorCode::InvalidState, format!("the job is {place}: it hears no more signals")));
        }
        Signalled::Full => {
            return Err(Problem::new(ErrorCode::Conflict, "the job has as many signals as are kept for one")
                .limit(format!("{MOST_SIGNALS} signals, 1 MiB")));
        }
        Signalled::Gone => return Err(Problem::not_found("job", &id)),
    };
    Ok((StatusCode::ACCEPTED, Json(SignalAnswer { job: id, signal: name, outcome })))
}

fn check_name(name: &str) -> Result<(), Problem> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | ' ');
    if (1..=100).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(Problem::invalid("name", "this is no name of a signal")
        .limit("1 to 100 bytes: letters, digits, `-`, `_`, `.`, `:` and spaces"))
}

/// The signal's payload: an answer for the engine to judge, or what was sent.
fn payload(view: &JobView, name: &str, ask: &SignalRequest) -> Result<String, Problem> {
    let seen = args_sha256(&view.record.args);
    if ask.args_sha256.as_ref().is_some_and(|given| *given != seen) {
        return Err(Problem::new(ErrorCode::PreconditionFailed, "the job's arguments are not those that were seen")
            .field("args_sha256")
            .remedy("read the job again, and decide again"));
    }
    let open = view.open_approval(name);
    let payload = match ask.decision {
        None if open.is_some() => {
            return Err(Problem::invalid("decision", "an approval is answered with `approve` or `refuse`"));
        }
        None => ask.payload.as_ref().unwrap_or(&Value::Null).to_string(),
        Some(decision) => {
            let answer = answer(decision, seen, ask)?;
            match open.map(|spec| (spec, spec.may_answer(&answer.by, &answer.grants))) {
                None => check_early(view, ask, &answer)?,
                Some((spec, Err(why))) => return Err(refused(why, &answer.by, &spec.from)),
                Some((_, Ok(()))) => {}
            }
            serde_json::to_string(&answer).unwrap_or_default()
        }
    };
    if payload.len() > SIGNAL_BYTES {
        return Err(Problem::new(ErrorCode::PayloadTooLarge, format!("the payload has {} bytes", payload.len()))
            .field("payload")
            .limit(format!("{SIGNAL_BYTES} bytes")));
    }
    Ok(payload)
}

/// The job asks nobody yet: whose job it is, is known all the same, and the answer says itself what it is an answer to.
fn check_early(view: &JobView, ask: &SignalRequest, answer: &Answer) -> Result<(), Problem> {
    let requester = Envelope::read(&view.record.meta).ok().map(|envelope| format!("user:{}", envelope.actor.user_id));
    if requester.as_ref() == Some(&answer.by) {
        return Err(refused(NotAllowed::Requester, &answer.by, &BTreeSet::new()));
    }
    if ask.args_sha256.is_none() {
        return Err(Problem::invalid(
            "args_sha256",
            "the job does not ask for this yet: say to which arguments you answer",
        )
        .remedy("send the `args_sha256` of the job that was seen"));
    }
    Ok(())
}

fn answer(decision: Choice, args_sha256: String, ask: &SignalRequest) -> Result<Answer, Problem> {
    let actor = ask.actor.as_ref().filter(|actor| !actor.user_id.is_empty());
    let actor = actor.ok_or_else(|| {
        Problem::invalid("actor", "an answer is a person's").remedy("send `actor` with `user_id` and `roles`")
    })?;
    let by = format!("user:{}", actor.user_id);
    let role = |role| serde_json::to_value(role).ok().and_then(|v| Some(format!("role:{}", v.as_str()?)));
    let grants = [by.clone()].into_iter().chain(actor.roles.iter().filter_map(role)).collect();
    let (comment, payload) = (ask.comment.clone().unwrap_or_default(), ask.payload.clone());
    Ok(Answer { decision, by, grants, args_sha256, comment, payload })
}

fn refused(why: NotAllowed, by: &str, who: &BTreeSet<String>) -> Problem {
    let who = who.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match why {
        NotAllowed::Requester if who.is_empty() => {
            Problem::new(ErrorCode::NotYourOwn, format!("{by} asked for this job"))
                .field("actor")
                .remedy("let another decide")
        }
        NotAllowed::Requester => Problem::new(ErrorCode::NotYourOwn, format!("{by} asked for this job"))
            .field("actor")
            .remedy(format!("let another decide: one of {who}")),
        NotAllowed::NoGrant => Problem::new(ErrorCode::NotAnApprover, format!("{by} may not decide on this"))
            .field("actor")
            .limit(format!("one of: {who}")),
    }
}

/// What the history keeps: who said what to which wait.
fn told(caller: &Caller, name: &str, ask: &SignalRequest) -> Result<String, Problem> {
    if ask.comment.as_ref().is_some_and(|text| text.chars().count() > 500) {
        return Err(Problem::invalid("comment", "a comment has at most 500 characters").limit("500 characters"));
    }
    let mut told: Value =
        serde_json::from_str(&note(caller, ask.comment.clone(), ask.actor.as_ref())?).unwrap_or_default();
    told["signal"] = json!(name);
    if let Some(decision) = ask.decision {
        told["decision"] = json!(decision);
    }
    Ok(told.to_string())
}
