//! Queues, keys, tenants, metrics and probes.

use leasehold_engine::testing::RedisServer;
use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{MINUTE, Stand, backup, tenant_document};

#[tokio::test]
async fn ac_197_fifty_waiting_jobs_are_counted_and_the_oldest_age_grows() {
    let stand = Stand::new().await;
    for _ in 0..50 {
        stand.held(stand.plain("t-001")).await;
    }
    for minutes in [1, 2] {
        stand.at(minutes * MINUTE);
        let metrics = stand.get("/metrics").await.expect(200);
        assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        for line in [
            "leasehold_jobs{queue=\"default\",kind=\"puppet\",place=\"ready\"} 50".to_owned(),
            format!("leasehold_oldest_waiting_seconds{{queue=\"default\"}} {}", minutes * 60),
            "leasehold_workers 0".to_owned(),
            "leasehold_webhook_backlog 0".to_owned(),
        ] {
            assert!(metrics.text.lines().any(|l| l == line), "{line}\n{}", metrics.text);
        }
        let queues = stand.get("/v1/queues").await.expect(200);
        let queue = queues.json["queues"].as_array().unwrap().iter().find(|q| q["name"] == "default").unwrap();
        assert_eq!((&queue["depth"], &queue["oldest_waiting_ms"]), (&json!(50), &json!(minutes * MINUTE)));
        assert_eq!(queue["jobs"], json!([{"kind": "puppet", "place": "ready", "jobs": 50}]));
    }
}

#[tokio::test]
async fn metrics_are_well_formed() {
    let stand = Stand::new().await;
    stand.get("/v1/jobs").await.expect(200);
    stand.get("/nowhere/at/all").await.expect(404);
    stand.state.meters().started("puppet", 120);
    stand.state.meters().ended("puppet", "done", 5);
    let text = stand.get("/metrics").await.expect(200).text;
    assert!(
        text.contains("leasehold_http_requests_total{method=\"GET\",route=\"/v1/jobs\",status=\"200\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("route=\"unknown\",status=\"404\"") && !text.contains("nowhere"),
        "paths of callers are no labels"
    );
    assert!(text.contains("leasehold_attempt_duration_seconds_count{kind=\"puppet\",outcome=\"done\"} 1"));
    let mut named = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, sort) = rest.split_once(' ').unwrap();
            assert!(named.insert(name.to_owned()), "{name} twice");
            assert!(["counter", "gauge", "histogram"].contains(&sort));
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(named.contains(name) || named.contains(base), "{line} has no TYPE before it");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
}

#[tokio::test]
async fn a_queue_is_paused_with_a_reason_and_resumed() {
    let stand = Stand::new().await;
    let reason_of = |answer: &crate::stand::Answer, name: &str| {
        let queue = answer.json["queues"].as_array().unwrap().iter().find(|q| q["name"] == name).unwrap().clone();
        (queue["paused"].clone(), queue["reason"].clone())
    };
    let paused = stand.post("/v1/queues/copies/pause", &json!({"reason": "disk work"})).await.expect(200);
    assert_eq!(reason_of(&paused, "copies"), (json!(true), json!("disk work")));
    assert!(stand.get("/metrics").await.text.contains("leasehold_queue_paused{queue=\"copies\"} 1"));
    let resumed = stand.post("/v1/queues/copies/resume", &json!({})).await.expect(200);
    assert_eq!(reason_of(&resumed, "copies"), (json!(false), json!(null)));
    let all = stand.ask("POST", "/v1/queues/*/pause").key(&stand.admin).send().await.expect(200);
    assert_eq!(reason_of(&all, "copies"), (json!(true), json!(null)));
    stand.ask("POST", "/v1/queues/*/resume").key(&stand.admin).send().await.expect(200);
    stand.post("/v1/queues/copeis/pause", &json!({})).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_key_is_shown_once_works_at_once_and_stops_at_once() {
    let stand = Stand::new().await;
    let made = stand.post("/v1/keys", &json!({"name": "portal", "roles": ["caller", "monitor"]})).await.expect(201);
    let key = made.json["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("lh_") && key.len() == 67);
    let secret = made.json["webhook_secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    stand.ask("GET", "/v1/jobs").key(&key).send().await.expect(200);
    let list = stand.get("/v1/keys").await.expect(200);
    assert!(!list.text.contains(&key) && !list.text.contains(&secret) && !list.text.contains("hash"));
    assert!(
        list.json["keys"]
            .as_array()
            .unwrap()
            .iter()
            .any(|k| k["name"] == "portal" && k["roles"] == json!(["caller", "monitor"]))
    );
    let path = format!("/v1/keys/{}", made.id());
    stand.ask("DELETE", &path).key(&stand.admin).send().await.expect(204);
    stand.ask("GET", "/v1/jobs").key(&key).send().await.refused(401, "unauthorized");
    stand.ask("DELETE", &path).key(&stand.admin).send().await.refused(404, "not_found");
    for bad in [
        json!({"name": "", "roles": ["admin"]}),
        json!({"name": "x", "roles": []}),
        json!({"name": "a\u{1b}]0;b\u{7}", "roles": ["admin"]}),
        json!({"name": "a\nb", "roles": ["admin"]}),
        json!({"name": "x", "roles": ["admin"], "tenant": "a b"}),
    ] {
        stand.post("/v1/keys", &bad).await.refused(422, "invalid_argument");
    }
    let nobody = json!({"name": "x", "roles": ["caller"], "tenant": "t-404"});
    let answer = stand.post("/v1/keys", &nobody).await.refused(404, "not_found");
    assert_eq!(
        (&answer.json["field"], &answer.json["detail"]),
        (&json!("tenant"), &json!("there is no tenant `t-404`"))
    );
}

/// RFC 9110, 13.1: whoever says `*` is taken at his word, wherever a PUT makes something.
#[tokio::test]
async fn a_put_makes_or_replaces_only_what_its_star_allows() {
    let stand = Stand::new().await;
    let changed = |mut document: Value, field: &str, value: Value| {
        document[field] = value;
        document
    };
    let window = json!({"opens": "0 12 * * *", "zone": "Asia/Shanghai", "duration": "1h", "mode": "deny",
        "reason": "lunch", "owner": "ops"});
    let freeze = json!({"until": "2026-12-01T00:00:00Z", "reason": "audit", "owner": "ops"});
    let schedule = json!({"cron": "0 2 * * *", "job": backup("t-001")});
    for (path, one, other) in [
        ("/v1/tenants/t-009", tenant_document("t-009"), changed(tenant_document("t-009"), "name", json!("Other"))),
        ("/v1/windows/noon", window.clone(), changed(window, "reason", json!("late lunch"))),
        ("/v1/freezes/audit", freeze.clone(), changed(freeze, "reason", json!("tax"))),
        ("/v1/limits/queue/copies", json!({"max_running": 2}), json!({"max_running": 3})),
        ("/v1/schedules/nightly", schedule.clone(), changed(schedule, "cron", json!("0 3 * * *"))),
    ] {
        let put =
            |name: &str, body: &Value| stand.ask("PUT", path).key(&stand.admin).header(name, "*").json(body).send();
        let missing = put("if-match", &one).await.refused(412, "precondition_failed");
        assert_eq!(missing.json["field"], "If-Match", "{path}");
        assert!((200..202).contains(&put("if-none-match", &one).await.status), "{path}");
        let there = put("if-none-match", &other).await.refused(412, "precondition_failed");
        assert_eq!(there.json["field"], "If-None-Match", "{path}");
        put("if-match", &other).await.expect(200);
    }
}

#[tokio::test]
async fn the_last_admin_key_cannot_be_revoked() {
    let stand = Stand::new().await;
    let own = stand.get("/v1/keys").await.json["keys"][0]["id"].as_str().unwrap().to_owned();
    stand.key(KeyRole::Operator, None).await;
    stand.key(KeyRole::Admin, Some("t-001")).await;
    stand.ask("DELETE", &format!("/v1/keys/{own}")).key(&stand.admin).send().await.refused(409, "conflict");
    stand.key(KeyRole::Admin, None).await;
    stand.ask("DELETE", &format!("/v1/keys/{own}")).key(&stand.admin).send().await.expect(204);
    stand.get("/v1/keys").await.refused(401, "unauthorized");
}

#[tokio::test]
async fn a_tenant_is_written_read_and_guarded_by_its_version() {
    let stand = Stand::new().await;
    let put = |tag: &str, name: &str| {
        let mut document = tenant_document("t-009");
        document["name"] = json!(name);
        let ask = stand.ask("PUT", "/v1/tenants/t-009").key(&stand.admin).json(&document);
        if tag.is_empty() { ask.send() } else { ask.header("if-match", tag).send() }
    };
    assert_eq!(put("", "One").await.expect(201).header("etag"), "\"1\"");
    assert_eq!(put("\"1\"", "Two").await.expect(200).header("etag"), "\"2\"");
    put("\"1\"", "Three").await.refused(412, "precondition_failed");
    let shown = stand.get("/v1/tenants/t-009").await.expect(200);
    assert_eq!((&shown.json["name"], shown.header("etag")), (&json!("Two"), "\"2\""));
    assert_eq!(stand.get("/v1/tenants").await.json["tenants"].as_array().unwrap().len(), 3);
    assert_eq!(stand.get("/v1/tenants/t-009/backups").await.expect(200).json, json!({"backups": []}));
    for (change, code, field) in [
        (json!({"nme": "x"}), "unknown_field", "nme"),
        (json!({"formal": "yes"}), "invalid_argument", "formal"),
        (json!({"id": "t-010"}), "invalid_argument", "id"),
        (json!({"name": "One\u{202e}"}), "invalid_argument", "name"),
        (json!({"contacts": [{"user_id": "u", "email": "a@b, c@d"}]}), "invalid_argument", "contacts[0].email"),
        (json!({"contacts": [{"user_id": "u", "mobile": "none"}]}), "invalid_argument", "contacts[0].mobile"),
        (
            json!({"environments": [{"id": "p", "kind": "production", "data_centers": [{"id": "d", "name": "D", "database": "postgres://u:clear@h/d"}]}]}),
            "invalid_argument",
            "environments[0].data_centers[0].database",
        ),
    ] {
        let mut document = tenant_document("t-009");
        document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = stand.put("/v1/tenants/t-009", &document).await.refused(422, code);
        assert!(answer.json["field"].as_str().unwrap_or_default().ends_with(field), "{}", answer.text);
    }
    stand.put("/v1/tenants/a%20b", &tenant_document("a b")).await.refused(422, "invalid_argument");
    stand.get("/v1/tenants/t-404").await.refused(404, "not_found");
    stand.get("/v1/tenants/t-404/quotas").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_redis_that_would_lose_jobs_is_not_ready() {
    let stand = Stand::new().await;
    let answer = stand.ask("GET", "/readyz").send().await.refused(503, "storage_unavailable");
    assert!(answer.json["detail"].as_str().unwrap().contains("redis_without_aof"));
    let durable = Stand::on(RedisServer::start_durable(), &[]).await;
    durable.ask("GET", "/readyz").send().await.expect(200);
    durable.ask("GET", "/livez").send().await.expect(200);
}

#[tokio::test]
async fn a_redis_that_hangs_is_told_before_the_request_is_too_old() {
    let variables = [("LEASEHOLD__SERVER__REQUEST_TIMEOUT_SECONDS", "3")];
    let stand = Stand::on(RedisServer::start_durable(), &variables).await;
    let redis = nix::unistd::Pid::from_raw(stand.redis.pid().try_into().unwrap());
    nix::sys::signal::kill(redis, nix::sys::signal::Signal::SIGSTOP).unwrap();
    for path in ["/readyz", "/v1/jobs"] {
        let answer = stand.get(path).await.refused(503, "storage_unavailable");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    }
    nix::sys::signal::kill(redis, nix::sys::signal::Signal::SIGCONT).unwrap();
    stand.get("/readyz").await.expect(200);
}

#[tokio::test]
async fn a_full_store_is_back_pressure() {
    let stand = Stand::new().await;
    stand.redis.configure("maxmemory", "1");
    let answer = stand.put("/v1/tenants/t-009", &tenant_document("t-009")).await.refused(429, "too_many_jobs");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    stand.redis.configure("maxmemory", "0");
    stand.put("/v1/tenants/t-009", &tenant_document("t-009")).await.expect(201);
}

#[tokio::test]
async fn eng_09_two_data_centers_never_share_a_database() {
    let stand = Stand::new().await;
    let of = |database: &str| {
        json!([{"id": "production", "kind": "production", "data_centers": [
            {"id": "dc-1", "name": "One", "database": "sqlite:/data/nine.db"},
            {"id": "dc-2", "name": "Two", "database": database},
        ]}])
    };
    let mut document = tenant_document("t-009");
    document["environments"] = of("sqlite:/data/../data/nine.db");
    let answer = stand.put("/v1/tenants/t-009", &document).await.refused(422, "invalid_argument");
    assert_eq!(answer.json["field"], "environments[0].data_centers[1].database");
    document["environments"] = of("sqlite:/data/ten.db");
    stand.put("/v1/tenants/t-009", &document).await.expect(201);
    stand.put("/v1/tenants/t-009", &document).await.expect(200);
    let mut other = tenant_document("t-010");
    other["environments"] = of("sqlite:/data/eleven.db");
    let answer = stand.put("/v1/tenants/t-010", &other).await.refused(422, "invalid_argument");
    assert!(answer.json["detail"].as_str().unwrap().contains("`dc-1` of tenant `t-009`"), "{}", answer.text);
}

#[tokio::test]
async fn a_request_id_of_the_caller_is_kept_if_it_is_plain() {
    let stand = Stand::new().await;
    let ask = |id: &'static str| stand.ask("GET", "/livez").header("x-request-id", id).send();
    assert_eq!(ask("portal-4711").await.header("x-request-id"), "portal-4711");
    for odd in ["a b", "x\"y", "<script>", &"l".repeat(65)] {
        let answer = stand.ask("GET", "/livez").header("x-request-id", odd).send().await;
        assert!(answer.header("x-request-id").starts_with("req_"));
    }
    stand.post("/v1/jobs", &backup("t-001")).await.expect(202);
}
