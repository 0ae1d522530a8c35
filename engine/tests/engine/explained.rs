//! What explain tells of jobs as the store really has them: asleep, waiting for somebody, set aside, in line.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Approval, ChildFailure, JobError, JobId, NewJob, Place, UnixMs, Verdict,
    model::{
        Resource,
        explain::{Reason, explain},
        gate::ClockJump,
    },
    store::Outcome,
    testing::{Actor, Lab, NOON, Puppet},
};

use crate::{claim, claim_one, gates::codes, settle};

async fn why(lab: &Lab, id: &JobId) -> Vec<Reason> {
    explain(&lab.store.seen(id).await.unwrap().expect("the job"))
}

/// Does what its arguments say, until it is suspended.
fn patient() -> Arc<Actor> {
    Actor::new(|ctx| async move {
        match &ctx.args()[..] {
            b"signal" => drop(ctx.wait_signal("paid", Some(Duration::from_secs(60))).await?),
            b"sleep" => ctx.sleep("night", Duration::from_secs(60)).await?,
            b"approval" => {
                let ask = Approval::new("user:u1", ["role:it_ops"]).prompt("Restart the host?");
                drop(ctx.approval("restart", ask).await?);
            }
            b"children" => {
                let mut ids = Vec::new();
                for n in 0..2 {
                    let mut child = Actor::job(ctx.store(), "signal");
                    child.run_at = Some(NOON + 3_600_000);
                    ids.push(ctx.spawn_child(&format!("spawn {n}"), child).await?);
                }
                ctx.wait_all("both", &ids, ChildFailure::Collect).await?;
            }
            _ => return Err(JobError::transient("told_to", "as it was told")),
        }
        Verdict::done("well")
    })
}

async fn suspended(says: &str, place: Place) -> (Lab, JobId, Reason) {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, says)).await;
    let mut worker = lab.quick_worker(patient()).await;
    lab.until(&id, place).await;
    let reasons = why(&lab, &id).await;
    assert_eq!(reasons.len(), 1, "{says}: {reasons:?}");
    worker.drain(Duration::from_secs(5)).await;
    (lab, id, reasons.into_iter().next().unwrap())
}

async fn end(lab: Lab, id: &JobId) {
    lab.store.cancel(id, "", None).await.unwrap();
    lab.finish().await;
}

fn told(reason: &Reason) -> (&str, Option<&str>, Option<UnixMs>) {
    (reason.code, reason.about.as_deref(), reason.until.map(|at| at - NOON))
}

#[tokio::test]
async fn a_suspended_job_says_what_it_waits_for_until_when_and_who_may_end_it() {
    let (lab, id, reason) = suspended("signal", Place::Waiting).await;
    assert_eq!(told(&reason), ("signal", Some("paid"), Some(60_000)));
    end(lab, &id).await;
    let (lab, id, reason) = suspended("sleep", Place::Scheduled).await;
    assert_eq!(told(&reason), ("sleep", Some("night"), Some(60_000)));
    end(lab, &id).await;
    let (lab, id, reason) = suspended("approval", Place::Waiting).await;
    assert_eq!(told(&reason), ("approval", Some("restart"), None));
    assert_eq!(reason.who, ["role:it_ops"]);
    assert!(reason.text.contains("but not user:u1"), "{}", reason.text);
    end(lab, &id).await;
    let (lab, id, reason) = suspended("fail", Place::Scheduled).await;
    assert_eq!(reason.code, "retry_delay");
    end(lab, &id).await;
}

#[tokio::test]
async fn a_parent_names_the_children_that_have_not_ended() {
    let (lab, id, reason) = suspended("children", Place::Waiting).await;
    assert_eq!((reason.code, reason.jobs.len()), ("children", 2));
    for child in &reason.jobs {
        assert_eq!(codes(&lab, child).await[0], "planned_time");
        lab.store.cancel(child, "", None).await.unwrap();
    }
    end(lab, &id).await;
}

#[tokio::test]
async fn resources_name_who_holds_them_and_who_waits_before() {
    let lab = Lab::new().await;
    let on = |names: &[&str]| {
        let resources = names.iter().map(|name| Resource::exclusive(*name)).collect();
        NewJob { resources, ..Puppet::job(&lab.store, "done") }
    };
    let (first, second) = (lab.enqueue(on(&["dc:1"])).await, lab.enqueue(on(&["dc:2"])).await);
    let (third, last) = (lab.enqueue(on(&["dc:1"])).await, lab.enqueue(on(&["dc:1", "dc:2"])).await);
    let reasons = why(&lab, &last).await;
    let found: Vec<_> = reasons.iter().map(|r| (r.code, r.about.as_deref().unwrap(), r.jobs.clone())).collect();
    let expected = [
        ("resource_held", "dc:1", vec![first]),
        ("resource_held", "dc:2", vec![second]),
        ("resource_queue", "dc:1", vec![third]),
        ("no_live_worker", "default", vec![]),
    ];
    assert_eq!(found, expected);
    for _ in 0..4 {
        let (id, fence) = claim_one(&lab, "w").await;
        settle(&lab, &id, fence, Outcome::Done).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_destructive_job_says_that_the_clock_jumped_until_a_person_has_looked() {
    let lab = Lab::new().await;
    let jump = ClockJump { from: NOON, to: NOON + 86_400_000, at: NOON };
    lab.store.gate_set("clock", &serde_json::to_vec(&jump).unwrap()).await.unwrap();
    let id = lab.enqueue(NewJob { destructive: true, ..Puppet::job(&lab.store, "done") }).await;
    assert!(claim(&lab, "w", 1).await.jobs.is_empty());
    assert_eq!(codes(&lab, &id).await, ["no_live_worker", "clock_jumped"]);
    assert_eq!(lab.store.standing().await.unwrap().clock(), Some(&jump));
    lab.store.gate_remove("clock").await.unwrap();
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_job_in_line_says_whether_workers_are_busy_or_do_not_know_it() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let document = |kind: &str, running: u64| {
        format!(r#"{{"queues":["default"],"kinds":["{kind}"],"slots":2,"running":{running}}}"#)
    };
    for (kind, running, code) in
        [("puppet", 0, "waiting_for_a_worker"), ("puppet", 2, "workers_busy"), ("other", 0, "unknown_kind")]
    {
        lab.store.heartbeat("w", Some(&document(kind, running)), 60_000).await.unwrap();
        assert_eq!(codes(&lab, &id).await, [code]);
    }
    let (_, fence) = claim_one(&lab, "w").await;
    assert_eq!(codes(&lab, &id).await, ["running"]);
    settle(&lab, &id, fence, Outcome::Done).await;
    assert_eq!(codes(&lab, &id).await, ["ended"]);
    lab.finish().await;
}
