//! The verbs behind a step: begun under the fence, ended once, refused after a cancel, sealed when asked.

use leasehold_engine::{
    Effect, JobId, Place,
    store::{Begun, Cancelled, Ended, Opening, Outcome, Resolution},
    testing::{Lab, Puppet},
};

use crate::{claim_one, expect_place, settle};

const FENCED: Opening = Opening::of(Effect::Fenced);
const ONCE: Opening = Opening::of(Effect::Once);

async fn running(lab: &Lab) -> (JobId, u64) {
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    claim_one(lab, "w").await
}

async fn rescued(lab: &Lab, at: i64) -> u64 {
    lab.at(at);
    lab.store.rescue(0, 10).await.unwrap();
    claim_one(lab, "w2").await.1
}

#[tokio::test]
async fn e4_a_result_is_written_once_and_given_back_ever_after() {
    let lab = Lab::new().await;
    let (id, fence) = running(&lab).await;
    assert_eq!(lab.store.step_begin(&id, fence, "s", FENCED).await.unwrap(), Begun::Run);
    assert_eq!(lab.store.step_begin(&id, fence, "s", FENCED).await.unwrap(), Begun::Run, "sent again");
    assert_eq!(lab.store.step_end(&id, fence, "s", b"1").await.unwrap(), Ended::Ok);
    assert_eq!(lab.store.step_end(&id, fence, "s", b"2").await.unwrap(), Ended::Already("1".into()));
    let newer = rescued(&lab, 15_000).await;
    assert_eq!(lab.store.step_begin(&id, newer, "s", FENCED).await.unwrap(), Begun::Done("1".into()));
    settle(&lab, &id, newer, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn of_two_once_steps_side_by_side_the_one_that_is_open_makes_a_lost_job_unknown() {
    let lab = Lab::new().await;
    let mut job = Puppet::job(&lab.store, "done");
    job.retry.max_attempts = 1;
    lab.enqueue(job).await;
    let (id, fence) = claim_one(&lab, "w").await;
    for (ordinal, name) in [(0, "first"), (1, "second")] {
        lab.store.step_begin(&id, fence, name, Opening { ordinal, ..ONCE }).await.unwrap();
    }
    lab.store.step_end(&id, fence, "second", b"1").await.unwrap();
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    expect_place(&lab, &id, Place::Unknown).await;
    lab.store.resolve(&id, Resolution::of_the_only(true, b"1"), "").await.unwrap();
    let (_, fence) = claim_one(&lab, "w2").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

/// A job with one attempt begins a Fenced step, and ends it if `done`; then its worker is lost.
async fn lost_after_a_fenced_step(lab: &Lab, done: bool, says: &str) -> JobId {
    let mut job = Puppet::job(&lab.store, says);
    job.retry.max_attempts = 1;
    lab.enqueue(job).await;
    let (id, fence) = claim_one(lab, "w").await;
    lab.store.step_begin(&id, fence, "s", FENCED).await.unwrap();
    if done {
        lab.store.step_end(&id, fence, "s", b"1").await.unwrap();
    }
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    id
}

#[tokio::test]
async fn a_job_lost_after_a_fenced_step_is_closed_and_not_dead() {
    for done in [false, true] {
        let lab = Lab::new().await;
        let id = lost_after_a_fenced_step(&lab, done, "done").await;
        expect_place(&lab, &id, Place::Ready).await;
        let (_, fence) = claim_one(&lab, "w2").await;
        let record = lab.job(&id).await.record;
        assert_eq!((record.closing, record.attempt), (true, 1), "a closing run is not counted");
        settle(&lab, &id, fence, Outcome::Done).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_job_lost_in_its_closing_runs_too_is_unknown_and_a_person_sends_it_back() {
    let lab = Lab::new().await;
    let id = lost_after_a_fenced_step(&lab, true, "done").await;
    for at in [30_000, 45_000] {
        claim_one(&lab, "w2").await;
        lab.at(at);
        lab.store.rescue(0, 10).await.unwrap();
    }
    expect_place(&lab, &id, Place::Unknown).await;
    lab.store.resolve(&id, Resolution::of_the_only(true, b""), "").await.unwrap();
    let (_, fence) = claim_one(&lab, "w3").await;
    assert!(!lab.job(&id).await.record.closing, "it is an attempt as any other");
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_closing_run_that_could_not_find_out_leaves_the_job_unknown() {
    let lab = Lab::new().await;
    let id = lost_after_a_fenced_step(&lab, false, "fail").await;
    let mut worker = lab.worker("w2", Puppet::new()).await;
    lab.until(&id, Place::Unknown).await;
    worker.drain(std::time::Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn e3_a_stale_worker_begins_and_ends_no_step() {
    let lab = Lab::new().await;
    let (id, old) = running(&lab).await;
    lab.store.step_begin(&id, old, "s", FENCED).await.unwrap();
    let newer = rescued(&lab, 15_000).await;
    assert_eq!(lab.store.step_begin(&id, old, "t", FENCED).await.unwrap(), Begun::Stale);
    assert_eq!(lab.store.step_end(&id, old, "s", b"1").await.unwrap(), Ended::Stale);
    assert_eq!(
        lab.store.step_begin(&id, newer, "s", FENCED).await.unwrap(),
        Begun::Run,
        "fenced: done again under the new fence"
    );
    settle(&lab, &id, newer, Outcome::Done).await;
    assert_eq!(lab.store.step_begin(&id, newer, "u", FENCED).await.unwrap(), Begun::Stale, "it has ended");
    lab.finish().await;
}

#[tokio::test]
async fn e8_after_a_confirmed_cancel_no_step_begins() {
    let lab = Lab::new().await;
    let (id, fence) = running(&lab).await;
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
    assert_eq!(lab.store.step_begin(&id, fence, "s", FENCED).await.unwrap(), Begun::Cancelled);
    settle(&lab, &id, fence, Outcome::Cancelled).await;
    expect_place(&lab, &id, Place::Cancelled).await;
    lab.finish().await;
}

#[tokio::test]
async fn restore_09_a_sealed_step_lets_no_cancel_through() {
    let lab = Lab::new().await;
    let (id, fence) = running(&lab).await;
    lab.store.step_begin(&id, fence, "s", Opening { seal: true, ..FENCED }).await.unwrap();
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::TooLate(Place::Running));
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_open_once_step_is_not_begun_again_unless_somebody_vouches() {
    let lab = Lab::new().await;
    let (id, fence) = running(&lab).await;
    assert_eq!(lab.store.step_begin(&id, fence, "s", ONCE).await.unwrap(), Begun::Run);
    let newer = rescued(&lab, 15_000).await;
    assert_eq!(lab.store.step_begin(&id, newer, "s", ONCE).await.unwrap(), Begun::Open);
    assert_eq!(lab.store.step_begin(&id, newer, "s", Opening { again: true, ..ONCE }).await.unwrap(), Begun::Run);
    lab.store.step_end(&id, newer, "s", b"1").await.unwrap();
    assert!(!lab.job(&id).await.record.once_open);
    settle(&lab, &id, newer, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_lost_worker_in_an_open_once_step_leaves_unknown_when_no_attempt_is_left() {
    for cancel in [false, true] {
        let lab = Lab::new().await;
        let mut job = Puppet::job(&lab.store, "done");
        job.retry.max_attempts = if cancel { 3 } else { 1 };
        lab.enqueue(job).await;
        let (id, fence) = claim_one(&lab, "w").await;
        lab.store.step_begin(&id, fence, "s", ONCE).await.unwrap();
        if cancel {
            lab.store.cancel(&id, "", None).await.unwrap();
        }
        lab.at(15_000);
        lab.store.rescue(0, 10).await.unwrap();
        expect_place(&lab, &id, Place::Unknown).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn e6_a_promotion_moves_no_more_than_its_limit() {
    let lab = Lab::new().await;
    let jobs: Vec<_> = (0..30)
        .map(|_| {
            let mut job = Puppet::job(&lab.store, "done");
            job.run_at = Some(leasehold_engine::testing::NOON + 10);
            job
        })
        .collect();
    lab.store.enqueue(&jobs, 100).await.unwrap();
    lab.at(10);
    assert_eq!(lab.store.promote(0, 20).await.unwrap(), 20);
    assert_eq!(lab.store.promote(0, 20).await.unwrap(), 10);
    assert_eq!(lab.store.promote(0, 20).await.unwrap(), 0);
    for _ in 0..2 {
        for job in crate::claim(&lab, "w", 30).await.jobs {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    lab.finish().await;
}
