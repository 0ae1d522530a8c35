//! A clock that jumps: destructive jobs wait for a person, and no living worker loses its job.

use std::time::Duration;

use leasehold_engine::{
    JobId, NewJob, Place, Worker, WorkerOptions,
    model::{
        BlockedBy,
        gate::{ClockJump, Note},
    },
    store::{ClockWatch, Outcome},
    testing::{Lab, NOON, Puppet},
    upkeep::{self, Retention, UpkeepOptions},
};

use crate::{claim, claim_one, expect_place, settle};

const MONTH: i64 = 30 * 86_400_000;
const MINUTE: u64 = 60_000;

fn destructive(lab: &Lab) -> NewJob {
    NewJob { destructive: true, ..Puppet::job(&lab.store, "done") }
}

async fn jumps_told(lab: &Lab) -> usize {
    lab.store.alerts(i64::MIN, 100).await.unwrap().iter().filter(|alert| alert.word == "clock_jumped").count()
}

#[tokio::test]
async fn a_clock_that_jumps_a_month_freezes_destructive_jobs_until_somebody_accepts_it() {
    let lab = Lab::new().await;
    let (mut first, mut second) = (ClockWatch::new(MINUTE, 15_000), ClockWatch::new(MINUTE, 15_000));
    first.look(&lab.store).await.unwrap();
    second.look(&lab.store).await.unwrap();
    lab.at(MONTH);
    for watch in [&mut first, &mut second] {
        watch.look(&lab.store).await.unwrap();
    }
    let ClockJump { from, to, at } = lab.store.clock_jump().await.unwrap().unwrap();
    assert!((NOON..NOON + 30_000).contains(&from), "{from}");
    assert_eq!((to, at), (NOON + MONTH, NOON + MONTH));
    assert_eq!(jumps_told(&lab).await, 1, "told once, however many saw it");

    let (dangerous, harmless) =
        (lab.enqueue(destructive(&lab)).await, lab.enqueue(Puppet::job(&lab.store, "done")).await);
    let got = claim(&lab, "w", 5).await.jobs;
    assert_eq!(got.iter().map(|job| &job.id).collect::<Vec<_>>(), [&harmless]);
    settle(&lab, &harmless, got[0].fence, Outcome::Done).await;
    let held = lab.job(&dangerous).await.record;
    assert_eq!((held.place, held.blocked_by), (Place::Blocked, BlockedBy::ClockJumped));

    let note = Note { by: "u1".into(), why: "the host was set right".into(), at: NOON };
    assert!(lab.store.accept_clock(&note).await.unwrap().is_some());
    assert_eq!(lab.store.accept_clock(&note).await.unwrap(), None, "nothing stands any more");
    assert_eq!(lab.store.alerts(0, 1).await.unwrap()[0].word, "clock_accepted");
    for watch in [&mut first, &mut second] {
        watch.look(&lab.store).await.unwrap();
    }
    let (id, fence) = claim_one(&lab, "w").await;
    assert_eq!(id, dangerous);
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_clock_that_goes_back_is_a_jump_and_a_minute_is_none() {
    let lab = Lab::new().await;
    let mut watch = ClockWatch::new(MINUTE, 15_000);
    watch.look(&lab.store).await.unwrap();
    lab.at(60_000);
    assert!(watch.look(&lab.store).await.unwrap().is_calm);
    assert_eq!(lab.store.clock_jump().await.unwrap(), None);
    lab.at(-1000);
    assert!(!watch.look(&lab.store).await.unwrap().is_calm);
    let jump = lab.store.clock_jump().await.unwrap().unwrap();
    assert!(jump.to < jump.from, "{jump:?}");
    lab.finish().await;
}

#[tokio::test]
async fn after_a_jump_a_living_workers_job_stays_and_a_lost_ones_is_rescued_a_lease_later() {
    let lab = Lab::new().await;
    let mut watch = ClockWatch::new(MINUTE, 300);
    assert_eq!(upkeep::rescue_by(&lab.store, &mut watch).await.unwrap(), 0);
    for _ in 0..2 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    let ((kept, fence), (lost, _)) = (claim_one(&lab, "alive").await, claim_one(&lab, "gone").await);
    lab.at(MONTH);
    assert_eq!(upkeep::rescue_by(&lab.store, &mut watch).await.unwrap(), 0, "nobody could renew by the new time yet");
    lab.store.renew(0, &[(kept.clone(), fence)], 15_000).await.unwrap();
    while upkeep::rescue_by(&lab.store, &mut watch).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    expect_place(&lab, &kept, Place::Running).await;
    expect_place(&lab, &lost, Place::Ready).await;
    let (again, second) = claim_one(&lab, "alive").await;
    for (id, fence) in [(kept, fence), (again, second)] {
        settle(&lab, &id, fence, Outcome::Done).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_jump_between_the_look_at_the_clock_and_the_rescue_takes_no_job_away() {
    let lab = Lab::new().await;
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (id, fence) = claim_one(&lab, "alive").await;
    lab.at(MONTH);
    assert!(lab.store.rescue_until(0, 10, NOON + 100).await.unwrap().is_empty());
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_process_that_starts_just_after_a_jump_waits_with_its_first_rescue() {
    let lab = Lab::new().await;
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (id, fence) = claim_one(&lab, "alive").await;
    lab.at(MONTH);
    let jump = ClockJump { from: NOON, to: NOON + MONTH, at: NOON + MONTH };
    assert!(lab.store.clock_jumped(&jump).await.unwrap());
    assert!(!lab.store.clock_jumped(&jump).await.unwrap(), "sent again");
    let mut fresh = ClockWatch::new(MINUTE, 15_000);
    assert_eq!(upkeep::rescue_by(&lab.store, &mut fresh).await.unwrap(), 0);
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_lost_workers_job_is_rescued_also_when_the_clock_went_back() {
    let lab = Lab::new().await;
    for _ in 0..2 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    let ((lost, _), (kept, fence)) = (claim_one(&lab, "gone").await, claim_one(&lab, "alive").await);
    lab.at(-MONTH);
    lab.store.renew(0, &[(kept.clone(), fence)], 15_000).await.unwrap();
    assert_eq!(lab.store.rescue(0, 10).await.unwrap(), [lost]);
    let (again, second) = claim_one(&lab, "alive").await;
    for (id, fence) in [(kept, fence), (again, second)] {
        settle(&lab, &id, fence, Outcome::Done).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn nothing_is_forgotten_by_a_clock_that_nobody_accepted() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    let week = Retention { max_age_ms: 7 * 86_400_000, max_count: 100 };
    let options = UpkeepOptions { succeeded: week, ..UpkeepOptions::default() };
    lab.at(MONTH);
    lab.store.clock_jumped(&ClockJump { from: NOON, to: NOON + MONTH, at: NOON + MONTH }).await.unwrap();
    upkeep::prune_by(&lab.store, &options).await.unwrap();
    expect_place(&lab, &id, Place::Succeeded).await;
    lab.store.accept_clock(&Note::default()).await.unwrap();
    upkeep::prune_by(&lab.store, &options).await.unwrap();
    assert!(lab.store.job(&id).await.unwrap().is_none());
    lab.finish().await;
}

async fn busy_worker(lab: &Lab, puppet: &std::sync::Arc<Puppet>) -> (Worker, JobId) {
    let options =
        WorkerOptions { name: "alive".into(), lease_ms: 2000, renew_ms: 100, poll_ms: 50, ..WorkerOptions::default() };
    let worker = Worker::start(&lab.store, puppet.clone(), options).await.unwrap();
    let id = lab.enqueue(Puppet::job(&lab.store, "hang")).await;
    puppet.began.notified().await;
    (worker, id)
}

#[tokio::test]
async fn a_running_job_outlives_a_jump_with_its_first_attempt() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let (mut worker, id) = busy_worker(&lab, &puppet).await;
    let mut watch = ClockWatch::new(MINUTE, 1000);
    assert_eq!(upkeep::rescue_by(&lab.store, &mut watch).await.unwrap(), 0);
    lab.store.set_time(lab.store.now().await.unwrap() + MONTH);
    while !watch.look(&lab.store).await.unwrap().is_calm {
        assert_eq!(upkeep::rescue_by(&lab.store, &mut watch).await.unwrap(), 0);
        tokio::task::yield_now().await;
    }
    assert_eq!(upkeep::rescue_by(&lab.store, &mut watch).await.unwrap(), 0, "its worker renewed it by the new time");
    puppet.go_on.notify_one();
    assert_eq!(lab.until(&id, Place::Succeeded).await.record.attempt, 1);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn workers_and_upkeep_each_see_a_jump_by_themselves() {
    for is_worker in [true, false] {
        let lab = Lab::with_running_clock().await;
        let puppet = Puppet::new();
        let alone = WorkerOptions { renew_ms: 50, lease_ms: 2000, ..WorkerOptions::default() };
        let mut worker = if is_worker { Some(Worker::start(&lab.store, puppet, alone).await.unwrap()) } else { None };
        let options = UpkeepOptions { rescue_ms: 50, ..UpkeepOptions::default() };
        let mut upkeep = (!is_worker).then(|| upkeep::Upkeep::start(&lab.store, options));
        let changes = lab.store.changes(true);
        let mut hints = changes.listen();
        let seen = async {
            // A jump before the first look is nobody's to see: so it jumps until it is seen.
            while lab.store.clock_jump().await.unwrap().is_none() {
                lab.store.set_time(lab.store.now().await.unwrap() + MONTH);
                let _ = tokio::time::timeout(Duration::from_millis(100), hints.recv()).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect("it is seen");
        if let Some(worker) = &mut worker {
            worker.drain(Duration::from_secs(5)).await;
        }
        if let Some(upkeep) = &mut upkeep {
            upkeep.stop().await;
        }
        lab.finish().await;
    }
}
