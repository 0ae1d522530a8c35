//! The outbox: each change once, in the script that made it, and each delivery until it is settled.

use std::time::Duration;

use bytes::Bytes;
use leasehold_engine::{
    Place,
    store::{DeliveryOutcome, NewDelivery, Outcome, Routed},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim_one, settle};

fn delivery(endpoint: &str, id: &str) -> NewDelivery {
    NewDelivery { endpoint: endpoint.to_owned(), id: id.to_owned(), body: Bytes::from_static(b"{}") }
}

async fn route(lab: &Lab, entry: &str, deliveries: Vec<NewDelivery>) -> u64 {
    lab.store.outbox_route(0, &[Routed { entry: entry.to_owned(), deliveries }]).await.unwrap()
}

/// Deliveries to be sent, as the counter has it.
async fn pending(lab: &Lab) -> usize {
    let backlog = usize::try_from(lab.store.webhook_backlog().await.unwrap()).unwrap();
    backlog - lab.store.outbox_read(0, 1000).await.unwrap().len()
}

/// An entry of each of `n` jobs that wait for tomorrow.
async fn entries(lab: &Lab, n: usize) -> Vec<String> {
    for _ in 0..n {
        let mut job = Puppet::job(&lab.store, "done");
        job.notify = true;
        job.run_at = Some(NOON + 86_400_000);
        lab.enqueue(job).await;
    }
    let told = lab.store.outbox_read(0, 100).await.unwrap();
    let mut of_each = std::collections::BTreeMap::new();
    told.into_iter().for_each(|entry| _ = of_each.entry(entry.job.to_string()).or_insert(entry.entry));
    of_each.into_values().collect()
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

/// What is told and what the history says are the same, number by number: a hole would look like a loss.
#[tokio::test]
async fn the_history_of_a_planned_job_has_every_number_that_is_told() {
    let lab = Lab::new().await;
    let mut job = Puppet::job(&lab.store, "done");
    (job.notify, job.run_at) = (true, Some(NOON + 1000));
    let id = lab.enqueue(job).await;
    let both = async |expected: &[&str]| {
        let told = lab.store.outbox_read(0, 10).await.unwrap();
        let told: Vec<_> = told.iter().map(|entry| (entry.seq, entry.event.as_str())).collect();
        let events = lab.job(&id).await.record.events;
        let kept: Vec<_> = events.iter().map(|event| (event.seq, event.word.as_str())).collect();
        assert_eq!(told, kept);
        assert_eq!(kept.iter().map(|(_, word)| *word).collect::<Vec<_>>(), expected);
    };
    both(&["accepted", "scheduled"]).await;
    lab.at(1000);
    let (_, fence) = claim_one(&lab, "w").await;
    both(&["accepted", "scheduled", "started"]).await;
    settle(&lab, &id, fence, Outcome::Retry).await;
    lab.at(10_000);
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    both(&["accepted", "scheduled", "started", "retrying", "started", "succeeded"]).await;
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
    assert_eq!(route(&lab, &entry, vec![delivery("a", "m1"), delivery("b", "m2")]).await, 1);
    assert_eq!(route(&lab, &entry, vec![delivery("a", "m9")]).await, 0, "another sender was first");
    assert_eq!(lab.store.webhook_backlog().await.unwrap(), 2);
    let lease = Duration::from_secs(60);
    let got = lab.store.delivery_claim(0, "a", 10, lease).await.unwrap();
    assert_eq!((got.len(), got[0].attempt, got[0].first_at), (1, 1, NOON));
    assert!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap().is_empty(), "leased");
    lab.at(60_000);
    assert_eq!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap()[0].attempt, 2, "its sender died");
    assert!(lab.store.delivery_settle(0, "a", "m1", DeliveryOutcome::Retry { at: NOON + 90_000 }, b"1").await.unwrap());
    assert!(lab.store.deliveries_due(0, 10).await.unwrap().contains(&("a".to_owned(), NOON + 90_000)));
    lab.at(90_000);
    assert_eq!(lab.store.delivery_claim(0, "a", 10, lease).await.unwrap().len(), 1);
    lab.store.delivery_settle(0, "a", "m1", DeliveryOutcome::Delivered, b"2").await.unwrap();
    assert_eq!(lab.store.webhook_backlog().await.unwrap(), 1);
    let list = lab.store.delivery_list(0, "a", None, 10).await.unwrap().0;
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
    route(&lab, &entry, vec![delivery("a", "m1")]).await;
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
        let list = lab.store.delivery_list(0, "a", None, 10).await.unwrap().0;
        assert_eq!((list[0].state.as_str(), list[0].log.len()), ("delivered", 1));
    }
    assert_eq!(lab.store.webhook_backlog().await.unwrap(), 0);
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn e10_what_a_sender_says_again_after_a_lost_reply_changes_nothing() {
    const LEASE: Duration = Duration::from_secs(10);
    let lab = Lab::new().await;
    let entries = entries(&lab, 1).await;
    route(&lab, &entries[0], vec![delivery("a", "m1")]).await;
    lab.store.delivery_claim(0, "a", 10, LEASE).await.unwrap();
    let retry = DeliveryOutcome::Retry { at: NOON + 100 };
    for _ in 0..2 {
        assert!(lab.store.delivery_settle(0, "a", "m1", retry, b"first").await.unwrap());
    }
    lab.at(100);
    assert_eq!(lab.store.delivery_claim(0, "a", 10, LEASE).await.unwrap()[0].attempt, 2);
    assert!(lab.store.delivery_settle(0, "a", "m1", retry, b"first").await.unwrap());
    assert!(lab.store.delivery_claim(0, "a", 10, LEASE).await.unwrap().is_empty(), "another sender has it by now");
    assert!(lab.store.delivery_settle(0, "a", "m1", DeliveryOutcome::Exhausted, b"second").await.unwrap());
    assert!(lab.store.delivery_replay(0, "a", "m1").await.unwrap());
    assert!(lab.store.delivery_settle(0, "a", "m1", DeliveryOutcome::Exhausted, b"second").await.unwrap());
    assert_eq!(lab.store.delivery_claim(0, "a", 10, LEASE).await.unwrap().len(), 1, "a person wants it to be sent");
    let list = lab.store.delivery_list(0, "a", None, 10).await.unwrap().0;
    assert_eq!(list[0].log, ["first", "second"], "each attempt once");
    lab.finish().await;
}

#[tokio::test]
async fn a_replayed_delivery_is_due_from_then_on() {
    let lab = Lab::new().await;
    let entries = entries(&lab, 1).await;
    route(&lab, &entries[0], vec![delivery("a", "m1")]).await;
    lab.at(1000);
    assert!(lab.store.delivery_replay(0, "a", "m1").await.unwrap());
    assert_eq!(lab.store.deliveries_due(0, 10).await.unwrap(), [("a".to_owned(), NOON + 1000)]);
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_receiver_that_is_away_keeps_a_bounded_history_and_what_is_dropped_is_counted() {
    const CAP: usize = 5_000;
    let lab = Lab::new().await;
    let entries = entries(&lab, 2).await;
    let many = (0..=CAP).map(|n| delivery("a", &format!("m{n:05}"))).collect();
    route(&lab, &entries[0], many).await;
    assert_eq!(pending(&lab).await, CAP);
    let first = lab.store.delivery_claim(0, "a", 1, Duration::from_secs(1)).await.unwrap().remove(0);
    assert_eq!(first.id, "m00001", "the oldest was dropped");
    route(&lab, &entries[1], vec![delivery("a", "n")]).await;
    assert!(!lab.store.delivery_settle(0, "a", "m00001", DeliveryOutcome::Delivered, b"{}").await.unwrap());
    assert_eq!(pending(&lab).await, CAP);
    let dropped = lab.store.deliveries_dropped(0).await.unwrap();
    assert_eq!(dropped.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 2)]);
    assert!(lab.store.deliveries_dropped(0).await.unwrap().is_empty(), "it is told once");
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_history_ends_some_time_after_its_last_change() {
    let lab = Lab::new().await;
    let entries = entries(&lab, 1).await;
    route(&lab, &entries[0], vec![delivery("a", "m1")]).await;
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let mut left = || redis::cmd("PTTL").arg("{lh:0}:delivered:a").query::<i64>(&mut connection).unwrap();
    assert!(left() > 0);
    lab.store.delivery_settle(0, "a", "m1", DeliveryOutcome::Delivered, b"{}").await.unwrap();
    assert!(left() > 0);
    lab.finish().await;
}

#[tokio::test]
async fn e7_what_is_kept_of_a_removed_endpoint_is_forgotten_in_parts() {
    let lab = Lab::new().await;
    let entries = entries(&lab, 1).await;
    route(&lab, &entries[0], (0..5).map(|n| delivery("a", &format!("m{n}"))).chain([delivery("b", "m")]).collect())
        .await;
    lab.store.delivery_settle(0, "a", "m0", DeliveryOutcome::Exhausted, b"{}").await.unwrap();
    assert!(lab.store.deliveries_forget(0, "a", 3).await.unwrap(), "a part at a time");
    assert!(!lab.store.deliveries_forget(0, "a", 3).await.unwrap());
    assert!(!lab.store.deliveries_forget(0, "a", 3).await.unwrap(), "a repeat finds nothing");
    assert!(lab.store.delivery_list(0, "a", None, 10).await.unwrap().0.is_empty());
    assert_eq!(pending(&lab).await, 1, "that of the other");
    let due = lab.store.deliveries_due(0, 10).await.unwrap();
    assert_eq!(due.into_iter().map(|(endpoint, _)| endpoint).collect::<Vec<_>>(), ["b"]);
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let left: Vec<String> = redis::cmd("KEYS").arg("*deliver*:a*").query(&mut connection).unwrap();
    assert!(left.is_empty(), "{left:?}");
    lab.finish().await;
}
