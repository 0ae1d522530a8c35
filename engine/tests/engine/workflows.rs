//! Durable waits: no worker is held, nothing is done again, and it costs Redis little.

use std::time::Duration;

use leasehold_engine::{
    Effect, JobError, Place, Recovery, Verdict,
    store::Signalled,
    testing::{Actor, Lab, Ledger},
};

const DAY: i64 = 86_400_000;
const DAYS_31: Duration = Duration::from_secs(31 * 86_400);

#[tokio::test]
async fn a_job_that_sleeps_31_days_holds_no_worker_and_no_resource_and_spends_no_attempt() {
    let lab = Lab::new().await;
    let ledger = Ledger::default();
    let did = ledger.clone();
    let actor = Actor::new(move |ctx| {
        let did = did.clone();
        async move {
            did.write("run");
            ctx.step("before", Effect::Idempotent, || async { did.done("before") }).await?;
            ctx.sleep("a lease's end", DAYS_31).await?;
            ctx.step("after", Effect::Idempotent, || async { did.done("after") }).await?;
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
    assert_eq!(lab.store.signal(&id, "tell", "", b"1", "").await.unwrap(), Signalled::Woken);
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

#[tokio::test]
async fn code_that_makes_nothing_of_a_wait_is_suspended_all_the_same() {
    let lab = Lab::new().await;
    let ledger = Ledger::default();
    let did = ledger.clone();
    let actor = Actor::new(move |ctx| {
        let did = did.clone();
        async move {
            let _ = ctx.sleep("night", Duration::from_secs(60)).await;
            let after = ctx.step("after", Effect::Idempotent, || async { did.done("after") }).await;
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
        ctx.wait_signal("end", None).await?;
        Verdict::done("all")
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    let job = lab.job(&id).await;
    assert_eq!(job.steps.iter().filter(|step| step.done).count(), 50);
    let (scripts, asked) = (calls(&lab, "evalsha"), calls(&lab, "hget"));
    assert_eq!(lab.store.signal(&id, "go", "", b"1", "").await.unwrap(), Signalled::Woken);
    lab.until(&id, Place::Waiting).await;
    // signal, claim, suspend, settle; a look at the clock now and then. The last settlement reads what it shortens.
    assert!(calls(&lab, "evalsha") - scripts < 20, "{} calls", calls(&lab, "evalsha") - scripts);
    assert!(calls(&lab, "hget") - asked < 20, "{} reads", calls(&lab, "hget") - asked);
    assert_eq!(lab.store.signal(&id, "end", "", b"1", "").await.unwrap(), Signalled::Woken);
    lab.until(&id, Place::Succeeded).await;
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
