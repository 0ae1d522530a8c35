//! A jump of the store's clock, as people see and accept it.

use leasehold_engine::{NewJob, model::gate::ClockJump, store::Claim, testing::NOON};
use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::Stand;

#[tokio::test]
async fn a_jump_is_shown_and_explained_until_somebody_who_may_accepts_it() {
    let stand = Stand::new().await;
    let jump = ClockJump { from: NOON - 30 * 86_400_000, to: NOON, at: NOON };
    stand.store.clock_jumped(&jump).await.unwrap();
    let id = stand.held(NewJob { destructive: true, ..stand.plain("t-001") }).await.to_string();
    let claim = |request| Claim {
        worker: "w".to_owned(),
        request,
        want: 5,
        lease_ms: 60_000,
        queues: vec!["default".to_owned()],
        kinds: Vec::new(),
        by: 0,
    };
    assert!(stand.store.claim(0, &claim(1)).await.unwrap().jobs.is_empty());
    let explained = stand.get(&format!("/v1/jobs/{id}/explain")).await.expect(200).json;
    let reasons = explained["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason["code"] == "clock_jumped"), "{explained:#}");
    let clock = stand.get("/v1/gates").await.expect(200).json["clock"].clone();
    let seen = json!({"from": "2026-10-23T04:00:00.000Z", "to": "2026-11-22T04:00:00.000Z", "seen_at": "2026-11-22T04:00:00.000Z"});
    assert_eq!(clock, seen);

    let accept = |key: String| {
        let stand = &stand;
        let body = json!({"reason": "the host was set right", "actor": {"user_id": "u7"}});
        async move { stand.ask("POST", "/v1/clock/accept").key(&key).json(&body).send().await }
    };
    accept(stand.key(KeyRole::Monitor, None).await).await.refused(403, "forbidden");
    accept(stand.key(KeyRole::Admin, Some("t-001")).await).await.refused(403, "forbidden");
    let after = accept(stand.admin.clone()).await.expect(200).json;
    assert_eq!((&after["clock"], &after["accepted"]), (&Value::Null, &seen));
    assert_eq!(accept(stand.admin.clone()).await.expect(200).json["accepted"], Value::Null);
    assert_eq!(stand.store.claim(0, &claim(2)).await.unwrap().jobs.len(), 1);
    let alerts = stand.get("/v1/alerts").await.expect(200).json["alerts"].clone();
    let told: Vec<_> = alerts.as_array().unwrap().iter().map(|alert| alert["type"].as_str().unwrap()).collect();
    assert_eq!(told, ["clock_accepted", "clock_jumped"]);
    assert_eq!(alerts[0]["about"]["by"], "u7");
}
