//! A Redis whose memory is used up: nothing new is taken in or begun, and what runs is settled, stopped and forgotten (E7).

use leasehold_engine::{
    Effect, Place, Store, StoreOptions, WorkerOptions,
    model::gate::{Note, Scope},
    store::{Begun, Cancelled, Ended, GateSet, Opening, Outcome, Renewed, Resolution, Retention, Settled, Severity},
    testing::{Lab, Puppet, unwatched_clock},
};

use crate::{claim, claim_one, expect_place, settle};

const STEP: Opening = Opening::of(Effect::Idempotent);

/// Lets Redis have so many bytes; 0 is no limit.
fn give(lab: &Lab, bytes: u64) {
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(&mut connection).unwrap();
}

#[tokio::test]
async fn e7_a_full_store_takes_nothing_in_and_lets_what_runs_come_to_its_end() {
    let lab = Lab::new().await;
    let waits = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let mut doubtful = Puppet::job(&lab.store, "done");
    doubtful.retry.max_attempts = 1;
    for job in [doubtful, Puppet::job(&lab.store, "done")] {
        lab.enqueue(job).await;
    }
    lab.store.cancel(&waits, "", None).await.unwrap();
    let waits = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let [(lost, old), (id, fence)] = [claim_one(&lab, "w").await, claim_one(&lab, "w").await];
    lab.store.step_begin(&lost, old, "s", Opening::of(Effect::Once)).await.unwrap();
    give(&lab, 1);

    let refused = lab.store.enqueue(&[Puppet::job(&lab.store, "done")], 100).await.unwrap_err();
    assert!(refused.is_out_of_memory(), "{refused}");
    assert_eq!(lab.store.step_begin(&id, fence, "s", STEP).await.unwrap(), Begun::Run);
    assert_eq!(lab.store.step_end(&id, fence, "s", b"1").await.unwrap(), Ended::Ok);
    assert_eq!(lab.store.renew(0, &[(id.clone(), fence)], 15_000).await.unwrap(), [Renewed::Held]);
    assert_eq!(settle(&lab, &id, fence, Outcome::Done).await, Settled::Ok);
    assert_eq!(lab.store.cancel(&waits, "", None).await.unwrap(), Cancelled::Now);
    lab.at(15_000);
    assert_eq!(lab.store.rescue(0, 10).await.unwrap(), std::slice::from_ref(&lost));
    expect_place(&lab, &lost, Place::Unknown).await;
    lab.store.resolve(&lost, Resolution::of_the_only(true, b"1"), "").await.unwrap();
    lab.store.cancel(&lost, "", None).await.unwrap();
    lab.store.heartbeat("w", Some("{}"), 1000).await.unwrap();
    assert_eq!(lab.store.pause(&Scope::Queue("default".into()), &Note::default()).await.unwrap(), GateSet::Set);
    assert!(lab.store.take_turn(0, "prune", "me", 1000).await.unwrap());
    let all = Retention { max_age_ms: 0, max_count: 0 };
    let expired = lab.store.expired(0, Place::Succeeded, "puppet", all, 10).await.unwrap();
    assert_eq!(lab.store.forget(0, Place::Succeeded, "puppet", &expired.entries).await.unwrap().jobs, 1);
    give(&lab, 0);
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_full_store_is_opened_and_says_that_it_is_out_of_memory() {
    let lab = Lab::new().await;
    give(&lab, 1);
    let store = Store::open(StoreOptions::new(lab.redis.url())).await.unwrap();
    let found = store.durability().await.unwrap();
    assert!(found.complaints.iter().any(|c| (c.severity, c.code) == (Severity::Full, "redis_full")), "{found:?}");
    give(&lab, 0);
    let found = store.durability().await.unwrap();
    assert!(found.complaints.iter().all(|c| c.severity != Severity::Full));
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_worker_claims_nothing_while_the_store_is_nearly_full() {
    let lab = Lab::with_running_clock().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    give(&lab, lab.store.memory().await.unwrap().used * 100 / 97);
    let options = WorkerOptions { name: "w".into(), renew_ms: 200, ..unwatched_clock() };
    let mut worker = leasehold_engine::Worker::start(&lab.store, Puppet::new(), options).await.unwrap();
    let mut beats = std::collections::BTreeSet::new();
    while beats.len() < 4 {
        beats.extend(lab.store.workers().await.unwrap().into_iter().map(|seen| seen.alive_until));
    }
    expect_place(&lab, &id, Place::Ready).await;
    give(&lab, 0);
    lab.until(&id, Place::Succeeded).await;
    worker.drain(std::time::Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_worker_settles_although_redis_refused_its_claim() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let id = lab.enqueue(Puppet::job(&lab.store, "hang")).await;
    // Looked at when it starts, and not again in this test.
    let options = WorkerOptions { name: "w".into(), renew_ms: 600_000, lease_ms: 1_800_000, ..unwatched_clock() };
    let mut worker = leasehold_engine::Worker::start(&lab.store, puppet.clone(), options).await.unwrap();
    puppet.began.notified().await;
    give(&lab, 1);
    puppet.go_on.notify_one();
    lab.until(&id, Place::Succeeded).await;
    let heard = async {
        while worker.running() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), heard).await.expect("it hears that the job is settled");
    worker.drain(std::time::Duration::from_secs(5)).await;
    give(&lab, 0);
    assert!(claim(&lab, "w2", 1).await.jobs.is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn e10_a_verb_that_is_sent_once_loads_scripts_that_redis_forgot() {
    let lab = Lab::new().await;
    let once = lab.store.with_own_connection(std::time::Duration::from_secs(5), 0).await.unwrap();
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection).unwrap();
    once.heartbeat("w", None, 0).await.unwrap();
    lab.finish().await;
}
