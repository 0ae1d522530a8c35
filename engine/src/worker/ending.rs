//! How an attempt's end becomes its settlement. Guards that each end is one settlement, or none when another holds the job.

use std::time::Duration;

use super::{
    attempt::End,
    ctx::{Ctx, Ended, Suspension},
    leases::Why,
    unwind,
};
use crate::{
    model::{CodeChanged, ErrorDocument, JobError, Recovery, Verdict},
    store::{Outcome, Settlement},
};

/// Characters of an error's text in an event's note; a character takes at most six bytes there, and a note 4 KiB.
const NOTE_CHARS: usize = 500;

/// What to tell the store; `None` when another holds the job and nothing may be said.
pub(super) async fn conclude(ctx: &Ctx, end: End) -> Option<Settlement> {
    let verdict = match end {
        End::Returned(verdict) => checked(ctx, verdict).await,
        // A run that leads to the undos and does not get there is tried again.
        End::Dropped(Why::Cancel) if ctx.is_unwinding() => Err(stopped(Recovery::Retry)),
        End::Dropped(Why::Cancel) => Err(stopped(Recovery::Cancelled)),
        End::Dropped(_) => Err(stopped(Recovery::Lost)),
    };
    let why = ctx.inner().lease.why();
    if why == Why::Lost {
        return None;
    }
    // A job that was to be cancelled is not parked: what cannot be taken back is told.
    let parks = matches!(&verdict, Err(e) if e.recovery == Recovery::Park) && !ctx.record().cancel_requested;
    if ctx.is_unwinding() && !parks {
        return unwind::resume(ctx, verdict).await;
    }
    let settlement = settlement(ctx, verdict, why)?;
    let is_over = matches!(settlement.outcome, Outcome::Dead | Outcome::Cancelled);
    // A run that did not come by all undos leaves them to the next: the store gives it to a worker once more.
    if is_over && ctx.has_undos() && unwind::knows_all(ctx).await {
        return unwind::begin(ctx, settlement).await;
    }
    Some(settlement)
}

fn stopped(recovery: Recovery) -> JobError {
    JobError::transient("stopped", "the attempt was told to stop and did not end in time").with(recovery)
}

/// The verdict, unless it is that of code that did not write the journal.
async fn checked(ctx: &Ctx, verdict: Result<Verdict, JobError>) -> Result<Verdict, JobError> {
    match ctx.ended(&verdict).await {
        Ok(Ended::Well) => verdict,
        Ok(Ended::Changed(changed)) => Err(parked(&changed)),
        Err(error) => Err(error),
    }
}

fn parked(changed: &CodeChanged) -> JobError {
    JobError::permanent("code_changed", changed.to_string()).with(Recovery::Park)
}

fn settlement(ctx: &Ctx, verdict: Result<Verdict, JobError>, why: Why) -> Option<Settlement> {
    let suspension = ctx.taken_suspension();
    match (verdict, suspension) {
        // Code that made nothing of a wait is suspended all the same.
        (Err(JobError { recovery: Recovery::Suspend, .. }) | Ok(Verdict::Done(_)), Some(waits)) => {
            Some(suspended(ctx, &waits))
        }
        (Ok(verdict), _) => Some(of_verdict(ctx, verdict)),
        (Err(error), _) => of_error(ctx, &error, why),
    }
}

fn suspended(ctx: &Ctx, waits: &Suspension) -> Settlement {
    let mut settlement = blank(ctx, if waits.may_be_woken { Outcome::Wait } else { Outcome::Sleep });
    settlement.wait_ms = waits.until.unsigned_abs();
    if settlement.note.is_empty() {
        settlement.note = serde_json::json!({ "waits_in": waits.about }).to_string().into_bytes();
    }
    settlement
}

pub(super) fn blank(ctx: &Ctx, outcome: Outcome) -> Settlement {
    let note = ctx.taken_note().map(|n| n.to_string().into_bytes()).unwrap_or_default();
    Settlement {
        id: ctx.id().clone(),
        fence: ctx.fence(),
        outcome,
        wait_ms: 0,
        result: Vec::new(),
        error: Vec::new(),
        note,
    }
}

fn of_verdict(ctx: &Ctx, verdict: Verdict) -> Settlement {
    match verdict {
        Verdict::Done(result) => {
            let bytes = if result.is_null() { Vec::new() } else { result.to_string().into_bytes() };
            let limit = ctx.inner().shared.options.max_result_bytes;
            if bytes.len() > limit {
                let text =
                    format!("the result has {} bytes; at most {limit} are kept (worker.max_result_bytes)", bytes.len());
                return failed(ctx, Outcome::Dead, &JobError::permanent("result_too_large", text), 0);
            }
            Settlement { result: bytes, ..blank(ctx, Outcome::Done) }
        }
        Verdict::Snooze { until, reason } => {
            let mut settlement = blank(ctx, Outcome::Snooze);
            // The instant itself: jobs that are put off to one instant are due together, and go in the order in which
            // they were taken in. As a delay, each would be due a little off, in any order.
            settlement.wait_ms = until.max(0).unsigned_abs();
            if settlement.note.is_empty() {
                settlement.note = serde_json::json!({ "reason": reason }).to_string().into_bytes();
            }
            settlement
        }
        Verdict::Cancel(reason) => Settlement {
            note: serde_json::json!({ "reason": reason }).to_string().into_bytes(),
            ..blank(ctx, Outcome::Cancelled)
        },
    }
}

/// From now to an instant of the store's clock, ms; 0 when it is past.
pub(super) fn ms_until(ctx: &Ctx, until: crate::model::UnixMs) -> u64 {
    let (then, at) = ctx.inner().claimed;
    let now = then + at.elapsed().as_millis() as i64;
    (until - now).max(0).unsigned_abs()
}

fn of_error(ctx: &Ctx, error: &JobError, why: Why) -> Option<Settlement> {
    let record = ctx.record();
    tracing::info!(job = %record.id, kind = record.kind, attempt = record.attempt, code = error.code, error = error.text, "attempt failed");
    let may_retry = record.retry.allows_after(record.attempt);
    let again = |fixed| {
        let wait_ms = delay_ms(ctx, record.attempt, fixed);
        match may_retry {
            true => failed(ctx, Outcome::Retry, error, wait_ms),
            // A closing run that could not find out does not say that nothing happened.
            false if ctx.is_closing() => failed(ctx, Outcome::Unknown, error, 0),
            false => failed(ctx, Outcome::Dead, error, 0),
        }
    };
    match error.recovery {
        Recovery::Lost if why == Why::Abort => Some(blank(ctx, Outcome::Release)),
        Recovery::Lost => None,
        // Heard only when the store is back: that is delay enough.
        Recovery::Away => Some(blank(ctx, Outcome::Release)),
        Recovery::Park => Some(set_aside(ctx, error)),
        Recovery::Cancelled if why == Why::Abort => Some(blank(ctx, Outcome::Release)),
        Recovery::Cancelled => Some(blank(ctx, Outcome::Cancelled)),
        _ if why == Why::Abort => Some(blank(ctx, Outcome::Release)),
        Recovery::Give => Some(failed(ctx, Outcome::Dead, error, 0)),
        Recovery::Doubt => Some(failed(ctx, Outcome::Unknown, error, 0)),
        // What ran is not to blame for an outage of the store, and with no attempt left its outcome would be lost.
        Recovery::Retry if !may_retry && error.code == "storage_unavailable" => Some(blank(ctx, Outcome::Release)),
        Recovery::Retry | Recovery::Suspend => Some(again(None)),
        Recovery::RetryAfter(wait) => Some(again(Some(wait))),
    }
}

/// How long until the attempt after `attempt`.
pub(super) fn delay_ms(ctx: &Ctx, attempt: u16, fixed: Option<Duration>) -> u64 {
    fixed.map_or_else(|| ctx.record().retry.delay_ms(attempt, rand::random()), |d| d.as_millis() as u64)
}

/// Parked: blocked until a person, or a version that fits, takes it on.
fn set_aside(ctx: &Ctx, error: &JobError) -> Settlement {
    tracing::warn!(job = %ctx.id(), kind = ctx.kind(), reason = error.text, "the job was begun by other code and is parked");
    Settlement {
        error: format!("c {}", ctx.kind()).into_bytes(),
        note: serde_json::json!({ "reason": "code_changed", "detail": error.text }).to_string().into_bytes(),
        ..blank(ctx, Outcome::Park)
    }
}

pub(super) fn failed(ctx: &Ctx, outcome: Outcome, error: &JobError, wait_ms: u64) -> Settlement {
    let mut settlement = blank(ctx, outcome);
    settlement.wait_ms = wait_ms;
    settlement.error = ErrorDocument::new(error).pack();
    if settlement.note.is_empty() {
        settlement.note = told(error);
    }
    settlement
}

/// What the event says of an error: notes are short, and the whole text is in the job's error.
fn told(error: &JobError) -> Vec<u8> {
    let message: String = error.text.chars().take(NOTE_CHARS).collect();
    serde_json::json!({ "code": error.code, "message": message }).to_string().into_bytes()
}
