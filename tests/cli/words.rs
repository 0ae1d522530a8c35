//! What commands say and how they end: help, JSON, exit status.

use serde_json::Value;

use crate::lab::{Lab, WHO, text};

/// The commands that `--help` lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| line.starts_with("  "));
    let names = lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_has_help() {
    let lab = Lab::new();
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let output = lab.run(&words);
        let help = text(&output);
        assert!(output.status.success() && help.contains("Usage: leasehold"), "{words:?}: {help}");
        left.extend(listed(&help).into_iter().map(|name| [command.clone(), vec![name]].concat()));
        seen += 1;
    }
    assert!(seen >= 40, "only {seen} commands were found");
}

#[test]
fn the_exit_status_says_done_failed_usage_or_refused() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    std::fs::write(lab.folder.path().join("name.txt"), "a name").unwrap();
    let status = |arguments: &[&str]| {
        let output = lab.ask(&url, arguments);
        (output.status.code().unwrap(), text(&output))
    };
    let backup = |center: &str| format!(r#"{{"data_center":"{center}","name":"n"}}"#);
    let (here, gone) = (backup("dc"), backup("gone"));
    let cases: [(i32, &str, Vec<&str>); 13] = [
        (0, "", vec!["jobs"]),
        (0, "succeeded", [&["enqueue", "data_center_backup", "--args", &here, "--wait"], WHO].concat()),
        (1, "target_not_found", [&["enqueue", "data_center_backup", "--args", &gone, "--wait"], WHO].concat()),
        (
            0,
            "succeeded",
            [&["enqueue", "data_center_backup", "--arg", "data_center=dc", "--arg", "name=@name.txt", "--wait"], WHO]
                .concat(),
        ),
        (2, "expected NAME=TEXT", [&["enqueue", "data_center_backup", "--arg", "data_center"], WHO].concat()),
        (1, "not_found", vec!["job", "show", "nosuchjob"]),
        (2, "unexpected argument", vec!["jobs", "--no-such-flag"]),
        (2, "no good JSON", [&["enqueue", "data_center_backup", "--args", "{"], WHO].concat()),
        (
            2,
            "with --idempotency-key give an instant",
            [&["enqueue", "data_center_backup", "--args", &here, "--at", "+20m", "--idempotency-key", "k"], WHO]
                .concat(),
        ),
        (2, "is no time", [&["enqueue", "data_center_backup", "--args", &here, "--at", "soon"], WHO].concat()),
        (
            3,
            "confirmation_required",
            [&["enqueue", "sql_update", "--args", r#"{"data_center":"dc","script":"SELECT 1"}"#], WHO].concat(),
        ),
        (
            3,
            "time_not_allowed",
            [
                &[
                    "enqueue",
                    "sql_update",
                    "--args",
                    r#"{"data_center":"dc","script":"SELECT 1"}"#,
                    "--confirmed",
                    "--at",
                    "+25h",
                ],
                WHO,
            ]
            .concat(),
        ),
        (3, "unknown_kind", [&["enqueue", "sql_updat"], WHO].concat()),
    ];
    for (wanted, word, arguments) in cases {
        let (status, said) = status(&arguments);
        assert_eq!(status, wanted, "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?} does not say {word}: {said}");
    }
    let nobody = lab.run(&["jobs", "--url", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("api_unreachable"), "{}", text(&nobody));
}

#[test]
fn a_refusal_shows_the_rule_and_the_remedy_and_as_json_the_whole_problem() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let ask = [&["enqueue", "sql_update", "--args", r#"{"data_center":"dc","script":"SELECT 1"}"#], WHO].concat();
    let said = text(&lab.ask(&url, &ask));
    assert!(said.contains("refused: ") && said.contains("VERIFY-02") && said.contains("remedy"), "{said}");
    let output = lab.ask(&url, &[&ask[..], &["--json"]].concat());
    let problem: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (problem["code"].as_str(), problem["rule"].as_str()),
        (Some("confirmation_required"), Some("VERIFY-02"))
    );
}

#[test]
fn the_same_idempotency_key_gives_the_first_job_again() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let args = r#"{"data_center":"dc","name":"n"}"#;
    let ask = [&["enqueue", "data_center_backup", "--args", args, "--idempotency-key", "k"], WHO].concat();
    assert_eq!(lab.json(&url, &ask)["id"], lab.json(&url, &ask)["id"]);
}

#[test]
fn a_webhook_is_switched_off_and_on_and_gets_a_fresh_secret() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    let made = lab.json(&url, &["webhook", "add", "https://example.com/hooks"]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(lab.json(&url, &["webhook", "disable", id])["state"], "disabled");
    assert_eq!(lab.json(&url, &["webhook", "enable", id])["state"], "enabled");
    let rotated = lab.json(&url, &["webhook", "rotate", id]);
    assert!(rotated["secret"].is_string());
    assert_ne!(rotated["secret"], made["secret"]);
}

#[test]
fn every_json_output_parses_and_has_what_its_name_says() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| job["place"] == "succeeded");
    let args = r#"{"data_center":"dc","script":"SELECT 1;"}"#;
    let planned =
        lab.json(&url, &[&["enqueue", "sql_update", "--args", args, "--confirmed", "--at", "+2h"], WHO].concat());
    let planned = planned["id"].as_str().unwrap().to_owned();
    let actor = r#"{"user_id":"u1","roles":["it_ops","data_ops_specialist"]}"#;
    let edited = lab.json(&url, &["job", "edit", &planned, "--at", "+3h", "--actor", actor, "--confirmed"]);
    assert_ne!(edited["seq"], 1);
    for (arguments, field) in [
        (vec!["jobs", "--tenant", "t-1"], "jobs"),
        (vec!["job", "show", &id], "steps"),
        (vec!["job", "explain", &planned], "reasons"),
        (vec!["job", "log", &id], "lines"),
        (vec!["job", "watch", &id], "result"),
        (vec!["job", "cancel", &planned, "--reason", "r"], "place"),
        (vec!["queue", "list"], "queues"),
        (vec!["queue", "pause", "sql"], ""),
        (vec!["queue", "resume", "sql"], ""),
        (vec!["tenant", "list"], "tenants"),
        (vec!["tenant", "show", "t-1"], "environments"),
        (vec!["key", "list"], "keys"),
        (vec!["key", "create", "--name", "x", "--role", "monitor"], "webhook_secret"),
        (vec!["webhook", "add", "https://example.com/hooks"], "secret"),
        (vec!["webhook", "list"], "webhooks"),
        (vec!["doctor"], "checks"),
        (vec!["config", "show"], "server"),
        (vec!["config", "check"], "ok"),
        (vec!["openapi"], "paths"),
    ] {
        let output = lab.ask(&url, &[&arguments[..], &["--json"]].concat());
        let value: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", text(&output)));
        // The doctor complains of the data center that is not there.
        assert!(output.status.success() || arguments[0] == "doctor", "{arguments:?}: {}", text(&output));
        assert!(field.is_empty() || !value[field].is_null(), "{arguments:?} has no {field}: {value:#}");
    }
}

#[test]
fn the_doctor_names_what_is_wrong_and_no_secret() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let output = lab.run(&["doctor", "--audit"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    for word in [
        "t-1/gone",
        "t-1/dc",
        "AOF fsync always",
        "noeviction",
        "1 alive",
        "one thing is wrong",
        "each in exactly one place",
    ] {
        assert!(said.contains(word), "{word} is not said: {said}");
    }
    let key = std::fs::read_to_string(lab.data().join("admin.key")).unwrap();
    assert!(!said.contains(key.trim()));
}

#[test]
fn the_key_is_found_in_the_data_folder_of_the_configuration() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    let ask = |data: &std::path::Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leasehold"));
        command.env_clear().env("LEASEHOLD__STORE__DATA_DIR", data).env("LEASEHOLD_URL", &url);
        command.current_dir(lab.folder.path().parent().unwrap()).arg("jobs").output().unwrap()
    };
    assert!(ask(&lab.data()).status.success());
    let output = ask(lab.folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no API key"), "{}", text(&output));
}

/// An admin key is made and written into a file without room: its only showing is lost, and that is said.
#[test]
#[cfg(target_os = "linux")]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for arguments in [&["key", "create", "--name", "x", "--role", "monitor"][..], &["jobs", "--json"], &["--help"]] {
        let output = lab.command(arguments).env("LEASEHOLD_URL", &url).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
        let is_told = text(&output).contains("could not be written");
        assert!(is_told || arguments == ["--help"], "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn an_empty_variable_says_nothing_and_an_empty_redis_is_a_slip() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    let with = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leasehold"));
        command.env_clear().envs(variables.iter().copied()).args(arguments).current_dir(lab.folder.path());
        command.output().unwrap()
    };
    let (none, data) = (("LEASEHOLD_CONFIG", ""), lab.data());
    let output = with(&["config", "check"], &[none, ("LEASEHOLD_DATA", ""), ("LEASEHOLD_URL", "")]);
    assert!(output.status.success(), "{}", text(&output));
    // The folder `data` of the place where it is called is that of the lab, and its key is found by default.
    let output = with(&["jobs"], &[none, ("LEASEHOLD_DATA", ""), ("LEASEHOLD_URL", &url)]);
    assert!(output.status.success(), "{}", text(&output));
    let output = with(&["jobs", "--url", &url], &[("LEASEHOLD_DATA", data.to_str().unwrap()), ("LEASEHOLD_URL", "")]);
    assert!(output.status.success(), "{}", text(&output));
    let lab = Lab::new();
    for command in ["up", "api", "worker", "upkeep", "doctor"] {
        let output = lab.run(&[command, "--redis", ""]);
        assert_eq!(output.status.code(), Some(2), "{command}: {}", text(&output));
        assert!(text(&output).contains("--redis is empty"), "{command}: {}", text(&output));
    }
    assert!(!lab.data().exists(), "nothing was started");
}

#[test]
fn a_list_that_is_cut_says_so_and_goes_on() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    let args = r#"{"data_center":"dc","name":"later"}"#;
    for _ in 0..3 {
        lab.json(&url, &[&["enqueue", "data_center_backup", "--args", args, "--at", "+1h"], WHO].concat());
    }
    let output = lab.ask(&url, &["jobs", "--limit", "2"]);
    let told = String::from_utf8(output.stderr).unwrap();
    let cursor = told.trim().rsplit_once("--cursor ").unwrap().1;
    let rest = lab.json(&url, &["jobs", "--cursor", cursor]);
    assert_eq!(rest["jobs"].as_array().unwrap().len(), 1, "{rest:#}");
    assert_eq!(lab.json(&url, &["jobs", "--all"])["jobs"].as_array().unwrap().len(), 3);
    assert_eq!(lab.ask(&url, &["jobs"]).stderr, b"");
}

#[test]
fn a_name_that_nobody_knows_is_a_slip_and_not_an_empty_list() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    lab.tenant(&url);
    for (arguments, words) in [
        (vec!["jobs", "--kind", "sql_updat"], "did you mean `sql_update`?"),
        (vec!["jobs", "--queue", "sqll"], "did you mean `sql`?"),
        (vec!["jobs", "--tenant", "t-9"], "--tenant: there is no `t-9`"),
        (vec!["enqueue", "data_center_backup", "--tenant", "t-1"], "--user ID with --role ROLE"),
    ] {
        let output = lab.ask(&url, &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
    for nothing in [["--kind", "notification_send"], ["--queue", "sql"], ["--tenant", "t-1"]] {
        lab.json(&url, &[&["jobs"], &nothing[..]].concat());
    }
    let output = lab.run(&["worker", "--queue", "sqll"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("there is no queue `sqll`") && text(&output).contains("did you mean `sql`?"));
    for (name, value) in [("LEASEHOLD__WORKER__QUEUES", "nope"), ("LEASEHOLD__LOG__LEVEL", "blah=,,")] {
        let output = lab.command(&["config", "check"]).env(name, value).output().unwrap();
        assert!(output.status.code() == Some(1) && text(&output).contains(value), "{name}: {}", text(&output));
    }
}
