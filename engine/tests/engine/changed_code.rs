//! Code that changed while a job was in flight: the job is parked with a clear reason, and nothing of it is run wrongly.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leasehold_engine::{
    Ctx, Effect, JobError, Place, Verdict, Worker, WorkerOptions,
    model::BlockedBy,
    store::Revived,
    testing::{Actor, Lab, Ledger},
};

/// What one version of the code does, call by call: `s NAME` a step, `w NAME` a wait for a signal, `!` swallow the next error.
const FIRST: &[&str] = &["s a", "s b", "w go", "s c"];

async fn play(ctx: &Ctx, calls: &[&str], did: &Ledger) -> Result<(), JobError> {
    for call in calls {
        let (verb, name) = call.split_at(2);
        match verb {
            "s " => ctx.step(name, Effect::Idempotent, || async { did.done(name) }).await?,
            "w " => drop(ctx.wait_signal(name, None).await?),
            "z " => ctx.sleep(name, Duration::from_secs(1)).await?,
            "! " => drop(ctx.step(name, Effect::Idempotent, || async { did.done(name) }).await),
            other => panic!("{other} is no verb"),
        }
    }
    Ok(())
}

/// Runs the first version until it waits, then another; what the second did, and how the job is.
async fn changed_to(second: &'static [&'static str], reason: &str) {
    let lab = Lab::new().await;
    let (did, version) = (Ledger::default(), Arc::new(AtomicUsize::new(0)));
    let (ledger, which) = (did.clone(), version.clone());
    let actor = Actor::new(move |ctx| {
        let (ledger, calls) = (ledger.clone(), [FIRST, second][which.load(Ordering::SeqCst).min(1)]);
        async move {
            play(&ctx, calls, &ledger).await?;
            Verdict::done("all")
        }
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    let before = did.all();
    version.store(1, Ordering::SeqCst);
    lab.store.signal(&id, "go", "", b"1", "").await.unwrap();
    let record = lab.until(&id, Place::Blocked).await.record;
    assert_eq!((record.blocked_by, record.attempt), (BlockedBy::CodeChanged, 0), "parked, at no cost: {second:?}");
    let note = &record.events.last().unwrap().note;
    assert!(note.contains(reason), "{note} should say: {reason}");
    let effects = did.all()[before.len()..].iter().filter(|effect| before.contains(effect)).count();
    assert_eq!(effects, 0, "nothing is done again");
    version.store(0, Ordering::SeqCst);
    assert!(matches!(lab.store.revive(&id, "").await.unwrap(), Revived::Ok(_)));
    lab.until(&id, Place::Succeeded).await;
    assert_eq!(did.counts()["c"], 1, "with its own code it goes on");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_step_that_was_added_is_noticed() {
    changed_to(&["s new", "s a", "s b", "w go", "s c"], "call 1 of this job was step `a` and is step `new`").await;
    changed_to(&["s a", "s b", "s new", "w go", "s c"], "call 3 of this job was step `go` and is step `new`").await;
}

#[tokio::test]
async fn a_step_that_was_removed_is_noticed() {
    changed_to(&["s b", "w go", "s c"], "step `b` was call 2 of this job and is call 1").await;
    changed_to(&["s a", "s b"], "ends without step `go`, which was call 3").await;
    changed_to(&[], "ends without step `a`, which was call 1").await;
}

#[tokio::test]
async fn a_step_that_was_renamed_moved_or_became_another_verb_is_noticed() {
    changed_to(&["s a", "s bb", "w go", "s c"], "call 2 of this job was step `b` and is step `bb`").await;
    changed_to(&["s b", "s a", "w go", "s c"], "step `b` was call 2 of this job and is call 1").await;
    changed_to(&["s a", "z b", "w go", "s c"], "`b` was a Step and is a Sleep").await;
}

#[tokio::test]
async fn code_that_swallows_the_error_is_parked_all_the_same() {
    changed_to(&["! x", "s a"], "call 1 of this job was step `a` and is step `x`").await;
}

#[tokio::test]
async fn a_step_that_was_added_behind_what_is_done_runs() {
    let lab = Lab::new().await;
    let (did, version) = (Ledger::default(), Arc::new(AtomicUsize::new(0)));
    let (ledger, which) = (did.clone(), version.clone());
    let actor = Actor::new(move |ctx| {
        let calls: &[&str] = [FIRST, &["s a", "s b", "w go", "s more", "s c"]][which.load(Ordering::SeqCst)];
        let ledger = ledger.clone();
        async move {
            play(&ctx, calls, &ledger).await?;
            Verdict::done("all")
        }
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    version.store(1, Ordering::SeqCst);
    lab.store.signal(&id, "go", "", b"1", "").await.unwrap();
    lab.until(&id, Place::Succeeded).await;
    assert_eq!(did.all(), ["a", "b", "more", "c"]);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_kind_with_two_steps_of_one_name_is_refused_at_start() {
    let lab = Lab::new().await;
    let actor = Actor::declaring(&["copy", "publish", "copy"], |_| async { Verdict::done(()) });
    let refused = Worker::start(&lab.store, actor, WorkerOptions::default()).await.err().expect("a refusal");
    assert_eq!(refused.code(), "step_name_twice");
    let text = refused.to_string();
    assert!(text.contains("kind `actor`") && text.contains("two steps named `copy`"), "{text}");
    lab.finish().await;
}

async fn dies_of(actor: Arc<Actor>, code: &str) -> String {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    let record = lab.until(&id, Place::Dead).await.record;
    let error: leasehold_engine::model::ErrorDocument = serde_json::from_slice(&record.error).unwrap();
    assert_eq!((error.code.as_str(), record.attempt), (code, 1), "{}", error.message);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
    error.message
}

#[tokio::test]
async fn a_step_that_its_kind_does_not_declare_is_refused() {
    let actor = Actor::declaring(&["copy", "send *"], |ctx| async move {
        ctx.step("copy", Effect::Idempotent, || async { Ok(()) }).await?;
        ctx.step("send mail", Effect::Idempotent, || async { Ok(()) }).await?;
        ctx.step("publish", Effect::Idempotent, || async { Ok(()) }).await?;
        Verdict::done(())
    });
    let text = dies_of(actor, "step_not_declared").await;
    assert!(text.contains("`publish`") && text.contains("copy, send *"), "{text}");
}

#[tokio::test]
async fn two_calls_of_one_name_are_refused_when_they_are_made() {
    let actor = Actor::new(|ctx| async move {
        ctx.step("copy", Effect::Idempotent, || async { Ok(()) }).await?;
        ctx.sleep("copy", Duration::from_secs(1)).await?;
        Verdict::done(())
    });
    dies_of(actor, "step_name_twice").await;
    for bad in ["", "a\nb"] {
        let actor = Actor::new(move |ctx| async move {
            ctx.sleep(bad, Duration::from_secs(1)).await?;
            Verdict::done(())
        });
        dies_of(actor, "step_name_bad").await;
    }
}

#[tokio::test]
async fn a_step_that_returns_10_mb_is_refused_and_the_limit_is_named() {
    let actor = Actor::new(|ctx| async move {
        ctx.step("read", Effect::ReadOnly, || async { Ok("x".repeat(10 << 20)) }).await?;
        Verdict::done(())
    });
    let text = dies_of(actor, "result_too_large").await;
    assert!(text.contains("`read`") && text.contains("1048576") && text.contains("worker.max_result_bytes"), "{text}");
}

#[tokio::test]
async fn e7_steps_that_return_more_than_a_journal_may_have_are_refused_and_the_limit_is_named() {
    let actor = Actor::new(|ctx| async move {
        for n in 0..20 {
            ctx.step(&format!("read {n}"), Effect::ReadOnly, || async { Ok("x".repeat(1_000_000)) }).await?;
        }
        Verdict::done(())
    });
    let text = dies_of(actor, "journal_too_large").await;
    assert!(text.contains("`read 16`") && text.contains("16777216") && text.contains("max_journal_bytes"), "{text}");
}

#[tokio::test]
async fn a_once_step_without_a_verify_is_refused() {
    let actor = Actor::new(|ctx| async move {
        ctx.step("drop", Effect::Once, || async { Ok(()) }).await?;
        Verdict::done(())
    });
    dies_of(actor, "once_without_verify").await;
}
