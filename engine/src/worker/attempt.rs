//! One attempt, from its first poll to its settlement. Guards that whatever a kind does (returns, fails, panics, hangs) ends in one settlement or none.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::FutureExt;

use super::{ctx::Ctx, ending::conclude, leases::Why};
use crate::{
    model::{JobError, Verdict},
    store::{Said, StoreError},
};

/// A handler whose lease is lost gets this long to see its token.
const LOST_GRACE: Duration = Duration::from_secs(2);

/// How the handler came to an end.
pub(super) enum End {
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
    let settlement = conclude(&ctx, end).await;
    say(&ctx).await;
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
    // Said beside the handler, which goes on and is told of its stop however long the store takes to listen.
    let mut saying: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
    let mut told = tokio::time::interval(Duration::from_millis(200));
    told.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopped_at: Option<tokio::time::Instant> = None;
    loop {
        // A critical section is never dropped inside: the patience begins with its end.
        if stopped_at.is_some() && ctx.inner().lease.is_critical() {
            stopped_at = Some(tokio::time::Instant::now());
        }
        let patience = stopped_at.filter(|_| !ctx.inner().lease.is_critical()).map(|at| at + grace(ctx));
        tokio::select! {
            biased;
            result = &mut handler => {
                // What is on its way comes before the last words.
                if let Some(saying) = saying { in_time(ctx, saying).await; }
                return End::Returned(result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
            }
            () = token.cancelled(), if stopped_at.is_none() => stopped_at = Some(tokio::time::Instant::now()),
            () = tokio::time::sleep_until(patience.unwrap_or_else(tokio::time::Instant::now)), if patience.is_some() => return End::Dropped(ctx.inner().lease.why()),
            () = async { if let Some(saying) = &mut saying { saying.await } }, if saying.is_some() => saying = None,
            _ = told.tick(), if saying.is_none() => saying = ctx.inner().mouth.take().map(|said| Box::pin(tell(ctx, said)) as _),
        }
    }
}

fn grace(ctx: &Ctx) -> Duration {
    match ctx.inner().lease.why() {
        Why::Lost => LOST_GRACE,
        Why::Abort => Duration::from_millis(ctx.inner().shared.options.abort_grace_ms),
        Why::Cancel | Why::Nothing => Duration::from_millis(ctx.inner().shared.options.cancel_grace_ms),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> JobError {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    JobError::transient("panicked", format!("the kind panicked: {}", text.unwrap_or_default()))
}

/// The last words.
async fn say(ctx: &Ctx) {
    if let Some(said) = ctx.inner().mouth.take() {
        in_time(ctx, tell(ctx, said)).await;
    }
}

async fn tell(ctx: &Ctx, said: Said) {
    if let Err(error) = ctx.inner().shared.store.progress(ctx.id(), ctx.fence(), &said).await {
        tracing::warn!(job = %ctx.id(), code = error.code(), %error, "progress was not kept");
        // A Redis that restarts has it in a moment.
        if matches!(error, StoreError::Unreachable(_)) {
            ctx.inner().mouth.put_back(said);
        }
    }
}

/// Words are worth less than a worker's end: one that stops, or has lost its lease, waits no longer than this for them.
async fn in_time(ctx: &Ctx, saying: impl Future<Output = ()>) {
    let stopped = async {
        ctx.inner().lease.stopped().cancelled().await;
        tokio::time::sleep(LOST_GRACE).await;
    };
    tokio::select! {
        biased;
        () = saying => {}
        () = stopped => {}
    }
}
