//! Schedules from the command line, from a file, and through a whole program.

use std::process::Output;

use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};

use crate::lab::{Lab, PATIENCE, WHO, text};

const BACKUP: &[&str] = &["--kind", "data_center_backup", "--args", r#"{"data_center":"dc","name":"again"}"#];

fn preview(lab: &Lab, arguments: &[&str]) -> Output {
    lab.run(&[&["schedule", "preview"], arguments].concat())
}

fn slots(lab: &Lab, arguments: &[&str]) -> Value {
    let output = preview(lab, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_preview_needs_no_server_and_prints_instants_with_their_offset() {
    let lab = Lab::new();
    let spring = ["30 2 * * *", "--zone", "America/New_York", "--from", "2026-03-07T12:00:00-05:00", "--count", "2"];
    assert_eq!(slots(&lab, &spring), json!(["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]));
    let autumn = ["*/30 * * * *", "--zone", "Europe/Berlin", "--from", "2026-10-25T02:00:00+02:00", "--count", "3"];
    let wanted = json!(["2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00"]);
    assert_eq!(slots(&lab, &autumn), wanted);
    let seconds = ["*/20 0 12 L * *", "--from", "2026-02-01T00:00", "--count", "2"];
    assert_eq!(
        slots(&lab, &seconds),
        json!(["2026-02-28T12:00:00+08:00", "2026-02-28T12:00:20+08:00"]),
        "the business zone"
    );
    let people =
        text(&preview(&lab, &["0 2 * * 1#1", "--zone", "UTC", "--from", "2026-01-01T00:00:00Z", "--count", "1"]));
    assert_eq!(people, "Mon 2026-01-05T02:00:00+00:00\n");
}

#[test]
fn an_expression_that_never_fires_and_an_unknown_zone_are_refused_saying_why() {
    let lab = Lab::new();
    for (arguments, words) in [
        (vec!["0 0 30 2 *"], "never fires"),
        (vec!["0 0 31 4,6 *", "--zone", "UTC"], "never fires"),
        (vec!["0 2 * * *", "--zone", "Asia/Shangai"], "did you mean `Asia/Shanghai`?"),
        (vec!["0 2 * *"], "it has 4 fields"),
        (vec!["0 2 * * FUNDAY"], "weekday `FUNDAY`"),
        (vec!["0 2 * * *", "--from", "soon"], "is no time"),
        (vec!["0 2 * * *", "--from", "2100-01-02T00:00"], "no summer time after 2099"),
        (vec!["0 2 * * *", "--count", "0"], "0 is not in 1..=1000"),
        (vec![], "required arguments were not provided"),
    ] {
        let output = preview(&lab, &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn a_schedule_is_set_listed_paused_resumed_previewed_and_removed() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let schedule = |words: &[&str]| lab.json(&url, &[&["schedule"], words].concat());
    let set =
        [&["set", "nightly", "--cron", "30 2 * * *", "--zone", "Europe/Berlin", "--missed", "all:3"], BACKUP, WHO]
            .concat();
    assert_eq!(schedule(&set)["revision"], 1);
    let shown = schedule(&["show", "nightly"]);
    assert_eq!((&shown["missed"], &shown["job"]["kind"]), (&json!("all:3"), &json!("data_center_backup")));
    assert_eq!(schedule(&["pause", "nightly"])["paused"], true);
    let list = text(&lab.ask(&url, &["schedule", "list"]));
    assert!(list.contains("nightly") && list.contains("paused"), "{list}");
    let resumed = schedule(&["resume", "nightly"]);
    assert_eq!((&resumed["paused"], &resumed["revision"], &resumed["job"]), (&json!(false), &json!(3), &shown["job"]));
    assert_eq!(schedule(&["pause", "nightly"])["paused"], true);
    let again = schedule(&[&["set", "nightly", "--cron", "31 2 * * *"], BACKUP, WHO].concat());
    let kept = ["zone", "missed", "paused"].map(|name| again[name].clone());
    assert_eq!(kept, [json!("Europe/Berlin"), json!("all:3"), json!(true)], "what is not said stays");
    let summer = ["preview", "--schedule", "nightly", "--from", "2026-07-01T03:00", "--count", "1"];
    assert_eq!(schedule(&summer), json!(["2026-07-02T02:31:00+02:00"]), "3:00 is that of its zone");
    let file = lab.folder.path().join("nightly.json");
    std::fs::write(&file, shown.to_string()).unwrap();
    let changed =
        schedule(&["set", "nightly", "--file", file.to_str().unwrap(), "--cron", "45 2 * * *", "--if-revision", "5"]);
    assert_eq!((&changed["cron"], &changed["zone"]), (&json!("45 2 * * *"), &json!("Europe/Berlin")));
    let next = lab.json(&url, &["schedule", "preview", "--schedule", "nightly", "--count", "2"]);
    assert!(next[0].as_str().unwrap().contains("T02:45:00+0"), "{next}");
    let stale = lab.ask(&url, &["schedule", "set", "nightly", "--file", file.to_str().unwrap(), "--if-revision", "1"]);
    assert_eq!((stale.status.code(), text(&stale).contains("precondition_failed")), (Some(3), true));
    let refused = lab.ask(&url, &[&["schedule", "set", "no", "--cron", "0 0 30 2 *"], BACKUP, WHO].concat());
    assert_eq!((refused.status.code(), text(&refused).contains("never fires")), (Some(3), true));
    assert!(lab.ask(&url, &["schedule", "remove", "nightly"]).status.success());
    assert_eq!(schedule(&["list"])["schedules"], json!([]));
}

/// A file with one schedule of this expression.
fn file(lab: &Lab, name: &str, cron: &str) -> String {
    let path = lab.folder.path().join("schedules.toml");
    let actor = r#"{ user_id = "scheduler", roles = ["it_ops"] }"#;
    let job = format!(
        "[schedule.job]\nkind = \"data_center_backup\"\ntenant = \"t-1\"\nactor = {actor}\nargs = {{ data_center = \"dc\", name = \"n\" }}\n"
    );
    std::fs::write(&path, format!("[[schedule]]\nname = \"{name}\"\ncron = \"{cron}\"\nmissed = \"skip\"\n{job}"))
        .unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_schedule_of_a_file_fires_through_the_whole_program_and_the_file_wins_at_each_start() {
    let lab = Lab::new();
    let path = file(&lab, "often", "* * * * * *");
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--schedules", &path]);
    let url = up.ready();
    lab.tenant(&url);
    let begun = std::time::Instant::now();
    let done = || lab.json(&url, &["jobs", "--place", "succeeded"])["jobs"].as_array().unwrap().len();
    while done() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{:#}", lab.json(&url, &["schedule", "list"]));
    }
    let job = &lab.json(&url, &["jobs", "--place", "succeeded"])["jobs"][0];
    assert_eq!(job["labels"]["schedule"], "often", "{job:#}");
    let listed = lab.json(&url, &["schedule", "show", "often"]);
    assert_eq!((&listed["from_file"], &listed["made_by"]), (&json!(true), &json!("file:schedules.toml")));
    let own = [&["schedule", "set", "own", "--cron", "0 2 * * *"], BACKUP, WHO].concat();
    lab.json(&url, &own);
    up.signal(SIGTERM);
    assert!(up.end().success(), "{}", up.heard());
    let path = file(&lab, "rarely", "0 0 1 1 *");
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--schedules", &path]);
    let url = up.ready();
    let list = lab.json(&url, &["schedule", "list"]);
    let names: Vec<_> = list["schedules"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["own", "rarely"], "what is no longer in the file is forgotten");
    assert_eq!(
        lab.json(&url, &["schedule", "pause", "rarely"])["from_file"],
        true,
        "a pause does not take it from the file"
    );
    up.signal(SIGTERM);
    up.end();
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--schedules", &path]);
    let url = up.ready();
    let rarely = lab.json(&url, &["schedule", "show", "rarely"]);
    assert_eq!(
        (&rarely["from_file"], &rarely["paused"]),
        (&json!(true), &json!(true)),
        "the file says nothing of a pause"
    );
    up.signal(SIGTERM);
    up.end();
    let path = file(&lab, "another", "0 0 1 1 *");
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--schedules", &path]);
    let url = up.ready();
    let list = lab.json(&url, &["schedule", "list"]);
    let names: Vec<_> = list["schedules"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["another", "own"], "one that was paused goes with the file, too");
    up.signal(SIGTERM);
    up.end();
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0"]);
    let said = up.hear("no file of schedules is read");
    assert!(said.contains("t-1/another") && !said.contains("/own"), "{said}");
    up.ready();
}

#[test]
fn config_check_reads_the_schedules_beside_the_configuration() {
    let lab = Lab::new();
    let config = lab.folder.path().join("leasehold.toml");
    std::fs::write(&config, "").unwrap();
    let check = || lab.run(&["config", "check", "--config", config.to_str().unwrap()]);
    file(&lab, "nightly", "0 2 * * *");
    assert!(check().status.success(), "{}", text(&check()));
    file(&lab, "never", "0 99 * * *");
    let said = check();
    assert_eq!(said.status.code(), Some(1));
    assert!(
        text(&said).contains("schedules.toml:1: `schedule[0].cron`") && text(&said).contains("hour `99`"),
        "{}",
        text(&said)
    );
}

#[test]
fn a_file_with_a_bad_schedule_stops_the_start_and_names_the_line() {
    let lab = Lab::new();
    let path = file(&lab, "never", "0 0 30 2 *");
    let output = lab.run(&["up", "--listen", "127.0.0.1:0", "--schedules", &path]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("schedules.toml:1: `schedule[0].cron`: `0 0 30 2 *` never fires"), "{said}");
    let missing = lab.run(&["upkeep", "--redis", "redis://127.0.0.1:1", "--schedules", "/nowhere.toml"]);
    assert!(text(&missing).contains("cannot be read"), "{}", text(&missing));
}
