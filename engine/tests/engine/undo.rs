//! Undos: what was done is taken back in reverse, when a job fails for good or is cancelled, through any crash.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Ctx, Effect, JobError, JobId, JobView, Place, Verdict, Worker, WorkerOptions,
    model::ErrorDocument,
    store::{Cancelled, Revived},
    testing::{Actor, Lab, Ledger, unwatched_clock},
};
use tokio::sync::Notify;

/// What the undos of a test do besides being written down.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    pub(crate) did: Ledger,
    /// The undo of `b` says so and then waits for ever.
    hangs: Arc<Notify>,
}

/// A step that leaves something behind, and how to take that away.
pub(crate) async fn make(ctx: &Ctx, stage: &Stage, name: &'static str, mood: &'static str) -> Result<u32, JobError> {
    let (made, taken) = (stage.clone(), stage.clone());
    let f = || async move {
        made.did.write(format!("make {name}"));
        if mood == "breaks" {
            return Err(JobError::permanent("broke", "half-way"));
        }
        Ok(u32::try_from(name.len()).unwrap())
    };
    let undo = move |ctx: Ctx, value: Option<u32>| async move {
        match mood {
            "stuck" if !taken.did.counts().contains_key("mended") => {
                return Err(JobError::permanent("stuck", "it does not come off"));
            }
            "slow" if !taken.did.counts().contains_key(&format!("undo {name} failed")) => {
                taken.did.write(format!("undo {name} failed"));
                return Err(JobError::transient("not_yet", "later"));
            }
            "hangs" if !taken.did.counts().contains_key("hung") => {
                taken.did.write("hung");
                taken.hangs.notify_one();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        assert!(!ctx.cancelled().is_cancelled(), "the token of an undo is deaf to the cancel");
        taken.did.write(format!("undo {name} {value:?}"));
        Ok(())
    };
    ctx.step_with_undo(name, Effect::Idempotent, f, undo).await
}

pub(crate) fn error(job: &JobView) -> ErrorDocument {
    serde_json::from_slice(&job.record.error).unwrap()
}

pub(crate) fn actor<F, Fut>(stage: &Stage, act: F) -> Arc<Actor>
where
    F: Fn(Ctx, Stage) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), JobError>> + Send + 'static,
{
    let stage = stage.clone();
    Actor::new(move |ctx| {
        let run = act(ctx, stage.clone());
        async move {
            run.await?;
            Verdict::done("all")
        }
    })
}

pub(crate) async fn drained(lab: Lab, mut worker: Worker) {
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

pub(crate) async fn enqueue(lab: &Lab) -> JobId {
    let mut job = Actor::job(&lab.store, "");
    (job.retry.max_attempts, job.retry.base_ms) = (2, 1);
    lab.enqueue(job).await
}

#[tokio::test]
async fn a_job_that_fails_for_good_takes_back_what_it_did_in_reverse() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let actor = actor(&stage, |ctx, stage| async move {
        make(&ctx, &stage, "a", "").await?;
        ctx.step("plain", Effect::Idempotent, || async { stage.did.done("plain") }).await?;
        make(&ctx, &stage, "bb", "").await?;
        make(&ctx, &stage, "ccc", "breaks").await?;
        Ok(())
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(error(&job).code, "broke", "the first failure is told, not the undoing");
    let did = stage.did.all();
    assert_eq!(did[..4], ["make a", "plain", "make bb", "make ccc"]);
    assert_eq!(did[4..], ["undo ccc None", "undo bb Some(2)", "undo a Some(1)"], "a step that broke is told so");
    let undone: Vec<_> = job.steps.iter().filter(|s| s.name.starts_with("undo ") && s.done).collect();
    assert_eq!(undone.len(), 3, "each is a journaled step");
    assert!(job.record.events.iter().any(|event| event.word.as_str() == "undoing"));
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_job_that_may_try_again_or_succeeds_takes_nothing_back() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let actor = actor(&stage, |ctx, stage| async move {
        make(&ctx, &stage, "a", "").await?;
        if ctx.attempt() == 1 {
            return Err(JobError::transient("once", "the first time"));
        }
        Ok(())
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Scheduled).await;
    lab.at(60_000);
    lab.until(&id, Place::Succeeded).await;
    assert_eq!(stage.did.all(), ["make a"]);
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_running_job_that_is_cancelled_takes_back_what_it_did() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let actor = actor(&stage, |ctx, stage| async move {
        make(&ctx, &stage, "a", "").await?;
        ctx.store().cancel(ctx.id(), "", None).await.unwrap();
        make(&ctx, &stage, "b", "").await?;
        Ok(())
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Cancelled).await;
    assert_eq!(stage.did.all(), ["make a", "undo a Some(1)"]);
    assert!(job.record.error.is_empty());
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_sleeps_or_waits_is_given_to_a_worker_to_undo() {
    for sleeps in [true, false] {
        let lab = Lab::new().await;
        let stage = Stage::default();
        let actor = actor(&stage, move |ctx, stage| async move {
            make(&ctx, &stage, "a", "").await?;
            match sleeps {
                true => ctx.sleep("night", Duration::from_secs(3600)).await?,
                false => drop(ctx.wait_signal("go", None).await?),
            }
            make(&ctx, &stage, "b", "").await?;
            Ok(())
        });
        let id = enqueue(&lab).await;
        let worker = lab.quick_worker(actor).await;
        lab.until(&id, if sleeps { Place::Scheduled } else { Place::Waiting }).await;
        assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
        lab.until(&id, Place::Cancelled).await;
        assert_eq!(stage.did.all(), ["make a", "undo a Some(1)"]);
        drained(lab, worker).await;
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_goes_on_where_it_was() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let actor = actor(&stage, |ctx, stage| async move {
        make(&ctx, &stage, "a", "").await?;
        make(&ctx, &stage, "b", "hangs").await?;
        make(&ctx, &stage, "c", "").await?;
        Err(JobError::permanent("broke", "at the end"))
    });
    let id = enqueue(&lab).await;
    let lost = lab.quick_worker(actor.clone()).await;
    stage.hangs.notified().await;
    lost.vanish().await;
    lab.at(20_000);
    assert_eq!(lab.store.rescue(0, 10).await.unwrap(), std::slice::from_ref(&id));
    let worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(error(&job).code, "broke");
    assert_eq!(
        stage.did.all()[3..],
        ["undo c Some(1)", "hung", "undo b Some(1)", "undo a Some(1)"],
        "c is undone once"
    );
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_worker_that_stops_hands_an_undo_over() {
    let lab = Lab::new().await;
    let stage = Stage::default();
    let actor = actor(&stage, |ctx, stage| async move {
        make(&ctx, &stage, "a", "hangs").await?;
        Err(JobError::permanent("broke", "at the end"))
    });
    let id = enqueue(&lab).await;
    let mut first = lab.quick_worker(actor.clone()).await;
    stage.hangs.notified().await;
    first.drain(Duration::ZERO).await;
    assert_eq!(lab.place(&id).await, Place::Ready);
    let worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!((error(&job).code.as_str(), stage.did.all().pop().unwrap().as_str()), ("broke", "undo a Some(1)"));
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_job_whose_last_worker_was_lost_takes_back_what_it_did() {
    let lab = Lab::new().await;
    let (stage, begun) = (Stage::default(), Arc::new(Notify::new()));
    let told = begun.clone();
    let actor = actor(&stage, move |ctx, stage| {
        let told = told.clone();
        async move {
            make(&ctx, &stage, "a", "").await?;
            told.notify_one();
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let mut job = Actor::job(&lab.store, "");
    job.retry.max_attempts = 1;
    let id = lab.enqueue(job).await;
    let lost = lab.quick_worker(actor.clone()).await;
    begun.notified().await;
    lost.vanish().await;
    lab.at(20_000);
    lab.store.rescue(0, 10).await.unwrap();
    assert_eq!(lab.place(&id).await, Place::Ready, "to undo");
    // The code comes to the end of what it did, and would hang there: what leads to the undos goes no further.
    let worker = {
        let options = WorkerOptions { poll_ms: 10, ..unwatched_clock() };
        let actor = self::actor(&stage, |ctx, stage| async move {
            make(&ctx, &stage, "a", "").await?;
            make(&ctx, &stage, "b", "").await?;
            Ok(())
        });
        Worker::start(&lab.store, actor, options).await.unwrap()
    };
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(stage.did.all(), ["make a", "undo a Some(1)"]);
    assert!(!job.record.error.is_empty());
    drained(lab, worker).await;
}

#[tokio::test]
async fn a_job_that_was_undone_and_is_revived_does_everything_again() {
    let lab = Lab::new().await;
    let (stage, broken) = (Stage::default(), Arc::new(std::sync::atomic::AtomicBool::new(true)));
    let breaks = broken.clone();
    let actor = actor(&stage, move |ctx, stage| {
        let breaks = breaks.clone();
        async move {
            make(&ctx, &stage, "a", "").await?;
            if breaks.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(JobError::permanent("broke", "at the end"));
            }
            Ok(())
        }
    });
    let id = enqueue(&lab).await;
    let worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Dead).await;
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(lab.store.revive(&id, "").await.unwrap(), Revived::Ok(_)));
    lab.until(&id, Place::Succeeded).await;
    assert_eq!(stage.did.all(), ["make a", "undo a Some(1)", "make a"]);
    drained(lab, worker).await;
}
