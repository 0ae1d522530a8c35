//! Durable waits: sleeps and signals. No worker is held, nothing that comes is missed or counted twice.

use std::time::Duration;

use leasehold_engine::{
    Effect, JobError, JobId, Place, Recovery, Verdict,
    store::{Cancelled, MOST_SIGNALS, SIGNAL_BYTES, Signalled, StoreError},
    testing::{Actor, Lab, Ledger},
};
use serde_json::json;

const DAY: i64 = 86_400_000;
const DAYS_31: Duration = Duration::from_secs(31 * 86_400);

async fn send(lab: &Lab, id: &JobId, name: &str, key: &str, payload: &str) -> Signalled {
    lab.store.signal(id, name, key, payload.as_bytes(), "").await.unwrap()
}

#[tokio::test]
async fn a_job_that_sleeps_31_days_holds_no_worker_and_no_resource_and_spends_no_attempt() {
    let lab = Lab::new().await;
    let ledger = Ledger::default();
    let did = ledger.clone();
    let actor = Actor::new(move |ctx| {
        let did = did.clone();
        async move {
            did.write("run");
            ctx.step("before", Effect::Idempotent, || async { Ok(did.write("before")) }).await?;
            ctx.sleep("a lease's end", DAYS_31).await?;
            ctx.step("after", Effect::Idempotent, || async { Ok(did.write("after")) }).await?;
            Verdict::done("slept")
        }
    });
    let mut job = Actor::job(&lab.store, "");
    job.resources = vec![leasehold_engine::Resource::exclusive("dc:1")];
    job.retry.max_attempts = 1;
    let id = lab.enqueue(job).await;
    let mut worker = lab.quick_worker(actor).await;
    let asleep = lab.until(&id, Place::Scheduled).await;
    assert_eq!((asleep.record.attempt, asleep.record.holds_resource, worker.running()), (0, false, 0));
    assert_eq!(asleep.record.run_at, leasehold_engine::testing::NOON + 31 * DAY);
    lab.at(31 * DAY - 1);
    lab.store.promote(0, 10).await.unwrap();
    assert_eq!(lab.place(&id).await, Place::Scheduled, "not a millisecond early");
    lab.at(31 * DAY);
    let record = lab.until(&id, Place::Succeeded).await.record;
    assert_eq!(record.attempt, 1);
    assert_eq!(ledger.all(), ["run", "before", "run", "after"]);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_sleep_ends_when_it_was_first_said_though_the_job_is_woken_in_between() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        let nap = async { ctx.sleep("nap", Duration::from_millis(10_000)).await };
        let (slept, told) = tokio::join!(nap, ctx.wait_signal("tell", None));
        slept.and(told.map(|_| ()))?;
        Verdict::done("both")
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    lab.at(6000);
    assert_eq!(send(&lab, &id, "tell", "", "1").await, Signalled::Woken);
    assert_eq!(lab.until(&id, Place::Scheduled).await.record.run_at, leasehold_engine::testing::NOON + 10_000);
    lab.at(10_000);
    lab.until(&id, Place::Succeeded).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_sleep_until_an_instant_that_is_past_does_not_wait() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        ctx.sleep_until("past", leasehold_engine::testing::NOON).await?;
        ctx.sleep_until("long past", 0).await?;
        Verdict::done("at once")
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Succeeded).await;
    assert!(!job.record.events.iter().any(|event| event.word.as_str() == "scheduled"));
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

/// Waits for `paid` for an hour at most, and gives what came.
fn payer() -> std::sync::Arc<Actor> {
    Actor::new(|ctx| async move {
        let paid = ctx.wait_signal("paid", Some(Duration::from_secs(3600))).await?;
        Verdict::done(paid.map(|signal| signal.payload))
    })
}

#[tokio::test]
async fn a_signal_wakes_the_job_that_waits_for_it_and_no_other_signal_does() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(payer()).await;
    let waiting = lab.until(&id, Place::Waiting).await;
    assert_eq!((waiting.record.attempt, worker.running()), (0, 0));
    let shown = serde_json::to_value(waiting.steps[0].wait.as_ref().unwrap()).unwrap();
    assert_eq!(shown, json!({"for": "signal", "signal": "paid", "until": leasehold_engine::testing::NOON + 3_600_000}));
    assert_eq!(send(&lab, &id, "pai", "", "1").await, Signalled::Kept);
    assert_eq!(lab.place(&id).await, Place::Waiting);
    assert_eq!(send(&lab, &id, "paid", "k1", "{\"amount\":5}").await, Signalled::Woken);
    let record = lab.until(&id, Place::Succeeded).await.record;
    assert_eq!(&record.result[..], b"{\"amount\":5}");
    assert!(record.events.iter().any(|event| event.word.as_str() == "signalled"));
    assert_eq!(send(&lab, &id, "paid", "k2", "1").await, Signalled::Final(Place::Succeeded), "it has ended");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_signal_that_comes_early_is_kept_and_one_key_counts_once() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        let mut got = Vec::new();
        for n in 1..=3 {
            let hour = Some(Duration::from_secs(3600));
            let signal = ctx.wait_signal_as(&format!("payment {n}"), "paid", hour).await?;
            got.push(signal.map(|signal| signal.payload));
        }
        Verdict::done(got)
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    assert_eq!(send(&lab, &id, "paid", "k1", "1").await, Signalled::Kept);
    assert_eq!(send(&lab, &id, "paid", "k1", "1").await, Signalled::Duplicate);
    assert_eq!(send(&lab, &id, "paid", "k2", "2").await, Signalled::Kept);
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    assert_eq!(send(&lab, &id, "paid", "k1", "1").await, Signalled::Duplicate, "though it was taken");
    assert_eq!(lab.place(&id).await, Place::Waiting);
    lab.at(3_600_000);
    assert_eq!(&lab.until(&id, Place::Succeeded).await.record.result[..], b"[1,2,null]");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_wait_that_is_over_gives_none_and_stays_none() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        let hour = Some(Duration::from_secs(3600));
        let first = ctx.wait_signal_as("first", "paid", hour).await?;
        let second = ctx.wait_signal_as("second", "paid", hour).await?;
        Verdict::done((first.is_some(), second.is_some()))
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    lab.at(3_600_000);
    let second = async {
        while !lab.job(&id).await.steps.iter().any(|step| step.name == "second") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), second).await.unwrap();
    send(&lab, &id, "paid", "", "1").await;
    assert_eq!(&lab.until(&id, Place::Succeeded).await.record.result[..], b"[false,true]");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_signal_that_comes_between_the_wait_and_its_settlement_is_not_missed() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        let got = ctx.wait_signal("now", None).await;
        if got.is_err() {
            ctx.store().signal(ctx.id(), "now", "k", b"1", "").await.unwrap();
        }
        Verdict::done(got?.is_some())
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    assert_eq!(&lab.until(&id, Place::Succeeded).await.record.result[..], b"true");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_job_that_waits_for_two_signals_is_woken_by_either() {
    for first in ["a", "b"] {
        let lab = Lab::new().await;
        let actor = Actor::new(|ctx| async move {
            let (a, b) = tokio::join!(ctx.wait_signal("a", None), ctx.wait_signal("b", None));
            Verdict::done((a?.is_some(), b?.is_some()))
        });
        let id = lab.enqueue(Actor::job(&lab.store, "")).await;
        let mut worker = lab.quick_worker(actor).await;
        lab.until(&id, Place::Waiting).await;
        assert_eq!(send(&lab, &id, first, "", "1").await, Signalled::Woken);
        let other = if first == "a" { "b" } else { "a" };
        let left = async {
            let left = |job: &leasehold_engine::JobView| {
                job.record.place == Place::Waiting && job.steps.iter().any(|s| s.name == first && s.done)
            };
            while !left(&lab.job(&id).await) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), left).await.unwrap();
        assert_eq!(send(&lab, &id, other, "", "1").await, Signalled::Woken);
        lab.until(&id, Place::Succeeded).await;
        worker.drain(Duration::from_secs(5)).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn code_that_makes_nothing_of_a_wait_is_suspended_all_the_same() {
    let lab = Lab::new().await;
    let ledger = Ledger::default();
    let did = ledger.clone();
    let actor = Actor::new(move |ctx| {
        let did = did.clone();
        async move {
            let _ = ctx.sleep("night", Duration::from_secs(60)).await;
            let after = ctx.step("after", Effect::Idempotent, || async { Ok(did.write("after")) }).await;
            if let Err(JobError { recovery: Recovery::Suspend, .. }) = after {
                return Verdict::done("too early");
            }
            Verdict::done("slept")
        }
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Scheduled).await;
    assert!(ledger.all().is_empty());
    lab.at(60_000);
    assert_eq!(&lab.until(&id, Place::Succeeded).await.record.result[..], b"\"slept\"");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_job_is_cancelled_while_it_waits_without_a_worker() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(payer()).await;
    lab.until(&id, Place::Waiting).await;
    worker.drain(Duration::from_secs(5)).await;
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Now);
    assert_eq!(send(&lab, &id, "paid", "", "1").await, Signalled::Final(Place::Cancelled));
    lab.finish().await;
}

#[tokio::test]
async fn a_cancel_that_comes_before_the_wait_is_heard() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        ctx.store().cancel(ctx.id(), "", None).await.unwrap();
        ctx.wait_signal("never", None).await?;
        Verdict::done("no")
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Cancelled).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn signals_are_bounded_in_size_number_and_name() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let large = format!("\"{}\"", "x".repeat(SIGNAL_BYTES));
    let refused = lab.store.signal(&id, "paid", "", large.as_bytes(), "").await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLong { max: SIGNAL_BYTES, .. }), "{refused}");
    for (name, payload) in [("", "1"), ("a\nb", "1"), ("paid", "{not json")] {
        let refused = lab.store.signal(&id, name, "", payload.as_bytes(), "").await.unwrap_err();
        assert_eq!(refused.code(), "invalid_argument", "{name:?} {payload}");
    }
    for _ in 0..MOST_SIGNALS {
        assert_eq!(send(&lab, &id, "paid", "", "1").await, Signalled::Kept);
    }
    assert_eq!(send(&lab, &id, "paid", "", "1").await, Signalled::Full);
    let gone = lab.store.new_id("t-001");
    assert_eq!(send(&lab, &gone, "paid", "", "1").await, Signalled::Gone);
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.finish().await;
}

fn calls(lab: &Lab, command: &str) -> u64 {
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    line.and_then(|line| line.split(['=', ',']).nth(1)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_replay_reads_the_journal_once_and_asks_for_no_step_that_ended() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        for n in 0..50 {
            ctx.step(&format!("step {n}"), Effect::Idempotent, || async { Ok(n) }).await?;
        }
        ctx.wait_signal("go", None).await?;
        Verdict::done("all")
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    let job = lab.job(&id).await;
    assert_eq!(job.steps.iter().filter(|step| step.done).count(), 50);
    let (scripts, asked) = (calls(&lab, "evalsha"), calls(&lab, "hget"));
    assert_eq!(send(&lab, &id, "go", "", "1").await, Signalled::Woken);
    lab.until(&id, Place::Succeeded).await;
    // signal, claim, suspend, settle; a look at the clock now and then.
    assert!(calls(&lab, "evalsha") - scripts < 20, "{} calls", calls(&lab, "evalsha") - scripts);
    assert!(calls(&lab, "hget") - asked < 20, "{} reads", calls(&lab, "hget") - asked);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

fn used_memory(lab: &Lab) -> i64 {
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let memory: String = redis::cmd("INFO").arg("memory").query(&mut connection).unwrap();
    memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_hundred_thousand_sleeping_jobs_would_cost_redis_less_than_100_mb() {
    const JOBS: usize = 5000;
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        ctx.sleep("a lease's end", DAYS_31).await?;
        Verdict::done("slept")
    });
    let warm = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&warm, Place::Scheduled).await;
    let before = used_memory(&lab);
    let jobs: Vec<_> = (0..JOBS).map(|_| Actor::job(&lab.store, "{\"environment\":\"env-0001\"}")).collect();
    lab.store.enqueue(&jobs, u64::MAX >> 12).await.unwrap();
    let asleep = async {
        let count = |counts: Vec<leasehold_engine::store::PlaceCount>| {
            counts.iter().find(|c| c.place == Place::Scheduled).map_or(0, |c| c.jobs)
        };
        while count(lab.store.counts().await.unwrap()) < JOBS as u64 + 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asleep).await.expect("all are asleep");
    worker.drain(Duration::from_secs(5)).await;
    let each = (used_memory(&lab) - before) / JOBS as i64;
    assert!((100..1000).contains(&each), "{each} bytes a sleeping job");
    lab.finish().await;
}
