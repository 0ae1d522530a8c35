//! What is told of a job says where it goes from there: who hears of it may hear nothing more until it starts.

use bytes::Bytes;
use leasehold_engine::{
    Effect, Place, Resource,
    store::{Edit, Opening, Outcome, Resolution},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim_one, settle};

/// The last that was told of it: what, and where it is.
async fn last_told(lab: &Lab) -> (&'static str, Place) {
    let told = lab.store.outbox_read(0, 100).await.unwrap();
    told.last().map(|entry| (entry.event.as_str(), entry.place)).unwrap()
}

#[tokio::test]
async fn a_job_that_goes_on_is_told_with_the_place_that_it_goes_to() {
    let lab = Lab::new().await;
    lab.store.set_listening(true).await.unwrap();
    let mut job = Puppet::job(&lab.store, "done");
    job.run_at = Some(NOON + 60_000);
    let id = lab.enqueue(job).await;
    lab.store.cancel(&id, "", None).await.unwrap();
    assert_eq!(last_told(&lab).await, ("cancelled", Place::Cancelled));
    lab.store.revive(&id, "").await.unwrap();
    assert_eq!(last_told(&lab).await, ("revived", Place::Scheduled), "it is not cancelled any more");
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.at(60_000);
    lab.store.revive(&id, "").await.unwrap();
    assert_eq!(last_told(&lab).await, ("revived", Place::Ready));
    let (_, fence) = claim_one(&lab, "w").await;
    let how = Opening::of(Effect::Once);
    lab.store.step_begin(&id, fence, "charge", how).await.unwrap();
    settle(&lab, &id, fence, Outcome::Unknown).await;
    let said = Resolution { step: None, happened: true, result: b"1" };
    lab.store.resolve(&id, said, "").await.unwrap();
    assert_eq!(last_told(&lab).await, ("resolved", Place::Ready), "somebody knows now");
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_blocked_job_that_is_edited_is_told_as_planned() {
    let lab = Lab::new().await;
    lab.store.set_listening(true).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut job = Puppet::job(&lab.store, "done");
        job.resources = vec![Resource { name: "r".to_owned(), shared: false }];
        ids.push(lab.enqueue(job).await);
    }
    assert_eq!(last_told(&lab).await, ("blocked", Place::Blocked));
    let edit = Edit {
        expected_seq: None,
        cutoff: None,
        run_at: Some(NOON + 60_000),
        meta: Bytes::new(),
        args: Bytes::from_static(b"1"),
        note: String::new(),
        ticket: None,
    };
    lab.store.edit(&ids[1], &edit).await.unwrap();
    assert_eq!(last_told(&lab).await, ("edited", Place::Scheduled));
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &ids[0], fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_suspended_job_that_is_to_undo_is_told_as_going_on() {
    let lab = Lab::new().await;
    lab.store.set_listening(true).await.unwrap();
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    let book = Opening { undo: true, ..Opening::of(Effect::Idempotent) };
    lab.store.step_begin(&id, fence, "a", book).await.unwrap();
    lab.store.step_end(&id, fence, "a", b"1").await.unwrap();
    settle(&lab, &id, fence, Outcome::Retry).await;
    assert_eq!(last_told(&lab).await, ("retrying", Place::Scheduled));
    lab.store.cancel(&id, "", None).await.unwrap();
    assert_eq!(last_told(&lab).await, ("cancelling", Place::Ready), "a worker undoes it now");
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Undone).await;
    lab.finish().await;
}
