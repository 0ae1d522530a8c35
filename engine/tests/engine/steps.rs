//! The journal: a step that ended is not done again; a Once step that nobody can vouch for makes the job unknown.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Place, Worker, WorkerOptions,
    store::{Cancelled, Resolution, Resolved},
    testing::{Lab, Puppet, unwatched_clock},
};

#[tokio::test]
async fn e4_a_step_that_ended_is_not_done_again() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let id = lab.enqueue(Puppet::job(&lab.store, "steps")).await;
    let mut worker = lab.worker("w", puppet.clone()).await;
    let job = lab.until(&id, Place::Succeeded).await;
    assert_eq!(&job.record.result[..], b"[1,1]");
    assert_eq!((puppet.times("attempt"), puppet.times("first"), puppet.times("second")), (2, 1, 1));
    let names: Vec<_> = job.steps.iter().map(|s| (s.name.as_str(), s.done)).collect();
    assert_eq!(names, [("first", true), ("second", true)]);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

/// A worker that is lost inside a Once step: the worker is dropped, and its lease runs out.
async fn lose_a_worker_inside_once(lab: &Lab, puppet: &Arc<Puppet>) -> leasehold_engine::JobId {
    let id = lab.enqueue(Puppet::job(&lab.store, "once")).await;
    let options = WorkerOptions { name: "lost".to_owned(), ..unwatched_clock() };
    let lease = i64::try_from(options.lease_ms).unwrap();
    let worker = Worker::start(&lab.store, puppet.clone(), options).await.unwrap();
    let inside = async {
        while puppet.times("effect") == 0 {
            puppet.began.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), inside).await.expect("it comes to its effect");
    worker.vanish().await;
    lab.at(lease + 1);
    assert_eq!(lab.store.rescue(0, 10).await.unwrap(), std::slice::from_ref(&id));
    id
}

#[tokio::test]
async fn a_once_step_nobody_can_vouch_for_is_unknown_and_a_person_decides() {
    for happened in [true, false] {
        let lab = Lab::new().await;
        let puppet = Puppet::new();
        let id = lose_a_worker_inside_once(&lab, &puppet).await;
        assert_eq!(puppet.times("effect"), 1);
        let puppet = Puppet::new();
        let mut worker = lab.worker("w2", puppet.clone()).await;
        let job = lab.until(&id, Place::Unknown).await;
        assert!(job.record.once_open);
        assert_eq!(puppet.times("effect"), 0, "not repeated");
        assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Unknown);
        puppet.go_on.notify_one();
        assert_eq!(
            lab.store.resolve(&id, Resolution::of_the_only(happened, b"41"), "").await.unwrap(),
            Resolved::Ok("effect".to_owned())
        );
        let job = lab.until(&id, Place::Succeeded).await;
        assert_eq!(&job.record.result[..], if happened { &b"41"[..] } else { &b"1"[..] });
        assert_eq!(puppet.times("effect"), if happened { 0 } else { 1 });
        worker.drain(Duration::from_secs(5)).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn e8_a_cancel_that_was_confirmed_lets_no_step_begin() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let id = lab.enqueue(Puppet::job(&lab.store, "hang")).await;
    // By a hint, or by the look when hints begin: no timed renewal comes within the test's patience.
    let options = WorkerOptions { lease_ms: 1_200_000, renew_ms: 600_000, ..WorkerOptions::default() };
    let mut worker = Worker::start(&lab.store, puppet.clone(), options).await.unwrap();
    puppet.began.notified().await;
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
    lab.until(&id, Place::Cancelled).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}
