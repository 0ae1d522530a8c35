//! Pauses, kill switch, limits, freezes and windows through the API, and what explain makes of them.

use leasehold_engine::{
    NewJob, Place,
    model::Resource,
    store::{Claim, Outcome, Settlement},
};
use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{Answer, MINUTE, Stand};

const HOUR: i64 = 60 * MINUTE;

/// Starts and ends what can be started now; how many.
async fn run(stand: &Stand) -> usize {
    use std::sync::atomic::{AtomicU64, Ordering};
    static REQUEST: AtomicU64 = AtomicU64::new(1);
    let queues = vec!["default".to_owned()];
    let request = REQUEST.fetch_add(1, Ordering::Relaxed);
    let claim = Claim { worker: "w".to_owned(), request, want: 50, lease_ms: 60_000, queues, kinds: Vec::new(), by: 0 };
    let got = stand.store.claim(0, &claim).await.unwrap().jobs;
    let end = |job: &leasehold_engine::JobRecord| Settlement {
        id: job.id.clone(),
        fence: job.fence,
        outcome: Outcome::Done,
        wait_ms: 0,
        result: Vec::new(),
        error: Vec::new(),
        note: Vec::new(),
    };
    let ends: Vec<_> = got.iter().map(end).collect();
    if !ends.is_empty() {
        stand.store.settle(0, &ends).await.unwrap();
    }
    ends.len()
}

async fn call(stand: &Stand, method: &str, path: &str, body: &Value) -> Answer {
    let ask = stand.ask(method, path).key(&stand.admin);
    if body.is_null() { ask.send().await } else { ask.json(body).send().await }
}

async fn explained(stand: &Stand, id: &str) -> Vec<Value> {
    stand.get(&format!("/v1/jobs/{id}/explain")).await.expect(200).json["reasons"].as_array().unwrap().clone()
}

/// Puts a gate there, sees that it stops a job and is listed and explained, takes it away, and sees the job go.
async fn stops_a_job(stand: &Stand, on: (&str, &str, Value), off: (&str, &str, Value), code: &str, text: &str) {
    let id = stand.held(stand.plain("t-001")).await.to_string();
    let status = call(stand, on.0, on.1, &on.2).await.status;
    assert!((200..300).contains(&status), "{on:?}: {status}");
    assert_eq!(run(stand).await, 0, "{on:?}");
    let why = explained(stand, &id).await.remove(0);
    assert_eq!((why["code"].as_str(), why["text"].as_str()), (Some(code), Some(text)), "{on:?}");
    let gates = stand.get("/v1/gates").await.expect(200);
    assert!(gates.text.contains("disk work"), "{}", gates.text);
    let metrics = stand.get("/metrics").await.expect(200).text;
    let told = ["leasehold_paused{", "leasehold_kill_switch{", "leasehold_gates{sort=\"freeze\"} 1"];
    assert!(told.iter().any(|line| metrics.lines().any(|l| l.starts_with(line))), "{on:?}: {metrics}");
    let status = call(stand, off.0, off.1, &off.2).await.status;
    assert!((200..300).contains(&status), "{off:?}: {status}");
    assert_eq!(run(stand).await, 1, "{off:?}");
    let gates = stand.get("/v1/gates").await.expect(200).json;
    assert_eq!((&gates["stops"], &gates["freezes"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn a_kind_a_tenant_and_everything_are_stopped_and_go_on() {
    let stand = Stand::new().await;
    let why = json!({"reason": "disk work", "actor": {"user_id": "u7"}});
    for (of, name, code) in [("kinds", "puppet", "kind_paused"), ("tenants", "t-001", "tenant_paused")] {
        stand.held(stand.plain("t-002")).await;
        run(&stand).await;
        let path = |verb| format!("/v1/{of}/{name}/{verb}");
        let text = format!("the {} is paused: disk work", of.trim_end_matches('s'));
        let (on, off) = (path("pause"), path("resume"));
        stops_a_job(&stand, ("POST", &on, why.clone()), ("POST", &off, Value::Null), code, &text).await;
    }
    let kill = |kind: Option<&str>| match kind {
        Some(kind) => json!({"scope": "kind", "kind": kind, "reason": "disk work"}),
        None => json!({"scope": "all", "reason": "disk work"}),
    };
    for (kind, off, text) in [
        (None, "/v1/kill-switch", "the kill switch is on for everything: disk work"),
        (Some("puppet"), "/v1/kill-switch?kind=puppet&reason=over", "the kill switch is on for kind puppet: disk work"),
    ] {
        let on = ("POST", "/v1/kill-switch", kill(kind));
        stops_a_job(&stand, on, ("DELETE", off, Value::Null), "kill_switch", text).await;
    }
    call(&stand, "DELETE", "/v1/kill-switch", &Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn who_paused_what_and_why_is_shown_and_a_kill_switch_outlives_a_resume() {
    let stand = Stand::new().await;
    stand.held(stand.plain("t-001")).await;
    let why = json!({"reason": "disk work", "actor": {"user_id": "u7"}});
    stand.post("/v1/kinds/puppet/pause", &why).await.expect(200);
    stand.post("/v1/kill-switch", &json!({"scope": "kind", "kind": "puppet", "reason": "leak"})).await.expect(200);
    let stops = stand.post("/v1/kinds/puppet/resume", &json!({})).await.expect(200).json["stops"].clone();
    assert_eq!(stops.as_array().unwrap().len(), 1);
    assert_eq!((&stops[0]["what"], &stops[0]["reason"]), (&json!("kill_switch"), &json!("leak")));
    assert_eq!(run(&stand).await, 0);
    stand.post("/v1/kinds/puppet/pause", &why).await.expect(200);
    call(&stand, "DELETE", "/v1/kill-switch?kind=puppet", &Value::Null).await.expect(200);
    let stop = stand.get("/v1/gates").await.expect(200).json["stops"][0].clone();
    let expected = json!({"what": "pause", "scope": "kind", "name": "puppet", "reason": "disk work", "by": "u7",
        "since": "2026-11-22T04:00:00.000Z"});
    assert_eq!(stop, expected);
}

#[tokio::test]
async fn a_queue_that_a_kill_switch_stops_is_shown_as_stopped() {
    let stand = Stand::new().await;
    stand.post("/v1/kill-switch", &json!({"scope": "all", "reason": "leak"})).await.expect(200);
    let queues = stand.get("/v1/queues").await.expect(200).json["queues"].clone();
    assert!(queues.as_array().unwrap().iter().all(|q| q["paused"] == true && q["reason"] == "leak"), "{queues}");
}

#[tokio::test]
async fn a_freeze_and_a_window_stop_what_is_in_their_scope() {
    let stand = Stand::new().await;
    stand.held(stand.plain("t-002")).await;
    run(&stand).await;
    let freeze = json!({"scope": {"kind": "puppet", "tenant": "t-001"}, "until": "2026-11-23T04:00:00Z",
        "reason": "disk work", "owner": "ops"});
    let text = "freeze `year-end` stands: disk work (owner: ops)";
    let off = ("DELETE", "/v1/freezes/year-end?reason=urgent", Value::Null);
    stops_a_job(&stand, ("PUT", "/v1/freezes/year-end", freeze), off, "frozen", text).await;
    let window = json!({"scope": {"kind": "puppet"}, "zone": "Asia/Shanghai", "opens": "0 14 * * *", "duration": "1h",
        "mode": "allow", "reason": "disk work", "owner": "ops"});
    let text = "window `afternoon` is closed: disk work (owner: ops)";
    let off = ("DELETE", "/v1/windows/afternoon", Value::Null);
    stops_a_job(&stand, ("PUT", "/v1/windows/afternoon", window), off, "window_closed", text).await;
    for path in ["/v1/freezes/year-end", "/v1/windows/afternoon"] {
        call(&stand, "GET", path, &Value::Null).await.refused(404, "not_found");
        call(&stand, "DELETE", path, &Value::Null).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn a_freeze_is_shown_as_it_was_put_and_changes_in_place() {
    let stand = Stand::new().await;
    let ask = json!({"from": "2026-12-24T00:00:00+08:00", "until": "2027-01-02T00:00:00+08:00", "reason": "books",
        "owner": "finance", "scope": {"resource": "t-001/dc-1"}});
    let put = stand.put("/v1/freezes/year-end", &ask).await.expect(200);
    let expected = json!({"id": "year-end", "scope": {"resource": "t-001/dc-1"}, "from": "2026-12-23T16:00:00.000Z",
        "until": "2027-01-01T16:00:00.000Z", "owner": "finance", "active": false, "reason": "books",
        "by": put.json["by"], "since": "2026-11-22T04:00:00.000Z"});
    assert_eq!(put.json, expected);
    assert_eq!(stand.get("/v1/freezes/year-end").await.expect(200).json, expected);
    let longer = json!({"until": "2027-01-03T00:00:00Z", "reason": "books", "owner": "finance"});
    let longer = stand.put("/v1/freezes/year-end", &longer).await.expect(200).json;
    assert_eq!((&longer["from"], &longer["active"]), (&json!("2026-11-22T04:00:00.000Z"), &json!(true)));
    assert_eq!(stand.get("/v1/gates").await.expect(200).json["freezes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_window_says_when_it_is_closed_and_an_override_lasts_one_time() {
    let stand = Stand::new().await;
    let ask = json!({"zone": "Asia/Shanghai", "opens": "0 14 * * *", "duration": "90m", "mode": "allow",
        "reason": "patches", "owner": "ops"});
    let made = stand.put("/v1/windows/afternoon", &ask).await.expect(201);
    assert_eq!(made.header("etag"), "\"1\"");
    let closed = made.json["closed"].clone();
    assert_eq!(closed[0]["until"], "2026-11-22T06:00:00.000Z");
    assert_eq!(
        (&closed[1]["from"], &closed[1]["until"]),
        (&json!("2026-11-22T07:30:00.000Z"), &json!("2026-11-23T06:00:00.000Z"))
    );
    assert_eq!(made.json["duration"], "1h30m");
    let freeze = closed[0]["freeze"].as_str().unwrap().replace('#', "%23");
    let shown = stand.get(&format!("/v1/freezes/{freeze}")).await.expect(200);
    assert_eq!((&shown.json["window"], &shown.json["active"]), (&json!("afternoon"), &json!(true)));
    call(&stand, "DELETE", &format!("/v1/freezes/{freeze}?reason=urgent"), &Value::Null).await.expect(204);
    stand.held(stand.plain("t-001")).await;
    assert_eq!(run(&stand).await, 1);
    let window = stand.get("/v1/windows/afternoon").await.expect(200).json;
    assert_eq!((&window["closed"][0]["overridden"], &window["closed"][1]["overridden"]), (&json!(true), &json!(false)));
    let stale = stand.ask("PUT", "/v1/windows/afternoon").key(&stand.admin).header("if-match", "\"7\"").json(&ask);
    stale.send().await.refused(412, "precondition_failed");
    stand.put("/v1/windows/afternoon", &ask).await.expect(200);
    assert_eq!(stand.get("/v1/windows").await.expect(200).json["windows"][0]["name"], "afternoon");
}

#[tokio::test]
async fn a_planned_job_is_told_of_a_freeze_that_will_stand_at_its_time() {
    let stand = Stand::new().await;
    let freeze =
        json!({"from": "2026-11-22T05:30:00Z", "until": "2026-11-22T06:30:00Z", "reason": "books", "owner": "f"});
    stand.put("/v1/freezes/noon", &freeze).await.expect(200);
    let at =
        |hours: i64| NewJob { run_at: Some(leasehold_engine::testing::NOON + hours * HOUR), ..stand.plain("t-001") };
    let codes = async |hours: i64| -> Vec<String> {
        let id = stand.held(at(hours)).await.to_string();
        explained(&stand, &id).await.iter().map(|why| why["code"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(codes(2).await, ["planned_time", "frozen", "no_live_worker"]);
    assert_eq!(codes(3).await, ["planned_time", "no_live_worker"]);
}

#[tokio::test]
async fn a_limit_is_set_shown_obeyed_explained_and_removed() {
    let stand = Stand::new().await;
    for _ in 0..3 {
        stand.held(NewJob { key: Some("host-1".to_owned()), ..stand.plain("t-001") }).await;
    }
    let last = stand.held(NewJob { key: Some("host-1".to_owned()), ..stand.plain("t-001") }).await.to_string();
    let rate = json!({"rate": {"count": 2, "per": "1m"}, "reason": "the host is slow"});
    let set = stand.put("/v1/limits/key/puppet", &rate).await.expect(200).json;
    assert_eq!(set["rate"], json!({"count": 2, "per": "1m", "per_ms": 60_000}));
    assert_eq!(run(&stand).await, 2);
    assert_eq!(run(&stand).await, 0);
    let why = explained(&stand, &last).await.remove(0);
    assert_eq!((&why["code"], &why["until"]), (&json!("rate_limit"), &json!("2026-11-22T04:01:00.000Z")));
    stand.at(MINUTE);
    assert_eq!(run(&stand).await, 2);
    call(&stand, "DELETE", "/v1/limits/key/puppet", &Value::Null).await.expect(204);
    call(&stand, "DELETE", "/v1/limits/key/puppet", &Value::Null).await.refused(404, "not_found");
    stand.put("/v1/limits/kind/puppet", &json!({"max_running": 4})).await.expect(200);
    stand
        .put("/v1/limits/queue/default", &json!({"max_running": 9, "rate": {"count": 5, "per_ms": 1500}}))
        .await
        .expect(200);
    let limits = stand.get("/v1/gates").await.expect(200).json["limits"].clone();
    let named: Vec<_> =
        limits.as_array().unwrap().iter().map(|l| (l["of"].as_str().unwrap(), l["running"].clone())).collect();
    assert_eq!(named, [("kind", json!(0)), ("queue", json!(0))]);
}

#[tokio::test]
async fn every_mistake_of_a_gate_is_named_at_once() {
    let stand = Stand::new().await;
    let freeze =
        json!({"scope": {"kind": "nothing", "tenant": "nobody", "resource": ""}, "until": "2020-01-01T00:00:00Z"});
    let window = json!({"zone": "Asia/Shangai", "opens": "0 25 * * *", "duration": "soon", "mode": "deny"});
    let kill = json!({"scope": "kind"});
    let limit = json!({"max_running": 0, "rate": {"count": 0, "per": "1m", "per_ms": 5}});
    for (method, path, body, fields) in [
        (
            "PUT",
            "/v1/freezes/f",
            &freeze,
            &["scope.kind", "scope.tenant", "scope.resource", "until", "reason", "owner"][..],
        ),
        ("PUT", "/v1/windows/w", &window, &["reason", "owner", "duration", "zone", "opens"]),
        ("POST", "/v1/kill-switch", &kill, &["kind", "reason"]),
        ("PUT", "/v1/limits/queue/sql", &limit, &["max_running", "rate.count", "rate.per"]),
    ] {
        let refused = call(&stand, method, path, body).await.refused(422, "invalid_argument");
        assert_eq!(refused.json["field"], fields[0], "{path}");
        let detail = refused.json["detail"].as_str().unwrap();
        assert!(fields.iter().all(|field| detail.contains(&format!("{field}: "))), "{path}: {detail}");
    }
    let near = call(&stand, "PUT", "/v1/windows/w", &window).await;
    assert!(near.json["detail"].as_str().unwrap().contains("did you mean `Asia/Shanghai`?"), "{}", near.text);
}

#[tokio::test]
async fn what_could_never_do_anything_is_refused() {
    let stand = Stand::new().await;
    let window = |opens: &str, duration: &str| json!({"zone": "UTC", "opens": opens, "duration": duration, "mode": "allow", "reason": "r", "owner": "o"});
    let good = json!({"until": "2027-01-01T00:00:00Z", "reason": "r", "owner": "o"});
    for (method, path, body, status, code) in [
        ("POST", "/v1/kinds/nothing/pause", Value::Null, 404, "not_found"),
        ("POST", "/v1/kinds/nothing/resume", Value::Null, 404, "not_found"),
        ("POST", "/v1/tenants/nobody/pause", Value::Null, 404, "not_found"),
        ("PUT", "/v1/limits/kind/nothing", json!({"max_running": 1}), 404, "not_found"),
        ("PUT", "/v1/limits/queue/nothing", json!({"max_running": 1}), 404, "not_found"),
        ("PUT", "/v1/limits/host/sql", json!({"max_running": 1}), 404, "not_found"),
        ("PUT", "/v1/limits/queue/sql", json!({}), 422, "invalid_argument"),
        ("PUT", "/v1/limits/queue/sql", json!({"max_runing": 1}), 422, "unknown_field"),
        ("PUT", "/v1/limits/queue/sql", json!({"rate": {"count": 1, "per": "1x"}}), 422, "invalid_argument"),
        ("PUT", "/v1/limits/queue/sql", json!({"rate": {"count": 10_001, "per": "1m"}}), 422, "invalid_argument"),
        ("PUT", "/v1/limits/queue/sql", json!({"max_running": -1}), 422, "invalid_argument"),
        ("PUT", "/v1/windows/w", window("0 0 30 2 *", "1h"), 422, "invalid_argument"),
        ("PUT", "/v1/windows/w", window("0 * * * *", "1h"), 422, "invalid_argument"),
        ("PUT", "/v1/windows/w", window("0 * * * *", "10s"), 422, "invalid_argument"),
        ("PUT", "/v1/windows/a%23b", window("0 2 * * *", "1h"), 422, "invalid_argument"),
        ("PUT", "/v1/freezes/a%23b", good.clone(), 422, "invalid_argument"),
        (
            "POST",
            "/v1/kill-switch",
            json!({"scope": "all", "kind": "sql_update", "reason": "r"}),
            422,
            "invalid_argument",
        ),
        ("POST", "/v1/kill-switch", json!({"scope": "host", "reason": "r"}), 422, "invalid_argument"),
    ] {
        call(&stand, method, path, &body).await.refused(status, code);
    }
    assert_eq!(stand.get("/v1/gates").await.expect(200).json["stops"], json!([]));
}

#[tokio::test]
async fn gates_are_for_keys_of_all_tenants_that_may_pause() {
    let stand = Stand::new().await;
    let (own, reader) = (stand.key(KeyRole::Admin, Some("t-001")).await, stand.key(KeyRole::Monitor, None).await);
    let freeze = json!({"until": "2027-01-01T00:00:00Z", "reason": "r", "owner": "o"});
    let window =
        json!({"zone": "UTC", "opens": "0 2 * * *", "duration": "1h", "mode": "deny", "reason": "r", "owner": "o"});
    for (method, path, body) in [
        ("POST", "/v1/kinds/sql_update/pause", json!({})),
        ("POST", "/v1/kinds/sql_update/resume", json!({})),
        ("POST", "/v1/tenants/t-001/pause", json!({})),
        ("POST", "/v1/tenants/t-001/resume", json!({})),
        ("POST", "/v1/kill-switch", json!({"scope": "all", "reason": "r"})),
        ("DELETE", "/v1/kill-switch", json!({})),
        ("PUT", "/v1/limits/kind/sql_update", json!({"max_running": 1})),
        ("DELETE", "/v1/limits/kind/sql_update", json!({})),
        ("PUT", "/v1/freezes/f", freeze),
        ("DELETE", "/v1/freezes/f", json!({})),
        ("PUT", "/v1/windows/w", window),
        ("DELETE", "/v1/windows/w", json!({})),
    ] {
        for key in [&own, &reader] {
            stand.ask(method, path).key(key).json(&body).send().await.refused(403, "forbidden");
        }
    }
    for path in ["/v1/gates", "/v1/windows"] {
        stand.ask("GET", path).key(&own).send().await.refused(403, "forbidden");
        stand.ask("GET", path).key(&reader).send().await.expect(200);
    }
}

#[tokio::test]
async fn explain_names_every_holder_and_who_waits_before_but_only_to_whom_they_belong() {
    let stand = Stand::new().await;
    let on = |tenant: &str, shared: bool| {
        let name = "host-1".to_owned();
        NewJob { resources: vec![Resource { name, shared }], ..stand.plain(tenant) }
    };
    let holders = [stand.held(on("t-001", true)).await, stand.held(on("t-002", true)).await];
    let before = stand.held(on("t-002", false)).await;
    let id = stand.held(on("t-001", false)).await.to_string();
    assert_eq!(stand.job(&id).await.record.place, Place::Blocked);
    let sorted = |why: &Value| -> Vec<String> {
        let mut all: Vec<_> = why["jobs"].as_array().unwrap().iter().map(|j| j.as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    let why = explained(&stand, &id).await;
    assert_eq!((why[0]["code"].as_str(), why[1]["code"].as_str()), (Some("resource_held"), Some("resource_queue")));
    let mut expected: Vec<_> = holders.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!((sorted(&why[0]), sorted(&why[1])), (expected, vec![before.to_string()]));
    let own = stand.key(KeyRole::Caller, Some("t-001")).await;
    let seen = stand.ask("GET", &format!("/v1/jobs/{id}/explain")).key(&own).send().await.expect(200);
    assert_eq!(seen.json["reasons"][0]["jobs"], json!([holders[0].to_string()]));
    assert!(!seen.text.contains(before.as_str()) && seen.text.contains("1 job waits for it before this one"));
}
