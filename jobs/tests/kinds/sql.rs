//! SQL updates (SQL-01 … SQL-19).

use leasehold_engine::Place;
use leasehold_engine::upkeep::{self, Herald as _};
use leasehold_jobs::{ErrorCode, Origin};
use leasehold_targets::Secrets;
use leasehold_targets::database::{ExecuteOptions, unobserved};
use leasehold_targets::script::{Dialect, Script};
use leasehold_targets::testing::FaultPoint;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use crate::estate::{Estate, PATIENCE, TENANT, error, result, shanghai};

const THREE: &str = "INSERT INTO led VALUES (1, 'a');\nINSERT INTO led VALUES (2, 'b');\nUPDATE led SET why = 'c';";

fn sql(script: &str) -> Value {
    json!({"data_center": "dc-1", "script": script})
}

#[tokio::test]
async fn sql_12_ac_083_three_good_statements_are_green_and_completed() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql(THREE)).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{:?}", error(&view));
    let result = result(&view);
    assert_eq!((&result["colour"], &result["detail"]), (&json!("green"), &json!("green")));
    assert_eq!(result["counts"], json!({"total": 3, "ok": 3, "failed": 0, "unknown": 0, "not_run": 0}));
    assert_eq!(result["statements"][2]["line"], 3);
    assert_eq!(result["statements"][2]["rows"], 2);
    let status = estate.catalogue.status(&view);
    assert_eq!((status.id, status.name, status.data_center), ("completed", "执行完成", Some("SQL更新成功")));
    estate.finish().await;
}

#[tokio::test]
async fn sql_12_ac_084_a_failing_statement_is_red_and_the_others_run() {
    let mut estate = Estate::new().await;
    let script = "INSERT INTO led VALUES (1, 'a'); INSERT INTO nowhere VALUES (1); INSERT INTO led VALUES (3, 'c')";
    let id = estate.submitted("sql_update", sql(script)).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded);
    let result = result(&view);
    assert_eq!(result["colour"], "red");
    let ok: Vec<_> = result["statements"].as_array().unwrap().iter().map(|one| one["ok"] == true).collect();
    assert_eq!(ok, [true, false, true]);
    assert!(result["statements"][1]["error"].as_str().unwrap().contains("nowhere"));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 2);
    let note = view.record.events.last().unwrap().note.clone();
    assert_eq!(serde_json::from_str::<Value>(&note).unwrap()["detail"], "red");
    estate.finish().await;
}

#[tokio::test]
async fn sql_12_a_script_of_which_nothing_succeeded_is_all_failed_and_red() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql("SELECT * FROM nowhere; SELECT 1 FROM nothing;")).await;
    let result = result(&estate.run(&id).await);
    assert_eq!((&result["colour"], &result["detail"]), (&json!("red"), &json!("all_failed")));
    estate.finish().await;
}

#[tokio::test]
async fn sql_05_ac_081_without_a_flag_a_backup_comes_before_the_first_statement() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql("DELETE FROM book")).await;
    let view = estate.run(&id).await;
    let backups = estate.catalogue.services().backups().list(TENANT).await.unwrap();
    assert_eq!(backups.len(), 1);
    assert_eq!((backups[0].origin, backups[0].data_center.as_str()), (Origin::PreSql, "dc-1"));
    assert_eq!(result(&view)["backup_id"], json!(backups[0].id));
    assert_eq!(estate.stage.order(), ["backup", "execute"]);
    // The backup holds what was there before the script.
    let file = estate.path("backups").join(&backups[0].file);
    let books: i64 =
        rusqlite::Connection::open(file).unwrap().query_row("SELECT count(*) FROM book", [], |row| row.get(0)).unwrap();
    assert_eq!(books, 3);
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book"), 0);
    estate.finish().await;
}

#[tokio::test]
async fn sql_05_with_the_flag_off_there_is_no_backup() {
    let mut estate = Estate::new().await;
    let args = json!({"data_center": "dc-1", "script": THREE, "backup": false});
    let id = estate.submitted("sql_update", args).await;
    let view = estate.run(&id).await;
    assert_eq!(result(&view).get("backup_id"), None);
    assert_eq!(estate.stage.order(), ["execute"]);
    assert!(estate.catalogue.services().backups().list(TENANT).await.unwrap().is_empty());
    estate.finish().await;
}

#[tokio::test]
async fn sql_14_ac_082_when_the_backup_fails_no_statement_runs_and_the_submitter_is_told() {
    let mut estate = Estate::new().await;
    std::fs::write(estate.path("backups"), "a file where a folder should be").unwrap();
    let id = estate.submitted("sql_update", sql(THREE)).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Dead);
    assert_eq!(estate.catalogue.status(&view).id, "failed");
    assert_eq!(view.record.attempt, 3, "a disk that is full may be emptied: it is tried again");
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 0);
    assert!(!estate.stage.order().contains(&"execute".to_owned()));
    estate.idle().await;
    assert_eq!(estate.mailed(), ["u1@example.com"]);
    assert!(estate.files(&estate.path("scratch")).is_empty());
    estate.finish().await;
}

/// Runs a script as an attempt that is killed at a point of a statement.
async fn killed_at(estate: &Estate, job: &str, script: &str, at: (FaultPoint, u32)) {
    let address = format!("sqlite:{}", estate.path("books.db").display());
    let url = leasehold_targets::database::DatabaseUrl::parse(&address, &Secrets::default()).unwrap();
    let database = leasehold_targets::database::open(&url).unwrap();
    let mut options = ExecuteOptions::new(job, 0);
    options.faults = Some(Arc::new(move |point, index| (point, index) == at));
    let script = Script::parse(Dialect::Sqlite, script).unwrap();
    let run = database.execute(&script, &options, unobserved(), CancellationToken::new()).await;
    assert!(run.is_err(), "the fault was not met");
}

const FIVE: &str = "INSERT INTO led VALUES (1, ''); INSERT INTO led VALUES (2, ''); INSERT INTO led VALUES (3, ''); \
                    INSERT INTO led VALUES (4, ''); INSERT INTO led VALUES (5, '')";

#[tokio::test]
async fn sql_15_ac_085_a_script_goes_on_after_the_last_recorded_statement() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql(FIVE)).await;
    killed_at(&estate, id.as_str(), FIVE, (FaultPoint::Committed, 2)).await;
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 2);
    let view = estate.run(&id).await;
    assert_eq!(result(&view)["colour"], "green");
    assert_eq!(result(&view)["statements"].as_array().unwrap().len(), 5);
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 5);
    assert_eq!(estate.count("books.db", "SELECT count(DISTINCT n) FROM led"), 5);
    estate.finish().await;
}

#[tokio::test]
async fn sql_15_ac_086_a_statement_of_unknown_outcome_is_red_and_not_repeated() {
    let mut estate = Estate::new().await;
    let script =
        "INSERT INTO led VALUES (1, ''); INSERT INTO led VALUES (2, ''); VACUUM; INSERT INTO led VALUES (4, '')";
    let id = estate.submitted("sql_update", sql(script)).await;
    killed_at(&estate, id.as_str(), script, (FaultPoint::RanAlone, 3)).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded);
    let result = result(&view);
    assert_eq!(result["colour"], "red");
    assert_eq!((&result["statements"][2]["unknown"], &result["statements"][2]["ok"]), (&json!(true), &json!(false)));
    assert_eq!(result["counts"]["unknown"], 1);
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 3);
    estate.finish().await;
}

#[tokio::test]
async fn sql_16_ac_087_a_job_that_is_late_waits_for_the_end_of_maintenance() {
    let mut estate = Estate::new().await;
    let mut ask = estate.ask("sql_update", sql(THREE)).await;
    estate.lab.store.set_time(shanghai("2026-11-22T22:00:00"));
    ask.now = shanghai("2026-11-22T22:00:00");
    ask.run_at = Some(shanghai("2026-11-22T23:59:00"));
    let id = estate.submit(&ask).await.unwrap();
    estate.lab.store.set_time(shanghai("2026-11-23T00:20:00"));
    estate.start_worker().await;
    let view = estate.until(&id, |view| !view.progress.text.is_empty() && view.record.place == Place::Scheduled).await;
    assert_eq!(view.progress.text, "deferred_by_maintenance");
    let late = view.record.run_at - shanghai("2026-11-23T03:30:00");
    assert!((-5_000..=1_000).contains(&late), "{late} ms after the end");
    assert_eq!(view.record.attempt, 0, "waiting costs no attempt");
    assert_eq!(estate.catalogue.status(&view).id, "pending_execution");
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 0);
    estate.idle().await;
    assert_eq!(estate.messaged(), ["u1"], "the submitter is told");
    estate.lab.store.set_time(shanghai("2026-11-23T03:31:00"));
    let view = estate.run(&id).await;
    assert_eq!(result(&view)["colour"], "green");
    estate.finish().await;
}

#[tokio::test]
async fn exp_11_a_job_whose_lease_ended_before_it_started_does_not_run() {
    let mut estate = Estate::new().await;
    let mut ask = estate.ask("sql_update", sql(THREE)).await;
    ask.run_at = Some(ask.now + 3_600_000);
    let id = estate.submit(&ask).await.unwrap();
    estate.tenant.lease_end = "2026-10-01".parse().unwrap();
    estate.keep_tenant().await;
    estate.lab.at(3_600_000);
    let view = estate.run(&id).await;
    assert_eq!((view.record.place, &error(&view)["code"]), (Place::Dead, &json!("lease_closed_repurchase")));
    assert_eq!(view.record.attempt, 1);
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 0);
    estate.finish().await;
}

#[tokio::test]
async fn sql_11_notify_11_ac_089_every_admin_and_the_submitter_are_told_once() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql(THREE)).await;
    estate.run(&id).await;
    estate.idle().await;
    assert_eq!(estate.mailed(), ["admin1@example.com", "u1@example.com"], "admin2 has no address, clerk is no admin");
    assert_eq!(estate.messaged(), ["admin1", "u1", "yz-2"]);
    let log = estate.lab.store.log(&id, 0, 1000).await.unwrap();
    assert!(log.iter().any(|line| line.contains("admin2 has no address for email")), "{log:?}");
    estate.finish().await;
}

#[tokio::test]
async fn notify_20_a_mailbox_that_is_down_does_not_fail_the_update() {
    let mut estate = Estate::new().await;
    std::fs::write(estate.path("mailbox"), "a file where a folder should be").unwrap();
    let id = estate.submitted("sql_update", sql(THREE)).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded);
    estate.idle().await;
    // Mended, the notices go out by themselves.
    std::fs::remove_file(estate.path("mailbox")).unwrap();
    let now = estate.lab.store.now().await.unwrap();
    estate.lab.store.set_time(now + 60_000);
    let sent = async || (estate.mailed().len(), estate.messaged().len()) == (2, 3);
    assert!(estate.lab.comes_to_be(PATIENCE, sent).await, "the notices are not sent once the mailbox is mended");
    estate.finish().await;
}

#[tokio::test]
async fn sql_18_ac_090_two_updates_of_one_data_center_run_one_after_the_other() {
    let mut estate = Estate::new().await;
    let script = "UPDATE book SET title = title || '.' WHERE id = 1";
    let args = json!({"data_center": "dc-1", "script": script, "backup": false});
    let ids = [
        estate.submitted("sql_update", args.clone()).await,
        estate.submitted("sql_update", args.clone()).await,
        estate.submitted("sql_update", args).await,
    ];
    estate.start_worker().await;
    estate.start_worker().await;
    for id in &ids {
        assert_eq!(estate.run(id).await.record.place, Place::Succeeded);
    }
    assert!(estate.stage.overlaps.lock().unwrap().is_empty());
    estate.finish().await;
}

#[tokio::test]
async fn sql_13_stop_and_transaction_are_obeyed() {
    use leasehold_jobs::policy::sql::OnError;
    for (rule, rows, not_run) in [(OnError::Stop, 1, 1), (OnError::Transaction, 0, 1)] {
        let mut estate = Estate::with(|rules| rules.sql.on_error = rule).await;
        let script = "INSERT INTO led VALUES (1, ''); INSERT INTO nowhere VALUES (2); INSERT INTO led VALUES (3, '')";
        let id = estate.submitted("sql_update", sql(script)).await;
        let view = estate.run(&id).await;
        assert_eq!(result(&view)["colour"], "red", "{rule:?}");
        assert_eq!(result(&view)["counts"]["not_run"], not_run, "{rule:?} {}", result(&view));
        assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), rows, "{rule:?}");
        estate.finish().await;
    }
}

#[tokio::test]
async fn exp_14_ac_205_a_cancel_without_cut_off_stops_between_statements() {
    let mut estate = Estate::new().await;
    let args = json!({"data_center": "dc-1", "script": THREE, "backup": false});
    let id = estate.submitted("sql_update", args).await;
    estate.stage.hold("execute");
    estate.start_worker().await;
    estate.stage.began.notified().await;
    estate.lab.store.cancel(&id, "{}", None).await.unwrap();
    estate.stage.go_on.notify_one();
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Cancelled);
    estate.idle().await;
    assert!(estate.mailed().is_empty(), "no success notice");
    estate.finish().await;
}

#[tokio::test]
async fn sql_16_a_backup_that_lasts_into_maintenance_delays_the_script() {
    let mut estate = Estate::new().await;
    estate.lab.store.set_time(shanghai("2026-11-22T23:58:00"));
    let id = estate.submitted("sql_update", sql(THREE)).await;
    estate.stage.hold("backup");
    estate.start_worker().await;
    estate.stage.began.notified().await;
    estate.lab.store.set_time(shanghai("2026-11-23T00:10:00"));
    estate.stage.go_on.notify_one();
    let view = estate.until(&id, |view| view.record.place == Place::Scheduled).await;
    assert!(view.steps.iter().any(|step| step.name == "publish_backup" && step.done));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 0);
    // The wait is counted from the claim, whose time the test has moved away from.
    estate.lab.store.set_time(shanghai("2026-11-23T03:45:00"));
    assert_eq!(result(&estate.run(&id).await)["colour"], "green");
    assert_eq!(estate.stage.order(), ["backup", "execute"], "the backup is not made twice");
    estate.finish().await;
}

#[tokio::test]
async fn notify_19_a_failure_that_passes_is_told_to_nobody() {
    let mut estate = Estate::new().await;
    std::fs::write(estate.path("backups"), "a file where a folder should be").unwrap();
    let id = estate.submitted("sql_update", sql(THREE)).await;
    estate.start_worker().await;
    let view = estate.until(&id, |view| view.record.attempt == 1 && view.record.place == Place::Scheduled).await;
    // It has begun: from now on it cannot be edited (SQL-17), whatever its next time is.
    let change = estate.ask("sql_update", json!({"script": "SELECT 2"})).await;
    let refusal = estate.catalogue.admit_edit(&view, &change, None).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidState);
    assert_eq!(estate.catalogue.status(&view).id, "executing");
    std::fs::remove_file(estate.path("backups")).unwrap();
    assert_eq!(result(&estate.run(&id).await)["colour"], "green");
    estate.idle().await;
    let subjects: Vec<_> = estate.messaged();
    assert_eq!((subjects.len(), estate.mailed().len()), (3, 2), "the success, and nothing else");
    estate.finish().await;
}

#[tokio::test]
async fn notify_19_a_job_that_dies_with_its_worker_is_told_of_once() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql(THREE)).await;
    let store = estate.lab.store.clone();
    estate.lose_claims(&id, 3).await;
    let view = store.job(&id).await.unwrap().unwrap();
    assert_eq!((view.record.place, error(&view)["code"].as_str()), (Place::Dead, Some("worker_lost")));
    assert_eq!(upkeep::tell_deaths(&store, &estate.catalogue).await.unwrap(), 1);
    estate.catalogue.died(&view).await.unwrap();
    estate.start_worker().await;
    estate.idle().await;
    assert_eq!(estate.mailed(), ["u1@example.com"], "told twice, written once");
    estate.finish().await;
}

#[tokio::test]
async fn sql_12_sql_15_what_ran_before_the_last_worker_was_lost_is_reported() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql(THREE)).await;
    estate.lose_claims(&id, 2).await;
    estate.stage.lose_after(2);
    estate.start_worker().await;
    estate.stage.began.notified().await;
    estate.lose_first_worker().await;
    let view = estate.run(&id).await;
    assert_eq!((view.record.place, view.record.attempt), (Place::Succeeded, 3), "{}", error(&view));
    let result = result(&view);
    assert_eq!(
        (&result["colour"], &result["counts"]["ok"], &result["counts"]["not_run"]),
        (&json!("red"), &json!(2), &json!(1))
    );
    assert!(result["cut_off"].is_string());
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led WHERE why = 'c'"), 0, "nothing more is run");
    estate.idle().await;
    assert!(estate.mails().iter().all(|(_, text)| !text.contains("worker_lost")), "nobody is told that it failed");
    assert_eq!(estate.mailed().len(), 2);
    estate.finish().await;
}

#[tokio::test]
async fn sql_12_a_script_of_which_nothing_happened_failed() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql(THREE)).await;
    estate.lose_claims(&id, 2).await;
    estate.stage.lose_after(0);
    estate.start_worker().await;
    estate.stage.began.notified().await;
    estate.lose_first_worker().await;
    let view = estate.run(&id).await;
    assert_eq!((view.record.place, error(&view)["code"].as_str()), (Place::Dead, Some("worker_lost")));
    assert!(error(&view)["message"].as_str().unwrap().contains("none of the script happened"));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 0);
    estate.finish().await;
}

#[tokio::test]
async fn sql_11_an_admin_who_submits_is_told_once() {
    let mut estate = Estate::new().await;
    let mut ask = estate.ask("sql_update", sql(THREE)).await;
    (ask.actor.user_id, ask.actor.email) = ("admin1".into(), None);
    let id = estate.submit(&ask).await.unwrap();
    estate.run(&id).await;
    estate.idle().await;
    assert_eq!(estate.mailed(), ["admin1@example.com"], "the address is that of the tenant's contact");
    assert_eq!(estate.messaged(), ["admin1", "yz-2"]);
    estate.finish().await;
}

#[tokio::test]
async fn eng_11_a_script_that_a_stopping_worker_hands_back_is_finished_by_another() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", sql(THREE)).await;
    estate.stage.hold_until_cancelled("execute");
    estate.start_worker().await;
    estate.stage.began.notified().await;
    estate.abort_first_worker().await;
    let view = estate.until(&id, |view| view.record.place == Place::Ready).await;
    assert!(view.steps.iter().all(|step| step.name != "execute" || !step.done), "the script has not ended");
    estate.start_worker().await;
    let result = result(&estate.run(&id).await);
    assert_eq!((&result["colour"], &result["counts"]["ok"]), (&json!("green"), &json!(3)));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM led"), 2);
    estate.finish().await;
}
