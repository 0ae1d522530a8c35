//! Schedules that cannot be decided, or have much to catch up with: others go on beside them, and everybody hears why.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use leasehold_engine::{
    NewJob, UnixMs,
    model::{Missed, Schedule, ScheduleSpec, Stuck},
    store::ClockWatch,
    testing::{Lab, NOON},
    upkeep::{self, SlotJobs, SlotRefusal, UpkeepOptions},
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::schedules::{Maker, put, spec};

const MINUTE: i64 = 60_000;
const MANY: u64 = 1_000_000;

/// Cannot say anything of schedules named `stuck-…`.
#[derive(Default)]
struct Picky {
    maker: Maker,
    asked: AtomicUsize,
}

#[async_trait]
impl SlotJobs for Picky {
    async fn job(&self, schedule: &Schedule, slot: UnixMs) -> Result<NewJob, SlotRefusal> {
        if schedule.spec.name.starts_with("stuck-") {
            self.asked.fetch_add(1, Ordering::Relaxed);
            return Err(SlotRefusal::NotNow("its secret is missing".to_owned()));
        }
        self.maker.job(schedule, slot).await
    }
}

fn each_minute(name: &str, missed: &str) -> ScheduleSpec {
    spec(name, "* * * * *", "UTC", missed)
}

async fn fire(lab: &Lab, jobs: &dyn SlotJobs) -> usize {
    upkeep::fire(&lab.store, jobs, MANY).await.unwrap()
}

async fn held(lab: &Lab, name: &str) -> Schedule {
    lab.store.schedule("t-001", name).await.unwrap().unwrap()
}

async fn cancel_all(lab: &Lab) {
    // All are listed first: a list that is read while its jobs leave it skips some.
    let (mut live, mut cursor) = (Vec::new(), None);
    loop {
        let page =
            lab.store.jobs(&leasehold_engine::store::JobFilter::default(), cursor.as_deref(), 500).await.unwrap();
        live.extend(page.jobs.into_iter().filter(|job| !job.place.is_final()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    for job in live {
        lab.store.cancel(&job.id, "", None).await.unwrap();
    }
}

#[tokio::test]
async fn more_stuck_schedules_than_are_looked_at_hold_up_no_other() {
    let (lab, jobs) = (Lab::new().await, Picky::default());
    for n in 0..250 {
        put(&lab.store, &each_minute(&format!("stuck-{n}"), "all:1000")).await;
    }
    lab.at(1);
    put(&lab.store, &spec("well", "0 */2 * * * *", "UTC", "once")).await;
    for second in 120..=130 {
        lab.at(second * 1000);
        fire(&lab, &jobs).await;
    }
    assert_eq!(held(&lab, "well").await.counts.fired, 1);
    let asked = jobs.asked.load(Ordering::Relaxed);
    assert!((250..=250 * 6).contains(&asked), "{asked}: each was tried, and not at every look");
    cancel_all(&lab).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_slot_that_is_stuck_says_why_and_is_told_of_after_a_minute_once() {
    let (lab, jobs) = (Lab::new().await, Picky::default());
    put(&lab.store, &each_minute("stuck-1", "skip")).await;
    let why = "its secret is missing".to_owned();
    lab.at(MINUTE + 200);
    fire(&lab, &jobs).await;
    let stuck = Stuck { slot: NOON + MINUTE, since: NOON + MINUTE + 200, why: why.clone() };
    assert_eq!(held(&lab, "stuck-1").await.stuck, Some(stuck));
    assert_eq!(lab.store.alerts(0, 9).await.unwrap(), []);
    // Its policy gives the slot up when it is late; the reason is the one that was met, and no other.
    lab.at(2 * MINUTE + 1);
    fire(&lab, &jobs).await;
    let schedule = held(&lab, "stuck-1").await;
    let missed = schedule.last_missed.unwrap();
    assert_eq!(missed.why, "not_fired: it could not fire in time: its secret is missing");
    assert_eq!(schedule.stuck.map(|stuck| stuck.slot), Some(NOON + 2 * MINUTE), "the next one is stuck, too");
    for minute in 3..=9 {
        lab.at(minute * MINUTE + 1);
        fire(&lab, &jobs).await;
    }
    assert_eq!(held(&lab, "stuck-1").await.counts.missed, 8);
    assert_eq!(lab.store.alerts(0, 99).await.unwrap().len(), 1, "one reason is told of once");
    lab.finish().await;
}

#[tokio::test]
async fn a_schedule_whose_slots_are_stuck_one_after_the_other_is_told_of_once() {
    let (lab, jobs) = (Lab::new().await, Picky::default());
    put(&lab.store, &each_minute("stuck-1", "once")).await;
    for second in (60..900).step_by(5) {
        lab.at(second * 1000);
        fire(&lab, &jobs).await;
    }
    let alerts = lab.store.alerts(0, 99).await.unwrap();
    let told = |word: &str| alerts.iter().filter(|alert| alert.word == word).count();
    assert_eq!((told("schedule_stuck"), told("schedule_missed")), (1, 1), "{alerts:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_slot_that_stays_stuck_is_told_of_once_and_forgotten_when_it_fires() {
    let (lab, jobs) = (Lab::new().await, Picky::default());
    let mut spec = each_minute("stuck-1", "once");
    spec.rules.cron = "0 * * * *".to_owned();
    put(&lab.store, &spec).await;
    for second in (3600..3600 + 300).step_by(5) {
        lab.at(second * 1000);
        assert_eq!(fire(&lab, &jobs).await, 0);
    }
    let alerts = lab.store.alerts(0, 9).await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.word.as_str()).collect::<Vec<_>>(), ["schedule_stuck"]);
    let about: serde_json::Value = serde_json::from_str(&alerts[0].document).unwrap();
    assert_eq!((&about["schedule"], &about["detail"]), (&"stuck-1".into(), &"its secret is missing".into()));
    let after = alerts[0].at - NOON - 60 * MINUTE;
    assert!((60_000..=80_000).contains(&after), "{after}: at the first try after a minute");
    spec.job = r#"{"mended":true}"#.into();
    put(&lab.store, &spec).await;
    assert_eq!(held(&lab, "stuck-1").await.stuck, None, "what was changed is tried at once");
    assert_eq!(fire(&lab, &jobs.maker).await, 1);
    assert_eq!((held(&lab, "stuck-1").await.stuck, held(&lab, "stuck-1").await.counts.fired), (None, 1));
    cancel_all(&lab).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_tick_decides_on_a_bounded_number_of_slots_and_goes_on_with_the_rest() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    for n in 0..12 {
        put(&lab.store, &each_minute(&format!("busy-{n}"), "all:1000")).await;
    }
    lab.at(60 * MINUTE);
    let first = fire(&lab, &maker).await;
    assert_eq!(first, 500, "of 720 that are due");
    assert_eq!(lab.store.schedules(None, None, 99).await.unwrap().iter().map(|s| s.counts.fired).max(), Some(50));
    while fire(&lab, &maker).await > 0 {}
    let fired: Vec<u64> = lab.store.schedules(None, None, 99).await.unwrap().iter().map(|s| s.counts.fired).collect();
    assert_eq!(fired, [60; 12]);
    cancel_all(&lab).await;
    lab.finish().await;
}

/// Makes a job of each slot when it is let.
struct Slow {
    maker: Maker,
    asked: Arc<Semaphore>,
    lets: Arc<Semaphore>,
}

#[async_trait]
impl SlotJobs for Slow {
    async fn job(&self, schedule: &Schedule, slot: UnixMs) -> Result<NewJob, SlotRefusal> {
        self.asked.add_permits(1);
        self.lets.acquire().await.unwrap().forget();
        self.maker.job(schedule, slot).await
    }
}

#[tokio::test]
async fn upkeep_that_is_stopped_while_it_catches_up_begins_no_other_slot() {
    let lab = Lab::new().await;
    put(&lab.store, &each_minute("busy", "all:1000")).await;
    lab.at(40 * MINUTE);
    let (asked, lets) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let slow = Arc::new(Slow { maker: Maker::default(), asked: asked.clone(), lets: lets.clone() });
    let mut upkeep =
        upkeep::Upkeep::start(&lab.store, UpkeepOptions::default()).with_schedules(&lab.store, slow, 10, MANY);
    asked.acquire().await.unwrap().forget();
    {
        let stop = upkeep.stop();
        tokio::pin!(stop);
        assert!(futures::poll!(&mut stop).is_pending(), "it is in the middle of a slot");
        lets.add_permits(1000);
        stop.await;
    }
    assert_eq!(held(&lab, "busy").await.counts.fired, 1);
    cancel_all(&lab).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_tick_that_is_stopped_before_it_began_decides_on_nothing() {
    let (lab, maker, stop) = (Lab::new().await, Maker::default(), CancellationToken::new());
    let mut clock = ClockWatch::new(60_000, 15_000);
    put(&lab.store, &each_minute("busy", "all:1000")).await;
    lab.at(MINUTE);
    stop.cancel();
    assert_eq!(upkeep::fire_by(&lab.store, &maker, MANY, &mut clock, &stop).await.unwrap(), 0);
    assert_eq!(held(&lab, "busy").await.counts.fired, 0);
    lab.finish().await;
}

#[tokio::test]
async fn an_expression_that_cannot_be_read_any_more_waits_and_is_told_of() {
    let lab = Lab::new().await;
    let mut spec = each_minute("old", "once");
    let table = spec.rules.timetable().unwrap();
    (spec.rules.cron, spec.rules.missed) = ("0 0 * MON *".to_owned(), Missed::Skip);
    lab.store.put_schedule(&spec, &table, None).await.unwrap();
    for second in (60..=180).step_by(5) {
        lab.at(second * 1000);
        assert_eq!(fire(&lab, &Maker::default()).await, 0);
    }
    let alerts = lab.store.alerts(0, 9).await.unwrap();
    assert_eq!(alerts.len(), 1);
    assert!(alerts[0].document.contains("month `MON`"), "{}", alerts[0].document);
    assert!(held(&lab, "old").await.stuck.unwrap().why.contains("month `MON`"));
    lab.finish().await;
}
