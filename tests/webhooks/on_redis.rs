//! The same over the engine's real store: from a job that changes to a signature that verifies.

use std::sync::Arc;
use std::time::Duration;

use leasehold::webhooks::attempt::AttemptLog;
use leasehold::webhooks::client::{Limits, SystemResolver};
use leasehold::webhooks::directory::{Directory, NewCallback, NewEndpoint};
use leasehold::webhooks::dispatcher::{Dispatcher, DispatcherRules, SystemClock};
use leasehold::webhooks::signature::Secret;
use leasehold::webhooks::store::StoreOutbox;
use leasehold_engine::testing::{Lab, NOON};
use leasehold_engine::{NewJob, Store};

use super::lab::{Receiver, dispatcher_rules, sender, status, url_rules};
use super::verifiers::is_genuine;

fn dispatcher(store: &Store) -> (Dispatcher, Directory) {
    let outbox = Arc::new(StoreOutbox::new(store.clone()));
    let directory = Directory::new(Arc::new(store.clone()));
    let sender = sender(url_rules(&["127.0.0.0/8"]), Limits::default(), Arc::new(SystemResolver));
    let rules = DispatcherRules { grace: Duration::ZERO, ..dispatcher_rules() };
    (Dispatcher::new(outbox, directory.clone(), sender, Arc::new(SystemClock), rules), directory)
}

async fn register(directory: &Directory, receiver: &Receiver) -> (String, Secret) {
    let new = NewEndpoint { url: receiver.url(), events: vec![], tenant: None, owner: "key-1".into() };
    let (view, secret) = directory.register(new, &url_rules(&["127.0.0.0/8"]), NOON).await.unwrap();
    (view.id, secret)
}

/// A job for tomorrow: it is accepted and scheduled, and no worker takes it.
fn tomorrow(store: &Store) -> NewJob {
    let mut job = NewJob::new(store.new_id("t-001"), "puppet", "t-001", "{}");
    job.run_at = Some(NOON + 86_400_000);
    job
}

async fn round(dispatcher: &Dispatcher) {
    dispatcher.tick().await.unwrap();
    dispatcher.idle().await;
}

#[tokio::test]
async fn eng_06_each_change_of_a_job_in_redis_reaches_the_endpoint_signed() {
    let (lab, receiver) = (Lab::new().await, Receiver::fine().await);
    let (dispatcher, directory) = dispatcher(&lab.store);
    let (_, secret) = register(&directory, &receiver).await;
    let handle = dispatcher.start();
    let id = lab.enqueue(tomorrow(&lab.store)).await;
    receiver.arrivals(1).await;
    dispatcher.idle().await;
    handle.stop().await;

    let seen = receiver.seen();
    assert!(seen.iter().all(|one| is_genuine(one, &secret)));
    let bodies: Vec<serde_json::Value> = seen.iter().map(|one| one.json()).collect();
    assert!(bodies.iter().all(|body| body["data"]["job_id"] == id.as_str()), "{bodies:?}");
    assert!(bodies.iter().any(|body| body["type"] == "job.accepted" || body["type"] == "job.scheduled"), "{bodies:?}");
    assert_eq!(lab.store.webhook_backlog().await.unwrap(), 0);
    lab.finish().await;
}

#[tokio::test]
async fn a_callback_in_redis_is_retried_logged_replayed_and_keeps_its_id() {
    let lab = Lab::new().await;
    let receiver = Receiver::reacting(|n| Some(status(if n == 0 { 500 } else { 200 }))).await;
    let (dispatcher, directory) = dispatcher(&lab.store);
    let secret = Secret::generate().unwrap();
    let rules = url_rules(&["127.0.0.0/8"]);
    let ask = NewCallback { key: "key-1", url: &receiver.url(), secret: &secret, tenant: "t-001" };
    let endpoint = directory.callback(ask, &rules, NOON).await.unwrap();
    let mut job = tomorrow(&lab.store);
    job.notify = true;
    job.meta =
        serde_json::json!({ "callback": leasehold::webhooks::body::callback_meta(&endpoint) }).to_string().into();
    lab.enqueue(job).await;
    round(&dispatcher).await;
    let routed = lab.store.delivery_list(0, &endpoint, None, 10).await.unwrap().0;
    let failed = routed.iter().find(|view| view.state == "pending").expect("one failed and waits");
    let log: AttemptLog = serde_json::from_slice(&failed.log[0]).unwrap();
    assert_eq!((log.status, log.error.as_deref()), (Some(500), Some("receiver_failed")));

    lab.at(5000);
    round(&dispatcher).await;
    let ended = lab.store.delivery_list(0, &endpoint, None, 10).await.unwrap().0;
    assert!(ended.iter().all(|view| view.state == "delivered"), "{ended:?}");
    assert!(lab.store.delivery_replay(0, &endpoint, &failed.id).await.unwrap());
    round(&dispatcher).await;
    let same = receiver.seen().into_iter().filter(|one| one.header("webhook-id") == failed.id).collect::<Vec<_>>();
    assert_eq!(same.len(), 3);
    assert!(same.iter().all(|one| is_genuine(one, &secret) && one.body == same[0].body));
    lab.finish().await;
}

#[tokio::test]
async fn a_sender_that_dies_in_redis_leaves_its_delivery_to_the_next() {
    let (lab, receiver) = (Lab::new().await, Receiver::reacting(|n| (n > 0).then(|| status(200))).await);
    let (dead, directory) = dispatcher(&lab.store);
    register(&directory, &receiver).await;
    lab.enqueue(tomorrow(&lab.store)).await;
    // It ends without a settle, as a killed process does: no grace for what is under way.
    dead.tick().await.unwrap();
    receiver.arrivals(1).await;
    dead.start().stop().await;

    let (next, _) = dispatcher(&lab.store);
    let lease = i64::try_from((Limits::default().total + dispatcher_rules().lease_margin).as_millis()).unwrap();
    lab.at(lease - 1);
    round(&next).await;
    let of_first = |seen: Vec<super::lab::Seen>| {
        let id = seen[0].header("webhook-id").to_owned();
        seen.iter().filter(|one| one.header("webhook-id") == id).count()
    };
    assert_eq!(of_first(receiver.seen()), 1, "it is under the dead sender's lease");
    lab.at(lease);
    round(&next).await;
    assert_eq!(of_first(receiver.seen()), 2);
    lab.finish().await;
}
