//! The way back: undos in reverse, each a journaled step. Guards that a job is dead or cancelled only when all is taken back,
//! or when an undo failed for good.

use super::{
    ctx::{Ctx, Undo},
    ending::{blank, delay_ms, failed, ms_until},
};
use crate::{
    model::{ErrorDocument, JobError, Recovery, Verdict},
    store::{Outcome, Settlement},
};

/// What the job is undone for.
struct Cause {
    /// The error document; empty for a cancel.
    failure: Vec<u8>,
    note: Vec<u8>,
    /// Attempts at the undos, this one included.
    attempt: u16,
}

/// The job ends as `ending` says: first, what it did is taken back.
pub(super) async fn begin(ctx: &Ctx, ending: Settlement) -> Option<Settlement> {
    let cause = Cause { failure: ending.error, note: ending.note, attempt: 1 };
    match ctx.undo_begin(&cause.failure).await {
        Ok(()) => take_back(ctx, &cause).await,
        Err(error) => interrupted(ctx, &cause, &error),
    }
}

/// A run that only led to the undos has ended: they go on where they were.
pub(super) async fn resume(ctx: &Ctx, verdict: Result<Verdict, JobError>) -> Option<Settlement> {
    let record = ctx.record();
    let cause = match record.undoing {
        true => Cause { failure: first_failure(&record.error), note: Vec::new(), attempt: record.attempt },
        false => Cause { failure: Vec::new(), note: Vec::new(), attempt: 1 },
    };
    if !record.undoing
        && let Err(error) = ctx.undo_begin(&[]).await
    {
        return interrupted(ctx, &cause, &error);
    }
    match verdict {
        // What is to be undone must wait for who knows whether the step happened.
        Err(error) if error.recovery == Recovery::Doubt => Some(failed(ctx, Outcome::Unknown, &error, 0)),
        Ok(Verdict::Snooze { until, .. }) if !knows_all(ctx).await => {
            Some(Settlement { wait_ms: ms_until(ctx, until), error: cause.failure, ..blank(ctx, Outcome::Retry) })
        }
        Err(error) if is_interrupted(&error) => interrupted(ctx, &cause, &error),
        Err(error) if error.recovery != Recovery::Cancelled && !knows_all(ctx).await => {
            Some(not_undone(ctx, &cause, &left(ctx).await, &error))
        }
        _ => take_back(ctx, &cause).await,
    }
}

/// What the job is undone for. Of one that was dead because an undo failed, that is the failure before: when the undo comes
/// off after all, the job does not say that it failed.
fn first_failure(kept: &[u8]) -> Vec<u8> {
    match ErrorDocument::read(kept) {
        Some(last) if last.code == ErrorDocument::UNDO_FAILED => last.cause.map_or_else(Vec::new, |first| first.pack()),
        _ => kept.to_vec(),
    }
}

/// Whether this run came by the undos of all that was done.
pub(super) async fn knows_all(ctx: &Ctx) -> bool {
    ctx.missing_undos(&ctx.known_undos()).await.is_ok_and(|missing| missing.is_empty())
}

/// The steps that stay as they are, for people.
async fn left(ctx: &Ctx) -> String {
    match ctx.missing_undos(&[]).await {
        Ok(missing) if missing.len() == 1 => format!("step `{}`", missing[0]),
        Ok(missing) if !missing.is_empty() => format!("steps `{}`", missing.join("`, `")),
        _ => "the steps".to_owned(),
    }
}

async fn take_back(ctx: &Ctx, cause: &Cause) -> Option<Settlement> {
    let undos = ctx.taken_undos();
    let known: Vec<String> = undos.iter().map(|undo| undo.step.clone()).collect();
    match ctx.missing_undos(&known).await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => {
            let text = format!("this version does not say how to undo {}", missing.join(", "));
            return Some(not_undone(ctx, cause, "the steps", &JobError::permanent("undo_unknown", text)));
        }
        Err(error) if is_interrupted(&error) => return interrupted(ctx, cause, &error),
        Err(error) => return Some(not_undone(ctx, cause, "the steps", &error)),
    }
    for undo in undos {
        let step = undo.step.clone();
        if let Err(error) = one(ctx, undo).await {
            return match is_interrupted(&error) {
                true => interrupted(ctx, cause, &error),
                false => Some(not_undone(ctx, cause, &format!("step `{step}`"), &error)),
            };
        }
    }
    Some(Settlement { error: cause.failure.clone(), note: cause.note.clone(), ..blank(ctx, Outcome::Undone) })
}

async fn one(ctx: &Ctx, undo: Undo) -> Result<(), JobError> {
    ctx.log(format!("undo {}", undo.step));
    ctx.undo(undo).await
}

fn is_interrupted(error: &JobError) -> bool {
    matches!(error.recovery, Recovery::Lost | Recovery::Away)
}

/// The worker stops, or the store could not be asked: another claim goes on.
fn interrupted(ctx: &Ctx, cause: &Cause, error: &JobError) -> Option<Settlement> {
    let lost = error.recovery == Recovery::Lost && !ctx.inner().lease.is_aborting();
    (!lost).then(|| Settlement { error: cause.failure.clone(), ..blank(ctx, Outcome::Release) })
}

/// Tried again by the job's rule; then dead, and a person has to look.
fn not_undone(ctx: &Ctx, cause: &Cause, what: &str, error: &JobError) -> Settlement {
    tracing::warn!(job = %ctx.id(), kind = ctx.kind(), code = error.code, error = error.text, "{what} could not be undone");
    let fixed = match error.recovery {
        Recovery::Retry => Some(None),
        Recovery::RetryAfter(wait) => Some(Some(wait)),
        _ => None,
    };
    match fixed.filter(|_| ctx.record().retry.allows_after(cause.attempt)) {
        Some(fixed) => {
            let wait_ms = delay_ms(ctx, cause.attempt, fixed);
            Settlement { error: cause.failure.clone(), ..failed(ctx, Outcome::Retry, error, wait_ms) }
        }
        None => {
            let first = ErrorDocument::read(&cause.failure);
            let why = first.as_ref().map_or_else(
                || "the job was cancelled".to_owned(),
                |first| format!("the job had failed ({}: {})", first.code, first.message),
            );
            let text = format!("{what} could not be undone: {error}; {why}");
            let last = JobError::permanent(ErrorDocument::UNDO_FAILED, text);
            let document = ErrorDocument { cause: first.map(Box::new), ..ErrorDocument::new(&last) };
            Settlement { error: document.pack(), ..failed(ctx, Outcome::Dead, &last, 0) }
        }
    }
}
