//! Undos that an attempt did not come by: they are left to the next, and are not lost.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use leasehold_engine::{
    Ctx, Effect, JobError, Place, Verdict,
    model::ErrorDocument,
    store::{Cancelled, Opening, Outcome},
    testing::{Actor, Lab},
};
use tokio::sync::Notify;

use crate::{
    claim_one, expect_place, settle,
    undo::{Stage, actor, drained, enqueue, error, make},
};

/// Makes `a`, fails once, and then fails before it comes to `a` again, until the undos are all that is left to do.
fn forgetful(stage: &Stage) -> Arc<Actor> {
    let runs = Arc::new(AtomicUsize::new(0));
    actor(stage, move |ctx, stage| {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        async move {
            if run == 1 {
                return Err(JobError::permanent("broke", "before it came to what it did"));
            }
            make(&ctx, &stage, "a", "").await?;
            Err(JobError::transient("again", "the first time"))
        }
    })
}

#[tokio::test]
async fn an_attempt_that_dies_before_it_comes_by_the_undos_leaves_them_to_the_next() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(forgetful(&stage)).await;
    lab.until(&id, Place::Scheduled).await;
    lab.at(60_000);
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(stage.did.all(), ["make a", "undo a Some(1)"]);
    assert_eq!(error(&job).code, "broke", "what it was undone for");
    assert!(!job.record.has_undo);
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_settlement_as_dead_or_cancelled_does_not_forget_the_undos() {
    for outcome in [Outcome::Dead, Outcome::Cancelled] {
        let lab = Lab::new().await;
        let stage = Stage::default();
        let id = enqueue(&lab).await;
        let (_, fence) = claim_one(&lab, "w").await;
        let book = Opening { undo: true, ..Opening::of(Effect::Idempotent) };
        lab.store.step_begin(&id, fence, "a", book).await.unwrap();
        lab.store.step_end(&id, fence, "a", b"1").await.unwrap();
        settle(&lab, &id, fence, outcome).await;
        expect_place(&lab, &id, Place::Ready).await;
        let actor = actor(&stage, |ctx, stage| async move {
            make(&ctx, &stage, "a", "").await?;
            make(&ctx, &stage, "b", "").await?;
            Ok(())
        });
        let worker = lab.quick_worker(actor).await;
        lab.until(&id, if outcome == Outcome::Dead { Place::Dead } else { Place::Cancelled }).await;
        assert_eq!(stage.did.all(), ["undo a Some(1)"]);
        drained(lab, worker).await;
    }
}

#[tokio::test]
async fn a_job_that_cancels_itself_takes_back_what_it_did_and_is_cancelled() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let play = stage.clone();
    let actor = Actor::new(move |ctx| {
        let stage = play.clone();
        async move {
            make(&ctx, &stage, "a", "").await?;
            Ok(Verdict::Cancel("nothing to do".to_owned()))
        }
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Cancelled).await;
    assert_eq!(stage.did.all(), ["make a", "undo a Some(1)"]);
    assert!(job.record.error.is_empty());
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_parked_job_that_is_cancelled_says_what_it_cannot_undo() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let version = Arc::new(AtomicUsize::new(0));
    let which = version.clone();
    let actor = actor(&stage, move |ctx, stage| {
        let version = which.load(Ordering::SeqCst);
        async move {
            if version > 0 {
                return ctx.step("another", Effect::Idempotent, || async { Ok(()) }).await;
            }
            make(&ctx, &stage, "a", "").await?;
            ctx.wait_signal("go", None).await.map(drop)
        }
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    version.store(1, Ordering::SeqCst);
    lab.store.signal(&id, "go", "", b"1", "").await.unwrap();
    lab.until(&id, Place::Blocked).await;
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
    let job = lab.until(&id, Place::Dead).await;
    let ErrorDocument { code, message, .. } = error(&job);
    assert_eq!(code, "undo_failed");
    assert!(message.contains("step `a` could not be undone") && message.contains("`another`"), "{message}");
    version.store(0, Ordering::SeqCst);
    lab.store.revive(&id, "").await.unwrap();
    lab.until(&id, Place::Cancelled).await;
    assert_eq!(stage.did.all(), ["make a", "undo a Some(1)"], "the code that knows it takes it back");
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_cancel_that_comes_while_a_job_is_parked_by_its_worker_is_not_lost() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let (runs, asks) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let asked = asks.clone();
    let actor = actor(&stage, move |ctx: Ctx, stage| {
        let (run, asked) = (runs.fetch_add(1, Ordering::SeqCst), asked.clone());
        async move {
            if run > 0 {
                ctx.step("another", Effect::Idempotent, || async { Ok(()) }).await.unwrap_err();
                asked.notify_one();
                // The cancel comes when the code was found to be another, and before that is settled.
                while !ctx.store().job(ctx.id()).await.unwrap().unwrap().record.cancel_requested {
                    tokio::task::yield_now().await;
                }
                return Err(JobError::transient("never", "it is parked whatever this is"));
            }
            make(&ctx, &stage, "a", "").await?;
            ctx.wait_signal("go", None).await.map(drop)
        }
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    lab.store.signal(&id, "go", "", b"1", "").await.unwrap();
    asks.notified().await;
    lab.store.cancel(&id, "", None).await.unwrap();
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(error(&job).code, "undo_failed");
    drained(lab, worker).await;
}
