//! The outbox: each change once, in the script that made it, and each delivery until it is settled.

use std::time::Duration;

use bytes::Bytes;
use leasehold_engine::{
    Place,
    store::{DeliveryOutcome, NewDelivery, Outcome},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim_one, settle};

fn delivery(endpoint: &str, id: &str) -> NewDelivery {
    NewDelivery { endpoint: endpoint.to_owned(), id: id.to_owned(), body: Bytes::from_static(b"{}") }
}

#[tokio::test]
async fn e2_each_change_is_in_the_outbox_with_a_rising_seq() {
    let lab = Lab::new().await;
    let quiet = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &quiet, fence, Outcome::Done).await;
    assert!(lab.store.outbox_read(0, 10).await.unwrap().is_empty(), "nobody listens");
    let mut job = Puppet::job(&lab.store, "done");
    job.notify = true;
    job.meta = Bytes::from_static(b"{\"labels\":{}}");
    let id = lab.enqueue(job).await;
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Retry).await;
    lab.at(1000);
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    let told = lab.store.outbox_read(0, 10).await.unwrap();
    let words: Vec<_> = told.iter().map(|e| e.event.as_str()).collect();
    assert_eq!(words, ["accepted", "started", "retrying", "started", "succeeded"]);
    assert!(told.windows(2).all(|w| w[0].seq < w[1].seq));
    assert!(
        told.iter()
            .all(|e| e.job == id && e.kind == "puppet" && e.tenant == "t-001" && &e.meta[..] == b"{\"labels\":{}}")
    );
    lab.finish().await;
}

#[tokio::test]
async fn listeners_make_every_job_be_told() {
    let lab = Lab::new().await;
    lab.store.set_listening(true).await.unwrap();
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    assert_eq!(lab.store.outbox_read(0, 10).await.unwrap().len(), 3);
    lab.finish().await;
}

#[tokio::test]
async fn a_failed_attempt_is_told_with_its_error_and_whether_work_had_begun() {
    let lab = Lab::with_running_clock().await;
    lab.store.set_listening(true).await.unwrap();
    let mut worker = lab.worker("w", Puppet::new()).await;
    let id = lab.enqueue(Puppet::job(&lab.store, "steps")).await;
    lab.until(&id, Place::Succeeded).await;
    let told = lab.store.outbox_read(0, 10).await.unwrap();
    let begun: Vec<_> = told.iter().map(|e| (e.event.as_str(), e.place, e.begun)).collect();
    assert_eq!(begun[0], ("accepted", Place::Ready, false));
    assert!(begun.contains(&("retrying", Place::Scheduled, true)), "{begun:?}");
    let retrying = told.iter().find(|e| e.event.as_str() == "retrying").unwrap();
    let note: serde_json::Value = serde_json::from_slice(&retrying.note).unwrap();
    assert_eq!(note, serde_json::json!({"code": "puppet_failed", "message": "between the steps"}));
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_entry_is_routed_once_and_a_delivery_is_due_until_settled() {
    let lab = Lab::new().await;
    let mut job = Puppet::job(&lab.store, "done");
    job.notify = true;
    let id = lab.enqueue(job).await;
    let entry = lab.store.outbox_read(0, 1).await.unwrap().remove(0).entry;
    assert!(lab.store.outbox_route(0, &entry, &[delivery("a", "m1"), delivery("b", "m2")]).await.unwrap());
    assert!(!lab.store.outbox_route(0, &entry, &[delivery("a", "m9")]).await.unwrap(), "another sender was first");
    assert_eq!(lab.store.webhook_backlog().await.unwrap(), 2);
    let lease = Duration::from_secs(60);
    let got = lab.store.delivery_claim(0, "a", 10, lease).await.unwrap();
    assert_eq!((got.len(), got[0].attempt, got[0].first_at), (1, 1, NOON));
    assert!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap().is_empty(), "leased");
    lab.at(60_000);
    assert_eq!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap()[0].attempt, 2, "its sender died");
    assert!(
        lab.store.delivery_settle(0, "a", "m1", DeliveryOutcome::Retry { at: NOON + 90_000 }, b"{}").await.unwrap()
    );
    assert!(lab.store.deliveries_due(0, 10).await.unwrap().contains(&("a".to_owned(), NOON + 90_000)));
    lab.at(90_000);
    assert_eq!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap().len(), 1);
    lab.store.delivery_settle(0, "a", "m1", DeliveryOutcome::Delivered, b"{}").await.unwrap();
    assert_eq!(lab.store.webhook_backlog().await.unwrap(), 1);
    let list = lab.store.delivery_list(0, "a", 0, 10).await.unwrap();
    assert_eq!((list.len(), list[0].state.as_str(), list[0].log.len()), (1, "delivered", 2));
    assert!(lab.store.delivery_replay(0, "a", "m1").await.unwrap());
    assert_eq!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap()[0].id, "m1");
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_sender_that_comes_late_does_not_send_again_what_was_delivered() {
    let lab = Lab::new().await;
    let mut job = Puppet::job(&lab.store, "done");
    job.notify = true;
    let id = lab.enqueue(job).await;
    let entry = lab.store.outbox_read(0, 1).await.unwrap().remove(0).entry;
    lab.store.outbox_route(0, &entry, &[delivery("a", "m1")]).await.unwrap();
    let lease = Duration::from_secs(1);
    for second in [0, 1] {
        lab.at(second * 1000);
        assert_eq!(
            lab.store.delivery_claim(0, "a", 10, lease).await.unwrap().len(),
            1,
            "two senders, one after the other"
        );
    }
    for outcome in [DeliveryOutcome::Delivered, DeliveryOutcome::Retry { at: NOON + 1001 }, DeliveryOutcome::Exhausted]
    {
        assert!(lab.store.delivery_settle(0, "a", "m1", outcome, b"{}").await.unwrap());
        lab.at(5000);
        assert!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap().is_empty(), "it was delivered");
        let list = lab.store.delivery_list(0, "a", 0, 10).await.unwrap();
        assert_eq!((list[0].state.as_str(), list[0].log.len()), ("delivered", 1));
    }
    assert_eq!(lab.store.webhook_backlog().await.unwrap(), 0);
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}
