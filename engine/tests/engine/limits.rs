//! Limits: never more at a time, never more in any period, and nobody is left behind.

use std::collections::BTreeMap;

use leasehold_engine::{
    JobId, NewJob, Place, Priority, UnixMs,
    model::gate::{ClockJump, Gate, Limit, LimitScope, Rate},
    store::Outcome,
    testing::{Lab, NOON, Puppet},
};

use crate::{
    claim, expect_place,
    gates::{codes, note, of_kind, run_all},
    settle,
};

fn limit(scope: LimitScope, max_running: Option<u32>, rate: Option<(u32, u64)>) -> Gate {
    let rate = rate.map(|(count, period_ms)| Rate { count, period_ms });
    Gate::Limit(Limit { scope, max_running, rate, note: note("") })
}

fn kind(name: &str) -> LimitScope {
    LimitScope::Kind(name.to_owned())
}

#[tokio::test]
async fn a_kind_runs_so_many_times_at_once_and_the_next_goes_when_one_ends() {
    let lab = Lab::new().await;
    lab.store.put_gate(&limit(kind("puppet"), Some(2), None)).await.unwrap();
    for _ in 0..5 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    let other = lab.enqueue(of_kind(&lab, "noop")).await;
    let got = claim(&lab, "w", 9).await.jobs;
    let puppets: Vec<_> = got.iter().filter(|job| job.kind == "puppet").collect();
    assert_eq!((puppets.len(), got.len()), (2, 3), "the other kind is not held up");
    assert!(claim(&lab, "v", 9).await.jobs.is_empty(), "nor does another worker get more");
    settle(&lab, &puppets[0].id, puppets[0].fence, Outcome::Done).await;
    let next = claim(&lab, "v", 9).await.jobs;
    assert_eq!(next.len(), 1);
    for job in got[..].iter().filter(|job| job.id != puppets[0].id).chain(&next) {
        settle(&lab, &job.id, job.fence, Outcome::Done).await;
    }
    expect_place(&lab, &other, Place::Succeeded).await;
    assert_eq!(run_all(&lab).await, 2);
    lab.finish().await;
}

#[tokio::test]
async fn a_limit_that_is_raised_or_taken_away_lets_waiters_go_at_once() {
    let lab = Lab::new().await;
    for scope in [kind("puppet"), LimitScope::Queue("default".to_owned()), LimitScope::Key("puppet".to_owned())] {
        lab.store.put_gate(&limit(scope.clone(), Some(1), None)).await.unwrap();
        for _ in 0..4 {
            lab.enqueue(NewJob { key: Some("host-1".to_owned()), ..Puppet::job(&lab.store, "done") }).await;
        }
        let mut running = claim(&lab, "w", 9).await.jobs;
        assert_eq!(running.len(), 1, "{scope:?}");
        lab.store.put_gate(&limit(scope.clone(), Some(2), None)).await.unwrap();
        // Upkeep finds the keys, and wakes the workers.
        lab.store.promote(0, 9).await.unwrap();
        running.extend(claim(&lab, "w", 9).await.jobs);
        assert_eq!(running.len(), 2, "{scope:?}: raised");
        lab.store.gate_remove(&scope.field()).await.unwrap();
        lab.store.promote(0, 9).await.unwrap();
        running.extend(claim(&lab, "w", 9).await.jobs);
        assert_eq!(running.len(), 4, "{scope:?}: gone");
        for job in running {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_limit_by_key_that_is_gone_lets_go_who_waited_for_a_key_under_which_nothing_runs_any_more() {
    let lab = Lab::new().await;
    let scope = LimitScope::Key("puppet".to_owned());
    lab.store.put_gate(&limit(scope.clone(), Some(1), None)).await.unwrap();
    for _ in 0..2 {
        lab.enqueue(NewJob { key: Some("host-1".to_owned()), ..Puppet::job(&lab.store, "done") }).await;
    }
    let first = claim(&lab, "w", 9).await.jobs.remove(0);
    lab.store.gate_remove(&scope.field()).await.unwrap();
    settle(&lab, &first.id, first.fence, Outcome::Done).await;
    lab.store.promote(0, 9).await.unwrap();
    assert_eq!(run_all(&lab).await, 1);
    lab.finish().await;
}

#[tokio::test]
async fn each_key_of_a_kind_is_counted_by_itself() {
    let lab = Lab::new().await;
    lab.store.put_gate(&limit(LimitScope::Key("puppet".to_owned()), Some(1), None)).await.unwrap();
    for key in ["host-1", "host-1", "host-2", ""] {
        let key = (!key.is_empty()).then(|| key.to_owned());
        lab.enqueue(NewJob { key, ..Puppet::job(&lab.store, "done") }).await;
    }
    let got = claim(&lab, "w", 9).await.jobs;
    let keys: Vec<_> = got.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys, ["host-1", "host-2", ""]);
    for job in got {
        settle(&lab, &job.id, job.fence, Outcome::Done).await;
    }
    assert_eq!(run_all(&lab).await, 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_rate_lets_so_many_start_in_any_period_and_says_when_the_next_may() {
    let lab = Lab::new().await;
    lab.store.put_gate(&limit(kind("puppet"), None, Some((2, 1000)))).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(lab.enqueue(Puppet::job(&lab.store, "done")).await);
    }
    let mut starts = Vec::new();
    for ms in [0, 400, 999, 1000, 1399, 1999, 2000, 2999] {
        lab.at(ms);
        for job in claim(&lab, "w", 9).await.jobs {
            starts.push(ms);
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
        if ms == 400 {
            assert_eq!(codes(&lab, &ids[4]).await, ["rate_limit", "no_live_worker"]);
            let seen = lab.store.seen(&ids[4]).await.unwrap().unwrap();
            assert_eq!(leasehold_engine::model::explain::explain(&seen)[0].until, Some(NOON + 1000));
        }
    }
    assert_eq!(starts, [0, 0, 1000, 1000, 2000]);
    lab.finish().await;
}

#[tokio::test]
async fn a_start_by_a_clock_that_was_wrong_keeps_nobody_waiting_when_it_is_right_again() {
    const MONTH: i64 = 30 * 86_400_000;
    let lab = Lab::new().await;
    lab.store.put_gate(&limit(kind("puppet"), None, Some((1, 60_000)))).await.unwrap();
    lab.at(MONTH);
    for _ in 0..3 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    assert_eq!(run_all(&lab).await, 1, "the others wait for a minute, by the wrong clock");
    lab.store.clock_jumped(&ClockJump { from: NOON, to: NOON + MONTH, at: NOON + MONTH }).await.unwrap();
    lab.at(1000);
    lab.store.accept_clock(&note("set right")).await.unwrap();
    assert_eq!(run_all(&lab).await, 1);
    lab.at(60_999);
    assert_eq!(run_all(&lab).await, 0, "what started by the right clock counts");
    lab.at(61_000);
    assert_eq!(run_all(&lab).await, 1);
    lab.finish().await;
}

type Standing = (&'static str, &'static str, Option<u32>, Option<(u32, u64)>);

/// Limits that stand in the random course below: scope, at a time, starts in a period.
const STANDING: [Standing; 4] = [
    ("kind", "a", Some(3), Some((4, 700))),
    ("key", "a", Some(1), None),
    ("key", "b", Some(2), Some((2, 300))),
    ("queue", "default", Some(6), Some((9, 500))),
];

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// What the test knows by itself of what runs and what was started when.
#[derive(Default)]
struct Ledger {
    running: BTreeMap<JobId, (Vec<String>, u64)>,
    starts: BTreeMap<String, Vec<UnixMs>>,
}

impl Ledger {
    /// The limits that count a job, by the names that this test gives them.
    fn counted(kind: &str, key: &str) -> Vec<String> {
        let mut all = vec!["queue default".to_owned(), format!("kind {kind}")];
        all.extend((!key.is_empty()).then(|| format!("key {kind} {key}")));
        all
    }

    fn check(&self, seed: u64) {
        for (sort, name, max, rate) in STANDING {
            let limit = format!("{sort} {name}");
            let counts =
                |counted: &str| counted == limit || (sort == "key" && counted.starts_with(&format!("{limit} ")));
            let names: Vec<_> = self.starts.keys().filter(|counted| counts(counted)).collect();
            for name in names {
                let running = self.running.values().filter(|(counted, _)| counted.contains(name)).count();
                assert!(max.is_none_or(|max| running <= max as usize), "seed {seed}: {running} run of {name}");
                let (Some((most, period)), Some(starts)) = (rate, self.starts.get(name)) else { continue };
                for together in starts.windows(most as usize + 1) {
                    let within = together[most as usize] - together[0];
                    assert!(within >= period as i64, "seed {seed}: {} starts of {name} in {within} ms", most + 1);
                }
            }
        }
    }
}

async fn claim_some(lab: &Lab, ledger: &mut Ledger, worker: &str, want: usize, now: UnixMs) {
    for job in claim(lab, worker, want).await.jobs {
        let counted = Ledger::counted(&job.kind, &job.key);
        for name in &counted {
            ledger.starts.entry(name.clone()).or_default().push(now);
        }
        ledger.running.insert(job.id, (counted, job.fence));
    }
}

async fn end_one(lab: &Lab, ledger: &mut Ledger, nth: usize, outcome: Outcome) {
    let Some(id) = ledger.running.keys().nth(nth).cloned() else { return };
    let (_, fence) = ledger.running.remove(&id).unwrap();
    settle(lab, &id, fence, outcome).await;
}

async fn course(lab: &Lab, seed: u64, mut now: UnixMs) -> UnixMs {
    let (mut dice, mut ledger) = (Dice(seed * 7919 + 1), Ledger::default());
    let mut left = 40;
    for _ in 0..2000 {
        lab.store.set_time(now);
        match dice.below(6) {
            0 if left > 0 => {
                let key = ["", "k1", "k2"][dice.below(3) as usize];
                let kind = ["a", "b", "c"][dice.below(3) as usize];
                let priority = [Priority::High, Priority::Normal][dice.below(2) as usize];
                let key = (!key.is_empty()).then(|| key.to_owned());
                lab.enqueue(NewJob { key, priority, ..of_kind(lab, kind) }).await;
                left -= 1;
            }
            1 | 2 => {
                let worker = ["w1", "w2", "w3"][dice.below(3) as usize];
                claim_some(lab, &mut ledger, worker, 1 + dice.below(6) as usize, now).await;
            }
            3 => {
                let outcome = [Outcome::Done, Outcome::Done, Outcome::Release, Outcome::Retry][dice.below(4) as usize];
                end_one(lab, &mut ledger, dice.below(6) as usize, outcome).await;
            }
            4 => drop(lab.store.promote(0, 1 + dice.below(5) as usize).await.unwrap()),
            _ => now += dice.below(200) as i64,
        }
        ledger.check(seed);
        if left == 0 && ledger.running.is_empty() && dice.below(10) == 0 && idle(lab).await {
            return now;
        }
    }
    // Nobody is left behind: with time alone and workers that end what they get, everything ends.
    for _ in 0..500 {
        now += 100;
        lab.store.set_time(now);
        claim_some(lab, &mut ledger, "w1", 50, now).await;
        ledger.check(seed);
        while !ledger.running.is_empty() {
            end_one(lab, &mut ledger, 0, Outcome::Done).await;
        }
        if idle(lab).await {
            return now;
        }
    }
    panic!("seed {seed}: jobs are left: {:?}", lab.store.counts().await.unwrap());
}

async fn idle(lab: &Lab) -> bool {
    let counts = lab.store.counts().await.unwrap();
    counts.iter().all(|count| count.place.is_final() || count.jobs == 0)
}

#[tokio::test]
async fn limits_are_never_exceeded_in_a_random_course_and_everything_ends() {
    let lab = Lab::new().await;
    for (sort, name, max, rate) in STANDING {
        lab.store.put_gate(&limit(LimitScope::of(sort, name).unwrap(), max, rate)).await.unwrap();
    }
    let mut now = NOON;
    for seed in 1..=12 {
        now = course(&lab, seed, now + 10_000).await;
    }
    lab.finish().await;
}
