//! A tree ends as a whole: with the cancel of its root, and with upkeep after its root failed.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    ChildFailure, JobError, JobId, Place, Verdict, Worker,
    store::Cancelled,
    testing::{Actor, Lab},
    upkeep,
};

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
