//! Critical sections: cancel and shutdown wait for their end; a lost lease does not.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Ctx, Effect, JobError, JobId, Place, Verdict, Worker, WorkerOptions,
    store::Cancelled,
    testing::{Actor, Lab, Ledger},
};
use tokio::sync::Notify;

/// What a job says that never looks at its token: when it is dropped, the worker's patience is over.
const DEAF: &[u8] = b"deaf";

#[derive(Clone, Default)]
struct Stage {
    did: Ledger,
    inside: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Stage {
    /// Two steps that belong together; between them the test has its say.
    fn actor(&self) -> Arc<Actor> {
        let stage = self.clone();
        Actor::new(move |ctx| {
            let stage = stage.clone();
            async move {
                if &ctx.args()[..] == DEAF {
                    std::future::pending::<()>().await;
                }
                let both = |ctx: Ctx| async move {
                    ctx.step("drop", Effect::Idempotent, || async { stage.did.done("drop") }).await?;
                    stage.inside.notify_one();
                    stage.go_on.notified().await;
                    let deaf = !ctx.cancelled().is_cancelled();
                    ctx.step("make", Effect::Idempotent, || async { stage.did.done(format!("make {deaf}")) }).await
                };
                ctx.critical("swap", both).await?;
                ctx.step("after", Effect::Idempotent, || async { Ok(()) }).await?;
                Verdict::done("swapped")
            }
        })
    }
}

fn options() -> WorkerOptions {
    WorkerOptions { cancel_grace_ms: 50, abort_grace_ms: 50, renew_ms: 100, poll_ms: 10, ..WorkerOptions::default() }
}

/// A job that is running and hears nothing.
async fn deaf_job(lab: &Lab) -> JobId {
    let id = lab.enqueue(Actor::job(&lab.store, "deaf")).await;
    lab.until(&id, Place::Running).await;
    id
}

#[tokio::test]
async fn a_cancel_waits_for_the_end_of_a_critical_section() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let mut worker = Worker::start(&lab.store, stage.actor(), options()).await.unwrap();
    let deaf = deaf_job(&lab).await;
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    stage.inside.notified().await;
    for job in [&id, &deaf] {
        assert_eq!(lab.store.cancel(job, "", None).await.unwrap(), Cancelled::Requested);
    }
    lab.until(&deaf, Place::Cancelled).await;
    assert_eq!(lab.place(&id).await, Place::Running, "not dropped inside");
    stage.go_on.notify_one();
    lab.until(&id, Place::Cancelled).await;
    assert_eq!(stage.did.all(), ["drop", "make true"], "it came to its end, and nothing after it began");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_the_end_of_a_critical_section_and_hands_the_rest_back() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let mut worker = Worker::start(&lab.store, stage.actor(), options()).await.unwrap();
    let deaf = deaf_job(&lab).await;
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    stage.inside.notified().await;
    let stop = tokio::spawn(async move { worker.drain(Duration::ZERO).await });
    lab.until(&deaf, Place::Ready).await;
    lab.store.cancel(&deaf, "", None).await.unwrap();
    assert!(!stop.is_finished());
    assert_eq!(lab.place(&id).await, Place::Running, "not dropped inside");
    stage.go_on.notify_one();
    stop.await.unwrap();
    assert_eq!(stage.did.all(), ["drop", "make true"]);
    let record = lab.job(&id).await.record;
    assert_eq!((record.place, record.attempt), (Place::Ready, 0), "handed back, uncounted");
    stage.go_on.notify_one();
    let mut second = Worker::start(&lab.store, stage.actor(), options()).await.unwrap();
    lab.until(&id, Place::Succeeded).await;
    assert_eq!(stage.did.all().len(), 2, "its steps are not done again");
    second.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_lost_lease_stops_a_critical_section() {
    let mut lab = Lab::with_running_clock().await;
    let stage = Stage::default();
    // So long that no stall ends it before the section has begun.
    let options = WorkerOptions { lease_ms: 5000, renew_ms: 300, ..WorkerOptions::default() };
    let mut worker = Worker::start(&lab.store, stage.actor(), options).await.unwrap();
    lab.enqueue(Actor::job(&lab.store, "")).await;
    stage.inside.notified().await;
    lab.redis.kill();
    // Its patience is longer than the test's: what ends the section is the lease.
    let stopped = worker.drain(Duration::from_secs(60));
    tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("stopped without Redis");
    assert_eq!(stage.did.all(), ["drop"]);
    lab.redis.restart();
    lab.finish().await;
}

#[tokio::test]
async fn a_critical_section_is_not_entered_after_a_cancel() {
    let lab = Lab::new().await;
    let did = Ledger::default();
    let ledger = did.clone();
    let actor = Actor::new(move |ctx| {
        let did = ledger.clone();
        async move {
            ctx.store().cancel(ctx.id(), "", None).await.unwrap();
            let section = |_: Ctx| async move {
                did.write("inside");
                Ok::<_, JobError>(())
            };
            ctx.critical("swap", section).await?;
            Verdict::done("no")
        }
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Cancelled).await;
    assert!(did.all().is_empty());
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}
