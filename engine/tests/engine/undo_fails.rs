//! Undos that do not come off: tried again, and told when they fail for good.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Ctx, Effect, JobError, Place,
    model::ErrorDocument,
    store::Revived,
    testing::{Actor, Lab},
};

use crate::undo::{Stage, actor, drained, enqueue, error, make};

#[tokio::test]
async fn an_undo_that_fails_for_a_while_is_tried_again_and_the_first_failure_stays() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let actor = actor(&stage, |ctx, stage| async move {
        make(&ctx, &stage, "a", "").await?;
        make(&ctx, &stage, "b", "slow").await?;
        Err(JobError::permanent("broke", "at the end"))
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Scheduled).await;
    lab.at(60_000);
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(error(&job).code, "broke");
    assert_eq!(stage.did.all()[2..], ["undo b failed", "undo b Some(1)", "undo a Some(1)"]);
    drained(lab, worker).await;
}

/// Fails or is cancelled when the step `b` is done, whose undo does not come off until the stage is `mended`.
fn stuck(stage: &Stage, cancelled: bool) -> Arc<Actor> {
    actor(stage, move |ctx, stage| async move {
        make(&ctx, &stage, "a", "").await?;
        make(&ctx, &stage, "b", "stuck").await?;
        if cancelled {
            ctx.store().cancel(ctx.id(), "", None).await.unwrap();
            make(&ctx, &stage, "c", "").await?;
        }
        Err(JobError::permanent("broke", "at the end"))
    })
}

#[tokio::test]
async fn an_undo_that_fails_for_good_leaves_a_dead_job_that_says_so() {
    for cancelled in [true, false] {
        let lab = Lab::new().await;
        let stage = Stage::default();
        let id = enqueue(&lab).await;
        let worker = lab.quick_worker(stuck(&stage, cancelled)).await;
        let job = lab.until(&id, Place::Dead).await;
        let error = error(&job);
        assert_eq!(error.code, "undo_failed");
        let why = if cancelled { "the job was cancelled" } else { "the job had failed (broke: at the end)" };
        assert!(error.message.contains("step `b`") && error.message.contains(why), "{}", error.message);
        assert_eq!(stage.did.all(), ["make a", "make b"], "what stands on what is stuck is left");
        drained(lab, worker).await;
    }
}

#[tokio::test]
async fn an_undo_that_comes_off_after_a_revive_ends_with_the_first_failure() {
    for cancelled in [true, false] {
        let lab = Lab::new().await;
        let stage = Stage::default();
        let id = enqueue(&lab).await;
        let worker = lab.quick_worker(stuck(&stage, cancelled)).await;
        let dead = lab.until(&id, Place::Dead).await;
        let cause = error(&dead).cause.map(|first| first.code);
        assert_eq!(cause.as_deref(), (!cancelled).then_some("broke"));
        stage.did.write("mended");
        assert_eq!(lab.store.revive(&id, "").await.unwrap(), Revived::Ok(Place::Ready));
        let (place, left) = if cancelled { (Place::Cancelled, None) } else { (Place::Dead, Some("broke".to_owned())) };
        let job = lab.until(&id, place).await;
        assert_eq!(ErrorDocument::read(&job.record.error).map(|error| error.code), left);
        assert_eq!(stage.did.all()[3..], ["undo b Some(1)", "undo a Some(1)"]);
        drained(lab, worker).await;
    }
}

#[tokio::test]
async fn a_version_that_does_not_know_an_undo_says_so() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let first = actor(&stage, |ctx, stage| async move {
        make(&ctx, &stage, "a", "").await?;
        ctx.sleep("night", Duration::from_secs(3600)).await
    });
    let id = enqueue(&lab).await;
    let mut worker = lab.quick_worker(first).await;
    lab.until(&id, Place::Scheduled).await;
    worker.drain(Duration::from_secs(5)).await;
    let second = actor(&stage, |ctx, _| async move {
        ctx.step("a", Effect::Idempotent, || async { Ok(1) }).await?;
        ctx.sleep("night", Duration::from_secs(3600)).await
    });
    let worker = lab.quick_worker(second).await;
    lab.store.cancel(&id, "", None).await.unwrap();
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(error(&job).code, "undo_failed");
    assert!(error(&job).message.contains("does not say how to undo a"), "{}", error(&job).message);
    drained(lab, worker).await;
}

#[tokio::test]
async fn an_undo_has_no_steps() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        let undo =
            |ctx: Ctx, _: Option<u32>| async move { ctx.step("inside", Effect::Idempotent, || async { Ok(()) }).await };
        ctx.step_with_undo("a", Effect::Idempotent, || async { Ok(1_u32) }, undo).await?;
        Err(JobError::permanent("broke", "at the end"))
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    let error = error(&lab.until(&id, Place::Dead).await);
    assert!(error.code == "undo_failed" && error.message.contains("undo_with_steps"), "{error:?}");
    drained(lab, worker).await;
}
