//! Schedules on a real Redis: slots, missed runs, changes, lost replies. The clock stands still unless a test moves it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use leasehold_engine::{
    NewJob, Place, Store, UnixMs,
    model::{Dropped, Schedule, ScheduleRules, ScheduleSpec},
    store::{Alert, SchedulePut, ScheduleRemoved, Slot},
    testing::{Lab, NOON},
    upkeep::{self, SlotJobs, SlotRefusal},
};

const HOUR: i64 = 3_600_000;
const MANY: u64 = 1_000_000;

/// Makes a job of each slot, unless a rule is set up to say no.
#[derive(Default)]
pub(crate) struct Maker {
    says_no: Mutex<Option<SlotRefusal>>,
}

impl Maker {
    fn refuse(&self, with: Option<SlotRefusal>) {
        *self.says_no.lock().unwrap() = with;
    }
}

#[async_trait]
impl SlotJobs for Maker {
    async fn job(&self, schedule: &Schedule, slot: UnixMs) -> Result<NewJob, SlotRefusal> {
        if let Some(no) = self.says_no.lock().unwrap().clone() {
            return Err(no);
        }
        let spec = &schedule.spec;
        let args = format!("{} {slot}", spec.name);
        Ok(NewJob::new(leasehold_engine::JobId::new(0), "puppet", spec.tenant.clone(), args.into_bytes()))
    }
}

pub(crate) fn spec(name: &str, cron: &str, zone: &str, missed: &str) -> ScheduleSpec {
    let rules = ScheduleRules {
        cron: cron.to_owned(),
        zone: zone.to_owned(),
        missed: missed.parse().unwrap(),
        paused: false,
        made_by: "key_1".to_owned(),
        from_file: false,
    };
    ScheduleSpec { tenant: "t-001".to_owned(), name: name.to_owned(), rules, job: "{}".into() }
}

/// An hourly schedule of Shanghai, written at noon.
pub(crate) fn hourly(missed: &str) -> ScheduleSpec {
    spec("hourly", "0 * * * *", "Asia/Shanghai", missed)
}

pub(crate) async fn put(store: &Store, spec: &ScheduleSpec) -> u32 {
    match store.put_schedule(spec, &spec.rules.timetable().unwrap(), None).await.unwrap() {
        SchedulePut::Ok(revision) => revision,
        other => panic!("{other:?}"),
    }
}

async fn held(lab: &Lab) -> Schedule {
    lab.store.schedule("t-001", "hourly").await.unwrap().unwrap()
}

async fn fire(lab: &Lab, maker: &Maker) -> usize {
    upkeep::fire(&lab.store, maker, MANY).await.unwrap()
}

/// The arguments of all jobs, sorted; each is cancelled, so that none is left.
async fn made(lab: &Lab) -> Vec<String> {
    let page = lab.store.jobs(&leasehold_engine::store::JobFilter::default(), None, 500).await.unwrap();
    let mut texts = Vec::new();
    for job in page.jobs.iter().filter(|job| !job.place.is_final()) {
        texts.push(String::from_utf8_lossy(&job.args).into_owned());
        lab.store.cancel(&job.id, "", None).await.unwrap();
    }
    texts.sort();
    texts
}

fn at_hours(hours: &[i64]) -> Vec<String> {
    hours.iter().map(|hour| format!("hourly {}", NOON + hour * HOUR)).collect()
}

fn documents(alerts: &[Alert]) -> Vec<serde_json::Value> {
    alerts.iter().map(|alert| serde_json::from_str(&alert.document).unwrap()).collect()
}

#[tokio::test]
async fn a_due_slot_makes_one_job_and_says_how_late_it_was() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    assert_eq!(put(&lab.store, &hourly("once")).await, 1);
    assert_eq!((fire(&lab, &maker).await, held(&lab).await.next), (0, Some(NOON + HOUR)));
    lab.at(HOUR + 250);
    assert_eq!(fire(&lab, &maker).await, 1);
    assert_eq!(fire(&lab, &maker).await, 0);
    let schedule = held(&lab).await;
    assert_eq!((schedule.cursor, schedule.next), (NOON + HOUR, Some(NOON + 2 * HOUR)));
    assert_eq!((schedule.counts.fired, schedule.counts.late, schedule.counts.lateness_ms), (1, 0, 250));
    let fired = schedule.last_fired.unwrap();
    assert_eq!((fired.slot, fired.at), (NOON + HOUR, NOON + HOUR + 250));
    assert_eq!(lab.place(&fired.job).await, Place::Ready);
    lab.at(2 * HOUR + 90_000);
    fire(&lab, &maker).await;
    let counts = held(&lab).await.counts;
    assert_eq!((counts.fired, counts.late, counts.max_lateness_ms, counts.lateness_sum_ms), (2, 1, 90_000, 90_250));
    assert_eq!(made(&lab).await, at_hours(&[1, 2]));
    lab.finish().await;
}

#[tokio::test]
async fn each_policy_decides_on_what_was_missed_and_an_alert_tells_of_it() {
    for (policy, fired, missed) in [
        ("skip", vec![], 4),
        ("once", vec![4], 3),
        ("all:2", vec![3, 4], 2),
        ("all:9", vec![1, 2, 3, 4], 0),
        ("within:2h", vec![3, 4], 2),
    ] {
        let (lab, maker) = (Lab::new().await, Maker::default());
        put(&lab.store, &hourly(policy)).await;
        lab.at(4 * HOUR + 600_000);
        while fire(&lab, &maker).await > 0 {}
        assert_eq!(made(&lab).await, at_hours(&fired), "{policy}");
        let schedule = held(&lab).await;
        assert_eq!((schedule.counts.missed, schedule.counts.late), (missed, fired.len() as u64), "{policy}");
        assert_eq!(schedule.next, Some(NOON + 5 * HOUR));
        let alerts = lab.store.alerts(NOON, 10).await.unwrap();
        assert_eq!(alerts.len(), usize::from(missed > 0), "{policy}");
        if let [alert] = &documents(&alerts)[..] {
            assert_eq!(
                (&alert["schedule"], &alert["slots"], &alert["code"]),
                (&"hourly".into(), &missed.into(), &"not_fired".into())
            );
            assert_eq!(alerts[0].word, "schedule_missed");
        }
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_rule_that_says_no_makes_the_slot_missed_and_is_told_of_once_a_day() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    put(&lab.store, &hourly("all:100")).await;
    let no = |code: &str| SlotRefusal::Refused { code: code.to_owned(), detail: "no".to_owned() };
    maker.refuse(Some(no("lease_restricted")));
    for hour in 1..=24 {
        lab.at(hour * HOUR);
        assert_eq!(fire(&lab, &maker).await, 1);
    }
    let schedule = held(&lab).await;
    assert_eq!((schedule.counts.missed, schedule.last_missed.unwrap().why.as_str()), (24, "lease_restricted: no"));
    assert_eq!(lab.store.alerts(0, 100).await.unwrap().len(), 2, "the first, and the one of the next day");
    maker.refuse(Some(no("maintenance_window")));
    lab.at(26 * HOUR);
    assert_eq!(fire(&lab, &maker).await, 2);
    assert_eq!(lab.store.alerts(0, 100).await.unwrap().len(), 3, "another reason is news");
    assert!(made(&lab).await.is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn what_cannot_be_said_now_stays_due_and_fires_late() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    put(&lab.store, &hourly("once")).await;
    maker.refuse(Some(SlotRefusal::NotNow("the catalogue is away".to_owned())));
    lab.at(HOUR);
    assert_eq!(fire(&lab, &maker).await, 0);
    maker.refuse(None);
    assert_eq!(upkeep::fire(&lab.store, &maker, 0).await.unwrap(), 0, "the store is full");
    assert_eq!(held(&lab).await.overdue_ms(NOON + HOUR + 5), 5);
    lab.at(HOUR + 70_000);
    assert_eq!(fire(&lab, &maker).await, 1);
    assert_eq!((held(&lab).await.counts.late, held(&lab).await.counts.missed), (1, 0));
    assert_eq!(made(&lab).await, at_hours(&[1]));
    lab.finish().await;
}

#[tokio::test]
async fn a_paused_schedule_fires_nothing_and_what_passes_meanwhile_is_not_missed() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    let mut spec = hourly("all:100");
    put(&lab.store, &spec).await;
    spec.rules.paused = true;
    assert_eq!(put(&lab.store, &spec).await, 2);
    lab.at(3 * HOUR + 1);
    assert_eq!((fire(&lab, &maker).await, held(&lab).await.next), (0, None));
    spec.rules.paused = false;
    assert_eq!(put(&lab.store, &spec).await, 3);
    assert_eq!((fire(&lab, &maker).await, held(&lab).await.next), (0, Some(NOON + 4 * HOUR)));
    lab.at(4 * HOUR);
    fire(&lab, &maker).await;
    assert_eq!((made(&lab).await, held(&lab).await.counts.missed), (at_hours(&[4]), 0));
    lab.finish().await;
}

#[tokio::test]
async fn a_change_shuts_out_whoever_read_the_schedule_before_it() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    let mut spec = hourly("once");
    put(&lab.store, &spec).await;
    let (old, table) = (held(&lab).await, spec.rules.timetable().unwrap());
    lab.at(HOUR);
    spec.job = r#"{"kind":"other"}"#.into();
    assert_eq!(put(&lab.store, &spec).await, 2);
    let job = maker.job(&old, NOON + HOUR).await.unwrap();
    let stale = lab.store.fire_slot(&old, &table, old.cursor, (NOON + HOUR, job), MANY).await.unwrap();
    assert_eq!(stale, Slot::Overtaken);
    assert_eq!(fire(&lab, &maker).await, 1, "its times are the same, so what was due is due");
    lab.at(2 * HOUR);
    spec.rules.cron = "30 * * * *".to_owned();
    put(&lab.store, &spec).await;
    assert_eq!(fire(&lab, &maker).await, 0, "its times are others, and count from now");
    assert_eq!(held(&lab).await.next, Some(NOON + 2 * HOUR + HOUR / 2));
    let conflict = lab.store.put_schedule(&hourly("skip"), &table, Some(2)).await.unwrap();
    assert_eq!(conflict, SchedulePut::Conflict(3));
    assert_eq!(lab.store.put_schedule(&hourly("skip"), &table, Some(0)).await.unwrap(), SchedulePut::Conflict(3));
    assert_eq!(made(&lab).await, at_hours(&[1]));
    lab.finish().await;
}

#[tokio::test]
async fn eng_07_a_slot_decided_while_a_change_was_on_its_way_fires_no_second_time() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    let mut spec = hourly("all:100");
    put(&lab.store, &spec).await;
    lab.at(HOUR);
    assert_eq!(fire(&lab, &maker).await, 1);
    // What the writer took for the time is older than the decision that came first.
    lab.at(HOUR - 1);
    spec.rules.cron = "0,30 * * * *".to_owned();
    assert_eq!(put(&lab.store, &spec).await, 2);
    assert_eq!((held(&lab).await.cursor, held(&lab).await.next), (NOON + HOUR, Some(NOON + HOUR + HOUR / 2)));
    lab.at(HOUR + 1);
    assert_eq!(fire(&lab, &maker).await, 0);
    spec.rules.paused = true;
    lab.at(HOUR - 1);
    assert_eq!((put(&lab.store, &spec).await, held(&lab).await.next), (3, None));
    assert_eq!(made(&lab).await, at_hours(&[1]));
    lab.store.remove_schedule("t-001", "hourly", None).await.unwrap();
    put(&lab.store, &hourly("once")).await;
    assert_eq!(held(&lab).await.cursor, NOON + HOUR - 1, "one made anew is another one");
    lab.finish().await;
}

#[tokio::test]
async fn e10_every_decision_sent_again_gives_the_same_answer_and_happens_once() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    let (spec, table) = (hourly("once"), hourly("once").rules.timetable().unwrap());
    for _ in 0..3 {
        assert_eq!(lab.store.put_schedule(&spec, &table, Some(0)).await.unwrap(), SchedulePut::Ok(1));
    }
    lab.at(HOUR);
    let (schedule, slot) = (held(&lab).await, NOON + HOUR);
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let job = maker.job(&schedule, slot).await.unwrap();
        jobs.push(lab.store.fire_slot(&schedule, &table, NOON, (slot, job), MANY).await.unwrap());
    }
    assert!(matches!(&jobs[0], Slot::Fired(_)) && jobs[0] == jobs[1] && jobs[0] == jobs[2], "{jobs:?}");
    let dropped = Dropped { slots: 2, first: slot + HOUR, last: slot + 2 * HOUR };
    for _ in 0..3 {
        let why = ("not_fired", Some("{}".to_owned()));
        assert_eq!(lab.store.skip_slots(&schedule, &table, slot, dropped, why).await.unwrap(), Slot::Skipped);
    }
    let counts = held(&lab).await.counts;
    assert_eq!((counts.fired, counts.missed, lab.store.alerts(0, 9).await.unwrap().len()), (1, 2, 1));
    assert_eq!(made(&lab).await, at_hours(&[1]));
    assert_eq!(lab.store.remove_schedule("t-001", "hourly", Some(7)).await.unwrap(), ScheduleRemoved::Conflict(1));
    assert_eq!(lab.store.remove_schedule("t-001", "hourly", None).await.unwrap(), ScheduleRemoved::Ok);
    assert_eq!(lab.store.remove_schedule("t-001", "hourly", None).await.unwrap(), ScheduleRemoved::Gone);
    lab.at(9 * HOUR);
    assert_eq!(fire(&lab, &maker).await, 0);
    lab.finish().await;
}

#[tokio::test]
async fn eng_07_who_read_the_schedule_before_a_slot_was_decided_decides_on_it_no_more() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    put(&lab.store, &hourly("once")).await;
    let (stale, table) = (held(&lab).await, hourly("once").rules.timetable().unwrap());
    for hour in [1, 2] {
        lab.at(hour * HOUR);
        fire(&lab, &maker).await;
    }
    let late = maker.job(&stale, NOON + HOUR).await.unwrap();
    let fired = lab.store.fire_slot(&stale, &table, stale.cursor, (NOON + HOUR, late), MANY).await.unwrap();
    let dropped = Dropped { slots: 1, first: NOON + HOUR, last: NOON + HOUR };
    let skipped = lab.store.skip_slots(&stale, &table, stale.cursor, dropped, ("not_fired", None)).await.unwrap();
    assert_eq!((fired, skipped), (Slot::Overtaken, Slot::Overtaken));
    assert_eq!((held(&lab).await.counts.missed, made(&lab).await), (0, at_hours(&[1, 2])));
    lab.finish().await;
}

#[tokio::test]
async fn a_schedule_made_anew_does_not_take_the_job_of_the_first_for_its_own() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    put(&lab.store, &hourly("once")).await;
    lab.at(HOUR);
    fire(&lab, &maker).await;
    lab.store.remove_schedule("t-001", "hourly", None).await.unwrap();
    lab.at(HOUR - 1000);
    put(&lab.store, &hourly("once")).await;
    lab.at(HOUR);
    assert_eq!(fire(&lab, &maker).await, 1);
    assert_eq!(made(&lab).await, at_hours(&[1, 1]), "a clock that goes back shows the slot to both");
    lab.finish().await;
}

#[tokio::test]
async fn a_long_outage_of_a_busy_schedule_is_counted_in_pieces_and_told_once() {
    let (lab, maker) = (Lab::new().await, Maker::default());
    put(&lab.store, &spec("hourly", "* * * * * *", "UTC", "once")).await;
    lab.at(4 * HOUR);
    let mut rounds = 0;
    while fire(&lab, &maker).await > 0 {
        rounds += 1;
    }
    assert!(rounds >= 3, "{rounds}");
    let counts = held(&lab).await.counts;
    assert_eq!((counts.fired, counts.missed), (3, 4 * 3600 - 3));
    let alerts = documents(&lab.store.alerts(0, 100).await.unwrap());
    assert_eq!((alerts.len(), &alerts[0]["slots"]), (1, &counts.missed.into()));
    assert_eq!(made(&lab).await.len(), 3);
    lab.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loop_of_upkeep_fires_by_the_clock_of_the_store() {
    let lab = Lab::with_running_clock().await;
    put(&lab.store, &spec("hourly", "* * * * * *", "UTC", "once")).await;
    let options = upkeep::UpkeepOptions::default();
    let mut upkeep =
        upkeep::Upkeep::start(&lab.store, options).with_schedules(&lab.store, Arc::new(Maker::default()), 10, MANY);
    let changes = lab.store.changes(true);
    let mut hints = changes.listen();
    let two = async {
        while held(&lab).await.counts.fired < 2 {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(100), hints.recv()).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), two).await.expect("two seconds go by");
    upkeep.stop().await;
    upkeep.stop().await;
    assert_eq!(made(&lab).await.len() as u64, held(&lab).await.counts.fired);
    lab.finish().await;
}
