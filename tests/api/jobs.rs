//! Jobs through the API: asked for once, shown, edited, cancelled, sent back.

use leasehold_engine::{Place, testing::NOON};
use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{MINUTE, Stand, actor, backup, sql};

#[tokio::test]
async fn a_job_is_accepted_and_shown_as_the_contract_says() {
    let stand = Stand::new().await;
    let mut ask = sql("t-001", 60);
    ask["labels"] = json!({"order": "42"});
    let made = stand.post("/v1/jobs", &ask).await.expect(202);
    assert_eq!(made.header("location"), format!("/v1/jobs/{}", made.id()));
    assert_eq!(made.header("etag"), format!("\"{}\"", made.json["seq"]));
    assert_eq!(made.json["quota"]["used"], 1);
    let shown = stand.get(made.header("location")).await.expect(200);
    let expected = json!({
        "kind": "sql_update", "tenant": "t-001", "place": "scheduled", "status": "pending_execution", "status_name": "待执行",
        "run_at": "2026-11-22T05:00:00.000Z", "created_at": "2026-11-22T04:00:00.000Z", "attempt": 0, "locked": false,
        "progress": {"percent": 0, "text": ""}, "steps": [], "labels": {"order": "42"}, "priority": "normal",
        "actor": actor(), "cancel_requested": false
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&shown.json[field], value, "{field}");
    }
    assert_eq!(shown.json["args"]["script"], "UPDATE t SET a = 1");
    let words: Vec<_> = shown.json["history"].as_array().unwrap().iter().map(|e| e["type"].clone()).collect();
    assert_eq!(words, ["accepted", "scheduled"]);
}

#[tokio::test]
async fn ac_191_the_same_key_gives_the_first_job_and_another_payload_a_conflict() {
    let stand = Stand::new().await;
    let post = |key: &str, body: Value| {
        stand.ask("POST", "/v1/jobs").key(&stand.admin).header("idempotency-key", key).json(&body).send()
    };
    let first = post("k-1", backup("t-001")).await.expect(202);
    assert_eq!(first.header("idempotent-replayed"), "");
    for same in ["k-1", "\"k-1\""] {
        let again = post(same, backup("t-001")).await.expect(202);
        assert_eq!(again.id(), first.id());
        assert_eq!(again.header("idempotent-replayed"), "true");
    }
    let mut other = backup("t-001");
    other["labels"] = json!({"a": "b"});
    let conflict = post("k-1", other).await.refused(409, "idempotency_conflict");
    assert_eq!(conflict.json["job_id"], first.id());
    assert_eq!(conflict.json["rule"], "ENG-03");
    let elsewhere = post("k-1", backup("t-002")).await.expect(202);
    assert_ne!(elsewhere.id(), first.id(), "keys are per tenant");
    for bad in ["", "\"\"", &"k".repeat(129), "leasehold:1"] {
        post(bad, backup("t-001")).await.refused(422, "invalid_argument");
    }
}

#[tokio::test]
async fn ac_191_a_repeat_finds_its_job_although_the_rules_would_say_no_by_now() {
    let stand = Stand::new().await;
    let post =
        |body: Value| stand.ask("POST", "/v1/jobs").key(&stand.admin).header("idempotency-key", "k").json(&body).send();
    let first = post(sql("t-001", 60)).await.expect(202);
    stand.at(120 * MINUTE);
    assert_eq!(post(sql("t-001", 60)).await.expect(202).id(), first.id());
    post(sql("t-001", 61)).await.refused(409, "idempotency_conflict");
    stand.redis_cli(&["CONFIG", "SET", "maxmemory", "1000000"]);
    // The memory is looked at once a second.
    let full = async { while stand.post("/v1/jobs", &backup("t-002")).await.code() != "too_many_jobs" {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), full).await.expect("others are refused");
    assert_eq!(post(sql("t-001", 60)).await.expect(202).id(), first.id());
}

#[tokio::test]
async fn quota_04_a_spent_quota_is_refused_with_its_state_and_reset() {
    let stand = Stand::new().await;
    for n in 0..10 {
        let made = stand.post("/v1/jobs", &sql("t-001", 60 + n)).await.expect(202);
        assert_eq!(made.json["quota"]["used"], n + 1);
    }
    let refused = stand.post("/v1/jobs", &sql("t-001", 60)).await.refused(429, "quota_exceeded");
    assert_eq!(refused.json["rule"], "SQL-03");
    assert_eq!(refused.json["quota"], json!({"used": 10, "limit": 10, "resets_at": "2026-11-23T00:00:00.000+08:00"}));
    let quotas = stand.get("/v1/tenants/t-001/quotas").await.expect(200);
    let expected = json!([{"operation": "sql_update", "per": "day", "scope": "tenant", "remaining": 0,
        "used": 10, "limit": 10, "resets_at": "2026-11-23T00:00:00.000+08:00"}]);
    assert_eq!(quotas.json["quotas"], expected);
    assert_eq!(stand.get("/v1/tenants/t-002/quotas").await.json["quotas"][0]["remaining"], 10);
    stand.post("/v1/jobs", &sql("t-002", 60)).await.expect(202);
}

#[tokio::test]
async fn ac_075_edit_and_cancel_are_refused_at_exactly_ten_minutes() {
    let stand = Stand::new().await;
    let made = stand.post("/v1/jobs", &sql("t-001", 60)).await.expect(202);
    let path = format!("/v1/jobs/{}", made.id());
    let patch = |script: &str| {
        let body = json!({"args": {"script": script}, "confirmed": true});
        stand.ask("PATCH", &path).key(&stand.admin).json(&body).send()
    };
    stand.at(50 * MINUTE - 1);
    assert_eq!(patch("UPDATE t SET a = 2").await.expect(200).json["args"]["script"], "UPDATE t SET a = 2");
    assert_eq!(stand.get(&path).await.json["locked"], false);
    for after in [50 * MINUTE, 55 * MINUTE] {
        stand.at(after);
        let refused = patch("UPDATE t SET a = 3").await.refused(409, "too_late_to_edit");
        assert_eq!(refused.json["rule"], "SQL-10");
        stand.post(&format!("{path}/cancel"), &json!({"reason": "no"})).await.refused(409, "too_late_to_cancel");
        let shown = stand.get(&path).await;
        assert_eq!((&shown.json["status"], &shown.json["locked"]), (&json!("pending_execution"), &json!(true)));
    }
    stand.at(50 * MINUTE - 1);
    let gone =
        stand.post(&format!("{path}/cancel"), &json!({"reason": "wrong script", "actor": actor()})).await.expect(200);
    assert_eq!((&gone.json["place"], &gone.json["status"]), (&json!("cancelled"), &json!("revoked")));
    let last = gone.json["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["note"]["reason"], &last["note"]["by"]), (&json!("wrong script"), &json!("u1")));
}

#[tokio::test]
async fn ac_202_a_job_planned_within_the_cut_off_is_locked_from_the_start() {
    let stand = Stand::new().await;
    let made = stand.post("/v1/jobs", &sql("t-001", 5)).await.expect(202);
    assert_eq!(made.json["locked"], true);
    stand.post(&format!("/v1/jobs/{}/cancel", made.id()), &json!({})).await.refused(409, "too_late_to_cancel");
}

#[tokio::test]
async fn an_edit_of_what_was_changed_meanwhile_is_412() {
    let stand = Stand::new().await;
    let made = stand.post("/v1/jobs", &sql("t-001", 60)).await.expect(202);
    let patch = |tag: &str, script: &str| {
        let body = json!({"args": {"script": script}, "confirmed": true});
        stand
            .ask("PATCH", &format!("/v1/jobs/{}", made.id()))
            .key(&stand.admin)
            .header("if-match", tag)
            .json(&body)
            .send()
    };
    let seen = made.header("etag");
    let edited = patch(seen, "SELECT 2").await.expect(200);
    assert_ne!(edited.header("etag"), seen);
    patch(seen, "SELECT 3").await.refused(412, "precondition_failed");
    patch("nonsense", "SELECT 3").await.refused(412, "precondition_failed");
    patch("*", "SELECT 4").await.expect(200);
    let moved = patch("*", "").await.refused(422, "invalid_argument");
    assert_eq!(moved.json["field"], "args.script");
    let backup = stand.post("/v1/jobs", &backup("t-001")).await.expect(202);
    let path = format!("/v1/jobs/{}", backup.id());
    stand
        .ask("PATCH", &path)
        .key(&stand.admin)
        .json(&json!({"args": {"name": "x"}}))
        .send()
        .await
        .refused(409, "invalid_state");
}

#[tokio::test]
async fn cancel_revive_and_resolve_say_what_the_place_allows() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let path = format!("/v1/jobs/{id}");
    stand.post(&format!("{path}/revive"), &json!({})).await.refused(409, "invalid_state");
    stand.post(&format!("{path}/resolve"), &json!({"happened": true})).await.refused(409, "invalid_state");
    stand
        .post(&format!("{path}/resolve"), &json!({"happened": false, "result": 1}))
        .await
        .refused(422, "invalid_argument");
    let without_body = stand.ask("POST", &format!("{path}/cancel")).key(&stand.admin).send().await.expect(200);
    assert_eq!(without_body.json["place"], "cancelled");
    stand.post(&format!("{path}/cancel"), &json!({"reason": "again"})).await.expect(200);
    let long = json!({"reason": "x".repeat(501)});
    stand.post(&format!("{path}/revive"), &long).await.refused(422, "invalid_argument");
    assert_eq!(stand.post(&format!("{path}/revive"), &json!({})).await.expect(200).json["place"], "ready");
    assert_eq!(stand.job(id.as_str()).await.record.place, Place::Ready);
}

#[tokio::test]
async fn lists_go_on_by_cursor_and_filter_by_all_that_is_offered() {
    let stand = Stand::new().await;
    for n in 0..5 {
        stand.post("/v1/jobs", &sql("t-001", 60 + n)).await.expect(202);
        stand.held(stand.plain("t-002")).await;
    }
    for (query, expected) in [
        ("", 10),
        ("?tenant=t-001", 5),
        ("?kind=sql_update", 5),
        ("?place=ready", 5),
        ("?tenant=t-001&place=ready", 0),
        ("?queue=default", 5),
        ("?kind=nothing", 0),
    ] {
        let page = stand.get(&format!("/v1/jobs{query}")).await.expect(200);
        assert_eq!(page.json["jobs"].as_array().unwrap().len(), expected, "{query}");
    }
    let (mut seen, mut cursor) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let page = stand.get(&format!("/v1/jobs?limit=3{cursor}")).await.expect(200);
        seen.extend(page.json["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.json["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 10);
}

#[tokio::test]
async fn explain_lists_every_reason_that_is_known() {
    let stand = Stand::new().await;
    let codes = |answer: &crate::stand::Answer| -> Vec<String> {
        let reasons = answer.json["reasons"].as_array().unwrap();
        reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
    };
    let holder = stand.post("/v1/jobs", &backup("t-001")).await.expect(202);
    let blocked = stand.post("/v1/jobs", &backup("t-001")).await.expect(202);
    assert_eq!(blocked.json["place"], "blocked");
    let queue = blocked.json["queue"].as_str().unwrap().to_owned();
    stand.post(&format!("/v1/queues/{queue}/pause"), &json!({"reason": "disk work"})).await.expect(200);
    let why = stand.get(&format!("/v1/jobs/{}/explain", blocked.id())).await.expect(200);
    assert_eq!(codes(&why), ["queue_paused", "resource_held", "no_live_worker"]);
    assert_eq!(why.json["reasons"][1]["job"], holder.id());
    assert_eq!(why.json["reasons"][1]["jobs"], json!([holder.id()]));
    assert_eq!(why.json["reasons"][0]["text"], "the queue is paused: disk work");
    let planned = stand.post("/v1/jobs", &sql("t-002", 60)).await.expect(202);
    let why = stand.get(&format!("/v1/jobs/{}/explain", planned.id())).await.expect(200);
    assert_eq!(codes(&why)[0], "planned_time");
    assert_eq!(why.json["reasons"][0]["until"], "2026-11-22T05:00:00.000Z");
    stand.at(13 * 60 * MINUTE);
    let why = stand.get(&format!("/v1/jobs/{}/explain", planned.id())).await.expect(200);
    assert!(codes(&why).contains(&"maintenance_window".to_owned()), "{}", why.text);
    stand.post(&format!("/v1/jobs/{}/cancel", holder.id()), &json!({})).await.expect(200);
    assert_eq!(codes(&stand.get(&format!("/v1/jobs/{}/explain", holder.id())).await), ["ended"]);
}

#[tokio::test]
async fn the_log_and_the_kinds_are_shown() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    assert_eq!(stand.get(&format!("/v1/jobs/{id}/log")).await.expect(200).json, json!({"lines": []}));
    let kinds = stand.get("/v1/kinds").await.expect(200);
    let names: Vec<_> = kinds.json["kinds"].as_array().unwrap().iter().map(|k| k["kind"].clone()).collect();
    assert_eq!(names, ["data_center_backup", "data_center_restore", "sql_update", "verification_code"]);
    for kind in kinds.json["kinds"].as_array().unwrap() {
        assert_eq!(kind["args"]["type"], "object", "{kind}");
        assert_eq!(kind["args"]["additionalProperties"], false, "{kind}");
    }
}

#[tokio::test]
async fn no_secret_of_the_envelope_is_kept_or_shown() {
    let stand = Stand::with(&[]).await;
    let key = stand.key(KeyRole::Caller, None).await;
    let mut ask = sql("t-001", 60);
    ask["verification"] = json!({"challenge_id": "c-1", "code": "CANARY-271828"});
    let refused = stand.ask("POST", "/v1/jobs").key(&key).json(&ask).send().await.refused(422, "code_invalid");
    assert!(!refused.text.contains("CANARY"));
    stand.redis_cli(&["SAVE"]);
    let keys = stand.redis_cli(&["--scan"]);
    assert!(!keys.contains("CANARY") && !keys.contains(&key));
    let held = stand.redis_cli(&["HVALS", "{lh:0}:registry:keys"]);
    assert!(held.contains("hash") && !held.contains(&key), "only the hash of a key is stored");
    assert_eq!(NOON, stand.store.now().await.unwrap());
}
