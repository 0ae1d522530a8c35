//! A store that is there and answers nothing: what a worker and upkeep do meanwhile, and after.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use leasehold_engine::{
    Place, Verdict, Worker, WorkerOptions,
    model::{NewJob, Schedule, UnixMs},
    store::Claim,
    testing::{Actor, Lab, Puppet},
    upkeep::{SlotJobs, SlotRefusal, Upkeep, UpkeepOptions},
};
use tokio::sync::Notify;

use crate::schedules::{put, spec};

/// Far more than what is waited for takes, and less than a store that hangs keeps who waits for its answers.
const SOON: Duration = Duration::from_secs(6);

#[tokio::test]
async fn e9_a_handler_is_told_before_its_lease_ends_while_the_renewal_waits_for_the_store() {
    let lab = Lab::with_running_clock().await;
    let (began, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (b, t) = (began.clone(), told.clone());
    let actor = Actor::new(move |ctx| {
        let (began, told) = (b.clone(), t.clone());
        async move {
            began.notify_one();
            ctx.cancelled().cancelled().await;
            told.notify_one();
            Verdict::done(())
        }
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    // The renewal begins before the lease ends, and waits three times for as long as its patience lasts.
    let options = WorkerOptions { lease_ms: 3000, renew_ms: 2500, ..WorkerOptions::default() };
    let worker = Worker::start(&lab.store, actor, options).await.unwrap();
    began.notified().await;
    lab.redis.freeze();
    tokio::time::timeout(SOON, told.notified()).await.expect("the handler is told of its lease");
    lab.redis.thaw();
    drop(worker);
    let mut upkeep = Upkeep::start(&lab.store, UpkeepOptions { rescue_ms: 50, ..UpkeepOptions::default() });
    lab.until(&id, Place::Ready).await;
    upkeep.stop().await;
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.finish().await;
}

#[tokio::test]
async fn e9_a_handler_goes_on_while_its_progress_waits_for_the_store() {
    let lab = Lab::with_running_clock().await;
    let (began, go, went) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (b, g, w) = (began.clone(), go.clone(), went.clone());
    let actor = Actor::new(move |ctx| {
        let (began, go, went) = (b.clone(), g.clone(), w.clone());
        async move {
            began.notify_one();
            go.notified().await;
            ctx.progress(50, "half");
            // Longer than until the words are sent: from there on, the handler must still be run.
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            ctx.progress(100, "all");
            went.notify_one();
            Verdict::done(())
        }
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let options = WorkerOptions { lease_ms: 60_000, ..WorkerOptions::default() };
    let mut worker = Worker::start(&lab.store, actor, options).await.unwrap();
    began.notified().await;
    lab.redis.freeze();
    go.notify_one();
    let went_on = tokio::time::timeout(Duration::from_secs(20), went.notified()).await;
    lab.redis.thaw();
    went_on.expect("the handler goes on");
    let job = lab.until(&id, Place::Succeeded).await;
    assert_eq!((job.progress.percent, job.progress.text.as_str()), (100, "all"), "the last word stays the last");
    worker.drain(SOON).await;
    lab.finish().await;
}

#[tokio::test]
async fn eng_11_a_drain_that_was_given_up_is_taken_up_by_the_next() {
    let lab = Lab::with_running_clock().await;
    let mut worker = lab.worker("w", Puppet::new()).await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.until(&id, Place::Succeeded).await;
    lab.redis.freeze();
    for _ in 0..2 {
        let drained = tokio::time::timeout(Duration::ZERO, worker.drain(SOON)).await;
        assert!(drained.is_err(), "it waits for what the store has not answered");
    }
    lab.redis.thaw();
    worker.drain(SOON).await;
    assert!(lab.store.workers().await.unwrap().is_empty(), "its last word was heard");
    lab.finish().await;
}

#[tokio::test]
async fn eng_11_an_abort_ends_soon_while_the_store_hangs() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let id = lab.enqueue(Puppet::job(&lab.store, "hang_deaf")).await;
    let options = WorkerOptions { lease_ms: 60_000, abort_grace_ms: 50, ..WorkerOptions::default() };
    let mut worker = Worker::start(&lab.store, puppet.clone(), options).await.unwrap();
    puppet.began.notified().await;
    lab.redis.freeze();
    let ended = tokio::time::timeout(Duration::from_secs(35), async {
        worker.abort().await;
        worker.drain(Duration::ZERO).await;
    });
    let ended = ended.await;
    lab.redis.thaw();
    ended.expect("it does not wait for the store for long");
    lab.store.cancel(&id, "", None).await.unwrap();
    let mut upkeep = Upkeep::start(&lab.store, UpkeepOptions { rescue_ms: 50, ..UpkeepOptions::default() });
    upkeep.stop().await;
    lab.finish().await;
}

/// Says nothing of a job until it is told to.
#[derive(Default)]
struct Slow {
    asked: Notify,
    go_on: Notify,
}

#[async_trait]
impl SlotJobs for Slow {
    async fn job(&self, _: &Schedule, _: UnixMs) -> Result<NewJob, SlotRefusal> {
        self.asked.notify_one();
        self.go_on.notified().await;
        Err(SlotRefusal::NotNow("the test is over".to_owned()))
    }
}

#[tokio::test]
async fn e9_a_lost_job_is_rescued_while_schedules_take_their_time() {
    let lab = Lab::with_running_clock().await;
    put(&lab.store, &spec("often", "* * * * * *", "UTC", "skip")).await;
    let slow = Arc::new(Slow::default());
    let options = UpkeepOptions { rescue_ms: 50, ..UpkeepOptions::default() };
    let mut upkeep = Upkeep::start(&lab.store, options).with_schedules(&lab.store, slow.clone(), 50, 1000);
    slow.asked.notified().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let short = Claim { lease_ms: 1, ..crate::claim_of("w", 1, 1) };
    assert_eq!(lab.store.claim(0, &short).await.unwrap().jobs.len(), 1);
    lab.until(&id, Place::Ready).await;
    slow.go_on.notify_one();
    upkeep.stop().await;
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.finish().await;
}
