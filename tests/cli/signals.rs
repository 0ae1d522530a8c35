//! `job signal|approve|refuse`, typed.

use crate::lab::{Lab, WHO, text};

#[test]
fn a_job_is_told_once_and_not_after_its_end() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let args = r#"{"data_center":"dc","name":"later"}"#;
    let later = lab.json(&url, &[&["enqueue", "data_center_backup", "--args", args, "--at", "+1h"], WHO].concat());
    let id = later["id"].as_str().unwrap();
    let paid = ["job", "signal", id, "paid", "--payload", r#"{"amount":5}"#, "--key", "order-17", "--user", "u1"];
    assert_eq!(lab.json(&url, &paid)["outcome"], "kept");
    assert_eq!(lab.json(&url, &paid)["outcome"], "duplicate");
    let seen = lab.json(&url, &["job", "show", id])["args_sha256"].as_str().unwrap().to_owned();
    let early = ["job", "approve", id, "go on", "--user", "u7", "--role", "it_ops", "--comment", "seen"];
    let early = [&early[..], &["--args-sha256", &seen, "--payload", r#"{"window":"02:00"}"#]].concat();
    let said = text(&lab.ask(&url, &early));
    assert!(said.contains(&format!("{id} go on: kept")), "{said}");
    let history = lab.json(&url, &["job", "show", id])["history"].to_string();
    assert!(history.contains("\"decision\":\"approve\"") && history.contains("\"by\":\"u7\""), "{history}");
    let own =
        lab.ask(&url, &["job", "approve", id, "go on", "--user", "u1", "--role", "it_ops", "--args-sha256", &seen]);
    assert!(own.status.code() != Some(0) && text(&own).contains("not_your_own"), "{}", text(&own));
    let blind = lab.ask(&url, &["job", "approve", id, "go on", "--user", "u7", "--role", "it_ops"]);
    assert!(blind.status.code() != Some(0) && text(&blind).contains("args_sha256"), "{}", text(&blind));
    let bad = lab.ask(&url, &["job", "signal", id, "paid", "--payload", "{"]);
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad));
    let nobody = lab.ask(&url, &["job", "refuse", id, "go on"]);
    assert!(nobody.status.code() != Some(0) && text(&nobody).contains("an answer is a person's"), "{}", text(&nobody));
    lab.json(&url, &["job", "cancel", id]);
    assert_eq!(lab.json(&url, &paid)["outcome"], "duplicate", "sent again, it is what it was");
    let ended = lab.ask(&url, &["job", "signal", id, "paid", "--key", "order-18"]);
    assert!(ended.status.code() != Some(0) && text(&ended).contains("invalid_state"), "{}", text(&ended));
}
