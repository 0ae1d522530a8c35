//! For each way out of a place: the store makes what `next()` says.

use std::time::Duration;

use leasehold_engine::{
    Ctx, Effect, JobId, NewJob, Place, Resource, Verdict,
    model::{CAUSES, Cause, next},
    store::{Cancelled, Opening, Outcome, Resolution, Settled, Settlement},
    testing::{Actor, Lab, Puppet},
};

use crate::{claim_one, ending, expect_place, settle};

const HELD: &str = "dc:1";

async fn with_resource(lab: &Lab) -> JobId {
    let mut job = Puppet::job(&lab.store, "done");
    job.resources = vec![Resource::exclusive(HELD)];
    lab.enqueue(job).await
}

async fn planned(lab: &Lab, resource: bool) -> JobId {
    let mut job: NewJob = Puppet::job(&lab.store, "done");
    job.run_at = Some(leasehold_engine::testing::NOON + 1000);
    job.resources = resource.then(|| Resource::exclusive(HELD)).into_iter().collect();
    lab.enqueue(job).await
}

/// Does a step that can be undone, then waits or sleeps as it is told.
fn actor() -> std::sync::Arc<Actor> {
    Actor::new(|ctx| async move {
        let undo = |_: Ctx, _: Option<u32>| async { Ok(()) };
        ctx.step_with_undo("take out", Effect::Idempotent, || async { Ok(1_u32) }, undo).await?;
        match &ctx.args()[..] {
            b"wait" => drop(ctx.wait_signal("go", None).await?),
            _ => ctx.sleep("nap", Duration::from_secs(3600)).await?,
        }
        Verdict::done("went on")
    })
}

/// Lets a worker run the job until it is in `place`.
async fn run_until(lab: &Lab, id: &JobId, place: Place) {
    let mut worker = lab.quick_worker(actor()).await;
    lab.until(id, place).await;
    worker.drain(Duration::from_secs(5)).await;
}

/// Brings a job into `place` by an actor's attempt.
async fn suspended(lab: &Lab, place: Place) -> JobId {
    let says = if place == Place::Waiting { "wait" } else { "sleep" };
    let id = lab.enqueue(Actor::job(&lab.store, says)).await;
    run_until(lab, &id, if place == Place::Waiting { place } else { Place::Scheduled }).await;
    if place == Place::Blocked {
        lab.store.gate_set("k actor", b"{}").await.unwrap();
        lab.at(3_600_000);
        assert!(crate::claim(lab, "w", 1).await.jobs.is_empty(), "its kind is paused");
    }
    id
}

/// A job that is due a second before its time, by a clock that is a second fast. A ready one is put back if it is destructive.
async fn due_too_early(lab: &Lab, place: Place) -> JobId {
    let run_at = Some(leasehold_engine::testing::NOON + 1000);
    let id =
        lab.enqueue(NewJob { run_at, destructive: place == Place::Ready, ..Puppet::job(&lab.store, "done") }).await;
    lab.at(1000);
    lab.store.promote(0, 10).await.unwrap();
    if place == Place::Blocked {
        lab.store.gate_set("k puppet", b"{}").await.unwrap();
        assert!(crate::claim(lab, "w", 1).await.jobs.is_empty(), "its kind is paused");
    }
    lab.at(0);
    id
}

/// Brings a job into `place`, from where `by` can move it.
async fn bring(lab: &Lab, place: Place, by: Cause) -> JobId {
    let id = match place {
        Place::Running if matches!(by, Cause::CancelAndUndo | Cause::FailAndUndo) => {
            let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
            let (_, fence) = claim_one(lab, "w").await;
            let how = Opening { undo: true, ..Opening::of(Effect::Idempotent) };
            lab.store.step_begin(&id, fence, "take out", how).await.unwrap();
            return id;
        }
        _ if by == Cause::CancelAndUndo => suspended(lab, place).await,
        Place::Blocked | Place::Ready if by == Cause::PutBack => due_too_early(lab, place).await,
        Place::Scheduled => planned(lab, false).await,
        Place::Blocked => {
            with_resource(lab).await;
            with_resource(lab).await
        }
        Place::Ready => lab.enqueue(Puppet::job(&lab.store, "done")).await,
        Place::Waiting => suspended(lab, place).await,
        Place::Running if by == Cause::Suspend => return lab.enqueue(Actor::job(&lab.store, "wait")).await,
        _ => {
            let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
            let (_, fence) = claim_one(lab, "w").await;
            let outcome = match place {
                Place::Running => return id,
                Place::Succeeded => Outcome::Done,
                Place::Cancelled => Outcome::Cancelled,
                Place::Dead => Outcome::Dead,
                _ => Outcome::Unknown,
            };
            if by == Cause::ResolveAndCancel {
                lab.store.cancel(&id, "", None).await.unwrap();
            }
            settle(lab, &id, fence, outcome).await;
            id
        }
    };
    expect_place(lab, &id, place).await;
    id
}

async fn cause(lab: &Lab, id: &JobId, cause: Cause) {
    let fence = lab.job(id).await.record.fence;
    let settled = match cause {
        Cause::Done => Outcome::Done,
        Cause::Postpone => Outcome::Retry,
        Cause::Fail | Cause::FailAndUndo => Outcome::Dead,
        Cause::Release => Outcome::Release,
        Cause::Doubt => Outcome::Unknown,
        Cause::Park => {
            let park = Settlement { error: b"c puppet".to_vec(), ..ending(id, fence, Outcome::Park) };
            assert_eq!(lab.store.settle(0, &[park]).await.unwrap(), [Settled::Ok]);
            return;
        }
        Cause::Suspend => return run_until(lab, id, Place::Waiting).await,
        _ => return cause_otherwise(lab, id, cause).await,
    };
    settle(lab, id, fence, settled).await;
}

async fn cause_otherwise(lab: &Lab, id: &JobId, cause: Cause) {
    match cause {
        Cause::Due | Cause::DueButHeld => {
            lab.at(1000);
            lab.store.promote(0, 10).await.unwrap();
        }
        Cause::Freed => {
            let (holder, fence) = claim_one(lab, "w").await;
            settle(lab, &holder, fence, Outcome::Done).await;
        }
        Cause::PutBack => {
            lab.store.gate_remove("k puppet").await.unwrap();
            assert!(crate::claim(lab, "w", 1).await.jobs.is_empty(), "its time is still to come");
        }
        Cause::Claim => {
            claim_one(lab, "w").await;
        }
        Cause::SetAside => {
            lab.store.gate_set("k puppet", b"{}").await.unwrap();
            assert!(crate::claim(lab, "w", 1).await.jobs.is_empty(), "its kind is paused");
        }
        Cause::Wake => {
            lab.store.signal(id, "go", "", b"1", "").await.unwrap();
        }
        Cause::CancelAndUndo if lab.place(id).await == Place::Running => {
            let fence = lab.job(id).await.record.fence;
            lab.store.cancel(id, "", None).await.unwrap();
            settle(lab, id, fence, Outcome::Cancelled).await;
        }
        Cause::CancelAndUndo => assert_eq!(lab.store.cancel(id, "", None).await.unwrap(), Cancelled::Requested),
        Cause::Cancel if lab.place(id).await == Place::Waiting => {
            // Without an undo a waiting job would be cancelled at once; this one is, by the worker that undoes it.
            lab.store.cancel(id, "", None).await.unwrap();
            run_until(lab, id, Place::Cancelled).await;
        }
        Cause::Cancel => {
            lab.store.cancel(id, "", None).await.unwrap();
            let record = lab.job(id).await.record;
            if record.place == Place::Running {
                settle(lab, id, record.fence, Outcome::Cancelled).await;
            }
        }
        Cause::Rescue => {
            lab.at(20_000);
            lab.store.rescue(0, 10).await.unwrap();
        }
        Cause::Exhaust => {
            for n in 1..=3 {
                lab.at(n * 20_000);
                lab.store.rescue(0, 10).await.unwrap();
                if n < 3 {
                    claim_one(lab, "w").await;
                }
            }
        }
        Cause::Revive => {
            lab.store.revive(id, "").await.unwrap();
        }
        _ => {
            lab.store.resolve(id, Resolution::of_the_only(true, b"1"), "").await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_scripts_make_what_next_says() {
    let mut seen = 0;
    for from in Place::ALL {
        for by in CAUSES {
            let Some(to) = next(from, by) else { continue };
            if (from, by) == (Place::Scheduled, Cause::DueButHeld) {
                continue;
            }
            let lab = Lab::new().await;
            let id = bring(&lab, from, by).await;
            cause(&lab, &id, by).await;
            assert_eq!(lab.place(&id).await, to, "{from} by {by:?}");
            let report = lab.store.audit().await.unwrap();
            assert!(report.findings.is_empty(), "{from} by {by:?}: {:#?}", report.findings);
            seen += 1;
            lab.store.gate_remove("k actor").await.unwrap();
            lab.store.promote(0, 10).await.unwrap();
            if lab.job(&id).await.record.kind == "actor" && !lab.place(&id).await.is_final() {
                lab.store.cancel(&id, "", None).await.unwrap();
                run_until(&lab, &id, Place::Cancelled).await;
            }
            if matches!(by, Cause::CancelAndUndo | Cause::FailAndUndo) && lab.place(&id).await == Place::Ready {
                claim_one(&lab, "w").await;
            }
            clean(lab).await;
        }
    }
    assert!(seen >= 24, "{seen}");
}

#[tokio::test]
async fn a_due_job_whose_resource_is_held_is_blocked() {
    let lab = Lab::new().await;
    let holder = with_resource(&lab).await;
    let id = planned(&lab, true).await;
    lab.at(1000);
    lab.store.promote(0, 10).await.unwrap();
    expect_place(&lab, &holder, Place::Ready).await;
    expect_place(&lab, &id, Place::Blocked).await;
    clean(lab).await;
}

#[tokio::test]
async fn a_planned_job_starts_at_its_millisecond_and_not_before() {
    let lab = Lab::new().await;
    let id = planned(&lab, false).await;
    lab.at(999);
    assert!(crate::claim(&lab, "w", 1).await.jobs.is_empty());
    lab.at(1000);
    assert_eq!(crate::claim(&lab, "w", 1).await.jobs[0].id, id, "the claim itself promotes");
    clean(lab).await;
}

/// Brings every job to its end, so that the lab may close.
pub(crate) async fn clean(lab: Lab) {
    for _ in 0..4 {
        for place in [Place::Scheduled, Place::Blocked, Place::Ready] {
            let filter = leasehold_engine::store::JobFilter { place: Some(place), ..Default::default() };
            for job in lab.store.jobs(&filter, None, 100).await.unwrap().jobs {
                lab.store.cancel(&job.id, "", None).await.unwrap();
            }
        }
        let filter = leasehold_engine::store::JobFilter { place: Some(Place::Running), ..Default::default() };
        for job in lab.store.jobs(&filter, None, 100).await.unwrap().jobs {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    lab.finish().await;
}

/// The same for many ready jobs.
pub(crate) async fn clean_many(lab: Lab) {
    loop {
        let got = crate::claim(&lab, "w", 250).await.jobs;
        if got.is_empty() {
            break;
        }
        for job in got {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    lab.finish().await;
}
