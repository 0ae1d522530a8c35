//! What the doctor says of a store that was damaged, and of a clock that jumped.

use std::process::Command;

use leasehold_engine::model::gate::ClockJump;
use leasehold_engine::{Store, StoreOptions};
use serde_json::Value;

use crate::lab::{Lab, WHO, text};

fn socket(lab: &Lab) -> String {
    lab.data().join("redis/redis.sock").display().to_string()
}

/// The checks of a doctor that found something wrong.
fn wrong(lab: &Lab, arguments: &[&str]) -> Vec<String> {
    let output = lab.run(&[&["doctor", "--skip-targets", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ok"], false);
    let checks = said["checks"].as_array().unwrap().iter().filter(|check| check["state"] == "wrong");
    checks.map(|check| format!("{}: {}", check["name"].as_str().unwrap(), check["text"].as_str().unwrap())).collect()
}

#[test]
fn an_audit_names_each_damage_and_a_store_that_is_well_has_none() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let args = r#"{"data_center":"dc","name":"later"}"#;
    let job = lab.json(&url, &[&["enqueue", "data_center_backup", "--args", args, "--at", "+1h"], WHO].concat());
    let id = job["id"].as_str().unwrap();
    let well = lab.run(&["doctor", "--skip-targets", "--audit"]);
    assert!(well.status.success() && text(&well).contains("1 jobs, each in exactly one place"), "{}", text(&well));
    for words in [["ZREM", "{lh:0}:scheduled", id, ""], ["HSET", "{lh:0}:lock:dc", "ghost", "x"]] {
        let words = words.iter().filter(|word| !word.is_empty());
        let done = Command::new("redis-cli").args(["-s", &socket(&lab)]).args(words).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "1");
    }
    let found = wrong(&lab, &["--audit"]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(&format!("audit: {id}: ")) && found[0].contains("`scheduled`"), "{found:?}");
    assert_eq!(found[1], "audit: dc: its lock names ghost, whose record does not hold it");
    let without = lab.run(&["doctor", "--skip-targets"]);
    assert!(without.status.success(), "only --audit reads everything: {}", text(&without));
}

#[test]
fn after_a_jump_of_the_clock_updates_wait_until_it_is_accepted() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(StoreOptions::new(format!("redis+unix://{}", socket(&lab)))).await.unwrap();
        let at = store.now().await.unwrap();
        let jump = ClockJump { from: at - 30 * 86_400_000, to: at, at };
        assert!(store.clock_jumped(&jump).await.unwrap());
    });
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| job["place"] == "blocked");
    let why = lab.json(&url, &["job", "explain", &id]);
    assert_eq!(why["reasons"][0]["code"], "clock_jumped", "{why:#}");
    assert!(text(&lab.ask(&url, &["clock", "show"])).contains("the clock jumped from "));
    let found = wrong(&lab, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("by 2592000 s") && found[0].contains("leasehold clock accept"), "{found:?}");
    let said = text(&lab.ask(&url, &["clock", "accept", "--reason", "set right"]));
    assert!(said.contains("accepted: the clock's jump from ") && said.contains("start at their times"), "{said}");
    assert!(text(&lab.ask(&url, &["clock", "accept"])).contains("nothing to accept"));
    assert!(lab.json(&url, &["clock", "show"])["clock"].is_null());
    lab.job(&url, &id, |job| job["place"] == "succeeded");
}

#[test]
fn what_keeps_jobs_from_starting_is_warned_of() {
    let lab = Lab::new();
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--no-worker"]);
    let url = up.ready();
    let mut worker = lab.start(&["worker", "--queue", "copies"]);
    worker.ready();
    lab.tenant(&url);
    let well = lab.run(&["doctor", "--skip-targets"]);
    assert!(!text(&well).contains("kill switch") && !text(&well).contains("queue sql"), "{}", text(&well));
    lab.insert(&url);
    for stop in [&["kill-switch", "on", "--reason", "leak"][..], &["tenant", "pause", "t-1"]] {
        lab.json(&url, stop);
    }
    let output = lab.run(&["doctor", "--skip-targets"]);
    let said = text(&output);
    assert!(output.status.success(), "a warning is no failure: {said}");
    for words in
        ["of everything stands", "leak", "of tenant t-1 stands", "1 live jobs, and no worker that lives serves it"]
    {
        assert!(said.contains(words), "{words} is not said: {said}");
    }
    assert!(said.contains("nothing is wrong; ") && said.contains(" warnings"), "{said}");
}
