//! What is accepted and what is refused, and in which words.

use leasehold_engine::store::{Cancelled, Edited};
use leasehold_jobs::policy::Role;
use leasehold_jobs::{ErrorCode, What};
use serde_json::{Value, json};

use crate::estate::{Estate, TENANT, shanghai};

fn sql(script: &str) -> Value {
    json!({"data_center": "dc-1", "script": script})
}

#[tokio::test]
async fn an_unknown_kind_is_refused_with_the_nearest_one() {
    let estate = Estate::new().await;
    let refusal = estate.refused(&estate.ask("sql_updat", json!({})).await).await;
    assert_eq!((refusal.code, refusal.field.as_deref()), (ErrorCode::UnknownKind, Some("kind")));
    assert!(refusal.remedy.as_ref().unwrap().contains("`sql_update`"));
    let refusal = estate.refused(&estate.ask("notification_send", json!({})).await).await;
    assert_eq!(refusal.code, ErrorCode::UnknownKind, "the program's own kinds cannot be asked for");
    estate.finish().await;
}

#[tokio::test]
async fn a_wrong_argument_is_refused_with_its_field_and_a_remedy() {
    let estate = Estate::new().await;
    let rows = [
        (json!({"data_center": "dc-1", "scrpt": "x"}), ErrorCode::UnknownField, "args.scrpt", "`script`"),
        (json!({"data_center": "dc-1"}), ErrorCode::InvalidArgument, "args.script", ""),
        (json!({"data_center": 7, "script": "SELECT 1"}), ErrorCode::InvalidArgument, "args.data_center", ""),
        (
            json!({"data_center": "dc-1", "script": "SELECT 1", "backup": "yes"}),
            ErrorCode::InvalidArgument,
            "args.backup",
            "",
        ),
        (json!([1]), ErrorCode::InvalidArgument, "args", ""),
        (json!({"data_center": "dc-9", "script": "SELECT 1"}), ErrorCode::UnknownDataCenter, "args.data_center", ""),
        (
            json!({"data_center": "dc-ms", "script": "SELECT 1"}),
            ErrorCode::InvalidArgument,
            "args.data_center",
            "database",
        ),
    ];
    for (args, code, field, remedy) in rows {
        let refusal = estate.refused(&estate.ask("sql_update", args.clone()).await).await;
        assert_eq!((refusal.code, refusal.field.as_deref()), (code, Some(field)), "{args} {refusal}");
        assert!(refusal.remedy.clone().unwrap_or_default().contains(remedy), "{args} {refusal:?}");
    }
    let args = json!({"data_center": "dc-1", "source": {"type": "bakup", "id": "x"}});
    let refusal = estate.refused(&estate.ask("data_center_restore", args).await).await;
    assert_eq!(refusal.field.as_deref(), Some("args.source.type"), "{refusal:?}");
    assert!(refusal.remedy.clone().unwrap().contains("`backup`"));
    estate.finish().await;
}

#[tokio::test]
async fn sql_19_a_script_that_is_no_script_is_refused_with_its_line() {
    let estate = Estate::new().await;
    for (script, says) in [
        ("", "empty"),
        ("  \n ", "empty"),
        ("-- only a comment\n", "no statement"),
        ("SELECT 1;\nSELECT 'open", "line 2"),
        ("SELECT 1;\n\n/* open", "line 3"),
    ] {
        let refusal = estate.refused(&estate.ask("sql_update", sql(script)).await).await;
        assert_eq!((refusal.rule, refusal.field.as_deref()), ("SQL-19", Some("args.script")));
        assert!(refusal.detail.contains(says), "{script:?}: {}", refusal.detail);
    }
    let large = "x".repeat(1_048_577);
    let refusal = estate.refused(&estate.ask("sql_update", sql(&large)).await).await;
    assert_eq!(refusal.code, ErrorCode::FileTooLarge);
    estate.finish().await;
}

#[tokio::test]
async fn role_04_ac_088_a_missing_role_is_refused() {
    let estate = Estate::new().await;
    for roles in [vec![Role::ItOps], vec![Role::DataOpsSpecialist, Role::Employee], vec![]] {
        let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
        ask.actor.roles = roles;
        assert_eq!(estate.refused(&ask).await.code, ErrorCode::ForbiddenRole);
    }
    estate.finish().await;
}

#[tokio::test]
async fn verify_03_without_the_confirmation_nothing_is_accepted() {
    let estate = Estate::new().await;
    let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
    ask.confirmed = false;
    assert_eq!(estate.refused(&ask).await.code, ErrorCode::ConfirmationRequired);
    estate.finish().await;
}

#[tokio::test]
async fn sql_06_ac_070_to_074_the_planned_time_is_checked_to_the_millisecond() {
    let estate = Estate::new().await;
    let day = "2026-11-22T";
    let rows = [
        ("22:00:00", "2026-11-23T00:00:00", 0, Some(ErrorCode::MaintenanceWindow)),
        ("22:00:00", "2026-11-22T23:59:59", 999, None),
        ("22:00:00", "2026-11-23T03:30:00", 0, Some(ErrorCode::MaintenanceWindow)),
        ("22:00:00", "2026-11-23T03:30:00", 1, None),
        ("12:00:00", "2026-11-23T12:00:00", 0, None),
        ("12:00:00", "2026-11-23T12:00:00", 1, Some(ErrorCode::TimeNotAllowed)),
        ("12:00:00", "2026-11-22T12:00:00", 0, None),
        ("12:00:00", "2026-11-22T11:59:59", 999, Some(ErrorCode::TimeNotAllowed)),
        ("01:00:00", "2026-11-22T01:00:00", 0, Some(ErrorCode::MaintenanceWindow)),
        ("01:00:00", "2026-11-22T03:31:00", 0, None),
    ];
    for (now, planned, ms, code) in rows {
        let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
        ask.now = shanghai(&format!("{day}{now}"));
        ask.run_at = Some(shanghai(planned) + ms);
        let answer = estate.catalogue.admit(&ask).await.map_err(|refusal| refusal.code);
        assert_eq!(answer.as_ref().err(), code.as_ref(), "{now} {planned} +{ms}");
    }
    estate.finish().await;
}

#[tokio::test]
async fn quota_03_ac_079_of_twenty_at_once_exactly_the_last_unit_is_taken() {
    let estate = Estate::new().await;
    let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
    ask.run_at = Some(ask.now + 3_600_000);
    for _ in 0..9 {
        estate.submit(&ask).await.unwrap();
    }
    let answers = futures::future::join_all((0..20).map(|_| estate.submit(&ask))).await;
    let refusals: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refusals.len(), 19);
    for refusal in refusals {
        assert_eq!((refusal.code, refusal.rule), (ErrorCode::QuotaExceeded, "SQL-03"));
        let quota = refusal.quota.clone().unwrap();
        assert_eq!(
            (quota.used, quota.limit, quota.resets_at.to_rfc3339()),
            (10, 10, "2026-11-23T00:00:00+08:00".into())
        );
    }
    estate.finish().await;
}

#[tokio::test]
async fn quota_02_ac_076_a_new_day_in_shanghai_brings_new_units() {
    let estate = Estate::with(|rules| {
        rules.quota.get_mut("sql_update").unwrap().limit = 1;
        rules.sql.maintenance.window = None;
    })
    .await;
    for (now, accepted) in [
        ("2026-11-22T12:00:00", true),
        ("2026-11-22T23:59:59", false),
        ("2026-11-23T00:00:00", true),
        ("2026-11-23T00:00:00", false),
    ] {
        estate.lab.store.set_time(shanghai(now));
        let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
        ask.run_at = Some(ask.now + 3_600_000);
        assert_eq!(estate.submit(&ask).await.is_ok(), accepted, "{now}");
    }
    estate.finish().await;
}

#[tokio::test]
async fn sql_10_ac_075_edit_and_revoke_need_strictly_more_than_ten_minutes() {
    for (before_ms, in_time) in [(600_001, true), (600_000, false), (300_000, false)] {
        let estate = Estate::new().await;
        let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
        let planned = ask.now + 3_600_000;
        ask.run_at = Some(planned);
        let id = estate.submit(&ask).await.unwrap();
        estate.lab.store.set_time(planned - before_ms);
        let view = estate.lab.job(&id).await;
        let mut change = estate.ask("sql_update", json!({"script": "SELECT 2"})).await;
        change.run_at = Some(planned + 1);
        let edit = estate.catalogue.admit_edit(&view, &change, Some(view.record.seq)).await;
        match in_time {
            true => {
                let edited = estate.lab.store.edit(&id, &edit.unwrap()).await.unwrap();
                assert!(matches!(edited, Edited::Ok(_)), "{edited:?}");
                let args: Value = serde_json::from_slice(&estate.lab.job(&id).await.record.args).unwrap();
                assert_eq!(args, json!({"data_center": "dc-1", "script": "SELECT 2", "backup": true}));
            }
            false => assert_eq!(edit.unwrap_err().code, ErrorCode::TooLateToEdit),
        }
        let cutoff = estate.catalogue.cutoff("sql_update", What::Cancel);
        let cancelled = estate.lab.store.cancel(&id, "{}", cutoff).await.unwrap();
        assert_eq!(matches!(cancelled, Cancelled::Now), in_time, "{before_ms}: {cancelled:?}");
        if !in_time {
            let view = estate.lab.job(&id).await;
            let refusal = estate.catalogue.too_late(&view, What::Cancel, planned - before_ms);
            assert_eq!((refusal.code, refusal.rule), (ErrorCode::TooLateToCancel, "SQL-10"));
            // After a failed attempt the engine's time is that of the next one, and the plan is what it was.
            let mut retried = view.clone();
            (retried.record.attempt, retried.record.run_at) = (1, planned + 5_000);
            let later = estate.catalogue.too_late(&retried, What::Cancel, planned - before_ms);
            assert_eq!(later.detail, refusal.detail);
            assert_eq!(estate.catalogue.status(&view).name, "待执行");
        }
        estate.finish().await;
    }
}

#[tokio::test]
async fn sql_17_ac_078_an_edit_takes_no_unit_and_a_revocation_gives_none_back() {
    let estate = Estate::with(|rules| rules.quota.get_mut("sql_update").unwrap().limit = 2).await;
    let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
    ask.run_at = Some(ask.now + 3_600_000);
    let first = estate.submit(&ask).await.unwrap();
    let second = estate.submit(&ask).await.unwrap();
    let cutoff = estate.catalogue.cutoff("sql_update", What::Cancel);
    assert_eq!(estate.lab.store.cancel(&first, "{}", cutoff).await.unwrap(), Cancelled::Now);
    assert_eq!(estate.submit(&ask).await.unwrap_err().code, ErrorCode::QuotaExceeded);
    let view = estate.lab.job(&second).await;
    let change = estate.ask("sql_update", json!({"backup": false})).await;
    let edit = estate.catalogue.admit_edit(&view, &change, None).await.unwrap();
    assert!(matches!(estate.lab.store.edit(&second, &edit).await.unwrap(), Edited::Ok(_)));
    // The same guards again: a time beyond 24 h from the edit, another data center, rubbish.
    for (change_args, run_at, code) in [
        (json!({}), Some(change.now + 86_400_001), ErrorCode::TimeNotAllowed),
        (json!({"data_center": "dc-2"}), None, ErrorCode::InvalidArgument),
        (json!({"script": "SELECT 'open"}), None, ErrorCode::InvalidArgument),
        (json!({"nonsense": 1}), None, ErrorCode::UnknownField),
    ] {
        let mut change = change.clone();
        (change.args, change.run_at) = (change_args, run_at);
        assert_eq!(estate.catalogue.admit_edit(&view, &change, None).await.unwrap_err().code, code);
    }
    estate.finish().await;
}

#[tokio::test]
async fn x_30_ac_202_a_job_planned_within_ten_minutes_is_locked_from_the_start() {
    let estate = Estate::new().await;
    let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
    ask.run_at = Some(ask.now + 300_000);
    assert!(estate.catalogue.admit(&ask).await.unwrap().locked);
    let id = estate.submit(&ask).await.unwrap();
    let envelope = leasehold_jobs::Envelope::read(&estate.lab.job(&id).await.record.meta).unwrap();
    assert!(envelope.locked);
    let cutoff = estate.catalogue.cutoff("sql_update", What::Cancel);
    assert!(matches!(estate.lab.store.cancel(&id, "{}", cutoff).await.unwrap(), Cancelled::TooLate(_)));
    estate.finish().await;
}

#[tokio::test]
async fn eng_03_ac_191_the_same_key_is_the_same_job_and_other_content_a_conflict() {
    let estate = Estate::new().await;
    let mut ask = estate.ask("sql_update", sql("SELECT 1")).await;
    ask.run_at = Some(ask.now + 3_600_000);
    ask.idempotency_key = Some("k1".into());
    let first = estate.submit(&ask).await.unwrap();
    ask.args = json!({"script": "SELECT 1", "backup": true, "data_center": "dc-1"});
    assert_eq!(estate.submit(&ask).await.unwrap(), first, "the default spelled out is the same wish");
    ask.args = sql("SELECT 2");
    assert_eq!(estate.submit(&ask).await.unwrap_err().code, ErrorCode::IdempotencyConflict);
    ask.idempotency_key = Some("leasehold:mine".into());
    assert_eq!(estate.submit(&ask).await.unwrap_err().field.as_deref(), Some("Idempotency-Key"));
    let used = estate.lab.store.allowance_used(TENANT, &format!("sql_update/{TENANT}/2026-11-22")).await.unwrap();
    assert_eq!(used, 1);
    estate.finish().await;
}

#[tokio::test]
async fn the_catalogue_shows_each_kind_with_its_schema() {
    let estate = Estate::new().await;
    let cards = estate.catalogue.cards();
    let names: Vec<_> = cards.iter().map(|card| card.kind).collect();
    assert_eq!(names, ["data_center_backup", "data_center_restore", "sql_update", "verification_code"]);
    for card in &cards {
        assert_eq!(card.args["additionalProperties"], json!(false), "{}", card.kind);
        assert!(card.args["properties"].is_object(), "{}", card.kind);
    }
    estate.finish().await;
}
