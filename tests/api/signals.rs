//! Signals and approvals over HTTP: who may, once, and never to a job that has ended.

use std::{sync::Arc, time::Duration};

use leasehold_engine::{
    Approval, JobId, Place, Verdict, Worker, WorkerOptions, args_sha256,
    testing::{Actor, unwatched_clock},
};
use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{Answer, Stand};

/// A worker of a kind that asks two people, then waits to be paid.
async fn worker(stand: &Stand) -> Worker {
    let actor: Arc<Actor> = Actor::new(|ctx| async move {
        let ask = Approval::new("user:u1", ["role:it_ops", "user:u7"])
            .needed(2)
            .within(Duration::from_secs(3600))
            .prompt("Drop it?");
        let by = ctx.approval("drop it", ask).await?.granted()?;
        let paid = ctx.wait_signal("paid", None).await?;
        Verdict::done(json!({"by": by, "paid": paid.map(|signal| signal.payload)}))
    });
    let options = WorkerOptions { poll_ms: 10, ..unwatched_clock() };
    Worker::start(&stand.store, actor, options).await.unwrap()
}

async fn until(stand: &Stand, id: &JobId, what: impl Fn(&Value) -> bool) -> Answer {
    let found = async {
        loop {
            let answer = stand.get(&format!("/v1/jobs/{id}")).await.expect(200);
            if what(&answer.json) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("in time")
}

fn waits_in(name: &'static str) -> impl Fn(&Value) -> bool {
    move |job| {
        let open = |step: &Value| step["name"] == name && step.get("wait").is_some();
        job["place"] == "waiting" && job["steps"].as_array().unwrap().iter().any(open)
    }
}

fn says(decision: &str, user: &str, role: &str) -> Value {
    json!({"actor": {"user_id": user, "roles": [role]}, "decision": decision, "comment": "seen"})
}

#[tokio::test]
async fn an_approval_is_given_by_two_who_may_and_by_nobody_else() {
    let stand = Stand::new().await;
    let mut worker = worker(&stand).await;
    let id = stand.held(Actor::job(&stand.store, "{}")).await;
    let shown = until(&stand, &id, waits_in("drop it")).await;
    let wait = &shown.json["steps"][0]["wait"];
    assert_eq!((&wait["for"], &wait["needed"], &wait["prompt"]), (&json!("approval"), &json!(2), &json!("Drop it?")));
    assert_eq!(wait["from"], json!(["role:it_ops", "user:u7"]));
    assert!(wait["until"].as_str().unwrap().contains("T"), "{wait}");
    assert_eq!(shown.json["steps"][0]["sort"], "approval");
    let path = format!("/v1/jobs/{id}/signals/drop%20it");
    stand.post(&path, &says("approve", "u1", "it_ops")).await.refused(403, "not_your_own");
    let clerk = stand.post(&path, &says("approve", "u9", "employee")).await.refused(403, "not_an_approver");
    assert!(clerk.json["limit"].as_str().unwrap().contains("role:it_ops"), "{}", clerk.text);
    stand.post(&path, &says("refuse", "u9", "employee")).await.refused(403, "not_an_approver");
    stand.post(&path, &json!({"payload": 1})).await.refused(422, "invalid_argument");
    stand.post(&path, &json!({"decision": "approve"})).await.refused(422, "invalid_argument");
    stand.post(&path, &json!({"decision": "maybe"})).await.refused(422, "invalid_argument");
    let large =
        json!({"actor": {"user_id": "u2", "roles": ["it_ops"]}, "decision": "approve", "payload": "x".repeat(65_536)});
    stand.post(&path, &large).await.refused(413, "payload_too_large");
    let mut stale = says("approve", "u2", "it_ops");
    stale["args_sha256"] = json!("00");
    stand.post(&path, &stale).await.refused(412, "precondition_failed");
    stale["args_sha256"] = wait["args_sha256"].clone();
    assert_eq!(wait["args_sha256"], args_sha256(&"{}".into()));
    assert_eq!(stand.post(&path, &stale).await.expect(202).json["outcome"], "woken");
    until(&stand, &id, waits_in("drop it")).await;
    stand.post(&path, &says("approve", "u2", "it_ops")).await.expect(202);
    until(&stand, &id, waits_in("drop it")).await;
    stand.post(&path, &says("approve", "u7", "employee")).await.expect(202);
    let shown = until(&stand, &id, waits_in("paid")).await;
    let told = shown.json["history"].as_array().unwrap().iter().filter(|event| event["type"] == "signalled");
    let last = told.max_by_key(|event| event["seq"].as_u64()).unwrap();
    assert_eq!((&last["note"]["by"], &last["note"]["decision"]), (&json!("u7"), &json!("approve")));
    stand.store.cancel(&id, "", None).await.unwrap();
    worker.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_early_answer_says_to_what_and_is_not_the_requester_s() {
    let stand = Stand::new().await;
    let mut job = Actor::job(&stand.store, "{}");
    job.meta = json!({"actor": {"user_id": "u1", "roles": ["it_ops"]}, "planned_at": 0}).to_string().into();
    let id = stand.held(job).await;
    let path = format!("/v1/jobs/{id}/signals/drop%20it");
    let mut own = says("approve", "u1", "it_ops");
    stand.post(&path, &own).await.refused(403, "not_your_own");
    let mut other = says("approve", "u2", "it_ops");
    let blind = stand.post(&path, &other).await.refused(422, "invalid_argument");
    assert_eq!(blind.json["field"], "args_sha256");
    assert!(blind.json["remedy"].as_str().unwrap().contains("args_sha256"), "{}", blind.text);
    let seen = stand.get(&format!("/v1/jobs/{id}")).await.expect(200).json["args_sha256"].clone();
    (own["args_sha256"], other["args_sha256"]) = (seen.clone(), seen);
    stand.post(&path, &own).await.refused(403, "not_your_own");
    other["payload"] = json!({"window": "02:00"});
    assert_eq!(stand.post(&path, &other).await.expect(202).json["outcome"], "kept");
    let mut worker = worker(&stand).await;
    until(&stand, &id, waits_in("drop it")).await;
    stand.post(&path, &says("approve", "u7", "employee")).await.expect(202);
    until(&stand, &id, waits_in("paid")).await;
    stand.store.cancel(&id, "", None).await.unwrap();
    worker.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_signal_is_kept_when_it_comes_early_and_counted_once_by_its_key() {
    let stand = Stand::new().await;
    let id = stand.held(Actor::job(&stand.store, "{}")).await;
    let path = format!("/v1/jobs/{id}/signals/paid");
    let send = |key: &'static str, payload: Value| {
        stand
            .ask("POST", &path)
            .key(&stand.admin)
            .header("idempotency-key", key)
            .json(&json!({"payload": payload}))
            .send()
    };
    assert_eq!(send("order-17", json!({"amount": 5})).await.expect(202).json["outcome"], "kept");
    assert_eq!(send("order-17", json!({"amount": 5})).await.expect(202).json["outcome"], "duplicate");
    let mut worker = worker(&stand).await;
    until(&stand, &id, waits_in("drop it")).await;
    for user in ["u2", "u7"] {
        stand.post(&format!("/v1/jobs/{id}/signals/drop%20it"), &says("approve", user, "it_ops")).await.expect(202);
    }
    let done = until(&stand, &id, |job| job["place"] == "succeeded").await;
    assert_eq!(done.json["result"], json!({"by": ["user:u2", "user:u7"], "paid": {"amount": 5}}));
    send("order-18", json!(1)).await.refused(409, "invalid_state");
    assert_eq!(stand.job(id.as_str()).await.record.place, Place::Succeeded);
    worker.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn signals_are_refused_with_their_limits() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let path = |name: &str| format!("/v1/jobs/{id}/signals/{name}");
    let large = stand.post(&path("paid"), &json!({"payload": "x".repeat(65_536)})).await;
    assert_eq!(large.refused(413, "payload_too_large").json["limit"], "65536 bytes");
    stand.post(&path("a%0Ab"), &json!({})).await.refused(422, "invalid_argument");
    stand.post(&path(&"n".repeat(101)), &json!({})).await.refused(422, "invalid_argument");
    stand.post(&path("paid"), &json!({"paylod": 1})).await.refused(422, "unknown_field");
    stand.post(&path("paid"), &json!({"comment": "x".repeat(501)})).await.refused(422, "invalid_argument");
    for _ in 0..200 {
        stand.store.signal(&id, "paid", "", b"1", "").await.unwrap();
    }
    stand.post(&path("paid"), &json!({})).await.refused(409, "conflict");
    stand.post("/v1/jobs/nosuchjob/signals/paid", &json!({})).await.refused(404, "not_found");
    let reader = stand.key(KeyRole::Monitor, None).await;
    stand.ask("POST", &path("paid")).key(&reader).json(&json!({})).send().await.refused(403, "forbidden");
}
