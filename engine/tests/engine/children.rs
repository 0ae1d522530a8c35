//! Child jobs: spawned once, waited for without a worker, cancelled with their parent.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    ChildFailure, Effect, JobError, JobId, NewJob, Place, Verdict,
    model::ErrorDocument,
    store::{Cancelled, MOST_CHILDREN},
    testing::{Actor, Lab, Ledger},
    upkeep::cascade,
};
use serde_json::json;

fn child(ctx: &leasehold_engine::Ctx, says: &str) -> NewJob {
    let mut job = Actor::job(ctx.store(), says);
    job.retry.max_attempts = 1;
    job
}

/// `parent POLICY all|any CHILD…` spawns children and waits; `done`, `dead` and `wait` are children.
fn family(did: &Ledger) -> Arc<Actor> {
    let did = did.clone();
    Actor::new(move |ctx| {
        let did = did.clone();
        async move {
            let says = String::from_utf8_lossy(ctx.args()).into_owned();
            let words: Vec<&str> = says.split(' ').collect();
            match words[..] {
                ["parent", policy, how, ref children @ ..] => {
                    did.write("parent");
                    let mut ids = Vec::new();
                    for (n, says) in children.iter().enumerate() {
                        ids.push(ctx.spawn_child(&format!("spawn {n}"), child(&ctx, says)).await?);
                    }
                    let policy = if policy == "fail" { ChildFailure::Fail } else { ChildFailure::Collect };
                    let ends = match how {
                        "all" => ctx.wait_all("children", &ids, policy).await?,
                        "any" => ctx.wait_any("children", &ids, policy).await?,
                        _ => Vec::new(),
                    };
                    Verdict::done(ends.iter().map(|end| end.place).collect::<Vec<_>>())
                }
                ["dead"] => Err(JobError::permanent("told_to", "as it was told")),
                ["wait"] => {
                    ctx.wait_signal("go", None).await?;
                    Verdict::done("went")
                }
                _ => {
                    did.write("child");
                    Verdict::done(json!({"gave": says}))
                }
            }
        }
    })
}

async fn children_of(lab: &Lab, id: &JobId, many: usize) -> Vec<JobId> {
    let all = async {
        loop {
            let children = lab.store.children(id).await.unwrap();
            if children.len() == many {
                return children.into_keys().collect();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("children")
}

fn error(job: &leasehold_engine::JobView) -> ErrorDocument {
    serde_json::from_slice(&job.record.error).unwrap()
}

#[tokio::test]
async fn a_parent_waits_for_all_its_children_and_spawns_each_once() {
    let lab = Lab::new().await;
    let did = Ledger::default();
    let id = lab.enqueue(Actor::job(&lab.store, "parent fail all done wait done")).await;
    let mut worker = lab.quick_worker(family(&did)).await;
    lab.until(&id, Place::Waiting).await;
    let children = children_of(&lab, &id, 3).await;
    let mut waiting = Vec::new();
    for child in &children {
        assert_eq!(lab.job(child).await.record.parent.as_ref(), Some(&id));
        waiting.extend((lab.job(child).await.record.args[..] == b"wait"[..]).then_some(child.clone()));
    }
    lab.until(&waiting[0], Place::Waiting).await;
    assert_eq!(lab.place(&id).await, Place::Waiting, "one is still at work");
    lab.store.signal(&waiting[0], "go", "", b"1", "").await.unwrap();
    let result = lab.until(&id, Place::Succeeded).await.record.result;
    assert_eq!(&result[..], br#"["succeeded","succeeded","succeeded"]"#);
    assert_eq!(did.counts()["child"], 2, "children are spawned once, though their parent ran again");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn any_child_ends_a_wait_for_any_and_the_others_go_on() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "parent fail any wait done")).await;
    let mut worker = lab.quick_worker(family(&Ledger::default())).await;
    assert_eq!(&lab.until(&id, Place::Succeeded).await.record.result[..], br#"["succeeded"]"#);
    let mut other = Vec::new();
    for child in children_of(&lab, &id, 2).await {
        other.extend((lab.job(&child).await.record.args[..] == b"wait"[..]).then_some(child));
    }
    lab.until(&other[0], Place::Waiting).await;
    cascade(&lab.store).await.unwrap();
    assert_eq!(lab.place(&other[0]).await, Place::Waiting, "its parent succeeded");
    lab.store.signal(&other[0], "go", "", b"1", "").await.unwrap();
    lab.until(&other[0], Place::Succeeded).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_failed_child_fails_the_wait_at_once_and_its_siblings_are_cancelled() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "parent fail all wait dead")).await;
    let mut worker = lab.quick_worker(family(&Ledger::default())).await;
    let parent = lab.until(&id, Place::Dead).await;
    assert_eq!(error(&parent).code, "child_failed");
    cascade(&lab.store).await.unwrap();
    let mut places: Vec<_> = Vec::new();
    for child in children_of(&lab, &id, 2).await {
        places.push(lab.place(&child).await);
    }
    places.sort();
    assert_eq!(places, [Place::Cancelled, Place::Dead]);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn failed_children_are_collected_where_the_policy_says_so() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "parent collect all dead done")).await;
    let mut worker = lab.quick_worker(family(&Ledger::default())).await;
    assert_eq!(&lab.until(&id, Place::Succeeded).await.record.result[..], br#"["dead","succeeded"]"#);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_child_s_result_is_read_once_and_kept() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        if &ctx.args()[..] == b"child" {
            return Verdict::done(json!({"rows": 5}));
        }
        let id = ctx.spawn_child("spawn", child(&ctx, "child")).await?;
        ctx.wait_all("child", std::slice::from_ref(&id), ChildFailure::Fail).await?;
        let gave: serde_json::Value = ctx.child_result("its result", &id).await?;
        Verdict::done(gave)
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Succeeded).await;
    assert_eq!(&job.record.result[..], br#"{"rows":5}"#);
    assert!(job.steps.iter().any(|step| step.name == "its result" && step.done));
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn jobs_that_would_wait_for_each_other_are_refused() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        let other: JobId = String::from_utf8_lossy(ctx.args()).parse().unwrap();
        ctx.wait_all("the other", &[other], ChildFailure::Collect).await?;
        Verdict::done("never")
    });
    let (mut one, mut two) = (Actor::job(&lab.store, ""), Actor::job(&lab.store, ""));
    (one.args, two.args) = (two.id.to_string().into(), one.id.to_string().into());
    let (one, two) = (lab.enqueue(one).await, lab.enqueue(two).await);
    let mut worker = lab.quick_worker(actor).await;
    for id in [one, two] {
        let job = lab.until(&id, Place::Dead).await;
        assert_eq!((error(&job).code.as_str(), job.record.attempt), ("not_a_child", 1));
    }
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_child_of_another_shard_and_one_too_many_are_refused() {
    let redis = leasehold_engine::testing::RedisServer::start();
    let mut options = leasehold_engine::StoreOptions::new(redis.url());
    options.shards = 3;
    let store = leasehold_engine::Store::open(options).await.unwrap();
    let other = (0..100).map(|n| format!("t-{n}")).find(|t| store.shard_of(t) != store.shard_of("t-001")).unwrap();
    let actor = Actor::new(move |ctx| {
        let other = other.clone();
        async move {
            let id = ctx.store().new_id(&other);
            ctx.spawn_child("elsewhere", NewJob::new(id, "actor", other, "")).await?;
            Verdict::done("no")
        }
    });
    let job = Actor::job(&store, "");
    let id = job.id.clone();
    store.enqueue(&[job], 100).await.unwrap();
    let options = leasehold_engine::WorkerOptions { poll_ms: 10, ..Default::default() };
    let mut worker = leasehold_engine::Worker::start(&store, actor, options).await.unwrap();
    let dead = async {
        loop {
            let job = store.job(&id).await.unwrap().unwrap();
            if job.record.place == Place::Dead {
                return job;
            }
            tokio::task::yield_now().await;
        }
    };
    let job = tokio::time::timeout(Duration::from_secs(20), dead).await.unwrap();
    assert_eq!(error(&job).code, "child_of_other_shard");
    worker.drain(Duration::from_secs(5)).await;
    assert_eq!(store.audit().await.unwrap().findings, []);
}

#[tokio::test]
async fn a_job_has_at_most_a_thousand_children() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        for n in 0..=MOST_CHILDREN {
            let mut job = child(&ctx, "child");
            job.queue = "nobody's".to_owned();
            ctx.spawn_child(&format!("spawn {n}"), job).await?;
        }
        Verdict::done("no")
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    let job = lab.until(&id, Place::Dead).await;
    assert_eq!(error(&job).code, "too_many_children");
    assert_eq!(lab.store.children(&id).await.unwrap().len(), MOST_CHILDREN);
    cascade(&lab.store).await.unwrap();
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_cancel_takes_the_whole_tree_and_a_child_spawned_at_the_same_moment_does_not_slip_through() {
    let lab = Lab::new().await;
    let did = Ledger::default();
    let ledger = did.clone();
    let actor = Actor::new(move |ctx| {
        let did = ledger.clone();
        async move {
            match &ctx.args()[..] {
                b"root" => {
                    let id = ctx.spawn_child("branch", child(&ctx, "branch")).await?;
                    ctx.wait_all("branch ended", &[id], ChildFailure::Collect).await?;
                }
                b"branch" => {
                    ctx.spawn_child("leaf", child(&ctx, "leaf")).await?;
                    ctx.step("cancel", Effect::Idempotent, || async {
                        ctx.store().cancel(ctx.record().parent.as_ref().unwrap(), "", None).await.unwrap();
                        cascade(ctx.store()).await.unwrap();
                        Ok(())
                    })
                    .await?;
                    let late = ctx.spawn_child("late", child(&ctx, "leaf")).await;
                    did.write(late.as_ref().map_or_else(|error| error.code.clone(), ToString::to_string));
                    late?;
                }
                _ => drop(ctx.wait_signal("never", None).await?),
            }
            Verdict::done("no")
        }
    });
    let root = lab.enqueue(Actor::job(&lab.store, "root")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&root, Place::Cancelled).await;
    let branch = children_of(&lab, &root, 1).await.remove(0);
    lab.until(&branch, Place::Cancelled).await;
    cascade(&lab.store).await.unwrap();
    let leaf = children_of(&lab, &branch, 1).await.remove(0);
    lab.until(&leaf, Place::Cancelled).await;
    assert_eq!(did.all(), ["cancelled"], "the late child was not taken in");
    assert_eq!(lab.store.cancel(&leaf, "", None).await.unwrap(), Cancelled::Now);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}
