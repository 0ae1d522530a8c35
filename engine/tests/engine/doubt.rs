//! Once steps that nobody saw end: no cancel hides one, and a person speaks of one at a time.

use std::sync::Arc;

use leasehold_engine::{
    Ctx, Effect, JobId, NewJob, Place, Verdict, Verified,
    store::{Begun, Cancelled, Opening, Outcome, Resolution, Resolved},
    testing::{Actor, Lab, Ledger, Puppet, bare},
    upkeep::cascade,
};

use crate::{claim_one, ending, expect_place, settle, undo::drained};

const ONCE: Opening = Opening::of(Effect::Once);
const NOT_DONE: Resolution<'static> = Resolution::of_the_only(false, b"");

/// A job whose worker was lost in a step that may not be repeated, and which has attempts left.
async fn rescued(lab: &Lab, job: NewJob) -> JobId {
    let id = lab.enqueue(job).await;
    let (_, fence) = claim_one(lab, "lost").await;
    lab.store.step_begin(&id, fence, "drop", ONCE).await.unwrap();
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    expect_place(lab, &id, Place::Ready).await;
    id
}

/// Drops once; asked whether that happened, it says so.
fn dropper(did: &Ledger, found: fn() -> Verified<u32>) -> Arc<Actor> {
    let did = did.clone();
    Actor::new(move |ctx| {
        let did = did.clone();
        async move {
            let verify = || async {
                did.write("looked");
                Ok(found())
            };
            let drop = || async {
                did.write("dropped");
                Ok(1)
            };
            ctx.once("drop", verify, drop).await?;
            ctx.step("after", Effect::Idempotent, || async { did.done("after") }).await?;
            Verdict::done("all")
        }
    })
}

#[tokio::test]
async fn a_cancel_while_a_once_step_is_open_lets_a_worker_look_first() {
    let happened: fn() -> Verified<u32> = || Verified::Happened(1);
    for (found, place, open) in [
        (happened, Place::Cancelled, false),
        (|| Verified::NotHappened, Place::Cancelled, false),
        (|| Verified::CannotTell, Place::Unknown, true),
    ] {
        let lab = Lab::new().await;
        let did = Ledger::default();
        let id = rescued(&lab, Actor::job(&lab.store, "")).await;
        assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
        expect_place(&lab, &id, Place::Ready).await;
        let worker = lab.quick_worker(dropper(&did, found)).await;
        let job = lab.until(&id, place).await;
        assert_eq!(did.all(), ["looked"], "nothing is done after a cancel");
        assert_eq!((job.record.once_open, job.steps.iter().any(|step| !step.done)), (open, open));
        drained(lab, worker).await;
    }
}

#[tokio::test]
async fn an_attempt_that_ends_as_cancelled_inside_a_once_step_leaves_unknown() {
    for asked in [true, false] {
        let lab = Lab::new().await;
        let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
        let (_, fence) = claim_one(&lab, "w").await;
        lab.store.step_begin(&id, fence, "drop", ONCE).await.unwrap();
        if asked {
            lab.store.cancel(&id, "", None).await.unwrap();
        }
        settle(&lab, &id, fence, Outcome::Cancelled).await;
        expect_place(&lab, &id, Place::Unknown).await;
        let resolved = lab.store.resolve(&id, Resolution::of_the_only(true, b"1"), "").await.unwrap();
        assert_eq!(resolved, Resolved::Ok("drop".to_owned()));
        expect_place(&lab, &id, Place::Cancelled).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_cancelled_job_with_an_open_once_step_is_not_suspended_nor_parked() {
    for outcome in [Outcome::Wait, Outcome::Sleep, Outcome::Snooze, Outcome::Park] {
        let lab = Lab::new().await;
        let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
        let (_, fence) = claim_one(&lab, "w").await;
        lab.store.step_begin(&id, fence, "drop", ONCE).await.unwrap();
        lab.store.cancel(&id, "", None).await.unwrap();
        settle(&lab, &id, fence, outcome).await;
        expect_place(&lab, &id, Place::Unknown).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn e8_a_resolve_does_not_take_a_confirmed_cancel_back() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "lost").await;
    lab.store.step_begin(&id, fence, "drop", ONCE).await.unwrap();
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    expect_place(&lab, &id, Place::Unknown).await;
    assert_eq!(lab.store.resolve(&id, NOT_DONE, "").await.unwrap(), Resolved::Ok("drop".to_owned()));
    expect_place(&lab, &id, Place::Cancelled).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_resolved_job_that_was_to_be_cancelled_is_undone_first() {
    let lab = Lab::new().await;
    let did = Ledger::default();
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let (_, fence) = claim_one(&lab, "lost").await;
    let book = Opening { undo: true, ..Opening::of(Effect::Idempotent) };
    lab.store.step_begin(&id, fence, "book", book).await.unwrap();
    lab.store.step_end(&id, fence, "book", b"1").await.unwrap();
    lab.store.step_begin(&id, fence, "drop", Opening { ordinal: 1, ..ONCE }).await.unwrap();
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    expect_place(&lab, &id, Place::Unknown).await;
    lab.store.resolve(&id, Resolution::of_the_only(true, b"1"), "").await.unwrap();
    expect_place(&lab, &id, Place::Ready).await;
    let ledger = did.clone();
    let actor = Actor::new(move |ctx| {
        let (did, taken) = (ledger.clone(), ledger.clone());
        async move {
            let undo = move |_: Ctx, _: Option<u32>| async move { taken.done("unbook") };
            ctx.step_with_undo("book", Effect::Idempotent, || async { Ok(1_u32) }, undo).await?;
            let doubt = || async { Ok(Verified::<u32>::CannotTell) };
            ctx.once("drop", doubt, || async { Ok(1) }).await?;
            did.write("went on");
            Err::<Verdict, _>(ctx.step("after", Effect::Idempotent, || async { Ok(()) }).await.unwrap_err())
        }
    });
    let worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Cancelled).await;
    assert_eq!(did.all(), ["went on", "unbook"]);
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_way_to_the_undos_asks_whether_a_once_step_happened_before_it_takes_anything_back() {
    let happened: fn() -> Verified<u32> = || Verified::Happened(1);
    for (found, place, undone) in [(happened, Place::Cancelled, true), (|| Verified::CannotTell, Place::Unknown, false)]
    {
        let lab = Lab::new().await;
        let did = Ledger::default();
        let id = lab.enqueue(Actor::job(&lab.store, "")).await;
        let (_, fence) = claim_one(&lab, "lost").await;
        let book = Opening { undo: true, ..Opening::of(Effect::Idempotent) };
        lab.store.step_begin(&id, fence, "book", book).await.unwrap();
        lab.store.step_end(&id, fence, "book", b"1").await.unwrap();
        lab.store.step_begin(&id, fence, "drop", Opening { ordinal: 1, ..ONCE }).await.unwrap();
        lab.at(15_000);
        lab.store.rescue(0, 10).await.unwrap();
        assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
        let ledger = did.clone();
        let actor = Actor::new(move |ctx| {
            let taken = ledger.clone();
            async move {
                let undo = move |_: Ctx, _: Option<u32>| async move { taken.done("unbook") };
                ctx.step_with_undo("book", Effect::Idempotent, || async { Ok(1_u32) }, undo).await?;
                ctx.once("drop", || async { Ok(found()) }, || async { Ok(1) }).await?;
                ctx.step("after", Effect::Idempotent, || async { Ok(()) }).await?;
                Verdict::done("all")
            }
        });
        let worker = lab.quick_worker(actor).await;
        lab.until(&id, place).await;
        assert_eq!(!did.all().is_empty(), undone);
        drained(lab, worker).await;
    }
}

#[tokio::test]
async fn e8_an_unknown_child_of_a_cancelled_parent_is_cancelled_by_who_resolves_it() {
    let lab = Lab::new().await;
    let parent = lab.enqueue(Actor::job(&lab.store, "")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    let mut child = Actor::job(&lab.store, "");
    child.parent = Some(parent.clone());
    child.retry.max_attempts = 1;
    bare::spawn(&lab.store, (&parent, fence), ("spawn", Opening::of(Effect::Idempotent)), &child).await.unwrap();
    let (_, child_fence) = claim_one(&lab, "lost").await;
    lab.store.step_begin(&child.id, child_fence, "drop", ONCE).await.unwrap();
    lab.at(10_000);
    lab.store.renew(0, &[(parent.clone(), fence)], 15_000).await.unwrap();
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    expect_place(&lab, &child.id, Place::Unknown).await;
    lab.store.cancel(&parent, "", None).await.unwrap();
    settle(&lab, &parent, fence, Outcome::Cancelled).await;
    cascade(&lab.store).await.unwrap();
    expect_place(&lab, &child.id, Place::Unknown).await;
    lab.store.resolve(&child.id, NOT_DONE, "").await.unwrap();
    expect_place(&lab, &child.id, Place::Cancelled).await;
    lab.finish().await;
}

#[tokio::test]
async fn of_several_open_once_steps_each_is_resolved_by_its_name() {
    let lab = Lab::new().await;
    let mut job = Puppet::job(&lab.store, "done");
    job.retry.max_attempts = 1;
    let id = lab.enqueue(job).await;
    let (_, fence) = claim_one(&lab, "lost").await;
    for (ordinal, name) in [(0, "drop a"), (1, "drop b")] {
        lab.store.step_begin(&id, fence, name, Opening { ordinal, ..ONCE }).await.unwrap();
    }
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    let both = vec!["drop a".to_owned(), "drop b".to_owned()];
    assert_eq!(lab.store.resolve(&id, NOT_DONE, "").await.unwrap(), Resolved::Several(both.clone()));
    let said = |step, happened| Resolution { step: Some(step), happened, result: b"42" };
    assert_eq!(lab.store.resolve(&id, said("drop c", true), "").await.unwrap(), Resolved::NotOpen(both));
    assert_eq!(lab.store.resolve(&id, said("drop b", true), "").await.unwrap(), Resolved::Ok("drop b".to_owned()));
    let left = lab.job(&id).await;
    assert_eq!((left.record.place, left.record.once_open), (Place::Unknown, true), "of the other nobody spoke");
    let results: Vec<_> = left.steps.iter().map(|step| (step.name.as_str(), step.done, &step.result[..])).collect();
    assert_eq!(results, [("drop a", false, &b""[..]), ("drop b", true, b"42")]);
    assert_eq!(lab.store.resolve(&id, NOT_DONE, "").await.unwrap(), Resolved::Ok("drop a".to_owned()));
    let (_, fence) = claim_one(&lab, "w").await;
    assert_eq!(lab.store.step_begin(&id, fence, "drop a", ONCE).await.unwrap(), Begun::Run);
    lab.store.step_end(&id, fence, "drop a", b"1").await.unwrap();
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_open_step_whose_attempt_may_be_repeated_is_looked_at_though_the_job_was_cancelled() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    lab.store.step_begin(&id, fence, "drop", ONCE).await.unwrap();
    lab.store.cancel(&id, "", None).await.unwrap();
    let retry = ending(&id, fence, Outcome::Retry);
    lab.store.settle(0, &[retry]).await.unwrap();
    expect_place(&lab, &id, Place::Scheduled).await;
    lab.at(1000);
    let (_, fence) = claim_one(&lab, "w").await;
    assert_eq!(lab.store.step_begin(&id, fence, "drop", ONCE).await.unwrap(), Begun::Open);
    let again = Opening { again: true, ..ONCE };
    assert_eq!(lab.store.step_begin(&id, fence, "drop", again).await.unwrap(), Begun::Cancelled, "E8");
    settle(&lab, &id, fence, Outcome::Cancelled).await;
    expect_place(&lab, &id, Place::Cancelled).await;
    lab.finish().await;
}
