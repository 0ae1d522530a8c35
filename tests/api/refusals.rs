//! Every way in which a request can be wrong, and what it is told.

use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{Stand, backup, sql};

#[tokio::test]
async fn a_request_without_a_good_key_is_401_on_every_route_but_the_public_ones() {
    let stand = Stand::new().await;
    let public = ["/livez", "/readyz", "/openapi.json", "/docs", "/"];
    for path in leasehold::api::routes::paths() {
        let methods =
            stand.ask("BREW", path).send().await.refused(405, "method_not_allowed").header("allow").to_owned();
        for method in methods.split(',').filter(|m| *m != "HEAD") {
            let answer = stand.ask(method, path).send().await;
            assert_eq!(answer.status == 401, !public.contains(&path), "{method} {path}: {answer:?}");
            if answer.status == 401 {
                for value in
                    ["Bearer nonsense", "Basic YTpi", "Bearer", "Bearer  ", "lh_0", &format!("Bearer {}0", stand.admin)]
                {
                    stand.ask(method, path).header("authorization", value).send().await.refused(401, "unauthorized");
                }
            }
        }
    }
}

#[tokio::test]
async fn eng_12_a_role_may_only_what_it_is_for() {
    let stand = Stand::new().await;
    let monitor = stand.key(KeyRole::Monitor, None).await;
    let caller = stand.key(KeyRole::Caller, None).await;
    let operator = stand.key(KeyRole::Operator, None).await;
    let id = stand.held(stand.plain("t-001")).await;
    let refused = [
        (&monitor, "POST", "/v1/jobs".to_owned(), backup("t-001")),
        (&monitor, "POST", format!("/v1/jobs/{id}/cancel"), json!({})),
        (&monitor, "PATCH", format!("/v1/jobs/{id}"), json!({})),
        (&monitor, "POST", "/v1/webhooks".to_owned(), json!({"url": "https://example.com"})),
        (&monitor, "PUT", "/v1/tenants/t-001".to_owned(), json!({})),
        (&caller, "POST", format!("/v1/jobs/{id}/revive"), json!({})),
        (&caller, "POST", format!("/v1/jobs/{id}/resolve"), json!({"happened": true})),
        (&caller, "POST", "/v1/queues/default/pause".to_owned(), json!({})),
        (&caller, "GET", "/metrics".to_owned(), Value::Null),
        (&caller, "PUT", "/v1/tenants/t-001".to_owned(), json!({})),
        (&operator, "GET", "/v1/keys".to_owned(), Value::Null),
        (&operator, "POST", "/v1/keys".to_owned(), json!({"name": "x", "roles": ["admin"]})),
    ];
    for (key, method, path, body) in refused {
        let answer = stand.ask(method, &path).key(key).json(&body).send().await.refused(403, "forbidden");
        assert_eq!(answer.json["rule"], "ENG-12", "{method} {path}");
    }
    stand.ask("GET", "/metrics").key(&monitor).send().await.expect(200);
    stand.ask("POST", "/v1/jobs").key(&caller).json(&backup("t-001")).send().await.expect(202);
    stand.ask("POST", "/v1/queues/default/pause").key(&operator).send().await.expect(200);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems_too() {
    let stand = Stand::new().await;
    for path in ["/nowhere", "/v1", "/v1/jobs/", "/v1/jobs/x/y/z", "/v2/jobs", "/%00", "//"] {
        stand.ask("GET", path).send().await.refused(404, "not_found");
    }
    let answer = stand.ask("DELETE", "/v1/jobs").key(&stand.admin).send().await.refused(405, "method_not_allowed");
    assert!(answer.header("allow").contains("POST"), "{answer:?}");
    assert_eq!(answer.json["detail"], "this route knows GET, HEAD, POST");
    stand.ask("DELETE", "/v1/tenants/t-001").key(&stand.admin).send().await.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_told_where() {
    let stand = Stand::new().await;
    let with = |change: Value| {
        let mut whole = backup("t-001");
        whole.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        whole.to_string()
    };
    let table = [
        ("{\"kind\": \"x\",\n \"tenant\" }".to_owned(), 400, "malformed_json", ""),
        (String::new(), 400, "malformed_json", ""),
        ("[]".to_owned(), 422, "invalid_argument", ""),
        ("null".to_owned(), 422, "invalid_argument", ""),
        ("{}".to_owned(), 422, "invalid_argument", "kind"),
        (with(json!({"tennant": "t"})), 422, "unknown_field", "tennant"),
        (with(json!({"tenant": 7})), 422, "invalid_argument", "tenant"),
        (with(json!({"tenant": "t-404"})), 422, "unknown_tenant", "tenant"),
        (with(json!({"kind": "data_center_bakcup"})), 422, "unknown_kind", "kind"),
        (with(json!({"actor": {"user_id": "u", "roles": ["king"]}})), 422, "invalid_argument", "actor.roles[0]"),
        (with(json!({"actor": {"user_id": "u", "rolls": []}})), 422, "unknown_field", "actor.rolls"),
        (with(json!({"actor": {"user_id": "", "roles": []}})), 422, "invalid_argument", "actor.user_id"),
        (with(json!({"actor": ["u", ["employee"]]})), 422, "invalid_argument", "actor"),
        (with(json!({"actor": {"user_id": "u", "roles": [null]}})), 422, "invalid_argument", "actor.roles[0]"),
        (with(json!({"actor": {"user_id": "u", "email": "a@b\r\nBcc: c@d"}})), 422, "invalid_argument", "actor.email"),
        (with(json!({"actor": {"user_id": "u", "mobile": "call me"}})), 422, "invalid_argument", "actor.mobile"),
        (with(json!({"labels": {"a": "\u{1b}[2J"}})), 422, "invalid_argument", "labels.a"),
        (with(json!({"labels": {"a\0": "b"}})), 422, "invalid_argument", "labels"),
        (with(json!({"correlation_id": "a\nb"})), 422, "invalid_argument", "correlation_id"),
        (with(json!({"args": {"data_center": "dc-1", "name": "a\u{202e}b"}})), 422, "invalid_argument", "args.name"),
        (with(json!({"priority": 5})), 422, "invalid_argument", "priority"),
        (r#"{"kind":"a","kind":"b"}"#.to_owned(), 422, "invalid_argument", "kind"),
        (
            r#"{"args":{"data_center":"dc-1","data_center":"dc-2"}}"#.to_owned(),
            422,
            "invalid_argument",
            "args.data_center",
        ),
        (with(json!({"args": []})), 422, "invalid_argument", "args"),
        (with(json!({"args": {"data_center": "dc-1", "nam": "x"}})), 422, "unknown_field", "args.nam"),
        (with(json!({"args": {"data_center": "dc-9", "name": "x"}})), 404, "unknown_data_center", "args.data_center"),
        (with(json!({"run_at": "tomorrow"})), 422, "invalid_argument", "run_at"),
        (with(json!({"run_at": "2020-01-01T00:00:00Z"})), 422, "time_not_allowed", "run_at"),
        (with(json!({"run_at": "+262142-12-31T00:00:00Z"})), 422, "time_not_allowed", "run_at"),
        (with(json!({"run_at": "-9999-01-01T00:00:00Z"})), 422, "time_not_allowed", "run_at"),
        (sql("t-001", -1).to_string(), 422, "time_not_allowed", "run_at"),
        (with(json!({"priority": "urgent"})), 422, "invalid_argument", "priority"),
        (with(json!({"labels": {"a": 1}})), 422, "invalid_argument", "labels.a"),
        (with(json!({"callback_url": "http://127.0.0.1:6379/"})), 422, "invalid_argument", "callback_url"),
        (with(json!({"callback_url": "https://user:pw@example.com/"})), 422, "invalid_argument", "callback_url"),
        (with(json!({"callback_url": "ftp://example.com/"})), 422, "invalid_argument", "callback_url"),
        (with(json!({"callback_url": "https://169.254.169.254/latest"})), 422, "invalid_argument", "callback_url"),
        (with(json!({"actor": {"user_id": "u", "roles": ["employee"]}})), 403, "forbidden_role", ""),
    ];
    for (body, status, code, field) in table {
        let answer = stand.ask("POST", "/v1/jobs").key(&stand.admin).raw("application/json", body.clone()).send().await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}\n{}", answer.text);
        assert_eq!(answer.json["field"].as_str().unwrap_or(""), field, "{body}\n{}", answer.text);
        assert!(!answer.text.contains("panick"), "{body}");
    }
    let near = stand.post("/v1/jobs", &serde_json::from_str(&with(json!({"tennant": "t"}))).unwrap()).await;
    assert_eq!(near.json["remedy"], "did you mean `tenant`?");
    let place = stand.ask("POST", "/v1/jobs").key(&stand.admin).raw("application/json", "{\n\"a\" 1}").send().await;
    assert_eq!(place.json["limit"], "line 2, column 5");
    assert!(stand.get("/v1/jobs").await.json["jobs"].as_array().unwrap().is_empty(), "nothing was taken in");
}

#[tokio::test]
async fn bad_bodies_of_any_sort_never_break_the_server() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let deep = |open: &str, n: usize| open.repeat(n);
    let bodies: Vec<Vec<u8>> = vec![
        b"\xff\xfe\x00".to_vec(),
        b"{\"kind\":\"\xc3\x28\"}".to_vec(),
        deep("[", 10_000).into_bytes(),
        deep("{\"a\":", 10_000).into_bytes(),
        br#"{"kind":"a","kind":"b"}"#.to_vec(),
        br#"{"kind":"\ud800"}"#.to_vec(),
        br#"{"kind":"\u0000","tenant":"\u0000","actor":{"user_id":"\u0000"}}"#.to_vec(),
        br#"{"happened":"yes","reason":[1e999]}"#.to_vec(),
        br#"1e400"#.to_vec(),
        br#""a string""#.to_vec(),
        b"true false".to_vec(),
        br#"{"url":"https://[::1","events":["*","*.x"],"tenant":"../.."}"#.to_vec(),
        br#"{"name":"","roles":[]}"#.to_vec(),
        br#"{"name":"x","roles":["god"]}"#.to_vec(),
        br#"{"delivery":"x","failed_since":"2026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"run_at":"+262143-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"name":"a","formal":true,"lease_end":"2026-02-30"}"#.to_vec(),
    ];
    let routes = [
        ("POST", "/v1/jobs".to_owned()),
        ("PATCH", format!("/v1/jobs/{id}")),
        ("POST", format!("/v1/jobs/{id}/cancel")),
        ("POST", format!("/v1/jobs/{id}/revive")),
        ("POST", format!("/v1/jobs/{id}/resolve")),
        ("POST", "/v1/queues/default/pause".to_owned()),
        ("PUT", "/v1/tenants/t-003".to_owned()),
        ("POST", "/v1/webhooks".to_owned()),
        ("PATCH", "/v1/webhooks/wh_x".to_owned()),
        ("POST", "/v1/webhooks/wh_x/replay".to_owned()),
        ("POST", "/v1/keys".to_owned()),
    ];
    for (method, path) in &routes {
        for body in &bodies {
            let answer = stand.ask(method, path).key(&stand.admin).raw("application/json", body.clone()).send().await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            assert!((400..500).contains(&answer.status), "{method} {path} {shown}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn odd_queries_and_ids_are_refused_by_name() {
    let stand = Stand::new().await;
    for (query, code, field) in [
        ("limit=0", "invalid_argument", "limit"),
        ("limit=9999", "invalid_argument", "limit"),
        ("limit=x", "invalid_argument", "limit"),
        ("place=nowhere", "invalid_argument", "place"),
        ("tennant=t-001", "unknown_field", "tennant"),
    ] {
        let answer = stand.get(&format!("/v1/jobs?{query}")).await.refused(422, code);
        assert_eq!(answer.json["field"], field, "{query}: {}", answer.text);
    }
    for id in ["x", "00000000000000000000", "zz000000000000000000", "..", "%2e%2e%2f", "0000000000000000000%00"] {
        stand.get(&format!("/v1/jobs/{id}")).await.refused(404, "not_found");
        stand.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.refused(404, "not_found");
    }
    for cursor in ["x", "9.9", "-1.-1", "0.99999999999999999999", "%00"] {
        let answer = stand.get(&format!("/v1/jobs?cursor={cursor}")).await.refused(422, "invalid_argument");
        assert_eq!(answer.json["field"], "cursor", "{}", answer.text);
    }
}

#[tokio::test]
async fn only_json_is_read() {
    let stand = Stand::new().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""] {
        let answer = stand.ask("POST", "/v1/jobs").key(&stand.admin).raw(kind, "{}").send().await;
        answer.refused(415, "unsupported_media_type");
    }
    let with_charset =
        stand.ask("POST", "/v1/jobs").key(&stand.admin).raw("Application/JSON; charset=utf-8", "{}").send().await;
    with_charset.refused(422, "invalid_argument");
}

#[tokio::test]
async fn a_body_that_is_packed_is_refused_and_told_what_is_read() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let cancel = format!("/v1/jobs/{id}/cancel");
    let ask =
        |path: &str, encoding: &str| stand.ask("POST", path).key(&stand.admin).header("content-encoding", encoding);
    for encoding in ["gzip", "br", "identity, gzip", "é"] {
        for path in ["/v1/jobs", &cancel] {
            let answer = ask(path, encoding).json(&json!({})).send().await.refused(415, "unsupported_media_type");
            assert_eq!((answer.header("accept-encoding"), &answer.json["limit"]), ("identity", &json!("identity")));
        }
    }
    ask(&cancel, "Identity").json(&json!({})).send().await.expect(200);
}

#[tokio::test]
async fn e7_a_store_that_is_full_says_429_and_when_to_come_back() {
    let stand =
        Stand::with(&[("LEASEHOLD__VERIFY__MODE", "caller"), ("LEASEHOLD__LIMITS__MAX_WAITING_JOBS", "2")]).await;
    for _ in 0..2 {
        stand.post("/v1/jobs", &backup("t-001")).await.expect(202);
    }
    stand.post("/v1/jobs", &backup("t-001")).await.refused(429, "too_many_jobs");
}

#[tokio::test]
async fn e7_jobs_are_refused_before_redis_is_full() {
    let stand = Stand::new().await;
    stand.redis_cli(&["CONFIG", "SET", "maxmemory", "1200000"]);
    let used = stand.store.durability().await.unwrap();
    assert!(used.used_memory > used.max_memory / 10 * 9, "{used:?}");
    let answer = stand.post("/v1/jobs", &backup("t-001")).await.refused(429, "too_many_jobs");
    assert_eq!(answer.json["limit"], "90 % of its memory");
}

#[tokio::test]
async fn a_store_that_is_away_says_503_and_comes_back() {
    let mut stand =
        Stand::on(leasehold_engine::testing::RedisServer::start_durable(), &[("LEASEHOLD__VERIFY__MODE", "caller")])
            .await;
    stand.redis.kill();
    stand.post("/v1/jobs", &backup("t-001")).await.refused(503, "storage_unavailable");
    stand.ask("GET", "/readyz").send().await.refused(503, "storage_unavailable");
    stand.ask("GET", "/livez").send().await.expect(200);
    stand.redis.restart();
    stand.post("/v1/jobs", &backup("t-001")).await.expect(202);
    stand.ask("GET", "/readyz").send().await.expect(200);
}

#[tokio::test]
async fn a_refused_rule_names_rule_limit_and_when_it_is_allowed() {
    let stand = Stand::new().await;
    // 12:00 + 13 h = 01:00 in Shanghai: daily maintenance.
    let answer = stand.post("/v1/jobs", &sql("t-001", 13 * 60)).await.refused(422, "maintenance_window");
    assert_eq!(answer.json["rule"], "SQL-06");
    assert_eq!(answer.json["limit"], "00:00-03:30");
    assert_eq!(answer.json["allowed_at"], "2026-11-23T03:30:00.001+08:00");
    let answer = stand.post("/v1/jobs", &sql("t-001", 24 * 60 + 1)).await.refused(422, "time_not_allowed");
    assert_eq!(answer.json["allowed_at"], "2026-11-22T12:01:00.000+08:00");
}
