//! Freezes and windows: nothing starts while they stand, nor what would not be done before, and it goes on by itself after.

use leasehold_engine::{
    JobId, Place,
    model::{
        BlockedBy,
        gate::{FOREVER, Freeze, Gate, Gates, Reach},
        window::{Mode, Window},
    },
    testing::{Lab, NOON, Puppet},
    upkeep::{
        Upkeep, UpkeepOptions, windows,
        windows::{WINDOWS, override_freeze},
    },
};

use crate::{
    claim, expect_place,
    gates::{codes, note, run_all},
};

const HOUR: i64 = 3_600_000;

fn freeze(id: &str, reach: Reach, from: i64, until: i64) -> Gate {
    let (from, until) = (NOON + from, NOON + until);
    let (reason, owner) = ("books".to_owned(), "finance".to_owned());
    Gate::Freeze(Freeze { id: id.to_owned(), reach, from, until, reason, owner, note: note("") })
}

async fn claimed(lab: &Lab) -> usize {
    let got = claim(lab, "w", 9).await.jobs;
    for job in &got {
        crate::settle(lab, &job.id, job.fence, leasehold_engine::store::Outcome::Done).await;
    }
    got.len()
}

#[tokio::test]
async fn a_freeze_stops_what_is_in_its_reach_and_ends_by_itself() {
    let lab = Lab::new().await;
    let reach = |kind: &str, tenant: &str, resource: &str| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Reach { kind: some(kind), tenant: some(tenant), resource: some(resource) }
    };
    for (nth, (reach, stops)) in [
        (reach("", "", ""), true),
        (reach("puppet", "t-001", "dc:1"), true),
        (reach("", "", "dc:2"), true),
        (reach("other", "", ""), false),
        (reach("puppet", "t-002", ""), false),
        (reach("puppet", "", "dc:3"), false),
    ]
    .into_iter()
    .enumerate()
    {
        let begin = i64::try_from(nth).unwrap() * HOUR;
        lab.at(begin);
        lab.store.put_gate(&freeze("year-end", reach.clone(), begin, begin + 1000)).await.unwrap();
        let mut job = Puppet::job(&lab.store, "done");
        job.resources = vec![
            leasehold_engine::model::Resource::exclusive("dc:1"),
            leasehold_engine::model::Resource::shared("dc:2"),
        ];
        let id = lab.enqueue(job).await;
        assert_eq!(claimed(&lab).await, usize::from(!stops), "{reach:?}");
        if stops {
            let record = lab.job(&id).await.record;
            assert_eq!((record.place, record.blocked_by), (Place::Blocked, BlockedBy::Frozen));
            assert_eq!(codes(&lab, &id).await, ["frozen", "no_live_worker"]);
            lab.at(begin + 999);
            assert_eq!(claimed(&lab).await, 0);
            lab.at(begin + 1000);
            assert_eq!(claimed(&lab).await, 1, "it ends by itself");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_job_that_would_not_end_before_a_freeze_is_not_started() {
    let lab = Lab::new().await;
    lab.store.put_gate(&freeze("year-end", Reach::default(), 1000, 2000)).await.unwrap();
    lab.store.gate_set("d puppet", b"600").await.unwrap();
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.at(400);
    assert_eq!(claimed(&lab).await, 0, "95 of 100 take up to 600 ms");
    assert_eq!(lab.job(&id).await.record.blocked_by, BlockedBy::NoFit);
    assert_eq!(codes(&lab, &id).await, ["does_not_fit", "no_live_worker"]);
    lab.at(2000);
    assert_eq!(claimed(&lab).await, 1);
    lab.store.put_gate(&freeze("year-end", Reach::default(), 4000, 5000)).await.unwrap();
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.at(3399);
    assert_eq!(claimed(&lab).await, 1, "it fits");
    lab.finish().await;
}

#[tokio::test]
async fn a_freeze_that_is_lifted_or_shortened_lets_jobs_go_at_once() {
    let lab = Lab::new().await;
    for lifted in [true, false] {
        lab.store.put_gate(&freeze("incident", Reach::default(), 0, 9 * HOUR)).await.unwrap();
        let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
        assert_eq!(claimed(&lab).await, 0);
        expect_place(&lab, &id, Place::Blocked).await;
        match lifted {
            true => assert!(override_freeze(&lab.store, "incident", &note("urgent")).await.unwrap()),
            false => drop(lab.store.put_gate(&freeze("incident", Reach::default(), -1, 0)).await.unwrap()),
        }
        assert_eq!(claimed(&lab).await, 1);
    }
    lab.finish().await;
}

/// A window of one hour that opens at 14:00 in Shanghai; noon there is [`NOON`].
fn window(mode: Mode) -> Window {
    Window {
        reach: Reach { kind: Some("puppet".to_owned()), ..Reach::default() },
        zone: "Asia/Shanghai".to_owned(),
        opens: "0 14 * * *".to_owned(),
        duration_ms: 3_600_000,
        mode,
        reason: "patches".to_owned(),
        owner: "ops".to_owned(),
        note: note(""),
    }
}

async fn put(lab: &Lab, window: &Window) {
    let document = serde_json::to_vec(window).unwrap();
    lab.store.put_document(WINDOWS, "afternoon", &document, None).await.unwrap();
    windows(&lab.store).await.unwrap();
}

async fn freezes(lab: &Lab) -> Vec<Freeze> {
    let mut all: Vec<_> = lab.store.standing().await.unwrap().freezes().cloned().collect();
    all.sort_by_key(|freeze| freeze.from);
    all
}

#[tokio::test]
async fn a_job_starts_only_inside_of_an_allowed_window() {
    let lab = Lab::new().await;
    put(&lab, &window(Mode::Allow)).await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    assert_eq!(claimed(&lab).await, 0);
    let seen = lab.store.seen(&id).await.unwrap().unwrap();
    let why = leasehold_engine::model::explain::explain(&seen).remove(0);
    assert_eq!((why.code, why.until), ("window_closed", Some(NOON + 2 * HOUR)));
    lab.at(2 * HOUR - 1);
    assert_eq!(claimed(&lab).await, 0);
    lab.at(2 * HOUR);
    assert_eq!(claimed(&lab).await, 1, "by itself, without upkeep");
    let late = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.at(3 * HOUR);
    assert_eq!(claimed(&lab).await, 0, "it is over");
    lab.store.cancel(&late, "", None).await.unwrap();
    lab.finish().await;
}

#[tokio::test]
async fn no_job_starts_inside_of_a_denied_window() {
    let lab = Lab::new().await;
    put(&lab, &window(Mode::Deny)).await;
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    assert_eq!(claimed(&lab).await, 1);
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.at(2 * HOUR);
    assert_eq!(claimed(&lab).await, 0);
    lab.at(3 * HOUR);
    assert_eq!(claimed(&lab).await, 1);
    lab.finish().await;
}

#[tokio::test]
async fn upkeep_writes_windows_ahead_and_takes_away_what_is_over() {
    let lab = Lab::new().await;
    put(&lab, &window(Mode::Allow)).await;
    let first = freezes(&lab).await;
    assert_eq!(first.last().unwrap().until, FOREVER, "what was not looked at is closed");
    assert_eq!(windows(&lab.store).await.unwrap(), 0, "a second look changes nothing");
    lab.at(26 * HOUR);
    assert!(windows(&lab.store).await.unwrap() > 0);
    let later = freezes(&lab).await;
    assert_eq!(later[0], first[2], "what stands stays as it is");
    assert!(later.last().unwrap().from > first.last().unwrap().from, "further ahead");
    lab.store.delete_document(WINDOWS, "afternoon").await.unwrap();
    windows(&lab.store).await.unwrap();
    assert_eq!(freezes(&lab).await, []);
    lab.finish().await;
}

#[tokio::test]
async fn a_changed_window_holds_at_once_and_frees_whom_it_held() {
    let lab = Lab::new().await;
    put(&lab, &window(Mode::Allow)).await;
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    assert_eq!(claimed(&lab).await, 0);
    put(&lab, &Window { opens: "30 11 * * *".to_owned(), ..window(Mode::Allow) }).await;
    assert_eq!(claimed(&lab).await, 1, "noon is inside now");
    lab.finish().await;
}

#[tokio::test]
async fn an_override_of_a_closed_window_lasts_until_its_end_and_not_longer() {
    let lab = Lab::new().await;
    put(&lab, &window(Mode::Allow)).await;
    let id: JobId = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    assert_eq!(claimed(&lab).await, 0);
    let closed = freezes(&lab).await[0].id.clone();
    assert!(override_freeze(&lab.store, &closed, &note("the customer waits")).await.unwrap());
    windows(&lab.store).await.unwrap();
    assert_eq!(run_all(&lab).await, 1, "upkeep does not write it again");
    expect_place(&lab, &id, Place::Succeeded).await;
    lab.at(26 * HOUR - 1);
    windows(&lab.store).await.unwrap();
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    assert_eq!(claimed(&lab).await, 0, "the next day is another one");
    lab.at(26 * HOUR);
    assert_eq!(claimed(&lab).await, 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_freeze_that_is_long_over_is_taken_away() {
    let lab = Lab::new().await;
    lab.store.put_gate(&freeze("year-end", Reach::default(), 0, 1000)).await.unwrap();
    lab.at(1000 + HOUR - 1);
    assert_eq!(windows(&lab.store).await.unwrap(), 0);
    lab.at(1000 + HOUR);
    assert_eq!(windows(&lab.store).await.unwrap(), 1);
    assert_eq!(freezes(&lab).await, []);
    lab.finish().await;
}

/// Waits until upkeep has brought it about, at most 20 s.
async fn until(lab: &Lab, is_so: impl Fn(&Gates) -> bool) {
    let wait = async {
        while !is_so(&lab.store.standing().await.unwrap()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("upkeep does it");
}

#[tokio::test]
async fn upkeep_by_itself_measures_kinds_and_writes_windows_ahead() {
    let lab = Lab::new().await;
    for _ in 0..20 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    let got = claim(&lab, "w", 20).await.jobs;
    lab.at(250);
    for job in &got {
        crate::settle(&lab, &job.id, job.fence, leasehold_engine::store::Outcome::Done).await;
    }
    let document = serde_json::to_vec(&window(Mode::Deny)).unwrap();
    lab.store.put_document(WINDOWS, "afternoon", &document, None).await.unwrap();
    let short = UpkeepOptions { measure_ms: 20, windows_ms: 20, max_jump_ms: u64::MAX, ..UpkeepOptions::default() };
    let mut upkeep = Upkeep::start(&lab.store, short);
    until(&lab, |gates| gates.takes_ms.get("puppet") == Some(&250)).await;
    until(&lab, |gates| gates.freezes().next().is_some()).await;
    let last = freezes(&lab).await.last().unwrap().from;
    lab.at(24 * HOUR);
    until(&lab, |gates| gates.freezes().any(|freeze| freeze.from > last)).await;
    upkeep.stop().await;
    lab.finish().await;
}
