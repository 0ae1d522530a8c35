//! Signals: nothing that comes is missed or counted twice, and what is kept is bounded.

use std::time::Duration;

use leasehold_engine::{
    JobId, Place, Verdict,
    store::{Cancelled, MOST_SIGNALS, SIGNAL_BYTES, Signalled, StoreError},
    testing::{Actor, Lab},
};
use serde_json::json;

async fn send(lab: &Lab, id: &JobId, name: &str, key: &str, payload: &str) -> Signalled {
    lab.store.signal(id, name, key, payload.as_bytes(), "").await.unwrap()
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
    tokio::time::timeout(Duration::from_secs(20), second).await.unwrap();
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
        tokio::time::timeout(Duration::from_secs(20), left).await.unwrap();
        assert_eq!(send(&lab, &id, other, "", "1").await, Signalled::Woken);
        lab.until(&id, Place::Succeeded).await;
        worker.drain(Duration::from_secs(5)).await;
        lab.finish().await;
    }
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
