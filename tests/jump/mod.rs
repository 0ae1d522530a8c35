//! The store's clock jumps a month under a running program: updates that would start wait for a person, and the one that
//! runs ends with its first attempt.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::estate::center::SCRIPT;
use crate::estate::{CONFIG, Center, Effects, Estate, PATIENCE, Serves, TENANT, sql_update};

const MONTH: i64 = 30 * 86_400_000;

/// Asks until the answer fits.
async fn until(estate: &Estate, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let asked = async {
        loop {
            let answer = estate.portal.get(path).await;
            if fits(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{path} never fits\n{}", estate.logs()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_a_month_stops_what_would_start_and_not_what_runs() {
    let (estate, behind) = Estate::start_proxied(CONFIG, Serves::All).await;
    let proxy = estate.proxy();
    let mut worker = estate.worker("only", &proxy.url());
    worker.ready().await;
    let Center::Sqlite(file) = &estate.center else { panic!("it is a file") };
    let holder = rusqlite::Connection::open(file).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    let runs = estate.portal.ask(&without_backup(SCRIPT)).await;
    let job = format!("/v1/jobs/{runs}");
    until(&estate, &job, |job| job["place"] == "running").await;

    behind.jump(MONTH);
    proxy.jump(MONTH);
    let gates = until(&estate, "/v1/gates", |gates| !gates["clock"].is_null()).await;
    assert_ne!(gates["clock"]["from"], gates["clock"]["to"]);
    let alerts = estate.portal.get("/v1/alerts").await["alerts"].clone();
    assert_eq!(
        alerts.as_array().unwrap().iter().filter(|alert| alert["type"] == "clock_jumped").count(),
        1,
        "{alerts}"
    );
    holder.execute_batch("rollback").unwrap();
    let ended = until(&estate, &job, |job| job["place"] == "succeeded").await;
    assert_eq!(ended["attempt"], 1, "{ended}\n{}", estate.logs());

    let waits = estate.portal.ask(&without_backup("insert into ledger values (9);")).await;
    until(&estate, &format!("/v1/jobs/{waits}"), |job| job["place"] == "blocked").await;
    let says_so = |why: &Value| why["reasons"][0]["code"] == "clock_jumped";
    // The worker is heard of by the new time with its next heartbeat.
    until(&estate, &format!("/v1/jobs/{waits}/explain"), says_so).await;
    assert_eq!(estate.center.effects().await, Effects::once(), "nothing more was done");
    let (status, _) = estate.portal.post("/v1/clock/accept", &json!({"reason": "set right"})).await;
    assert!(status.is_success());
    until(&estate, &format!("/v1/jobs/{waits}"), |job| job["place"] == "succeeded").await;
    worker.stop().await;
}

fn without_backup(script: &str) -> Value {
    let mut update = sql_update(TENANT, "dc-1", script);
    update["args"]["backup"] = json!(false);
    update
}
