//! Pauses and kill switches: from the answer of the verb on no claim passes them, and what waited goes on afterwards.

use std::time::Duration;

use leasehold_engine::{
    JobId, NewJob, Place,
    model::{
        BlockedBy,
        gate::{ClockJump, Freeze, Gate, Limit, LimitScope, MAX_GATES, Note, Rate, Reach, Scope},
    },
    store::{GateSet, Outcome},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim, claim_one, expect_place, settle};

pub(crate) fn note(why: &str) -> Note {
    Note { why: why.to_owned(), by: "u1".to_owned(), at: NOON }
}

pub(crate) fn of_kind(lab: &Lab, kind: &str) -> NewJob {
    NewJob { kind: kind.to_owned(), ..Puppet::job(&lab.store, "done") }
}

/// Claims and ends jobs until there are none; how many.
pub(crate) async fn run_all(lab: &Lab) -> usize {
    let mut ran = 0;
    loop {
        let got = claim(lab, "w", 100).await.jobs;
        if got.is_empty() {
            return ran;
        }
        for job in got {
            settle(lab, &job.id, job.fence, Outcome::Done).await;
            ran += 1;
        }
    }
}

async fn stops_and_goes_on(scope: Scope) {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    for kill in [false, true] {
        let set = match kill {
            true => lab.store.kill(&scope, &note("a test")).await,
            false => lab.store.pause(&scope, &note("a test")).await,
        };
        assert_eq!(set.unwrap(), GateSet::Set);
        assert!(claim(&lab, "w", 9).await.jobs.is_empty(), "{scope:?} {kill}");
        assert!(claim(&lab, "w", 9).await.jobs.is_empty(), "{scope:?} {kill}: nor the next one");
        let late = lab.enqueue(Puppet::job(&lab.store, "done")).await;
        assert!(claim(&lab, "w", 9).await.jobs.is_empty(), "{scope:?} {kill}: nor what comes meanwhile");
        lab.store.cancel(&late, "", None).await.unwrap();
        let back = match kill {
            true => lab.store.unkill(&scope).await,
            false => lab.store.resume(&scope).await,
        };
        assert_eq!(back.unwrap(), GateSet::Set);
        assert!(lab.store.standing().await.unwrap().all.is_empty());
        let (got, fence) = claim_one(&lab, "w").await;
        assert_eq!(got, id, "{scope:?} {kill}");
        settle(&lab, &id, fence, Outcome::Release).await;
    }
    assert_eq!(run_all(&lab).await, 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_pause_and_a_kill_switch_of_everything_stop_every_claim() {
    stops_and_goes_on(Scope::All).await;
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_until_it_is_resumed() {
    stops_and_goes_on(Scope::Queue("default".to_owned())).await;
}

#[tokio::test]
async fn a_paused_kind_is_not_started_until_it_is_resumed() {
    stops_and_goes_on(Scope::Kind("puppet".to_owned())).await;
}

#[tokio::test]
async fn a_paused_tenant_is_passed_over_until_it_is_resumed() {
    stops_and_goes_on(Scope::Tenant("t-001".to_owned())).await;
}

#[tokio::test]
async fn what_is_not_in_the_scope_goes_on() {
    let lab = Lab::new().await;
    let others = NewJob { tenant: "t-002".to_owned(), ..of_kind(&lab, "noop") };
    lab.store.pause(&Scope::Tenant("t-001".to_owned()), &note("")).await.unwrap();
    lab.store.kill(&Scope::Kind("puppet".to_owned()), &note("")).await.unwrap();
    lab.store.pause(&Scope::Queue("other".to_owned()), &note("")).await.unwrap();
    let mine = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let theirs = lab.enqueue(others).await;
    let (got, fence) = claim_one(&lab, "w").await;
    assert_eq!(got, theirs);
    settle(&lab, &got, fence, Outcome::Done).await;
    assert!(claim(&lab, "w", 9).await.jobs.is_empty());
    lab.store.cancel(&mine, "", None).await.unwrap();
    lab.finish().await;
}

#[tokio::test]
async fn a_job_of_a_paused_kind_is_blocked_and_says_why() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.store.pause(&Scope::Kind("puppet".to_owned()), &note("")).await.unwrap();
    claim(&lab, "w", 1).await;
    let record = lab.job(&id).await.record;
    assert_eq!((record.place, record.blocked_by), (Place::Blocked, BlockedBy::KindPaused));
    assert_eq!(lab.store.hold(&id).await.unwrap().as_deref(), Some("k puppet"));
    lab.store.resume(&Scope::Kind("puppet".to_owned())).await.unwrap();
    lab.store.promote(0, 10).await.unwrap();
    expect_place(&lab, &id, Place::Ready).await;
    assert_eq!(run_all(&lab).await, 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_pause_and_a_kill_switch_do_not_take_each_other_away() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (store, scope) = (&lab.store, Scope::All);
    store.kill(&scope, &note("leak")).await.unwrap();
    store.pause(&scope, &note("disk")).await.unwrap();
    store.resume(&scope).await.unwrap();
    assert!(claim(&lab, "w", 1).await.jobs.is_empty(), "a resume is no end of the emergency");
    store.pause(&scope, &note("disk")).await.unwrap();
    store.unkill(&scope).await.unwrap();
    assert!(claim(&lab, "w", 1).await.jobs.is_empty(), "it is still paused");
    let standing = store.standing().await.unwrap();
    assert_eq!(standing.all, [Gate::Pause(Scope::All, note("disk"))]);
    store.resume(&scope).await.unwrap();
    let (got, fence) = claim_one(&lab, "w").await;
    settle(&lab, &got, fence, Outcome::Done).await;
    assert_eq!(got, id);
    lab.finish().await;
}

#[tokio::test]
async fn two_people_who_change_one_scope_at_once_lose_neither_change() {
    let lab = Lab::new().await;
    let (store, scope) = (&lab.store, Scope::Kind("puppet".to_owned()));
    for _ in 0..20 {
        let (pause, kill) = (note("p"), note("k"));
        let (a, b) = tokio::join!(store.pause(&scope, &pause), store.kill(&scope, &kill));
        assert_eq!((a.unwrap(), b.unwrap()), (GateSet::Set, GateSet::Set));
        assert_eq!(store.standing().await.unwrap().all.len(), 2, "both stand");
        let (a, b) = tokio::join!(store.resume(&scope), store.unkill(&scope));
        assert_eq!((a.unwrap(), b.unwrap()), (GateSet::Set, GateSet::Set));
        assert!(store.standing().await.unwrap().all.is_empty());
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_paused_tenant_with_jobs_of_each_priority_gets_all_of_them_back() {
    let lab = Lab::new().await;
    let scope = Scope::Tenant("t-001".to_owned());
    use leasehold_engine::Priority::{Critical, High, Low, Normal};
    for priority in [Critical, High, Normal, Low] {
        lab.enqueue(NewJob { priority, ..Puppet::job(&lab.store, "done") }).await;
    }
    lab.store.pause(&scope, &note("")).await.unwrap();
    assert!(claim(&lab, "w", 9).await.jobs.is_empty());
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.store.resume(&scope).await.unwrap();
    assert_eq!(run_all(&lab).await, 5);
    lab.finish().await;
}

#[tokio::test]
async fn gates_are_few_and_one_too_many_is_refused() {
    let lab = Lab::new().await;
    let limit = |n| {
        let scope = LimitScope::Kind(format!("kind-{n}"));
        Gate::Limit(Limit { scope, max_running: Some(1), rate: None, note: note("") })
    };
    for n in 0..MAX_GATES {
        assert_eq!(lab.store.put_gate(&limit(n)).await.unwrap(), GateSet::Set);
    }
    assert_eq!(lab.store.put_gate(&limit(MAX_GATES)).await.unwrap(), GateSet::Full);
    assert_eq!(lab.store.pause(&Scope::All, &note("")).await.unwrap(), GateSet::Full);
    assert_eq!(lab.store.kill(&Scope::All, &note("")).await.unwrap(), GateSet::Set, "an emergency stop finds room");
    assert_eq!(lab.store.unkill(&Scope::All).await.unwrap(), GateSet::Set);
    assert_eq!(lab.store.put_gate(&limit(0)).await.unwrap(), GateSet::Set, "one that stands may change");
    assert!(lab.store.gate_remove("l k kind-7").await.unwrap());
    assert!(!lab.store.gate_remove("l k kind-7").await.unwrap());
    assert_eq!(lab.store.pause(&Scope::All, &note("")).await.unwrap(), GateSet::Set);
    lab.finish().await;
}

/// Two workers at full speed: when the verb has answered, nothing more is begun (issue: within 2 s everywhere).
#[tokio::test]
async fn nothing_is_started_once_the_kill_switch_has_answered() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let mut workers = [lab.worker("w1", puppet.clone()).await, lab.worker("w2", puppet.clone()).await];
    let jobs: Vec<NewJob> = (0..3000).map(|_| Puppet::job(&lab.store, "done")).collect();
    lab.store.enqueue(&jobs, 10_000).await.unwrap();
    puppet.began.notified().await;
    lab.store.kill(&Scope::Kind("puppet".to_owned()), &note("leak")).await.unwrap();
    let killed_at = lab.store.now().await.unwrap();
    // The workers look as often as they like; whatever they find is set aside.
    let idle = async {
        while workers.iter().any(|worker| worker.running() > 0) || started(&lab, &jobs, Place::Ready).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), idle).await.expect("the workers come to rest");
    let late = latest_start(&lab, &jobs).await;
    assert!(late <= killed_at, "started {} ms after the answer", late - killed_at);
    assert!(started(&lab, &jobs, Place::Blocked).await > 0, "something was left to be stopped");
    lab.store.unkill(&Scope::Kind("puppet".to_owned())).await.unwrap();
    for job in &jobs {
        lab.until(&job.id, Place::Succeeded).await;
    }
    for worker in &mut workers {
        worker.drain(Duration::from_secs(5)).await;
    }
    lab.finish().await;
}

async fn started(lab: &Lab, jobs: &[NewJob], place: Place) -> u64 {
    let _ = jobs;
    let counts = lab.store.counts().await.unwrap();
    counts.iter().filter(|count| count.place == place).map(|count| count.jobs).sum()
}

async fn latest_start(lab: &Lab, jobs: &[NewJob]) -> i64 {
    let mut latest = 0;
    for job in jobs {
        latest = latest.max(lab.job(&job.id).await.record.started_at);
    }
    latest
}

/// What the store says of why a job is not running.
pub(crate) async fn codes(lab: &Lab, id: &JobId) -> Vec<&'static str> {
    let seen = lab.store.seen(id).await.unwrap().expect("the job");
    leasehold_engine::model::explain::explain(&seen).into_iter().map(|reason| reason.code).collect()
}

/// Takes in a destructive job in each shard.
async fn one_in_each_shard(lab: &Lab) {
    for shard in 0..lab.store.shards() {
        let tenant = (0..).map(|n| format!("t-{n}")).find(|tenant| lab.store.shard_of(tenant) == shard).unwrap();
        let job = NewJob::new(lab.store.new_id(&tenant), "puppet", tenant, &b"done"[..]);
        lab.enqueue(NewJob { destructive: true, ..job }).await;
    }
}

/// Starts what may start now in each shard, and ends it; how many in each.
async fn started_in_each(lab: &Lab, request: &mut u64) -> Vec<usize> {
    let mut many = Vec::new();
    for shard in 0..lab.store.shards() {
        *request += 1;
        let got = lab.store.claim(shard, &crate::claim_of("sharded", *request, 9)).await.unwrap().jobs;
        for job in &got {
            settle(lab, &job.id, job.fence, Outcome::Done).await;
        }
        many.push(got.len());
    }
    many
}

#[tokio::test]
async fn what_stands_stands_in_every_shard_and_is_taken_away_from_every_shard() {
    let (lab, mut request) = (Lab::with_shards(3).await, 0);
    let (kind, because) = (Scope::Kind("puppet".to_owned()), note("a test"));
    let freeze = Gate::Freeze(Freeze {
        id: "now".to_owned(),
        reach: Reach::default(),
        from: NOON,
        until: NOON + 1000,
        reason: String::new(),
        owner: String::new(),
        note: note(""),
    });
    for what in ["pause", "kill", "freeze", "clock"] {
        one_in_each_shard(&lab).await;
        match what {
            "pause" => assert_eq!(lab.store.pause(&kind, &because).await.unwrap(), GateSet::Set),
            "kill" => assert_eq!(lab.store.kill(&Scope::All, &because).await.unwrap(), GateSet::Set),
            "freeze" => assert_eq!(lab.store.put_gate(&freeze).await.unwrap(), GateSet::Set),
            _ => assert!(lab.store.clock_jumped(&ClockJump { from: 0, to: NOON, at: NOON }).await.unwrap()),
        }
        assert_eq!(started_in_each(&lab, &mut request).await, [0, 0, 0], "{what}");
        match what {
            "pause" => assert_eq!(lab.store.resume(&kind).await.unwrap(), GateSet::Set),
            "kill" => assert_eq!(lab.store.unkill(&Scope::All).await.unwrap(), GateSet::Set),
            "freeze" => assert!(lab.store.gate_remove("f now").await.unwrap()),
            _ => assert!(lab.store.accept_clock(&because).await.unwrap().is_some()),
        }
        assert_eq!(started_in_each(&lab, &mut request).await, [1, 1, 1], "{what}");
    }
    let told = lab.store.alerts(i64::MIN, 10).await.unwrap();
    assert_eq!(told.iter().filter(|alert| alert.word == "clock_jumped").count(), 1, "told once for all shards");
    lab.finish().await;
}

#[tokio::test]
async fn a_limit_stands_in_every_shard() {
    let (lab, mut request) = (Lab::with_shards(3).await, 0);
    let rate = Some(Rate { count: 1, period_ms: 1000 });
    let limit = Limit { scope: LimitScope::Kind("puppet".to_owned()), max_running: None, rate, note: note("") };
    lab.store.put_gate(&Gate::Limit(limit)).await.unwrap();
    one_in_each_shard(&lab).await;
    one_in_each_shard(&lab).await;
    assert_eq!(started_in_each(&lab, &mut request).await, [1, 1, 1]);
    assert_eq!(started_in_each(&lab, &mut request).await, [0, 0, 0]);
    assert!(lab.store.gate_remove("l k puppet").await.unwrap());
    assert_eq!(started_in_each(&lab, &mut request).await, [1, 1, 1]);
    lab.finish().await;
}
