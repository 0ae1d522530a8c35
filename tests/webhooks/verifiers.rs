//! The official Standard Webhooks libraries, in three languages, judge deliveries that really went over the wire.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use leasehold::webhooks::client::Limits;
use leasehold::webhooks::directory::NewCallback;
use leasehold::webhooks::signature::Secret;

use super::lab::{Lab, Receiver, Seen, dispatcher_rules};

/// Whether the official Rust library takes the delivery.
pub fn is_genuine(seen: &Seen, secret: &Secret) -> bool {
    standardwebhooks::Webhook::new(&secret.reveal()).unwrap().verify(&seen.body, &seen.headers).is_ok()
}

/// A captured delivery, what may have been done to it, and whether it must be taken.
struct Case {
    what: &'static str,
    secret: Secret,
    seen: Seen,
    genuine: bool,
}

async fn capture(wrong_by: i64) -> (Lab, Seen, Secret, String) {
    let lab = Lab::with(dispatcher_rules(), Limits::default(), wrong_by);
    let receiver = Receiver::fine().await;
    let (id, secret) = lab.register(&receiver.url()).await;
    let meta = serde_json::json!({"labels": {"city": "Zürich 苏州", "quote": "\"\\\n"}});
    lab.memory.change("job1", 3, "succeeded", &meta);
    lab.round().await;
    let seen = receiver.seen().remove(0);
    (lab, seen, secret, id)
}

/// The delivery after a rotation, and after the old secret's day is over.
async fn rotated() -> (Secret, Secret, Seen, Seen) {
    let lab = Lab::with(dispatcher_rules(), Limits::default(), 0);
    let receiver = Receiver::fine().await;
    let (id, old) = lab.register(&receiver.url()).await;
    let now = chrono::Utc::now().timestamp_millis();
    let fresh = lab.directory.rotate(&id, now).await.unwrap().unwrap();
    lab.succeed("job1");
    lab.round().await;
    // Rotated again more than a day ago, as far as the sender can tell.
    let expired = Lab::with(dispatcher_rules(), Limits::default(), 0);
    let again = Receiver::fine().await;
    let secret = Secret::generate().unwrap();
    let day = Duration::from_hours(24).as_millis() as i64;
    let book = &expired.directory;
    let url = again.url();
    let ask = NewCallback { key: "key", url: &url, secret: &secret, tenant: "t-001" };
    book.callback(NewCallback { secret: &old, ..ask }, &expired.rules, now - 2 * day).await.unwrap();
    let endpoint = book.callback(ask, &expired.rules, now - day - 1).await.unwrap();
    let meta = serde_json::json!({ "callback": leasehold::webhooks::body::callback_meta(&endpoint) });
    expired.memory.change("job2", 1, "accepted", &meta);
    expired.round().await;
    let after = receiver.seen().remove(0);
    // The second endpoint's old secret is the first one's: it must not verify any more.
    (old, fresh, after, again.seen().remove(0))
}

async fn cases() -> Vec<Case> {
    let (_, seen, secret, _) = capture(0).await;
    let (_, early, early_secret, _) = capture(-302_000).await;
    let (_, late, late_secret, _) = capture(400_000).await;
    let (old, fresh, after, expired) = rotated().await;
    let case = |what, secret: &Secret, seen: &Seen, genuine| Case {
        what,
        secret: secret.clone(),
        seen: seen.clone(),
        genuine,
    };
    let mut cases = vec![
        case("a live delivery", &secret, &seen, true),
        case("the fresh secret after a rotation", &fresh, &after, true),
        case("the old secret within its day", &old, &after, true),
        case("the old secret after its day", &old, &expired, false),
        case("another secret", &fresh, &seen, false),
        case("302 s old", &early_secret, &early, false),
        case("400 s early", &late_secret, &late, false),
    ];
    for at in [0, seen.body.len() / 2, seen.body.len() - 1] {
        let mut body = seen.body.to_vec();
        body[at] ^= 1;
        cases.push(case(
            "a flipped bit in the body",
            &secret,
            &Seen { body: Bytes::from(body), ..seen.clone() },
            false,
        ));
    }
    for (name, what) in [
        ("webhook-id", "a flipped bit in the id"),
        ("webhook-timestamp", "a flipped bit in the timestamp"),
        ("webhook-signature", "a flipped bit in the signature"),
    ] {
        let mut value = seen.header(name).as_bytes().to_vec();
        let at = value.len() - 5;
        value[at] ^= 1;
        let mut headers = seen.headers.clone();
        headers.insert(name, axum::http::HeaderValue::from_bytes(&value).unwrap());
        cases.push(case(what, &secret, &Seen { headers, ..seen.clone() }, false));
    }
    cases
}

fn as_line(case: &Case) -> String {
    let text = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<String, serde_json::Value> =
        names.iter().map(|name| ((*name).to_owned(), text(&case.seen.headers, name).into())).collect();
    let body = String::from_utf8(case.seen.body.to_vec()).unwrap();
    serde_json::json!({"secret": case.secret.reveal(), "body": body, "headers": headers}).to_string()
}

/// Lets a program judge the cases; each line of its answer is `ok` or `refused`.
fn judged_by(program: &Path, script: &str, cases: &[Case]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(program)
        .arg(root.join("tests/webhooks").join(script))
        .env("NODE_PATH", root.join(".tools/js/node_modules"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = cases.iter().map(as_line).collect();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} ended with {}", output.status);
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), cases.len());
    for (case, answer) in cases.iter().zip(answers) {
        assert_eq!(answer == "ok", case.genuine, "{script}: {}", case.what);
    }
}

/// Where `scripts/setup-verifiers.sh` has put something; says so when it has not.
fn tool(path: &str, what: &str) -> Option<PathBuf> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools").join(path);
    if tool.exists() {
        return Some(tool);
    }
    eprintln!("SKIPPED: no official {what} library; scripts/setup-verifiers.sh installs it");
    None
}

#[tokio::test]
async fn the_official_rust_library_takes_live_deliveries_and_refuses_changed_ones() {
    for case in cases().await {
        assert_eq!(is_genuine(&case.seen, &case.secret), case.genuine, "{}", case.what);
    }
}

#[tokio::test]
async fn the_official_python_library_takes_live_deliveries_and_refuses_changed_ones() {
    if let Some(python) = tool("python/bin/python", "Python") {
        judged_by(&python, "verify.py", &cases().await);
    }
}

#[tokio::test]
async fn the_official_javascript_library_takes_live_deliveries_and_refuses_changed_ones() {
    if tool("js/node_modules/standardwebhooks", "JavaScript").is_some() {
        judged_by(Path::new("node"), "verify.cjs", &cases().await);
    }
}
