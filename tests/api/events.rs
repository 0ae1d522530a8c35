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
    let (word, id, shown) = events.next().await.unwrap();
    assert_eq!((word.as_str(), id.as_str()), ("job.scheduled", "2"), "as the webhook tells it");
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
async fn what_was_planned_is_told_so_and_each_event_has_its_own_place() {
    let stand = Stand::new().await;
    let seqs = async |path: &str| {
        let history = stand.get(path).await.expect(200).json["history"].clone();
        history.as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let at_once = format!("/v1/jobs/{}", stand.held(stand.plain("t-001")).await);
    assert_eq!(seqs(&at_once).await, [1], "nothing was planned");
    stand.post(&format!("{at_once}/cancel"), &json!({})).await.expect(200);
    assert_eq!(seqs(&at_once).await, [1, 2]);
    let made = stand.post("/v1/jobs", &sql("t-001", 60)).await.expect(202);
    let planned = format!("/v1/jobs/{}", made.id());
    assert_eq!((made.header("etag"), seqs(&planned).await), ("\"2\"", vec![1, 2]), "no number is missing");
    stand.post(&format!("{planned}/cancel"), &json!({})).await.expect(200);
    stand.post(&format!("{planned}/revive"), &json!({})).await.expect(200);
    stand.post(&format!("{planned}/cancel"), &json!({})).await.expect(200);
    assert_eq!(seqs(&planned).await, [1, 2, 3, 4, 5]);
    let mut events = Events::of(stand.ask("GET", &format!("{planned}/events")).key(&stand.admin).response().await);
    let mut told = Vec::new();
    while let Some((word, _, shown)) = events.next().await {
        told.push([json!(word), shown["place"].clone(), shown["status"].clone()]);
    }
    let expected = [
        json!(["job.accepted", "scheduled", "pending_execution"]),
        json!(["job.scheduled", "scheduled", "pending_execution"]),
        json!(["job.cancelled", "cancelled", "revoked"]),
        json!(["job.revived", null, null]),
        json!(["job.cancelled", "cancelled", "revoked"]),
    ];
    assert_eq!(json!(told), json!(expected));
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

/// Long before the next comment would find it out.
#[tokio::test]
async fn a_stream_of_a_revoked_key_ends_although_nothing_happens() {
    let an_hour = ("LEASEHOLD__SERVER__EVENT_STREAM_PING_SECONDS", "3600");
    let stand = Stand::with(&[("LEASEHOLD__VERIFY__MODE", "caller"), an_hour]).await;
    let id = stand.held(stand.plain("t-001")).await;
    let made = stand.post("/v1/keys", &json!({"name": "reader", "roles": ["caller"]})).await.expect(201);
    let key = made.json["key"].as_str().unwrap();
    let mut events = Events::of(stand.ask("GET", &format!("/v1/jobs/{id}/events")).key(key).response().await);
    assert_eq!(events.next().await.unwrap().0, "job.accepted");
    stand.ask("DELETE", &format!("/v1/keys/{}", made.id())).key(&stand.admin).send().await.expect(204);
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
