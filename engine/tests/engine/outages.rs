//! A store that goes away while a job runs: that is not the job's failure, and spends none of its attempts.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Ctx, Effect, JobError, JobId, NewJob, Place, Store, StoreOptions, Verdict, Worker, WorkerOptions,
    model::JobView,
    testing::{Actor, Ledger, RedisServer},
    worker::Observer,
};
use tokio::sync::Notify;

/// Tells that an attempt has ended.
#[derive(Default)]
struct Ear(Notify);

impl Observer for Ear {
    fn started(&self, _: &str, _: &str, _: u64) {}

    fn ended(&self, _: &str, _: &str, _: u64) {
        self.0.notify_one();
    }
}

/// Where a job is when the store goes away.
#[derive(Clone, Default)]
struct Stage {
    did: Ledger,
    inside: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Stage {
    /// Does it; the first time, the test has its say.
    async fn act(&self, what: &str) -> Result<(), JobError> {
        self.did.write(what);
        if self.did.counts()[what] == 1 {
            self.inside.notify_one();
            self.go_on.notified().await;
        }
        Ok(())
    }

    /// Runs `act`'s job, whose only attempt this is; the store goes away in the middle of it and comes back after its end.
    async fn play<F, Fut>(&self, act: F) -> (Store, JobView)
    where
        F: Fn(Ctx, Self) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Verdict, JobError>> + Send + 'static,
    {
        let (mut redis, stage, ear) = (RedisServer::start_durable(), self.clone(), Arc::new(Ear::default()));
        let patient = Store::open(StoreOptions::new(redis.url())).await.unwrap();
        let store = Store::open(StoreOptions { resends: 0, ..StoreOptions::new(redis.url()) }).await.unwrap();
        let mut job: NewJob = Actor::job(&store, "");
        job.retry.max_attempts = 1;
        let id = job.id.clone();
        store.enqueue(&[job], 10).await.unwrap();
        let actor = Actor::new(move |ctx| act(ctx, stage.clone()));
        let options = WorkerOptions { lease_ms: 600_000, observer: Some(ear.clone()), ..WorkerOptions::default() };
        let mut worker = Worker::start(&store, actor, options).await.unwrap();
        self.inside.notified().await;
        redis.kill();
        self.go_on.notify_one();
        tokio::time::timeout(Duration::from_secs(20), ear.0.notified()).await.expect("the attempt ends");
        redis.restart();
        let view = until_over(&patient, &id).await;
        worker.drain(Duration::from_secs(20)).await;
        assert!(patient.audit().await.unwrap().findings.is_empty());
        (patient, view)
    }
}

async fn until_over(store: &Store, id: &JobId) -> JobView {
    let changes = store.changes(true);
    let mut hints = changes.listen();
    let over = async {
        loop {
            let view = store.job(id).await.unwrap().unwrap();
            if matches!(view.record.place, Place::Succeeded | Place::Dead | Place::Cancelled) {
                return view;
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), hints.recv()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("the job ends")
}

#[tokio::test]
async fn a_store_that_goes_away_in_a_step_spends_no_attempt() {
    let stage = Stage::default();
    let (_, view) = stage
        .play(|ctx, stage| async move {
            ctx.step("work", Effect::Idempotent, || stage.act("work")).await?;
            Verdict::done("worked")
        })
        .await;
    assert_eq!((view.record.place, view.record.attempt), (Place::Succeeded, 1), "{:?}", view.record);
    assert_eq!(stage.did.all(), ["work", "work"]);
}

#[tokio::test]
async fn a_store_that_goes_away_in_an_undo_leaves_nothing_undone() {
    let stage = Stage::default();
    let (_, view) = stage
        .play(|ctx, stage| async move {
            let undo = |_: Ctx, _: Option<()>| async move { stage.act("undo").await };
            ctx.step_with_undo("make", Effect::Idempotent, || async { Ok(()) }, undo).await?;
            Err(JobError::permanent("told_to", "as it was told"))
        })
        .await;
    let error = String::from_utf8_lossy(&view.record.error).into_owned();
    assert!(view.record.place == Place::Dead && error.contains("told_to") && !error.contains("undo_failed"), "{error}");
    assert_eq!(stage.did.all(), ["undo", "undo"]);
}
