//! The event stream: complete, resumed, ended.

use leasehold_engine::NewJob;
use leasehold_jobs::policy::KeyRole;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::stand::{Events, Stand, sql};

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes_and_ends_with_the_job() {
    let stand = Stand::new().await;
    let made = stand.post("/v1/jobs", &sql("t-001", 60)).await.expect(202);
    let path = format!("/v1/jobs/{}", made.id());
    let mut events = Events::of(stand.ask("GET", &format!("{path}/events")).key(&stand.admin).response().await);
    let (word, id, shown) = events.next().await.unwrap();
    assert_eq!((word.as_str(), id.as_str(), &shown["seq"]), ("job.accepted", "1", &json!(1)));
    assert_eq!((&shown["place"], &shown["status"]), (&json!("scheduled"), &json!("pending_execution")));
    stand.post(&format!("{path}/cancel"), &json!({"reason": "enough"})).await.expect(200);
    let (word, id, shown) = events.next().await.unwrap();
    assert_eq!(word, "job.cancelled");
    assert_eq!((&shown["status"], &shown["note"]["reason"]), (&json!("revoked"), &json!("enough")));
    assert!(events.next().await.is_none(), "the stream ends with the job");
    let done = stand.ask("GET", &format!("{path}/events")).key(&stand.admin).header("last-event-id", &id).send().await;
    assert_eq!(done.status, 204, "nothing more will come");
}

#[tokio::test]
async fn a_reader_that_was_away_misses_nothing_and_hears_nothing_twice() {
    let stand = Stand::new().await;
    let id = stand.held(NewJob { run_at: Some(leasehold_engine::testing::NOON + 1000), ..stand.plain("t-001") }).await;
    let path = format!("/v1/jobs/{id}");
    stand.post(&format!("{path}/cancel"), &json!({})).await.expect(200);
    stand.post(&format!("{path}/revive"), &json!({})).await.expect(200);
    let stream = |name: &'static str, last: &'static str| {
        let ask =
            stand.ask("GET", &format!("{path}/events{}", if name.is_empty() { last } else { "" })).key(&stand.admin);
        if name.is_empty() { ask.response() } else { ask.header(name, last).response() }
    };
    for response in [stream("last-event-id", "2").await, stream("", "?after=2").await] {
        let mut events = Events::of(response);
        assert_eq!(events.next().await.unwrap().0, "job.cancelled");
        assert_eq!(events.next().await.unwrap().0, "job.revived");
    }
    stand
        .ask("GET", &format!("{path}/events"))
        .key(&stand.admin)
        .header("last-event-id", "x")
        .send()
        .await
        .refused(422, "invalid_argument");
}

#[tokio::test]
async fn a_history_that_was_cut_is_told_as_a_gap() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let path = format!("/v1/jobs/{id}");
    for _ in 0..60 {
        stand.store.cancel(&id, "", None).await.unwrap();
        stand.store.revive(&id, "").await.unwrap();
    }
    let mut events = Events::of(stand.ask("GET", &format!("{path}/events")).key(&stand.admin).response().await);
    assert_eq!(events.next().await.unwrap().0, "gap");
    assert_eq!(events.next().await.unwrap().1, "1");
    assert!(events.next().await.unwrap().1.parse::<u32>().unwrap() > 50);
    let seen = stand.job(id.as_str()).await.record.seq.saturating_sub(1).to_string();
    let mut events =
        Events::of(stand.ask("GET", &format!("{path}/events?after={seen}")).key(&stand.admin).response().await);
    assert_eq!(events.next().await.unwrap().0, "job.revived", "a reader who is up to date misses nothing");
}

#[tokio::test]
async fn a_stream_of_a_revoked_key_tells_nothing_more() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let key = stand.key(KeyRole::Caller, Some("t-001")).await;
    let mut events = Events::of(stand.ask("GET", &format!("/v1/jobs/{id}/events")).key(&key).response().await);
    assert_eq!(events.next().await.unwrap().0, "job.accepted");
    let keys = stand.get("/v1/keys").await.expect(200);
    let of_tenant = keys.json["keys"].as_array().unwrap().iter().find(|key| key["tenant"] == "t-001").unwrap();
    let path = format!("/v1/keys/{}", of_tenant["id"].as_str().unwrap());
    stand.ask("DELETE", &path).key(&stand.admin).send().await.expect(204);
    stand.post(&format!("/v1/jobs/{id}/cancel"), &json!({"reason": "secret"})).await.expect(200);
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_stop_ends_the_streams() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let stop = CancellationToken::new();
    let router = leasehold::api::routes::router(stand.state.clone().stopping_with(stop.clone()));
    let stand = Stand { router, ..stand };
    let mut events = Events::of(stand.ask("GET", &format!("/v1/jobs/{id}/events")).key(&stand.admin).response().await);
    assert_eq!(events.next().await.unwrap().0, "job.accepted");
    stop.cancel();
    assert!(events.next().await.is_none());
    stand.ask("GET", "/readyz").send().await.refused(503, "shutting_down");
}
