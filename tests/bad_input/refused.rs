//! What is refused at once, with a stable code, the field and the rule; and that nothing of it was taken in.

use chrono::{Duration, Timelike as _, Utc};
use leasehold_engine::store::JobFilter;
use reqwest::Method;
use serde_json::{Value, json};

use crate::estate::{CONFIG, Center, Day, Estate, PATIENCE, TENANT, sql_update, tenant};

const SQL: &str = "select 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_update_is_refused_by_name_and_nothing_is_taken_in() {
    let day = Day::now();
    let (window, inside) = window(day);
    let config = CONFIG.replace("window = \"\"", &format!("window = \"{window}\"")) + &day.settings();
    let estate = Estate::start_with(&config, first).await;
    let others = json!([{"id": "production", "kind": "production", "data_centers": [{"id": "dc-b", "name": "B", "database": "sqlite:/b.db"}]}]);
    estate.portal.put("/v1/tenants/t-002", &tenant(others)).await;
    let (status, key) =
        estate.portal.post("/v1/keys", &json!({"name": "a", "roles": ["caller"], "tenant": TENANT})).await;
    assert_eq!(status.as_u16(), 201, "{key}");
    let mut bound = estate.portal.clone();
    bound.key = key["key"].as_str().unwrap().to_owned();
    let at = |by: Duration| (Utc::now() + by).to_rfc3339();
    let with = |path: &str, value: Value| {
        let mut wish = sql_update(TENANT, "dc-1", SQL);
        *wish.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        wish
    };
    let and = |name: &str, value: Value| {
        let mut wish = sql_update(TENANT, "dc-1", SQL);
        wish[name] = value;
        wish
    };
    let long = format!("select '{}'", "x".repeat(1 << 20));
    let (quote, comment) = ("select 1;\nselect 'open;\nselect 2;", "select 1;\n\nselect 2 /* never closed");
    // What was asked for, status, code, and words that the answer has.
    let table = [
        ("unknown kind", and("kind", json!("sql_updat")), 422, "unknown_kind", "sql_update"),
        ("unknown field", and("runat", json!("now")), 422, "unknown_field", "run_at"),
        (
            "unknown argument",
            with("/args", json!({"data_center": "dc-1", "scrip": SQL})),
            422,
            "unknown_field",
            "script",
        ),
        ("wrong type", with("/args/script", json!(7)), 422, "invalid_argument", "args.script"),
        ("empty script", with("/args/script", json!(" \n\t")), 422, "invalid_argument", "empty"),
        (
            "only comments",
            with("/args/script", json!("-- nothing\n/* at all */")),
            422,
            "invalid_argument",
            "no statement",
        ),
        ("script too large", with("/args/script", json!(long)), 413, "file_too_large", "1048576 bytes"),
        ("open quote", with("/args/script", json!(quote)), 422, "invalid_argument", "line 2"),
        ("open comment", with("/args/script", json!(comment)), 422, "invalid_argument", "line 3"),
        ("time past", and("run_at", json!(at(Duration::minutes(-5)))), 422, "time_not_allowed", "run_at"),
        ("time in the window", and("run_at", json!(inside)), 422, "maintenance_window", &window),
        ("time past 24 h", and("run_at", json!(at(Duration::minutes(24 * 60 + 5)))), 422, "time_not_allowed", "24"),
        ("not confirmed", and("confirmed", json!(false)), 422, "confirmation_required", "confirmed"),
        ("missing role", with("/actor/roles", json!(["data_ops_specialist"])), 403, "forbidden_role", "it_ops"),
        (
            "unknown data center",
            with("/args/data_center", json!("dc-b")),
            404,
            "unknown_data_center",
            "args.data_center",
        ),
        ("unknown tenant", and("tenant", json!("t-404")), 422, "unknown_tenant", "tenant"),
    ];
    for (what, wish, status, code, words) in &table {
        let (given, said, answer) = estate.portal.refused(wish).await;
        assert_eq!((given, said.as_str()), (*status, *code), "{what}: {answer}");
        assert!(answer.to_string().contains(words), "{what}: no `{words}` in {answer}");
    }
    // Another tenant's data center does not exist for a key that is bound to a tenant.
    let foreign = bound.refused(&sql_update("t-002", "dc-b", SQL)).await;
    let missing = bound.refused(&sql_update("t-404", "dc-b", SQL)).await;
    assert_eq!((foreign.0, &foreign.1), (404, &missing.1), "{} and {}", foreign.2, missing.2);
    nothing_was_taken_in(&estate, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_03_the_eleventh_update_of_a_day_is_refused_and_ten_are_done() {
    let estate = Estate::start().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(estate.portal.ask(&sql_update(TENANT, "dc-1", "insert into ledger values (1)")).await);
    }
    let (status, code, answer) = estate.portal.refused(&sql_update(TENANT, "dc-1", SQL)).await;
    assert_eq!((status, code.as_str()), (429, "quota_exceeded"), "{answer}");
    nothing_was_taken_in(&estate, 10).await;
    let mut worker = estate.worker("first", &estate.redis_url());
    for id in &ids {
        estate
            .receiver
            .wait(id, PATIENCE, |told| told.values().any(|one| one.word() == "job.succeeded"))
            .await
            .unwrap();
    }
    worker.stop().await;
    assert_eq!(estate.center.effects().await.ledger, [1; 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_02_a_wrong_and_a_used_code_are_refused_and_a_key_holds_one_payload() {
    let estate = Estate::start_with(&CONFIG.replace("mode = \"caller\"", "mode = \"engine\""), first).await;
    let mut worker = estate.worker("first", &estate.redis_url());
    let mut ask = json!({"kind": "verification_code", "tenant": TENANT, "args": {"operation": "sql_update", "target_id": "dc-1"}});
    ask["actor"] = json!({"user_id": "u1", "roles": ["it_ops", "data_ops_specialist"], "mobile": "13800000000"});
    let id = estate.portal.ask(&ask).await;
    estate.receiver.wait(&id, PATIENCE, |told| told.values().any(|one| one.word() == "job.succeeded")).await.unwrap();
    let challenge =
        estate.portal.get(&format!("/v1/jobs/{id}")).await["result"]["challenge_id"].as_str().unwrap().to_owned();
    let sms = std::fs::read_to_string(estate.folder().join(format!("data/mailbox/sms/{challenge}.json"))).unwrap();
    let sms: Value = serde_json::from_str(&sms).unwrap();
    let code = sms["body"]
        .as_str()
        .unwrap()
        .split(|c: char| !c.is_ascii_digit())
        .find(|word| word.len() == 6)
        .unwrap()
        .to_owned();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let with = |code: &str, script: &str| {
        let mut wish = sql_update(TENANT, "dc-1", script);
        wish["verification"] = json!({"challenge_id": challenge, "code": code});
        wish
    };
    let (_, word, answer) = estate.portal.refused(&with(wrong, SQL)).await;
    assert_eq!(word, "code_invalid", "{answer}");
    let key = [("idempotency-key", "k-1")];
    let portal = &estate.portal;
    let post = async |wish: Value| {
        let (status, answer) = portal.send(Method::POST, "/v1/jobs", Some(&wish), &key).await.unwrap();
        (status.as_u16(), answer)
    };
    let (status, first) = post(with(&code, SQL)).await;
    assert_eq!(status, 202, "{first}");
    let (status, again) = post(with(&code, SQL)).await;
    assert_eq!((status, &again["id"]), (202, &first["id"]), "{again}");
    let (status, other) = post(with(&code, "select 2")).await;
    assert_eq!((status, other["code"].as_str().unwrap()), (409, "idempotency_conflict"), "{other}");
    let (_, word, answer) = estate.portal.refused(&with(&code, "select 3")).await;
    assert_eq!(word, "code_invalid", "a code is good once: {answer}");
    assert!(answer["detail"].as_str().unwrap().contains("used already"), "{answer}");
    worker.stop().await;
    nothing_was_taken_in(&estate, 1).await;
}

fn first(folder: &std::path::Path) -> Center {
    Center::sqlite(&folder.join("dc-1.db"))
}

/// So many updates are in the store, and each is in one place.
async fn nothing_was_taken_in(estate: &Estate, but: usize) {
    let store = estate.store().await;
    let filter = JobFilter { kind: Some("sql_update".into()), tenant: Some(TENANT.into()), ..JobFilter::default() };
    assert_eq!(store.jobs(&filter, None, 100).await.unwrap().jobs.len(), but);
    let audit = store.audit().await.unwrap();
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
}

/// A maintenance window of an hour that now is not in, and an instant in it within the next 24 hours.
fn window(Day { now, .. }: Day) -> (String, String) {
    let begins = if now.hour() + 4 < 24 { now + Duration::hours(2) } else { now + Duration::hours(12) };
    let window = format!("{:02}:00-{:02}:00", begins.hour(), begins.hour() + 1);
    (window, begins.with_minute(30).unwrap().to_rfc3339())
}
