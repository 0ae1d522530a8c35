//! Verification codes (VERIFY-01, VERIFY-02, SQL-04).

use leasehold_engine::{JobId, Place};
use leasehold_jobs::policy::verify::VerifyMode;
use leasehold_jobs::{ErrorCode, Submission, Verification};
use serde_json::{Value, json};

use crate::estate::{Estate, TENANT, error, result};

async fn estate() -> Estate {
    Estate::with(|rules| rules.verify.mode = VerifyMode::Engine).await
}

/// Asks for a code for an SQL update of `target`; gives the challenge and the code from the SMS.
async fn code(estate: &mut Estate, target: &str) -> (JobId, Verification) {
    let before = estate.mailbox("sms").len();
    let id = estate.submitted("verification_code", json!({"operation": "sql_update", "target_id": target})).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    let challenge_id = result(&view)["challenge_id"].as_str().unwrap().to_owned();
    let sms = estate.mailbox("sms");
    assert_eq!(sms.len(), before + 1);
    let sent: Value = sms
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap())
        .find(|one| one["id"] == json!(challenge_id))
        .unwrap();
    assert_eq!(sent["to"], "13800000000");
    let text = sent["body"].as_str().unwrap();
    let digits: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|part| part.len() == 6).collect();
    assert_eq!(digits.len(), 1, "{text}");
    (id, Verification { challenge_id, code: digits[0].to_owned() })
}

async fn update(estate: &Estate, data_center: &str, given: Option<Verification>) -> Submission {
    let mut ask = estate.ask("sql_update", json!({"data_center": data_center, "script": "SELECT 1"})).await;
    ask.run_at = Some(ask.now + 3_600_000);
    ask.verification = given;
    ask
}

fn wrong(right: &Verification) -> Verification {
    let other = if right.code == "000000" { "000001" } else { "000000" };
    Verification { challenge_id: right.challenge_id.clone(), code: other.to_owned() }
}

#[tokio::test]
async fn sql_04_verify_01_the_right_code_is_accepted_once() {
    let mut estate = estate().await;
    let (_, right) = code(&mut estate, "dc-1").await;
    let ask = update(&estate, "dc-1", Some(right)).await;
    estate.submit(&ask).await.unwrap();
    let again = estate.submit(&ask).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::CodeInvalid, "one use");
    estate.finish().await;
}

#[tokio::test]
async fn sql_04_ac_080_without_a_code_or_with_a_wrong_one_nothing_is_accepted_and_no_unit_taken() {
    let mut estate = estate().await;
    let (_, right) = code(&mut estate, "dc-1").await;
    assert_eq!(estate.submit(&update(&estate, "dc-1", None).await).await.unwrap_err().code, ErrorCode::CodeInvalid);
    let refusal = estate.submit(&update(&estate, "dc-1", Some(wrong(&right))).await).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::CodeInvalid);
    assert!(refusal.detail.contains('4'), "{}", refusal.detail);
    let used = estate.lab.store.allowance_used(TENANT, &format!("sql_update/{TENANT}/2026-11-22")).await.unwrap();
    assert_eq!(used, 0);
    estate.submit(&update(&estate, "dc-1", Some(right)).await).await.unwrap();
    estate.finish().await;
}

#[tokio::test]
async fn verify_02_ac_080_five_wrong_tries_lock_the_code() {
    let mut estate = estate().await;
    let (_, right) = code(&mut estate, "dc-1").await;
    for _ in 0..5 {
        estate.submit(&update(&estate, "dc-1", Some(wrong(&right))).await).await.unwrap_err();
    }
    let refusal = estate.submit(&update(&estate, "dc-1", Some(right)).await).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::CodeLocked);
    estate.finish().await;
}

#[tokio::test]
async fn verify_02_a_code_is_bound_to_user_operation_and_target() {
    let mut estate = estate().await;
    let (_, right) = code(&mut estate, "dc-1").await;
    let other_target = update(&estate, "dc-2", Some(right.clone())).await;
    assert_eq!(estate.submit(&other_target).await.unwrap_err().code, ErrorCode::CodeInvalid);
    let mut other_user = update(&estate, "dc-1", Some(right.clone())).await;
    other_user.actor.user_id = "u2".into();
    assert_eq!(estate.submit(&other_user).await.unwrap_err().code, ErrorCode::CodeInvalid);
    estate.submit(&update(&estate, "dc-1", Some(right)).await).await.unwrap();
    estate.finish().await;
}

#[tokio::test]
async fn verify_02_a_code_expires_after_five_minutes() {
    for (after_ms, accepted) in [(299_999, true), (300_000, false)] {
        let mut estate = estate().await;
        let (_, right) = code(&mut estate, "dc-1").await;
        let now = estate.lab.store.now().await.unwrap();
        estate.lab.store.set_time(now + after_ms);
        let answer = estate.submit(&update(&estate, "dc-1", Some(right)).await).await;
        match accepted {
            true => drop(answer.unwrap()),
            false => assert_eq!(answer.unwrap_err().code, ErrorCode::CodeExpired),
        }
        estate.finish().await;
    }
}

#[tokio::test]
async fn verify_02_a_second_code_within_a_minute_is_refused() {
    let mut estate = estate().await;
    code(&mut estate, "dc-1").await;
    let args = json!({"operation": "sql_update", "target_id": "dc-1"});
    let ask = estate.ask("verification_code", args).await;
    let refusal = estate.submit(&ask).await.unwrap_err();
    let at = refusal.allowed_at.expect("it says when").timestamp_millis();
    assert_eq!((refusal.code, refusal.code.status()), (ErrorCode::CodeTooSoon, 429));
    assert!(at > ask.now && at <= ask.now + 60_000, "{at}");
    assert_eq!(estate.mailbox("sms").len(), 1);
    // Another target is another code, and a minute later there is a new one.
    code(&mut estate, "dc-2").await;
    let now = estate.lab.store.now().await.unwrap();
    estate.lab.store.set_time(now + 60_000);
    code(&mut estate, "dc-1").await;
    estate.finish().await;
}

#[tokio::test]
async fn verify_02_of_two_codes_asked_for_at_once_one_is_sent() {
    let mut estate = estate().await;
    let args = json!({"operation": "sql_update", "target_id": "dc-1"});
    let ids =
        [estate.submitted("verification_code", args.clone()).await, estate.submitted("verification_code", args).await];
    let mut places = Vec::new();
    for id in &ids {
        let view = estate.run(id).await;
        let late = view.record.place == Place::Dead;
        assert!(!late || error(&view)["code"] == "code_too_soon", "{}", error(&view));
        places.push(view.record.place);
    }
    assert_eq!(places, [Place::Succeeded, Place::Dead]);
    assert_eq!(estate.mailbox("sms").len(), 1);
    estate.finish().await;
}

#[tokio::test]
async fn verify_02_the_code_is_nowhere_but_in_the_sms() {
    let mut estate = estate().await;
    let (id, right) = code(&mut estate, "dc-1").await;
    let view = estate.lab.job(&id).await;
    let kept = format!("{view:?}{:?}{:?}", view.record, estate.lab.store.log(&id, 0, 1000).await.unwrap());
    for bytes in [&view.record.args, &view.record.meta, &view.record.result, &view.record.error] {
        assert!(!String::from_utf8_lossy(bytes).contains(&right.code));
    }
    for step in &view.steps {
        assert!(!String::from_utf8_lossy(&step.result).contains(&right.code), "{}", step.name);
    }
    assert!(!kept.contains(&format!("\"{}\"", right.code)));
    let ask = update(&estate, "dc-1", Some(right.clone())).await;
    assert!(!format!("{ask:?}").contains(&right.code), "not even in a debug print");
    estate.submit(&ask).await.unwrap();
    estate.finish().await;
}

#[tokio::test]
async fn verify_01_a_code_is_refused_for_what_the_actor_may_not_do() {
    let estate = estate().await;
    let args = json!({"operation": "sql_update", "target_id": "dc-1"});
    let mut ask = estate.ask("verification_code", args.clone()).await;
    ask.actor.roles.clear();
    assert_eq!(estate.refused(&ask).await.code, ErrorCode::ForbiddenRole);
    let mut ask = estate.ask("verification_code", args).await;
    ask.actor.mobile = None;
    assert_eq!(estate.refused(&ask).await.field.as_deref(), Some("actor.mobile"));
    let ask = estate.ask("verification_code", json!({"operation": "sql_update", "target_id": "dc-9"})).await;
    assert_eq!(estate.refused(&ask).await.field.as_deref(), Some("args.target_id"));
    estate.finish().await;
}

#[tokio::test]
async fn sql_17_an_edit_needs_a_fresh_code() {
    let mut estate = estate().await;
    let (_, first) = code(&mut estate, "dc-1").await;
    let id = estate.submit(&update(&estate, "dc-1", Some(first.clone())).await).await.unwrap();
    let view = estate.lab.job(&id).await;
    let mut change = estate.ask("sql_update", json!({"backup": false})).await;
    assert_eq!(estate.catalogue.admit_edit(&view, &change, None).await.unwrap_err().code, ErrorCode::CodeInvalid);
    change.verification = Some(first);
    let edit = estate.catalogue.admit_edit(&view, &change, None).await.unwrap();
    let edited = estate.lab.store.edit(&id, &edit).await.unwrap();
    assert!(matches!(edited, leasehold_engine::store::Edited::TicketRefused { .. }), "{edited:?}");
    let now = estate.lab.store.now().await.unwrap();
    estate.lab.store.set_time(now + 60_000);
    let (_, second) = code(&mut estate, "dc-1").await;
    change.now = now + 60_000;
    change.verification = Some(second);
    let edit = estate.catalogue.admit_edit(&view, &change, None).await.unwrap();
    let edited = estate.lab.store.edit(&id, &edit).await.unwrap();
    assert!(matches!(edited, leasehold_engine::store::Edited::Ok(_)), "{edited:?}");
    estate.finish().await;
}
