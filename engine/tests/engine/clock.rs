//! A clock that jumps: destructive jobs wait for a person, and no living worker loses its job.

use std::time::Duration;

use leasehold_engine::{
    Effect, JobId, NewJob, Place, Resource, Worker, WorkerOptions,
    model::{
        BlockedBy,
        gate::{ClockJump, Note},
    },
    store::{ClockWatch, Opening, Outcome},
    testing::{Lab, NOON, Puppet},
    upkeep::{self, Retention, UpkeepOptions},
};

use crate::{claim, claim_of, claim_one, expect_place, settle};

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

const HOUR: i64 = 3_600_000;

/// A destructive job of tomorrow, planned 20 hours ahead.
async fn tomorrows(lab: &Lab, resource: &str) -> JobId {
    let resources = vec![Resource::exclusive(resource)];
    lab.enqueue(NewJob { run_at: Some(NOON + 20 * HOUR), resources, ..destructive(lab) }).await
}

/// Back at its time, with nothing kept from others; it starts when that time comes.
async fn starts_at_its_time(lab: &Lab, ids: &[&JobId]) {
    assert!(claim(lab, "w", 5).await.jobs.is_empty(), "their time is still to come");
    for id in ids {
        let record = lab.job(id).await.record;
        assert_eq!((record.place, record.run_at), (Place::Scheduled, NOON + 20 * HOUR), "{id}");
        assert!(!record.holds_resource, "{id} keeps its data center from others until then");
    }
    lab.at(20 * HOUR);
    for _ in ids {
        let (id, fence) = claim_one(lab, "w").await;
        assert!(ids.contains(&&id));
        settle(lab, &id, fence, Outcome::Done).await;
    }
}

#[tokio::test]
async fn what_a_wrong_clock_made_due_goes_back_to_its_planned_time_when_the_right_one_is_accepted() {
    let lab = Lab::new().await;
    let planned = tomorrows(&lab, "dc:1").await;
    lab.at(21 * HOUR);
    lab.store.clock_jumped(&ClockJump { from: NOON, to: NOON + 21 * HOUR, at: NOON + 21 * HOUR }).await.unwrap();
    let at_once = lab.enqueue(destructive(&lab)).await;
    assert!(claim(&lab, "w", 5).await.jobs.is_empty(), "nothing destructive starts");
    expect_place(&lab, &planned, Place::Blocked).await;
    lab.at(HOUR);
    lab.store.accept_clock(&Note::default()).await.unwrap();
    let (id, fence) = claim_one(&lab, "w").await;
    assert_eq!(id, at_once, "what was wanted at once is not put off");
    settle(&lab, &id, fence, Outcome::Done).await;
    starts_at_its_time(&lab, &[&planned]).await;
    lab.finish().await;
}

#[tokio::test]
async fn what_a_wrong_clock_put_into_a_line_goes_back_to_its_planned_time_when_its_turn_comes() {
    let lab = Lab::new().await;
    let resources = vec![Resource::exclusive("dc:1")];
    lab.enqueue(NewJob { resources: resources.clone(), ..Puppet::job(&lab.store, "done") }).await;
    let (holder, fence) = claim_one(&lab, "w").await;
    let harmless = NewJob { run_at: Some(NOON + 20 * HOUR), resources, ..Puppet::job(&lab.store, "done") };
    let (first, second) = (lab.enqueue(harmless).await, tomorrows(&lab, "dc:1").await);
    lab.at(21 * HOUR);
    lab.store.promote(0, 10).await.unwrap();
    for id in [&first, &second] {
        expect_place(&lab, id, Place::Blocked).await;
    }
    lab.at(HOUR);
    settle(&lab, &holder, fence, Outcome::Done).await;
    for id in [&first, &second] {
        expect_place(&lab, id, Place::Scheduled).await;
    }
    let at_once = lab.enqueue(NewJob { resources: vec![Resource::exclusive("dc:1")], ..destructive(&lab) }).await;
    let (id, fence) = claim_one(&lab, "w").await;
    assert_eq!(id, at_once, "the line is empty");
    settle(&lab, &id, fence, Outcome::Done).await;
    starts_at_its_time(&lab, &[&first, &second]).await;
    lab.finish().await;
}

#[tokio::test]
async fn what_a_wrong_clock_made_ready_does_not_start_by_the_right_one() {
    let lab = Lab::new().await;
    let planned = tomorrows(&lab, "dc:1").await;
    let harmless = lab.enqueue(NewJob { run_at: Some(NOON + 20 * HOUR), ..Puppet::job(&lab.store, "done") }).await;
    lab.at(21 * HOUR);
    lab.store.promote(0, 10).await.unwrap();
    expect_place(&lab, &planned, Place::Ready).await;
    lab.at(HOUR);
    let (id, fence) = claim_one(&lab, "w").await;
    assert_eq!(id, harmless);
    settle(&lab, &id, fence, Outcome::Done).await;
    starts_at_its_time(&lab, &[&planned]).await;
    lab.finish().await;
}

#[tokio::test]
async fn what_was_cancelled_is_undone_at_once_though_its_time_is_still_to_come() {
    let lab = Lab::new().await;
    let id = lab.enqueue(destructive(&lab)).await;
    let (_, fence) = claim_one(&lab, "w").await;
    let can_be_undone = Opening { undo: true, ..Opening::of(Effect::Idempotent) };
    lab.store.step_begin(&id, fence, "close", can_be_undone).await.unwrap();
    settle(&lab, &id, fence, Outcome::Snooze).await;
    lab.store.gate_set("k puppet", b"{}").await.unwrap();
    lab.store.cancel(&id, "", None).await.unwrap();
    assert!(claim(&lab, "w", 1).await.jobs.is_empty(), "its kind is paused");
    expect_place(&lab, &id, Place::Blocked).await;
    lab.store.gate_remove("k puppet").await.unwrap();
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Undone).await;
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

#[tokio::test]
async fn who_sees_the_correction_late_does_not_take_back_what_somebody_has_just_accepted() {
    let lab = Lab::new().await;
    let (mut early, mut late) = (ClockWatch::new(MINUTE, 15_000), ClockWatch::new(MINUTE, 15_000));
    for at in [0, 21 * HOUR] {
        lab.at(at);
        early.look(&lab.store).await.unwrap();
        late.look(&lab.store).await.unwrap();
    }
    lab.at(5000);
    early.look(&lab.store).await.unwrap();
    lab.store.accept_clock(&Note::default()).await.unwrap();
    lab.at(9000);
    assert!(!late.look(&lab.store).await.unwrap().is_calm, "leases are given time nevertheless");
    assert_eq!((lab.store.clock_jump().await.unwrap(), jumps_told(&lab).await), (None, 1));
    // What comes after the acceptance was not looked at by anybody.
    for to in [MONTH, 4000] {
        lab.at(to);
        late.look(&lab.store).await.unwrap();
        assert_eq!(lab.store.clock_jump().await.unwrap().map(|jump| jump.to), Some(NOON + to));
        if to == MONTH {
            lab.store.accept_clock(&Note::default()).await.unwrap();
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn between_a_jump_and_the_look_at_it_nothing_is_promoted_or_started() {
    let lab = Lab::new().await;
    let mut watch = ClockWatch::new(MINUTE, 15_000);
    let pace = watch.pace();
    assert_eq!(pace.no_later(), None, "nobody has looked yet");
    watch.look(&lab.store).await.unwrap();
    let planned = tomorrows(&lab, "dc:1").await;
    lab.at(21 * HOUR);
    assert_eq!(upkeep::promote_by(&lab.store, &pace).await.unwrap(), 0);
    let (first, second) = (claim_of("w", 1_000_001, 5), claim_of("w", 1_000_002, 5));
    let late = lab.store.claim_by(0, &first, pace.no_later().unwrap()).await.unwrap();
    assert!(late.jobs.is_empty() && late.now > pace.no_later().unwrap(), "{late:?}");
    expect_place(&lab, &planned, Place::Scheduled).await;
    watch.look(&lab.store).await.unwrap();
    assert_eq!(upkeep::promote_by(&lab.store, &pace).await.unwrap(), 1);
    assert!(lab.store.claim_by(0, &second, pace.no_later().unwrap()).await.unwrap().jobs.is_empty());
    assert_eq!(lab.job(&planned).await.record.blocked_by, BlockedBy::ClockJumped);
    lab.at(HOUR);
    lab.store.accept_clock(&Note::default()).await.unwrap();
    starts_at_its_time(&lab, &[&planned]).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_worker_that_has_not_looked_since_the_jump_starts_nothing_destructive() {
    let lab = Lab::new().await;
    // Its renewals do not look at the clock again in this test.
    let options = WorkerOptions { renew_ms: 600_000, poll_ms: 10, ..WorkerOptions::default() };
    let planned = tomorrows(&lab, "dc:1").await;
    let mut worker = Worker::start(&lab.store, Puppet::new(), options).await.unwrap();
    let before = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.until(&before, Place::Succeeded).await;
    lab.at(21 * HOUR);
    let held = lab.until(&planned, Place::Blocked).await.record;
    assert_eq!((held.blocked_by, held.fence), (BlockedBy::ClockJumped, 0), "it was never claimed");
    assert_eq!(jumps_told(&lab).await, 1);
    let harmless = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.until(&harmless, Place::Succeeded).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.store.cancel(&planned, "", None).await.unwrap();
    lab.finish().await;
}

async fn busy_worker(lab: &Lab, puppet: &std::sync::Arc<Puppet>) -> (Worker, JobId) {
    let options = WorkerOptions { name: "alive".into(), renew_ms: 100, poll_ms: 50, ..WorkerOptions::default() };
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
    // What the worker has, to renew by the new time.
    let mut watch = ClockWatch::new(MINUTE, 5000);
    assert_eq!(upkeep::rescue_by(&lab.store, &mut watch).await.unwrap(), 0);
    lab.store.set_time(lab.store.now().await.unwrap() + MONTH);
    while !watch.look(&lab.store).await.unwrap().is_calm {
        assert_eq!(upkeep::rescue_by(&lab.store, &mut watch).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(10)).await;
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
        let alone = WorkerOptions { renew_ms: 50, ..WorkerOptions::default() };
        let mut worker = if is_worker { Some(Worker::start(&lab.store, puppet, alone).await.unwrap()) } else { None };
        let options = UpkeepOptions { rescue_ms: 50, ..UpkeepOptions::default() };
        let mut upkeep = (!is_worker).then(|| upkeep::Upkeep::start(&lab.store, options));
        let changes = lab.store.changes(true);
        let mut hints = changes.listen();
        let seen = async {
            // A jump before the first look is nobody's to see: so it jumps until it is seen. One forward a worker sees by its
            // claims, too; one back only by looking.
            let by = if is_worker { -MONTH } else { MONTH };
            while lab.store.clock_jump().await.unwrap().is_none() {
                lab.store.set_time(lab.store.now().await.unwrap() + by);
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
