//! A job that may not start keeps its resources from nobody meanwhile, and comes back to them in its turn.

use leasehold_engine::{
    Effect, JobId, NewJob, Place, Resource,
    model::{
        BlockedBy,
        gate::{ClockJump, FOREVER, Freeze, Gate, Limit, LimitScope, Rate, Reach, Scope},
    },
    store::{GateSet, Opening, Outcome},
    testing::{Lab, NOON, Puppet},
};

use crate::{
    claim, claim_one, expect_place,
    gates::{codes, note},
    settle,
};

/// What may stand before jobs of the kind `slow`.
const GATES: [&str; 5] = ["pause", "kill", "freeze", "rate", "clock"];

async fn on(lab: &Lab, kind: &str, resources: &[&str]) -> JobId {
    let resources = resources.iter().map(|name| Resource::exclusive(*name)).collect();
    let destructive = kind == "slow";
    lab.enqueue(NewJob { kind: kind.to_owned(), resources, destructive, ..Puppet::job(&lab.store, "done") }).await
}

fn limit(max_running: Option<u32>, rate: Option<Rate>) -> Gate {
    Gate::Limit(Limit { scope: LimitScope::Kind("slow".to_owned()), max_running, rate, note: note("") })
}

fn freeze(reach: Reach) -> Gate {
    let (reason, owner) = ("books".to_owned(), "finance".to_owned());
    let (from, until) = (NOON - 1000, FOREVER);
    Gate::Freeze(Freeze { id: "books".to_owned(), reach, from, until, reason, owner, note: note("") })
}

async fn close(lab: &Lab, gate: &str) {
    let scope = Scope::Kind("slow".to_owned());
    match gate {
        "pause" => assert_eq!(lab.store.pause(&scope, &note("")).await.unwrap(), GateSet::Set),
        "kill" => assert_eq!(lab.store.kill(&scope, &note("")).await.unwrap(), GateSet::Set),
        "freeze" => {
            let reach = Reach { kind: Some("slow".to_owned()), ..Reach::default() };
            assert_eq!(lab.store.put_gate(&freeze(reach)).await.unwrap(), GateSet::Set);
        }
        "rate" => {
            let rate = Rate { count: 1, period_ms: 60_000 };
            assert_eq!(lab.store.put_gate(&limit(None, Some(rate))).await.unwrap(), GateSet::Set);
            run_next(lab, &on(lab, "slow", &[]).await).await;
        }
        _ => assert!(lab.store.clock_jumped(&ClockJump { from: NOON, to: NOON, at: NOON }).await.is_ok()),
    }
}

async fn open(lab: &Lab, gate: &str) {
    let scope = Scope::Kind("slow".to_owned());
    match gate {
        "pause" => assert_eq!(lab.store.resume(&scope).await.unwrap(), GateSet::Set),
        "kill" => assert_eq!(lab.store.unkill(&scope).await.unwrap(), GateSet::Set),
        "freeze" => assert!(lab.store.gate_remove("f books").await.unwrap()),
        "rate" => assert!(lab.store.gate_remove("l k slow").await.unwrap()),
        _ => assert!(lab.store.gate_remove("clock").await.unwrap()),
    }
}

/// The next job that is given out is this one; it is done at once.
async fn run_next(lab: &Lab, id: &JobId) {
    let (got, fence) = claim_next(lab).await;
    assert_eq!(got, *id);
    settle(lab, &got, fence, Outcome::Done).await;
}

/// As a worker does: it looks again at once when something was set aside.
async fn claim_next(lab: &Lab) -> (JobId, u64) {
    for _ in 0..10 {
        if let Some(job) = claim(lab, "w", 1).await.jobs.pop() {
            return (job.id, job.fence);
        }
    }
    panic!("no job is given out");
}

#[tokio::test]
async fn what_stands_before_a_job_keeps_its_resource_from_nobody_and_it_comes_back_in_its_turn() {
    for gate in GATES {
        let lab = Lab::new().await;
        close(&lab, gate).await;
        lab.at(1);
        let held = on(&lab, "slow", &["dc:1", "host:1"]).await;
        lab.at(2);
        let (second, third) = (on(&lab, "puppet", &["dc:1"]).await, on(&lab, "puppet", &["host:1"]).await);
        for id in [&second, &third] {
            expect_place(&lab, id, Place::Blocked).await;
        }
        let (got, fence) = claim_next(&lab).await;
        assert_eq!(got, second, "{gate}: it need not wait for a job that may not start");
        run_next(&lab, &third).await;
        assert!(codes(&lab, &held).await.contains(&"resource_held"), "{gate}: it says who has it now");
        lab.at(3);
        let late = on(&lab, "puppet", &["dc:1"]).await;
        open(&lab, gate).await;
        assert!(claim(&lab, "w", 9).await.jobs.is_empty(), "{gate}: one at a time");
        settle(&lab, &second, fence, Outcome::Done).await;
        run_next(&lab, &held).await;
        run_next(&lab, &late).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_kind_that_a_worker_does_not_know_keeps_its_resource_from_nobody() {
    let lab = Lab::new().await;
    let unknown = on(&lab, "slow", &["dc:1"]).await;
    let other = on(&lab, "puppet", &["dc:1"]).await;
    let of = |kinds: &[&str], request| leasehold_engine::store::Claim {
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        ..crate::claim_of("old", request, 1)
    };
    assert!(lab.store.claim(0, &of(&["puppet"], 1)).await.unwrap().jobs.is_empty());
    assert_eq!(lab.job(&unknown).await.record.blocked_by, BlockedBy::KindUnknown);
    let got = lab.store.claim(0, &of(&["puppet"], 2)).await.unwrap().jobs.remove(0);
    assert_eq!(got.id, other);
    settle(&lab, &got.id, got.fence, Outcome::Done).await;
    let got = lab.store.claim(0, &of(&["puppet", "slow"], 3)).await.unwrap().jobs.remove(0);
    assert_eq!(got.id, unknown);
    settle(&lab, &got.id, got.fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_job_in_the_middle_of_its_work_keeps_its_resource_behind_a_gate() {
    let lab = Lab::new().await;
    let begun = on(&lab, "slow", &["dc:1"]).await;
    let follower = on(&lab, "puppet", &["dc:1"]).await;
    let (_, fence) = claim_one(&lab, "w").await;
    lab.store.step_begin(&begun, fence, "wipe", Opening::of(Effect::Fenced)).await.unwrap();
    close(&lab, "pause").await;
    settle(&lab, &begun, fence, Outcome::Release).await;
    for _ in 0..2 {
        assert!(claim(&lab, "w", 9).await.jobs.is_empty());
    }
    assert_eq!(lab.job(&begun).await.record.blocked_by, BlockedBy::KindPaused);
    expect_place(&lab, &follower, Place::Blocked).await;
    open(&lab, "pause").await;
    run_next(&lab, &begun).await;
    run_next(&lab, &follower).await;
    lab.finish().await;
}

/// Who must find a place under a limit and its resource free at one moment might never start.
#[tokio::test]
async fn a_job_gives_way_for_a_limit_once_and_then_waits_for_its_place_with_the_resource() {
    let lab = Lab::new().await;
    lab.store.put_gate(&limit(Some(1), None)).await.unwrap();
    let busy = on(&lab, "slow", &[]).await;
    let (_, busy_fence) = claim_one(&lab, "w").await;
    lab.at(1);
    let unlucky = on(&lab, "slow", &["dc:1"]).await;
    lab.at(2);
    let passes = on(&lab, "puppet", &["dc:1"]).await;
    let (got, fence) = claim_next(&lab).await;
    assert_eq!(got, passes, "it gave way");
    // A place comes free, and another takes it before the resource does.
    settle(&lab, &busy, busy_fence, Outcome::Done).await;
    lab.store.promote(0, 10).await.unwrap();
    assert_eq!(lab.job(&unlucky).await.record.blocked_by, BlockedBy::ResourceHeld);
    let quicker = on(&lab, "slow", &[]).await;
    let (got, quicker_fence) = claim_next(&lab).await;
    assert_eq!(got, quicker);
    lab.at(3);
    let patient = on(&lab, "puppet", &["dc:1"]).await;
    settle(&lab, &passes, fence, Outcome::Done).await;
    for _ in 0..3 {
        assert!(claim(&lab, "w", 1).await.jobs.is_empty(), "it does not give way a second time");
    }
    assert_eq!(lab.job(&unlucky).await.record.blocked_by, BlockedBy::LimitReached);
    settle(&lab, &quicker, quicker_fence, Outcome::Done).await;
    run_next(&lab, &unlucky).await;
    run_next(&lab, &patient).await;
    lab.finish().await;
}

#[tokio::test]
async fn jobs_that_are_let_go_together_come_back_in_the_order_of_their_planned_times() {
    let lab = Lab::new().await;
    let mut planned = Vec::new();
    for ms in [3000, 1000, 2000] {
        let mut job = Puppet::job(&lab.store, "done");
        (job.resources, job.run_at) = (vec![Resource::exclusive("dc:1")], Some(NOON + ms));
        planned.push(lab.enqueue(job).await);
    }
    let Gate::Freeze(freeze) = freeze(Reach::default()) else { panic!("a freeze") };
    lab.store.put_gate(&Gate::Freeze(Freeze { until: NOON + 5000, ..freeze })).await.unwrap();
    lab.at(4000);
    for _ in 0..4 {
        assert!(claim(&lab, "w", 9).await.jobs.is_empty());
    }
    for id in &planned {
        assert_eq!(lab.job(id).await.record.blocked_by, BlockedBy::Frozen);
    }
    lab.at(5000);
    for nth in [1, 2, 0] {
        run_next(&lab, &planned[nth]).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_job_that_has_started_gives_way_for_a_limit_again() {
    let lab = Lab::new().await;
    lab.store.put_gate(&limit(Some(1), None)).await.unwrap();
    let busy = on(&lab, "slow", &[]).await;
    let (_, busy_fence) = claim_one(&lab, "w").await;
    let resources = vec![Resource::exclusive("dc:1")];
    let job = NewJob { kind: "slow".to_owned(), resources, ..Puppet::job(&lab.store, "done") };
    let id = lab.enqueue(job).await;
    run_next(&lab, &on(&lab, "puppet", &["dc:1"]).await).await;
    assert!(lab.store.gate_remove("l k slow").await.unwrap());
    let (got, fence) = claim_next(&lab).await;
    assert_eq!(got, id);
    settle(&lab, &id, fence, Outcome::Retry).await;
    lab.store.put_gate(&limit(Some(1), None)).await.unwrap();
    lab.at(2000);
    lab.store.promote(0, 10).await.unwrap();
    run_next(&lab, &on(&lab, "puppet", &["dc:1"]).await).await;
    settle(&lab, &busy, busy_fence, Outcome::Done).await;
    run_next(&lab, &id).await;
    lab.finish().await;
}
