//! Pauses, kill switch, limits, freezes and windows from the command line, against the whole program.

use chrono::Datelike as _;
use serde_json::Value;

use crate::lab::{Lab, Program, WHO, text};

const SQL: &str = r#"{"data_center":"dc","script":"INSERT INTO counts VALUES (1);"}"#;

fn said(lab: &Lab, url: &str, arguments: &[&str]) -> String {
    let output = lab.ask(url, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A job that waits behind what stands; its id.
fn enqueue(lab: &Lab, url: &str) -> String {
    let job = lab.json(url, &[&["enqueue", "sql_update", "--args", SQL, "--confirmed"], WHO].concat());
    job["id"].as_str().unwrap().to_owned()
}

fn codes(lab: &Lab, url: &str, id: &str) -> Vec<String> {
    let why = lab.json(url, &["job", "explain", id]);
    why["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
}

/// Each pair of commands stops a job, says so, and lets it go.
#[test]
fn what_stops_a_job_is_switched_on_explained_and_switched_off() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let why = ["--reason", "disk work"];
    let closing = ["--reason", "disk work", "--owner", "ops"];
    // Half a year from now, so that it is closed whenever the test runs.
    let far = chrono::Utc::now() + chrono::TimeDelta::days(180);
    let opens = format!("0 0 {} {} *", far.day().min(28), far.month());
    let window = ["window", "set", "never", "--mode", "allow", "--opens", &opens, "--duration", "1h", "--zone", "UTC"];
    let rows: [(Vec<&str>, Vec<&str>, &str, &str); 7] = [
        (vec!["queue", "pause", "sql"], vec!["queue", "resume", "sql"], "queue_paused", "sql is paused"),
        (
            vec!["kind", "pause", "sql_update"],
            vec!["kind", "resume", "sql_update"],
            "kind_paused",
            "kind sql_update is paused",
        ),
        (vec!["tenant", "pause", "t-1"], vec!["tenant", "resume", "t-1"], "tenant_paused", "tenant t-1 is paused"),
        (vec!["kill-switch", "on"], vec!["kill-switch", "off"], "kill_switch", "on for everything: nothing"),
        (
            vec!["kill-switch", "on", "--kind", "sql_update"],
            vec!["kill-switch", "off", "--kind", "sql_update"],
            "kill_switch",
            "on for kind sql_update",
        ),
        (
            vec!["freeze", "set", "year-end", "--until", "+2h", "--kind", "sql_update"],
            vec!["freeze", "remove", "year-end"],
            "frozen",
            "freeze year-end stands from",
        ),
        (window.to_vec(), vec!["window", "remove", "never"], "window_closed", "closed from"),
    ];
    for (on, off, code, words) in rows {
        let more = if matches!(on[0], "freeze" | "window") { &closing[..] } else { &why[..] };
        let text = said(&lab, &url, &[&on[..], more].concat());
        assert!(text.contains(words), "{on:?}: {text}");
        let id = enqueue(&lab, &url);
        assert_eq!(codes(&lab, &url, &id), [code], "{on:?}");
        let shown = said(&lab, &url, &["job", "explain", &id]);
        assert!(shown.contains("  1. ") && shown.contains("disk work") && shown.contains(code), "{shown}");
        let listed = said(&lab, &url, &["gates"]);
        assert!(listed.contains("disk work"), "{on:?}: {listed}");
        said(&lab, &url, &[&off[..], &why[..]].concat());
        lab.job(&url, &id, |job| job["place"] == "succeeded");
    }
    assert!(said(&lab, &url, &["gates"]).contains("nothing is paused"));
}

#[test]
fn a_resume_says_when_a_kill_switch_still_stands() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    said(&lab, &url, &["kind", "pause", "sql_update"]);
    said(&lab, &url, &["kill-switch", "on", "--reason", "leak"]);
    let text = said(&lab, &url, &["kind", "resume", "sql_update"]);
    assert!(text.contains("is not paused, but a kill switch stands for *"), "{text}");
    let text = said(&lab, &url, &["queue", "resume", "sql"]);
    assert!(text.contains("queue sql is not paused, but a kill switch stands for *"), "{text}");
    said(&lab, &url, &["kill-switch", "off"]);
    assert!(said(&lab, &url, &["kind", "resume", "sql_update"]).contains("kind sql_update runs"));
    assert!(said(&lab, &url, &["queue", "resume", "sql"]).contains("queue sql runs"));
}

#[test]
fn lists_print_json_and_tables_and_slips_are_usage() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    let set = ["limit", "set", "kind", "sql_update", "--max-running", "4", "--rate", "10/1m"];
    assert!(said(&lab, &url, &set).contains("kind sql_update: 4 at a time, 10 starts in 1m"));
    let closing = ["--reason", "patches", "--owner", "ops", "--tenant"];
    lab.tenant(&url);
    let window = [
        "window",
        "set",
        "sundays",
        "--mode",
        "deny",
        "--opens",
        "0 2 * * 0",
        "--duration",
        "4h",
        "--zone",
        "Asia/Shanghai",
    ];
    said(&lab, &url, &[&window[..], &closing[..], &["t-1"]].concat());
    for (command, field, words) in [
        (["limit", "list"], "limits", "4 at a time, 10 starts in 1m"),
        (["freeze", "list"], "freezes", "tenant t-1"),
        (["window", "list"], "windows", "0 2 * * 0"),
        (["kind", "list"], "kinds", "sql_update"),
    ] {
        assert!(lab.json(&url, &command)[field].as_array().is_some_and(|all| !all.is_empty()), "{command:?}");
        let table = said(&lab, &url, &command);
        assert!(table.contains(words), "{command:?}: {table}");
    }
    assert_eq!(lab.json(&url, &["limit", "remove", "kind", "sql_update"])["removed"], true);
    assert_eq!(lab.json(&url, &["limit", "list"])["limits"], Value::Array(Vec::new()));
    for (command, status) in [
        (vec!["limit", "set", "kind", "sql_update"], 2),
        (vec!["limit", "set", "kind", "sql_update", "--rate", "often"], 2),
        (vec!["limit", "set", "host", "sql_update", "--max-running", "1"], 2),
        (vec!["kill-switch", "on"], 2),
        (vec!["freeze", "set", "f", "--until", "+1h", "--reason", "r"], 2),
        (vec!["limit", "remove", "kind", "sql_update"], 1),
        (
            vec![
                "window",
                "set",
                "w",
                "--mode",
                "deny",
                "--opens",
                "soon",
                "--duration",
                "1h",
                "--zone",
                "Mars/Base",
                "--reason",
                "r",
                "--owner",
                "o",
            ],
            3,
        ),
    ] {
        let output = lab.ask(&url, &command);
        assert_eq!(output.status.code(), Some(status), "{command:?}: {}", text(&output));
    }
}

#[test]
fn limits_of_the_configuration_stand_from_the_start_and_hold_jobs_up() {
    let lab = Lab::new();
    let mut command = lab.command(&["up", "--listen", "127.0.0.1:0"]);
    command.env("LEASEHOLD__LIMITS__KINDS__SQL_UPDATE__RATE", "1");
    command.env("LEASEHOLD__LIMITS__KINDS__SQL_UPDATE__PER_SECONDS", "3600");
    let mut up = Program::start(command);
    let url = up.ready();
    lab.tenant(&url);
    let first = enqueue(&lab, &url);
    lab.job(&url, &first, |job| job["place"] == "succeeded");
    let second = enqueue(&lab, &url);
    lab.job(&url, &second, |job| job["place"] == "blocked");
    assert_eq!(codes(&lab, &url, &second), ["rate_limit"]);
    let why = lab.json(&url, &["job", "explain", &second]);
    assert!(why["reasons"][0]["until"].is_string(), "it says when the next may start: {why:#}");
    said(&lab, &url, &["limit", "remove", "kind", "sql_update"]);
    lab.job(&url, &second, |job| job["place"] == "succeeded");
}
