//! Schedules over the API: what is said, what is refused, what fires, whose they are.

use std::sync::Arc;

use leasehold::schedules::SlotMaker;
use leasehold_engine::{JobRecord, store::JobFilter, upkeep};
use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{Answer, MINUTE, Stand, actor, backup, tenant_document};

const HOUR: i64 = 60 * MINUTE;

/// A backup each hour.
fn hourly(tenant: &str) -> Value {
    json!({ "cron": "0 * * * *", "zone": "Asia/Shanghai", "job": backup(tenant) })
}

fn with(mut document: Value, path: &str, value: Value) -> Value {
    *document.pointer_mut(path).unwrap() = value;
    document
}

async fn fire(stand: &Stand) -> usize {
    let maker = SlotMaker::new(stand.store.clone(), Arc::new(stand.state.catalogue().clone()));
    upkeep::fire(&stand.store, &maker, 1_000_000).await.unwrap()
}

/// 400 days after which a callback that nobody uses is forgotten would end one that only a schedule uses.
#[tokio::test]
async fn a_slot_keeps_the_callback_of_its_schedule_in_use() {
    let stand =
        Stand::with(&[("LEASEHOLD__VERIFY__MODE", "caller"), ("LEASEHOLD__WEBHOOKS__ALLOW", "127.0.0.0/8")]).await;
    let mut schedule = hourly("t-001");
    schedule["job"]["callback_url"] = json!("http://127.0.0.1:9/done");
    stand.put("/v1/schedules/nightly", &schedule).await.expect(201);
    let before = stand.store.now().await.unwrap() + 24 * HOUR;
    stand.at(25 * HOUR);
    assert!(fire(&stand).await > 0);
    assert_eq!(stand.state.endpoints().prune_callbacks(before).await.unwrap(), 0);
    assert_eq!(stand.store.documents("webhook_callbacks").await.unwrap().len(), 1);
}

async fn jobs(stand: &Stand, tenant: &str) -> Vec<JobRecord> {
    let filter = JobFilter { tenant: Some(tenant.to_owned()), ..JobFilter::default() };
    stand.store.jobs(&filter, None, 100).await.unwrap().jobs
}

#[tokio::test]
async fn a_schedule_is_written_shown_replaced_and_removed() {
    let stand = Stand::new().await;
    let made = stand.put("/v1/schedules/nightly", &hourly("t-001")).await.expect(201);
    assert_eq!(made.header("etag"), "\"1\"");
    for (field, value) in [
        ("tenant", json!("t-001")),
        ("cron", json!("0 * * * *")),
        ("missed", json!("once")),
        ("paused", json!(false)),
        ("from_file", json!(false)),
        ("next_at", json!("2026-11-22T05:00:00.000Z")),
        ("overdue_ms", json!(0)),
    ] {
        assert_eq!(made.json[field], value, "{field}");
    }
    assert_eq!(made.json["job"]["args"], backup("t-001")["args"]);
    let again = stand.put("/v1/schedules/nightly", &hourly("t-001")).await.expect(201);
    assert_eq!(again.header("etag"), "\"1\"", "the same again has the same answer");
    let mut paused = hourly("t-001");
    paused["paused"] = json!(true);
    paused["missed"] = json!("within:90m");
    let put = |tag: &'static str| stand.ask("PUT", "/v1/schedules/nightly").key(&stand.admin).header("if-match", tag);
    put("\"7\"").json(&paused).send().await.refused(412, "precondition_failed");
    let changed = put("\"1\"").json(&paused).send().await.expect(200);
    assert_eq!((changed.header("etag"), &changed.json["next_at"]), ("\"2\"", &Value::Null));
    let list = stand.get("/v1/schedules").await.expect(200);
    assert_eq!(list.json["schedules"][0]["missed"], "within:90m");
    let remove = |tag: &'static str| {
        stand.ask("DELETE", "/v1/schedules/nightly").key(&stand.admin).header("if-match", tag).send()
    };
    remove("\"1\"").await.refused(412, "precondition_failed");
    remove("\"2\"").await.expect(204);
    remove("\"2\"").await.refused(404, "not_found");
    stand.get("/v1/schedules/nightly").await.refused(404, "not_found");
}

#[tokio::test]
async fn eng_07_what_could_never_fire_is_refused_at_once_and_says_why() {
    let stand = Stand::new().await;
    let good = hourly("t-001");
    let refused = async |document: Value, code: &str, field: &str, text: &str| {
        let answer = stand.put("/v1/schedules/nightly", &document).await;
        assert_eq!((answer.code(), answer.json["field"].as_str()), (code, Some(field)), "{}", answer.text);
        assert!(answer.text.contains(text), "{text}: {}", answer.text);
    };
    let cron = |expr: &str| with(good.clone(), "/cron", json!(expr));
    refused(cron("0 0 30 2 *"), "invalid_argument", "cron", "never fires").await;
    refused(cron("0 25 * * *"), "invalid_argument", "cron", "hour `25`").await;
    refused(cron("nightly"), "invalid_argument", "cron", "5 or 6 are needed").await;
    let zone = |zone: &str| with(good.clone(), "/zone", json!(zone));
    refused(zone("Asia/Shangai"), "invalid_argument", "zone", "did you mean `Asia/Shanghai`?").await;
    refused(zone("Mars/Base"), "invalid_argument", "zone", "no time zone `Mars/Base`").await;
    let job = |path: &str, value: Value| with(good.clone(), path, value);
    refused(job("/job/kind", json!("data_center_bakup")), "unknown_kind", "job.kind", "data_center_backup").await;
    refused(job("/job/tenant", json!("t-999")), "unknown_tenant", "job.tenant", "t-999").await;
    refused(job("/job/args/data_center", json!("dc-9")), "unknown_data_center", "job.args.data_center", "dc-9").await;
    let mut planned = good.clone();
    planned["job"]["run_at"] = json!("2026-11-22T14:00:00+08:00");
    refused(planned, "unknown_field", "job.run_at", "run_at").await;
    let mut sometimes = good.clone();
    sometimes["missed"] = json!("sometimes");
    refused(sometimes, "invalid_argument", "missed", "within:T").await;
    let mut role = good.clone();
    role["job"]["actor"]["roles"] = json!(["employee"]);
    stand.put("/v1/schedules/nightly", &role).await.refused(403, "forbidden_role");
    let mut callback = good.clone();
    callback["job"]["callback_url"] = json!("http://127.0.0.1:9/");
    refused(callback, "invalid_argument", "job.callback_url", "ENG-06").await;
    stand.put("/v1/schedules/a%20b", &good).await.refused(422, "invalid_argument");
    assert!(stand.get("/v1/schedules").await.json["schedules"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn eng_07_each_slot_asks_the_rules_anew_and_a_refusal_is_a_missed_slot_with_an_alert() {
    let stand = Stand::new().await;
    stand.put("/v1/schedules/hourly", &hourly("t-001")).await.expect(201);
    stand.at(HOUR + 400);
    assert_eq!(fire(&stand).await, 1);
    let made = jobs(&stand, "t-001").await;
    assert_eq!((made.len(), made[0].kind.as_str()), (1, "data_center_backup"));
    let shown = stand.get(&format!("/v1/jobs/{}", made[0].id)).await.expect(200);
    assert_eq!(shown.json["labels"], json!({ "schedule": "hourly", "slot": "2026-11-22T05:00:00Z" }));
    stand.put("/v1/tenants/t-001", &with(tenant_document("t-001"), "/formal", json!(false))).await.expect(200);
    stand.at(2 * HOUR);
    assert_eq!(fire(&stand).await, 1);
    assert_eq!(jobs(&stand, "t-001").await.len(), 1);
    let schedule = stand.get("/v1/schedules/hourly").await.expect(200).json;
    assert_eq!(
        schedule["counts"],
        json!({ "fired": 1, "late": 0, "missed": 1, "lateness_ms": 400, "max_lateness_ms": 400 })
    );
    assert_eq!(schedule["last_fired"]["job_id"], made[0].id.as_str());
    assert!(schedule["last_missed"]["why"].as_str().unwrap().starts_with("not_formal_tenant: "), "{schedule}");
    let alerts = stand.get("/v1/alerts").await.expect(200).json;
    let about = &alerts["alerts"][0]["about"];
    assert_eq!(
        (&alerts["alerts"][0]["type"], &about["code"]),
        (&json!("schedule_missed"), &json!("not_formal_tenant"))
    );
    assert_eq!((&about["schedule"], &about["last_slot"]), (&json!("hourly"), &json!("2026-11-22T14:00:00+08:00")));
    assert_eq!(stand.get("/v1/alerts?since=2026-11-23T00:00:00Z").await.expect(200).json["alerts"], json!([]));
    stand.at(3 * HOUR + 5000);
    let metrics = stand.get("/metrics").await.expect(200).text;
    for line in [
        "leasehold_schedules 1",
        "leasehold_schedule_fired_total{tenant=\"t-001\",schedule=\"hourly\"} 1",
        "leasehold_schedule_missed_total{tenant=\"t-001\",schedule=\"hourly\"} 1",
        "leasehold_schedule_lateness_seconds{tenant=\"t-001\",schedule=\"hourly\"} 0.4",
        "leasehold_schedule_overdue_seconds{tenant=\"t-001\",schedule=\"hourly\"} 5",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_pause_changes_the_pause_alone_even_of_what_would_be_refused_now() {
    let stand = Stand::with(&[
        ("LEASEHOLD__VERIFY__MODE", "caller"),
        ("LEASEHOLD__WEBHOOKS__ALLOW", "127.0.0.0/8"),
        ("LEASEHOLD__WEBHOOKS__HTTP", "true"),
    ])
    .await;
    let mut called = hourly("t-001");
    called["job"]["callback_url"] = json!("http://127.0.0.1:9/hook");
    let made = stand.put("/v1/schedules/hourly", &called).await.expect(201).json;
    let job = stand.store.schedule("t-001", "hourly").await.unwrap().unwrap().spec.job;
    stand.put("/v1/tenants/t-001", &with(tenant_document("t-001"), "/formal", json!(false))).await.expect(200);
    stand.put("/v1/schedules/hourly", &called).await.refused(403, "not_formal_tenant");
    let other = stand.key(KeyRole::Operator, Some("t-001")).await;
    let verb = async |verb: &str| stand.ask("POST", &format!("/v1/schedules/hourly/{verb}")).key(&other).send().await;
    let paused = verb("pause").await.expect(200);
    assert_eq!((paused.header("etag"), &paused.json["paused"]), ("\"2\"", &json!(true)));
    assert_eq!((&paused.json["made_by"], &paused.json["next_at"]), (&made["made_by"], &Value::Null));
    assert_eq!(verb("pause").await.expect(200).header("etag"), "\"2\"", "sent again");
    let held = stand.store.schedule("t-001", "hourly").await.unwrap().unwrap();
    assert_eq!(held.spec.job, job, "and who signs its webhooks");
    stand.at(HOUR * 3 + 1);
    let resumed = verb("resume").await.expect(200).json;
    assert_eq!((&resumed["paused"], &resumed["next_at"]), (&json!(false), &json!("2026-11-22T08:00:00.000Z")));
    let stale = stand.ask("POST", "/v1/schedules/hourly/pause").key(&other).header("if-match", "\"1\"").send().await;
    stale.refused(412, "precondition_failed");
    let theirs = stand.key(KeyRole::Operator, Some("t-002")).await;
    stand.ask("POST", "/v1/schedules/hourly/pause").key(&theirs).send().await.refused(404, "not_found");
    let caller = stand.key(KeyRole::Caller, None).await;
    stand.ask("POST", "/v1/schedules/hourly/pause").key(&caller).send().await.refused(403, "forbidden");
}

#[tokio::test]
async fn what_a_writer_expects_of_a_schedule_is_held_against_what_is_there() {
    let stand = Stand::new().await;
    let put = async |header: &'static str, value: &'static str| {
        stand
            .ask("PUT", "/v1/schedules/new")
            .key(&stand.admin)
            .header(header, value)
            .json(&hourly("t-001"))
            .send()
            .await
    };
    put("if-match", "*").await.refused(412, "precondition_failed");
    put("if-none-match", "\"1\"").await.refused(422, "invalid_argument");
    put("if-none-match", "*").await.expect(201);
    let other = with(hourly("t-001"), "/cron", json!("30 * * * *"));
    let again = stand.ask("PUT", "/v1/schedules/new").key(&stand.admin).header("if-none-match", "*").json(&other);
    again.send().await.refused(412, "precondition_failed");
    let mut labelled = hourly("t-001");
    labelled["job"]["labels"] = json!({ "slot": "mine" });
    let refused = stand.put("/v1/schedules/new", &labelled).await;
    assert_eq!((refused.status, &refused.json["field"]), (422, &json!("job.labels.slot")), "{}", refused.text);
}

#[tokio::test]
async fn quota_03_a_slot_takes_its_unit_with_its_job_and_a_spent_quota_is_a_missed_slot() {
    let variables = [("LEASEHOLD__VERIFY__MODE", "caller"), ("LEASEHOLD__QUOTA__DATA_CENTER_BACKUP__LIMIT", "2")];
    let stand = Stand::with(&variables).await;
    stand.put("/v1/schedules/hourly", &hourly("t-001")).await.expect(201);
    for hour in 1..=3 {
        stand.at(hour * HOUR);
        assert_eq!(fire(&stand).await, 1);
    }
    assert_eq!(jobs(&stand, "t-001").await.len(), 2);
    let missed = stand.get("/v1/schedules/hourly").await.json["last_missed"]["why"].clone();
    assert!(missed.as_str().unwrap().starts_with("quota_exceeded: "), "{missed}");
}

#[tokio::test]
async fn a_preview_shows_the_next_slots_with_their_offset() {
    let stand = Stand::new().await;
    let berlin = json!({ "cron": "30 2 29 3 *", "zone": "Europe/Berlin", "job": backup("t-001") });
    stand.put("/v1/schedules/spring", &berlin).await.expect(201);
    let preview = stand.get("/v1/schedules/spring/preview?count=2&from=2025-01-01T00:00:00Z").await.expect(200);
    assert_eq!(preview.json["slots"], json!(["2025-03-29T02:30:00+01:00", "2026-03-29T03:00:00+02:00"]));
    assert_eq!(stand.get("/v1/schedules/spring/preview").await.json["slots"].as_array().unwrap().len(), 10);
    let far = stand.get("/v1/schedules/spring/preview?from=2100-01-01T00:00:00Z").await;
    assert_eq!((far.status, &far.json["field"]), (422, &json!("from")), "{}", far.text);
    for count in ["0", "1001", "many"] {
        let refused = stand.get(&format!("/v1/schedules/spring/preview?count={count}")).await;
        assert_eq!((refused.status, &refused.json["field"]), (422, &json!("count")), "{}", refused.text);
    }
}

#[tokio::test]
async fn ac_199_another_tenants_schedules_do_not_exist() {
    let stand = Stand::new().await;
    let (mine, theirs) =
        (stand.key(KeyRole::Operator, Some("t-001")).await, stand.key(KeyRole::Operator, Some("t-002")).await);
    let put = |key: &str, tenant: &str| stand.ask("PUT", "/v1/schedules/nightly").key(key).json(&hourly(tenant)).send();
    put(&theirs, "t-002").await.expect(201);
    put(&mine, "t-002").await.refused(404, "not_found");
    let call = |method: &'static str, path: &'static str, key: &str| stand.ask(method, path).key(key).send();
    call("GET", "/v1/schedules/nightly", &mine).await.refused(404, "not_found");
    call("DELETE", "/v1/schedules/nightly", &mine).await.refused(404, "not_found");
    call("GET", "/v1/schedules/nightly?tenant=t-002", &mine).await.refused(404, "not_found");
    call("GET", "/v1/schedules?tenant=t-002", &mine).await.refused(404, "not_found");
    call("GET", "/v1/alerts", &mine).await.refused(403, "forbidden");
    assert_eq!(call("GET", "/v1/schedules", &mine).await.expect(200).json["schedules"], json!([]));
    put(&mine, "t-001").await.expect(201);
    stand.get("/v1/schedules/nightly").await.refused(409, "conflict");
    let named: Answer = stand.get("/v1/schedules/nightly?tenant=t-002").await.expect(200);
    assert_eq!(named.json["tenant"], "t-002");
    let first = stand.get("/v1/schedules?limit=1").await.expect(200).json;
    let rest =
        stand.get(&format!("/v1/schedules?limit=1&cursor={}", first["next"].as_str().unwrap())).await.expect(200);
    assert_eq!(
        (&first["schedules"][0]["tenant"], &rest.json["schedules"][0]["tenant"]),
        (&json!("t-001"), &json!("t-002"))
    );
    stand.get("/v1/schedules?cursor=zz").await.refused(422, "invalid_argument");
    let caller = stand.key(KeyRole::Caller, None).await;
    put(&caller, "t-001").await.refused(403, "forbidden");
    assert_eq!(actor()["user_id"], named.json["job"]["actor"]["user_id"]);
}
