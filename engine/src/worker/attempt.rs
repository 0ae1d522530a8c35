//! One attempt, from its first poll to its settlement. Guards that whatever a kind does (returns, fails, panics, hangs) ends in one settlement or none.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::FutureExt;

use super::{ctx::Ctx, leases::Why};
use crate::{
    model::{ErrorDocument, JobError, Recovery, Verdict},
    store::{Outcome, Settlement},
};

/// A handler whose lease is lost gets this long to see its token.
const LOST_GRACE: Duration = Duration::from_secs(2);
/// A handler of a worker that aborts gets this long.
const ABORT_GRACE: Duration = Duration::from_secs(2);

/// How the handler came to an end.
enum End {
    Returned(Result<Verdict, JobError>),
    Dropped(Why),
}

/// Runs the attempt and sends its settlement.
pub(crate) async fn run(ctx: Ctx) {
    let began = Instant::now();
    let shared = ctx.inner().shared.clone();
    let record = ctx.record();
    if let Some(observer) = &shared.options.observer {
        let late = (ctx.inner().claimed.0 - record.run_at).max(0).unsigned_abs();
        observer.started(&record.kind, &record.queue, late);
    }
    let guard = Ended { ctx: ctx.clone(), settled: AtomicBool::new(false) };
    let end = watch(&ctx).await;
    say(&ctx).await;
    let settlement = settlement(&ctx, end);
    ctx.inner().lease.settle();
    let outcome = settlement.as_ref().map_or("lost", |s| s.outcome.as_str());
    if let Some(observer) = &shared.options.observer {
        observer.ended(&record.kind, outcome, began.elapsed().as_millis() as u64);
    }
    tracing::debug!(job = %record.id, kind = record.kind, attempt = record.attempt, outcome, "attempt ended");
    guard.settled.store(true, Ordering::SeqCst);
    match settlement {
        Some(settlement) => drop(shared.endings.send(settlement)),
        None => shared.leases.release(&record.id),
    }
}

/// An attempt that is dropped before it settled lets its lease run out, so that the job is rescued.
struct Ended {
    ctx: Ctx,
    settled: AtomicBool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::SeqCst) {
            self.ctx.inner().shared.leases.release(self.ctx.id());
        }
    }
}

async fn watch(ctx: &Ctx) -> End {
    let runner = ctx.inner().shared.runner.clone();
    let job = ctx.clone();
    let handler = std::panic::AssertUnwindSafe(async move { runner.run(&job).await }).catch_unwind();
    tokio::pin!(handler);
    let token = ctx.cancelled();
    let mut told = tokio::time::interval(Duration::from_millis(200));
    told.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopped_at: Option<tokio::time::Instant> = None;
    loop {
        let patience = stopped_at.map(|at| at + grace(ctx));
        tokio::select! {
            biased;
            result = &mut handler => return End::Returned(result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))),
            () = token.cancelled(), if stopped_at.is_none() => stopped_at = Some(tokio::time::Instant::now()),
            () = tokio::time::sleep_until(patience.unwrap_or_else(tokio::time::Instant::now)), if patience.is_some() => return End::Dropped(ctx.inner().lease.why()),
            _ = told.tick() => say(ctx).await,
        }
    }
}

fn grace(ctx: &Ctx) -> Duration {
    match ctx.inner().lease.why() {
        Why::Lost => LOST_GRACE,
        Why::Abort => ABORT_GRACE,
        Why::Cancel | Why::Nothing => Duration::from_millis(ctx.inner().shared.options.cancel_grace_ms),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> JobError {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    JobError::transient("panicked", format!("the kind panicked: {}", text.unwrap_or_default()))
}

async fn say(ctx: &Ctx) {
    if let Some(said) = ctx.inner().mouth.take()
        && let Err(error) = ctx.inner().shared.store.progress(ctx.id(), ctx.fence(), &said).await
    {
        tracing::warn!(job = %ctx.id(), code = error.code(), %error, "progress was not kept");
    }
}

/// What to tell the store; `None` when another holds the job and nothing may be said.
fn settlement(ctx: &Ctx, end: End) -> Option<Settlement> {
    let why = ctx.inner().lease.why();
    if why == Why::Lost {
        return None;
    }
    match end {
        End::Returned(Ok(verdict)) => Some(of_verdict(ctx, verdict)),
        End::Returned(Err(error)) => of_error(ctx, &error, why),
        End::Dropped(Why::Cancel) => Some(blank(ctx, Outcome::Cancelled)),
        End::Dropped(_) => Some(blank(ctx, Outcome::Release)),
    }
}

fn blank(ctx: &Ctx, outcome: Outcome) -> Settlement {
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
            let (then, at) = ctx.inner().claimed;
            let now = then + at.elapsed().as_millis() as i64;
            let mut settlement = blank(ctx, Outcome::Snooze);
            settlement.wait_ms = (until - now).max(0).unsigned_abs();
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

fn of_error(ctx: &Ctx, error: &JobError, why: Why) -> Option<Settlement> {
    let record = ctx.record();
    tracing::info!(job = %record.id, kind = record.kind, attempt = record.attempt, code = error.code, error = error.text, "attempt failed");
    let may_retry = record.retry.allows_after(record.attempt);
    let delay = |fixed: Option<Duration>| {
        fixed.map_or_else(|| record.retry.delay_ms(record.attempt, rand::random()), |d| d.as_millis() as u64)
    };
    let again = |fixed| {
        if may_retry { failed(ctx, Outcome::Retry, error, delay(fixed)) } else { failed(ctx, Outcome::Dead, error, 0) }
    };
    match error.recovery {
        Recovery::Lost if why == Why::Abort => Some(blank(ctx, Outcome::Release)),
        Recovery::Lost => None,
        Recovery::Cancelled if why == Why::Abort => Some(blank(ctx, Outcome::Release)),
        Recovery::Cancelled => Some(blank(ctx, Outcome::Cancelled)),
        _ if why == Why::Abort => Some(blank(ctx, Outcome::Release)),
        Recovery::Give => Some(failed(ctx, Outcome::Dead, error, 0)),
        Recovery::Doubt => Some(failed(ctx, Outcome::Unknown, error, 0)),
        Recovery::Retry => Some(again(None)),
        Recovery::RetryAfter(wait) => Some(again(Some(wait))),
    }
}

fn failed(ctx: &Ctx, outcome: Outcome, error: &JobError, wait_ms: u64) -> Settlement {
    let document = ErrorDocument {
        code: error.code.clone(),
        message: error.text.chars().take(8000).collect(),
        retryable: error.recovery != Recovery::Give,
    };
    let mut settlement = blank(ctx, outcome);
    settlement.wait_ms = wait_ms;
    settlement.error = serde_json::to_vec(&document).unwrap_or_default();
    if settlement.note.is_empty() {
        settlement.note = serde_json::json!({ "code": error.code }).to_string().into_bytes();
    }
    settlement
}
