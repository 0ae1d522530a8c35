//! Jobs that a worker has: how they are shown, explained and resolved.

use std::sync::Arc;

use async_trait::async_trait;
use leasehold_engine::{
    Ctx, Effect, JobError, NewJob, Place, Retry, Runner, Verdict, Worker, WorkerOptions,
    store::{Claim, Opening},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::stand::{Answer, Events, Stand};

/// Says how far it is, then waits to be told to go on.
#[derive(Default)]
struct Talker {
    go_on: Notify,
}

#[async_trait]
impl Runner for Talker {
    fn kinds(&self) -> Vec<String> {
        vec!["puppet".to_owned()]
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        ctx.log("half of it is done");
        ctx.progress(40, "half of it");
        ctx.step("wait", Effect::Idempotent, || async {
            self.go_on.notified().await;
            Ok(())
        })
        .await?;
        Verdict::done(json!({"rows": 3, "password": "CANARY"}))
    }
}

fn codes(answer: &Answer) -> Vec<&str> {
    answer.json["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_job_is_followed_from_its_start_to_its_end() {
    let stand = Stand::new().await;
    stand.store.set_time(0);
    let talker = Arc::new(Talker::default());
    let options = WorkerOptions { name: "w-1".to_owned(), ..WorkerOptions::default() };
    let mut worker = Worker::start(&stand.store, talker.clone(), options).await.unwrap();
    let id = stand.held(stand.plain("t-001")).await;
    let path = format!("/v1/jobs/{id}");
    let mut events = Events::of(stand.ask("GET", &format!("{path}/events")).key(&stand.admin).response().await);
    let progress = loop {
        let (word, _, shown) = events.next().await.unwrap();
        if word == "job.progress" {
            break shown;
        }
    };
    assert_eq!(progress["progress"], json!({"percent": 40, "text": "half of it"}));
    let at = chrono::DateTime::parse_from_rfc3339(progress["at"].as_str().unwrap()).unwrap().timestamp_millis();
    let record = stand.job(id.as_str()).await.record;
    assert!((record.started_at..=stand.store.now().await.unwrap()).contains(&at), "{progress}");
    let shown = stand.get(&path).await.expect(200);
    assert_eq!((&shown.json["place"], &shown.json["progress"]["percent"]), (&json!("running"), &json!(40)));
    assert_eq!((&shown.json["steps"][0]["name"], &shown.json["steps"][0]["done"]), (&json!("wait"), &json!(false)));
    assert_eq!(stand.get(&format!("{path}/log")).await.json["lines"][0]["text"], "half of it is done");
    let why = stand.get(&format!("{path}/explain")).await.expect(200);
    assert_eq!((codes(&why), &why.json["reasons"][0]["about"]), (vec!["running"], &json!("wait")));
    let metrics = stand.get("/metrics").await.text;
    assert!(metrics.lines().any(|l| l == "leasehold_workers 1"), "{metrics}");
    assert!(metrics.contains("leasehold_worker_heartbeat_left_seconds{worker=\"w-1\"}"));
    talker.go_on.notify_one();
    let last = loop {
        let (word, _, shown) = events.next().await.unwrap();
        if word != "job.progress" {
            break (word, shown["place"].clone());
        }
    };
    assert_eq!(last, ("job.succeeded".to_owned(), json!("succeeded")));
    assert!(events.next().await.is_none());
    let done = stand.get(&path).await.expect(200);
    assert_eq!(done.json["result"], json!({"rows": 3, "password": "…"}));
    let queues = stand.get("/v1/queues").await.expect(200);
    assert_eq!(queues.json["workers"][0]["name"], "w-1");
    worker.drain(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_unknown_job_is_explained_and_resolved_by_a_person() {
    let stand = Stand::new().await;
    for happened in [true, false] {
        let once = NewJob { retry: Retry::default().attempts(1), ..stand.plain("t-001") };
        let id = stand.held(once).await;
        let path = format!("/v1/jobs/{id}");
        lose_inside_a_once_step(&stand, id.as_str()).await;
        let shown = stand.get(&path).await.expect(200);
        assert_eq!((&shown.json["place"], &shown.json["status"]), (&json!("unknown"), &json!("unknown")));
        let why = stand.get(&format!("{path}/explain")).await.expect(200);
        assert_eq!((codes(&why), &why.json["reasons"][0]["about"]), (vec!["outcome_unknown"], &json!("drop")));
        let refused = stand.post(&format!("{path}/cancel"), &json!({})).await.refused(409, "invalid_state");
        assert!(refused.json["remedy"].as_str().unwrap().contains("resolve"));
        let body: Value = match happened {
            true => json!({"happened": true, "result": {"rows": 1}, "reason": "seen in the target"}),
            false => json!({"happened": false}),
        };
        let resolved = stand.post(&format!("{path}/resolve"), &body).await.expect(200);
        assert_eq!(resolved.json["place"], "ready");
        let steps: Vec<bool> =
            resolved.json["steps"].as_array().unwrap().iter().map(|step| step["done"].as_bool().unwrap()).collect();
        assert_eq!(steps, if happened { vec![true] } else { vec![] });
        stand.post(&format!("{path}/resolve"), &body).await.refused(409, "invalid_state");
        stand.post(&format!("{path}/cancel"), &json!({})).await.expect(200);
    }
}

#[tokio::test]
async fn of_several_open_steps_one_is_named() {
    let stand = Stand::new().await;
    let id = stand.held(NewJob { retry: Retry::default().attempts(1), ..stand.plain("t-001") }).await;
    let path = format!("/v1/jobs/{id}");
    lose_inside(&stand, id.as_str(), &["drop a", "drop b"]).await;
    let why = stand.get(&format!("{path}/explain")).await.expect(200);
    assert_eq!(why.json["reasons"][0]["about"], "drop a, drop b");
    let resolve = format!("{path}/resolve");
    let unnamed = stand.post(&resolve, &json!({"happened": true})).await.refused(422, "invalid_argument");
    assert_eq!((&unnamed.json["field"], &unnamed.json["limit"]), (&json!("step"), &json!("one of: drop a, drop b")));
    stand.post(&resolve, &json!({"happened": true, "step": "drop c"})).await.refused(422, "invalid_argument");
    let one = stand.post(&resolve, &json!({"happened": true, "step": "drop b"})).await.expect(200);
    assert_eq!(one.json["place"], "unknown", "of the other nobody spoke");
    let both = stand.post(&resolve, &json!({"happened": false})).await.expect(200);
    assert_eq!(both.json["place"], "ready");
    stand.post(&format!("{path}/cancel"), &json!({})).await.expect(200);
}

/// A worker takes the job, opens a step that may not be repeated, and is never heard of again.
async fn lose_inside_a_once_step(stand: &Stand, id: &str) {
    lose_inside(stand, id, &["drop"]).await;
}

async fn lose_inside(stand: &Stand, id: &str, steps: &[&str]) {
    let now = stand.store.now().await.unwrap();
    let queues = vec!["default".to_owned()];
    let claim =
        Claim { worker: format!("lost-{id}"), request: 1, want: 1, lease_ms: 1000, queues, kinds: Vec::new(), by: 0 };
    let taken = stand.store.claim(0, &claim).await.unwrap().jobs.remove(0);
    assert_eq!(taken.id.as_str(), id);
    for (ordinal, step) in (0..).zip(steps) {
        let opening = Opening { ordinal, ..Opening::of(Effect::Once) };
        stand.store.step_begin(&taken.id, taken.fence, step, opening).await.unwrap();
    }
    stand.store.set_time(now + 2000);
    stand.store.rescue(0, 10).await.unwrap();
    assert_eq!(stand.job(id).await.record.place, Place::Unknown);
}
