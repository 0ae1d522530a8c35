//! A tree ends as a whole: with the cancel of its root, and with upkeep after its root failed. A parent waits for each child
//! once, and for one that was revived again.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    ChildFailure, Effect, JobError, JobId, Place, Verdict, Worker,
    store::{Cancelled, Opening, Outcome},
    testing::{Actor, Lab, bare},
    upkeep,
};

use crate::{claim_one, settle};

/// `trunk` waits for a `branch`, that for a `leaf`, that for a signal; `fails` leaves a leaf behind.
fn tree() -> Arc<Actor> {
    Actor::new(|ctx| async move {
        let below = match &ctx.args()[..] {
            b"trunk" => Some("branch"),
            b"branch" | b"fails" => Some("leaf"),
            _ => None,
        };
        let Some(says) = below else {
            ctx.wait_signal("never", None).await?;
            return Verdict::done("no");
        };
        let child = ctx.spawn_child("spawn", Actor::job(ctx.store(), says)).await?;
        if &ctx.args()[..] == b"fails" {
            return Err(JobError::permanent("told_to", "as it was told"));
        }
        ctx.wait_all("children", &[child], ChildFailure::Collect).await?;
        Verdict::done("no")
    })
}

async fn grown(lab: &Lab, says: &str) -> (JobId, Worker) {
    let root = lab.enqueue(Actor::job(&lab.store, says)).await;
    (root, lab.quick_worker(tree()).await)
}

/// The only child of a job, once it waits or has ended.
async fn child(lab: &Lab, id: &JobId) -> JobId {
    let found = async {
        loop {
            let children = lab.store.children(id).await.unwrap();
            if let Some(id) = children.into_keys().next() {
                return id;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("a child")
}

#[tokio::test]
async fn who_cancels_a_job_cancels_all_below_it_with_the_same_call() {
    let lab = Lab::new().await;
    let (trunk, mut worker) = grown(&lab, "trunk").await;
    let branch = child(&lab, &trunk).await;
    let leaf = child(&lab, &branch).await;
    for id in [&leaf, &branch, &trunk] {
        lab.until(id, Place::Waiting).await;
    }
    assert_eq!(lab.store.cancel(&trunk, "{}", None).await.unwrap(), Cancelled::Now);
    for id in [&trunk, &branch, &leaf] {
        assert_eq!(lab.place(id).await, Place::Cancelled);
    }
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn upkeep_cancels_the_children_of_a_job_that_failed() {
    let lab = Lab::new().await;
    let (root, mut worker) = grown(&lab, "fails").await;
    lab.until(&root, Place::Dead).await;
    let leaf = child(&lab, &root).await;
    lab.until(&leaf, Place::Waiting).await;
    worker.drain(Duration::from_secs(5)).await;
    upkeep::cascade(&lab.store).await.unwrap();
    assert_eq!(lab.place(&leaf).await, Place::Cancelled);
    lab.finish().await;
}

/// A child spawned by a parent that still runs; its id and the parent's.
async fn spawned(lab: &Lab) -> ((JobId, u64), JobId) {
    let parent = lab.enqueue(Actor::job(&lab.store, "")).await;
    let (_, fence) = claim_one(lab, "w").await;
    let mut child = Actor::job(&lab.store, "");
    child.parent = Some(parent.clone());
    bare::spawn(&lab.store, (&parent, fence), ("spawn", Opening::of(Effect::Idempotent)), &child).await.unwrap();
    ((parent, fence), child.id)
}

async fn waits(lab: &Lab, (parent, fence): &(JobId, u64), ids: &[JobId]) -> String {
    let awaiting = bare::Awaiting::Children { ids, all: true, fail: false };
    let how = Opening { ordinal: 1, ..Opening::of(Effect::ReadOnly) };
    bare::suspend(&lab.store, (parent, *fence), ("children", how), (awaiting, 0)).await.unwrap()
}

#[tokio::test]
async fn a_child_that_was_revived_is_waited_for_again() {
    let lab = Lab::new().await;
    let (parent, child) = spawned(&lab).await;
    let (_, fence) = claim_one(&lab, "w2").await;
    settle(&lab, &child, fence, Outcome::Dead).await;
    lab.store.revive(&child, "").await.unwrap();
    assert_eq!(waits(&lab, &parent, std::slice::from_ref(&child)).await, "waits 0");
    settle(&lab, &parent.0, parent.1, Outcome::Wait).await;
    let (_, fence) = claim_one(&lab, "w2").await;
    settle(&lab, &child, fence, Outcome::Done).await;
    let parent = claim_one(&lab, "w").await;
    let said = waits(&lab, &parent, std::slice::from_ref(&child)).await;
    assert!(said.starts_with("done") && said.contains("succeeded"), "{said}");
    settle(&lab, &parent.0, parent.1, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_child_that_is_named_twice_is_waited_for_once() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        if &ctx.args()[..] == b"child" {
            return Verdict::done("well");
        }
        let id = ctx.spawn_child("spawn", Actor::job(ctx.store(), "child")).await?;
        let twice = [id.clone(), id];
        let all = ctx.wait_all("all", &twice, ChildFailure::Fail).await?;
        let any = ctx.wait_any("any", &twice, ChildFailure::Fail).await?;
        match (all.len(), any.len()) {
            (1, 1) => Verdict::done("both"),
            other => Err(JobError::permanent("twice", format!("{other:?}"))),
        }
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Succeeded).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}
