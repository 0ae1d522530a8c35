//! Approvals: N of those who may, not the requester, before the end, for these arguments.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Approval, JobId, Place, Verdict, args_sha256,
    model::{Answer, Choice},
    store::Signalled,
    testing::{Actor, Lab},
};
use serde_json::json;

/// Asks two of it_ops or u7 for an hour; the job's arguments name the requester.
fn asker() -> Arc<Actor> {
    Actor::new(|ctx| async move {
        let requester = String::from_utf8_lossy(ctx.args()).into_owned();
        let ask = Approval::new(requester, ["role:it_ops", "user:u7"])
            .needed(2)
            .within(Duration::from_secs(3600))
            .prompt("Drop the test data center?");
        let decision = ctx.approval("drop", ask).await?;
        Verdict::done(decision)
    })
}

fn answer(decision: Choice, user: &str, role: &str, args: &str) -> Vec<u8> {
    let by = format!("user:{user}");
    let grants = vec![by.clone(), format!("role:{role}")];
    let args_sha256 = args_sha256(&args.as_bytes().to_vec().into());
    let payload = (user == "u7").then(|| json!({"window": "02:00"}));
    serde_json::to_vec(&Answer { decision, by, grants, args_sha256, comment: "seen".to_owned(), payload }).unwrap()
}

async fn say(lab: &Lab, id: &JobId, payload: &[u8]) -> Signalled {
    let said = lab.store.signal(id, "drop", "", payload, "").await.unwrap();
    lab.until(id, Place::Waiting).await;
    said
}

async fn result_of(lab: &Lab, id: &JobId) -> serde_json::Value {
    serde_json::from_slice(&lab.until(id, Place::Succeeded).await.record.result).unwrap()
}

#[tokio::test]
async fn two_of_those_who_may_must_agree_and_nobody_else_counts() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Actor::job(&lab.store, "user:u1")).await;
    let mut worker = lab.quick_worker(asker()).await;
    let open = lab.until(&id, Place::Waiting).await;
    let spec = open.open_approval("drop").expect("an open approval");
    assert!(spec.from.contains("role:it_ops") && spec.needed == 2 && spec.prompt.contains("Drop"));
    assert_eq!(spec.requester, "user:u1");
    assert_eq!(open.steps[0].wait.as_ref().unwrap().until, leasehold_engine::testing::NOON + 3_600_000);
    for nobody in [
        answer(Choice::Approve, "u1", "it_ops", "user:u1"),
        answer(Choice::Approve, "u9", "clerk", "user:u1"),
        answer(Choice::Refuse, "u9", "clerk", "user:u1"),
        answer(Choice::Approve, "u3", "it_ops", "other arguments"),
        b"\"yes\"".to_vec(),
        answer(Choice::Approve, "u2", "it_ops", "user:u1"),
        answer(Choice::Approve, "u2", "it_ops", "user:u1"),
    ] {
        say(&lab, &id, &nobody).await;
    }
    let last = answer(Choice::Approve, "u7", "clerk", "user:u1");
    assert_eq!(lab.store.signal(&id, "drop", "", &last, "").await.unwrap(), Signalled::Woken);
    let payloads = json!({"user:u7": {"window": "02:00"}});
    let approved = json!({"outcome": "approved", "by": ["user:u2", "user:u7"], "payloads": payloads});
    assert_eq!(result_of(&lab, &id).await, approved, "what was sent with an answer comes with the decision");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_refusal_ends_it_and_an_hour_without_enough_answers_does_too() {
    for (last, outcome) in [(Some(Choice::Refuse), "refused"), (None, "expired")] {
        let lab = Lab::new().await;
        let id = lab.enqueue(Actor::job(&lab.store, "user:u1")).await;
        let mut worker = lab.quick_worker(asker()).await;
        lab.until(&id, Place::Waiting).await;
        say(&lab, &id, &answer(Choice::Approve, "u2", "it_ops", "user:u1")).await;
        match last {
            Some(choice) => {
                lab.store.signal(&id, "drop", "", &answer(choice, "u7", "", "user:u1"), "").await.unwrap();
            }
            None => lab.at(3_600_000),
        }
        assert_eq!(result_of(&lab, &id).await["outcome"], outcome);
        worker.drain(Duration::from_secs(5)).await;
        lab.finish().await;
    }
}

#[tokio::test]
async fn answers_that_come_early_count_for_the_arguments_that_were_answered() {
    let lab = Lab::new().await;
    let mut job = Actor::job(&lab.store, "user:u1");
    job.run_at = Some(leasehold_engine::testing::NOON + 60_000);
    let id = lab.enqueue(job).await;
    for (user, args) in [("u2", "user:u1"), ("u3", "user:u8"), ("u4", "user:u8")] {
        let early = answer(Choice::Approve, user, "it_ops", args);
        assert_eq!(lab.store.signal(&id, "drop", "", &early, "").await.unwrap(), Signalled::Kept);
    }
    let edit = leasehold_engine::store::Edit {
        expected_seq: None,
        cutoff: None,
        run_at: None,
        meta: "{}".into(),
        args: "user:u8".into(),
        note: String::new(),
        ticket: None,
    };
    assert!(matches!(lab.store.edit(&id, &edit).await.unwrap(), leasehold_engine::store::Edited::Ok(_)));
    let mut worker = lab.quick_worker(asker()).await;
    lab.at(60_000);
    let by = json!({"outcome": "approved", "by": ["user:u3", "user:u4"]});
    assert_eq!(result_of(&lab, &id).await, by, "u2 agreed to something else");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn what_was_decided_stays_decided() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        let by = ctx.approval("drop", Approval::new("user:u1", ["user:u7"])).await?.granted()?;
        ctx.sleep("a day", Duration::from_secs(86_400)).await?;
        Verdict::done(by)
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    lab.store.signal(&id, "drop", "", &answer(Choice::Approve, "u7", "", ""), "").await.unwrap();
    lab.until(&id, Place::Scheduled).await;
    lab.store.signal(&id, "drop", "", &answer(Choice::Refuse, "u7", "", ""), "").await.unwrap();
    lab.at(86_400_000);
    assert_eq!(result_of(&lab, &id).await, json!(["user:u7"]));
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_approval_that_was_refused_fails_the_job_with_its_code() {
    let lab = Lab::new().await;
    let actor = Actor::new(|ctx| async move {
        Verdict::done(ctx.approval("drop", Approval::new("user:u1", ["user:u7"])).await?.granted()?)
    });
    let id = lab.enqueue(Actor::job(&lab.store, "")).await;
    let mut worker = lab.quick_worker(actor).await;
    lab.until(&id, Place::Waiting).await;
    lab.store.signal(&id, "drop", "", &answer(Choice::Refuse, "u7", "", ""), "").await.unwrap();
    let error = String::from_utf8_lossy(&lab.until(&id, Place::Dead).await.record.error).into_owned();
    assert!(error.contains("approval_refused") && error.contains("user:u7 refused: seen"), "{error}");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}
