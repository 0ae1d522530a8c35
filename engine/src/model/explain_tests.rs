//! Each reason from what gives it, their order, and that no code goes untested.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::model::{
    ApprovalSpec, Awaited, Effect, Event, JobRecord, NewJob, Progress, Resource, Step, Wait,
    gate::{ClockJump, FOREVER, Freeze, Gate, Limit, LimitScope, Note, Rate, Reach, Scope},
    pack,
};

const NOW: UnixMs = 1_000_000;

/// A ready job of kind `patch` in queue `slow`, of tenant `t`, with a worker that serves it and has room.
fn ready() -> Seen {
    let mut new = NewJob::new(JobId::new(0), "patch", "t", &b"{}"[..]);
    new.queue = "slow".to_owned();
    new.key = Some("host-1".to_owned());
    new.resources = vec![Resource::exclusive("dc:1")];
    let mut record = JobRecord::parse(new.id.clone(), &Bytes::from(pack(&new))).unwrap();
    record.place = Place::Ready;
    let worker = WorkerSaid { queues: vec!["slow".to_owned()], kinds: vec!["patch".to_owned()], slots: 2, running: 1 };
    Seen {
        now: NOW,
        job: JobView { record, steps: Vec::new(), progress: Progress::default() },
        gates: gate::Gates::default(),
        resources: Vec::new(),
        limits: Vec::new(),
        workers: vec![worker],
        pending: Vec::new(),
    }
}

fn place(place: Place) -> Seen {
    let mut seen = ready();
    seen.job.record.place = place;
    seen
}

fn with(mut seen: Seen, change: impl FnOnce(&mut Seen)) -> Seen {
    change(&mut seen);
    seen
}

fn note(why: &str) -> Note {
    Note { why: why.to_owned(), by: "u1".to_owned(), at: 0 }
}

fn freeze(id: &str, from: UnixMs, until: UnixMs) -> Gate {
    Gate::Freeze(Freeze {
        id: id.to_owned(),
        reach: Reach {
            kind: Some("patch".to_owned()),
            tenant: Some("t".to_owned()),
            resource: Some("dc:1".to_owned()),
        },
        from,
        until,
        reason: "books".to_owned(),
        owner: "finance".to_owned(),
        note: Note::default(),
    })
}

fn gated(gates: Vec<Gate>) -> Seen {
    with(ready(), |seen| seen.gates.all = gates)
}

fn event(word: EventWord, note: &str) -> Event {
    Event { seq: 2, word, at: 0, attempt: 1, note: note.to_owned() }
}

fn waits(awaited: Awaited, sort: Sort) -> Step {
    Step {
        name: "go-ahead".to_owned(),
        sort,
        effect: Effect::ReadOnly,
        done: false,
        undoable: false,
        wait: Some(Wait { until: NOW + 5000, awaited }),
        ordinal: 0,
        begun_at: 0,
        done_at: 0,
        fence: 1,
        result: Vec::new(),
    }
}

fn limited(max_running: Option<u32>, rate: Option<Rate>, running: u64, starts: &[UnixMs]) -> Seen {
    let scope = LimitScope::Key("patch".to_owned());
    let limit = Limit { scope, max_running, rate, note: Note::default() };
    with(ready(), |seen| seen.limits = vec![LimitSeen { limit, running, starts: starts.to_vec() }])
}

fn codes(seen: &Seen) -> Vec<&'static str> {
    explain(seen).into_iter().map(|reason| reason.code).collect()
}

/// What is seen, and the codes that follow.
fn table() -> Vec<(Seen, Vec<&'static str>)> {
    let spec = ApprovalSpec {
        from: ["role:it_ops".to_owned()].into(),
        needed: 2,
        requester: "user:u1".to_owned(),
        args_sha256: String::new(),
        prompt: "restart the host?".to_owned(),
    };
    let id = JobId::new(0);
    let planned =
        |gates| with(gated(gates), |s| (s.job.record.place, s.job.record.run_at) = (Place::Scheduled, NOW + 1000));
    let waiting = |awaited, sort| with(place(Place::Waiting), |s| s.job.steps = vec![waits(awaited, sort)]);
    let rate = Some(Rate { count: 2, period_ms: 1000 });
    let held =
        ResourceSeen { name: "dc:1".to_owned(), holders: vec![id.clone()], many_holders: 1, ..ResourceSeen::default() };
    let takes = |seen: Seen, ms| with(seen, |s| s.gates.takes_ms = [("patch".to_owned(), ms)].into());
    vec![
        (ready(), vec!["waiting_for_a_worker"]),
        (with(ready(), |s| s.workers[0].running = 2), vec!["workers_busy"]),
        (with(ready(), |s| s.workers.clear()), vec!["no_live_worker"]),
        (with(ready(), |s| s.workers[0].kinds = vec!["other".to_owned()]), vec!["unknown_kind"]),
        (with(ready(), |s| s.workers[0].kinds.clear()), vec!["waiting_for_a_worker"]),
        (place(Place::Blocked), vec!["going_on"]),
        (place(Place::Succeeded), vec!["ended"]),
        (place(Place::Dead), vec!["ended"]),
        (place(Place::Unknown), vec!["outcome_unknown"]),
        (with(place(Place::Running), |s| s.job.record.cancel_requested = true), vec!["cancel_requested", "running"]),
        (planned(Vec::new()), vec!["planned_time"]),
        (
            with(planned(Vec::new()), |s| {
                s.job.record.attempt = 1;
                s.job.record.events.push(event(EventWord::Retrying, ""));
            }),
            vec!["retry_delay"],
        ),
        (with(planned(Vec::new()), |s| s.job.steps = vec![waits(Awaited::Time, Sort::Sleep)]), vec!["sleep"]),
        (waiting(Awaited::Signal { signal: "paid".to_owned() }, Sort::Signal), vec!["signal"]),
        (waiting(Awaited::Approval(spec), Sort::Approval), vec!["approval"]),
        (waiting(Awaited::Children { all: true, many: 3 }, Sort::Children), vec!["children"]),
        (place(Place::Waiting), vec!["waiting"]),
        (gated(vec![freeze("nightly#1", NOW, NOW + 1)]), vec!["window_closed"]),
        (gated(vec![freeze("year-end", NOW, FOREVER)]), vec!["frozen"]),
        (gated(vec![freeze("year-end", NOW + 1, NOW + 9)]), vec!["waiting_for_a_worker"]),
        (takes(gated(vec![freeze("year-end", NOW + 500, NOW + 900)]), 500), vec!["does_not_fit"]),
        (takes(gated(vec![freeze("year-end", NOW + 501, NOW + 900)]), 500), vec!["waiting_for_a_worker"]),
        (planned(vec![freeze("year-end", NOW + 1000, NOW + 2000)]), vec!["planned_time", "frozen"]),
        (planned(vec![freeze("year-end", NOW, NOW + 1000)]), vec!["planned_time"]),
        (gated(vec![Gate::Pause(Scope::Queue("slow".to_owned()), note("disk"))]), vec!["queue_paused"]),
        (gated(vec![Gate::Pause(Scope::All, note(""))]), vec!["queue_paused"]),
        (gated(vec![Gate::Pause(Scope::Kind("patch".to_owned()), note(""))]), vec!["kind_paused"]),
        (gated(vec![Gate::Pause(Scope::Tenant("t".to_owned()), note(""))]), vec!["tenant_paused"]),
        (gated(vec![Gate::Pause(Scope::Tenant("other".to_owned()), note(""))]), vec!["waiting_for_a_worker"]),
        (gated(vec![Gate::KillSwitch(Scope::Kind("patch".to_owned()), note("leak"))]), vec!["kill_switch"]),
        (with(place(Place::Blocked), |s| s.resources = vec![held.clone()]), vec!["resource_held"]),
        (
            with(place(Place::Blocked), |s| s.resources = vec![ResourceSeen { many_before: 2, ..held }]),
            vec!["resource_held", "resource_queue"],
        ),
        (limited(Some(2), None, 2, &[]), vec!["concurrency_limit"]),
        (limited(Some(2), None, 1, &[]), vec!["waiting_for_a_worker"]),
        (limited(None, rate, 0, &[NOW - 999, NOW - 2000, NOW - 1]), vec!["rate_limit"]),
        (limited(None, rate, 0, &[NOW - 1000, NOW - 1]), vec!["waiting_for_a_worker"]),
        (with(place(Place::Blocked), |s| s.job.record.blocked_by = BlockedBy::CodeChanged), vec!["code_changed"]),
        (
            with(gated(vec![Gate::Clock(ClockJump::default())]), |s| s.job.record.destructive = true),
            vec!["clock_jumped"],
        ),
        (gated(vec![Gate::Clock(ClockJump::default())]), vec!["waiting_for_a_worker"]),
    ]
}

#[test]
fn each_thing_that_stands_before_a_job_is_told() {
    for (nth, (seen, expected)) in table().iter().enumerate() {
        assert_eq!(codes(seen), *expected, "row {nth}");
    }
}

#[test]
fn no_code_is_without_a_row() {
    let told: BTreeSet<_> = table().iter().flat_map(|(seen, _)| codes(seen)).collect();
    // This one is a rule of the business, told by the service.
    let all: BTreeSet<_> = CODES.iter().map(|(code, _)| *code).filter(|code| *code != "maintenance_window").collect();
    assert_eq!(told, all);
}

#[test]
fn everything_at_once_is_told_in_order() {
    let seen = with(ready(), |s| {
        (s.job.record.place, s.job.record.run_at, s.job.record.destructive) = (Place::Scheduled, NOW + 1000, true);
        s.job.record.cancel_requested = true;
        s.gates.takes_ms.insert("patch".to_owned(), 100);
        s.gates.all = vec![
            Gate::Clock(ClockJump::default()),
            Gate::KillSwitch(Scope::All, note("")),
            Gate::Pause(Scope::Tenant("t".to_owned()), note("")),
            Gate::Pause(Scope::Kind("patch".to_owned()), note("")),
            Gate::Pause(Scope::Queue("slow".to_owned()), note("")),
            freeze("late", NOW + 4050, NOW + 5000),
            freeze("year-end", NOW + 2000, NOW + 4000),
            freeze("nightly#1", NOW + 500, NOW + 2500),
        ];
        s.resources = vec![ResourceSeen { many_holders: 1, ..ResourceSeen::default() }];
        s.workers.clear();
    });
    let told = codes(&seen);
    let expected = [
        "cancel_requested",
        "planned_time",
        "window_closed",
        "frozen",
        "does_not_fit",
        "queue_paused",
        "kind_paused",
        "tenant_paused",
        "kill_switch",
        "resource_held",
        "no_live_worker",
        "clock_jumped",
    ];
    assert_eq!(told, expected);
    let rank = |code| CODES.iter().position(|(known, _)| *known == code).expect("a code of the list");
    assert!(told.windows(2).all(|two| rank(two[0]) < rank(two[1])), "{told:?}");
}

#[test]
fn a_reason_says_when_it_clears_and_what_it_is_about() {
    let one = |seen: &Seen| explain(seen).remove(0);
    let frozen = one(&gated(vec![freeze("year-end", 0, NOW + 7)]));
    assert_eq!((frozen.until, frozen.about.as_deref()), (Some(NOW + 7), Some("year-end")));
    assert_eq!(frozen.text, "freeze `year-end` stands: books (owner: finance)");
    assert_eq!(one(&gated(vec![freeze("nightly#1", 0, FOREVER)])).until, None, "nobody knows yet");
    let rate = one(&limited(None, Some(Rate { count: 2, period_ms: 60_000 }), 0, &[NOW - 10, NOW - 5]));
    assert_eq!((rate.until, rate.about.as_deref()), (Some(NOW - 10 + 60_000), Some("key host-1 of kind patch")));
    assert_eq!(one(&limited(Some(2), None, 3, &[])).text, "3 of 2 run that may run of key host-1 of kind patch");
    let paused = one(&gated(vec![Gate::Pause(Scope::Queue("slow".to_owned()), note("disk work"))]));
    assert_eq!((paused.text.as_str(), paused.about.as_deref()), ("the queue is paused: disk work", Some("slow")));
    let approval = table().into_iter().map(|(seen, _)| one(&seen)).find(|reason| reason.code == "approval").unwrap();
    assert_eq!((approval.who, approval.until), (vec!["role:it_ops".to_owned()], Some(NOW + 5000)));
    assert!(approval.text.starts_with("2 people have to agree (restart the host?)"), "{}", approval.text);
    let changed = with(place(Place::Blocked), |s| {
        s.job.record.blocked_by = BlockedBy::CodeChanged;
        s.job.record.events.push(event(EventWord::Blocked, r#"{"detail":"step `a` was call 1"}"#));
    });
    assert!(one(&changed).text.contains("step `a` was call 1"));
}

#[test]
fn stretches_of_time_read_well() {
    for (ms, text) in [
        (250, "250 ms"),
        (1000, "1 s"),
        (60_000, "60 s"),
        (120_000, "2 min"),
        (7_200_000, "2 h"),
        (172_800_000, "2 days"),
    ] {
        assert_eq!(span(ms), text);
    }
}
