//! The walk-through of `docs/walk-through.md`, typed as it is written: its `sh` blocks run in one shell, on a PostgreSQL of
//! the test's own. Only the block of settings is the test's.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use leasehold_targets::testing::TestServer;
use serde_json::Value;
use tokio::process::Command;

/// The whole walk, a million rows and back.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walk_through_works_as_written() {
    let Some(server) = TestServer::start() else {
        eprintln!("skipped: PostgreSQL is not installed here");
        return;
    };
    let began = Instant::now();
    let folder = tempfile::Builder::new().prefix("lh-walk-").tempdir().unwrap();
    let document = read("docs/walk-through.md");
    let said = walk(&script(&document, &settings(&server, folder.path()), folder.path()), folder.path()).await;
    let kept = |name: &str| {
        std::fs::read_to_string(folder.path().join("kept").join(name)).unwrap_or_else(|e| panic!("{name}: {e}\n{said}"))
    };
    let (before, changed, after) = (kept("data.before"), kept("data.changed"), kept("data.after"));
    assert!(before.contains("accounts 1000000 0 "), "{before}");
    assert_ne!(before, changed);
    assert_eq!(before, after, "the restore brings back what was there before the update");
    assert!(said.contains("it has changed") && said.contains("the same as before the update"), "{said}");
    each_statement_is_told(&kept("data.update"), &document);
    assert!(!folder.path().join("data").exists(), "tidied up");
    eprintln!("walked in {:.1} s", began.elapsed().as_secs_f64());
}

/// At least 50 statements; one failed, where the document says so, and the long one was long.
fn each_statement_is_told(update: &str, document: &str) {
    let json = &update[update.find("\n{").unwrap()..];
    let result: Value = serde_json::from_str(json).unwrap();
    let statements = result["statements"].as_array().unwrap();
    assert!(statements.len() >= 50, "{}", statements.len());
    let failed: Vec<&Value> = statements.iter().filter(|one| one["ok"] != true).collect();
    assert_eq!((result["colour"].as_str().unwrap(), failed.len()), ("red", 1), "{failed:#?}");
    assert_eq!(failed[0]["error_code"], "42703", "undefined_column: {}", failed[0]);
    let (statement, line) = (&failed[0]["index"], &failed[0]["line"]);
    assert!(
        document.replace('\n', " ").contains(&format!("statement {statement} of the script failed, on line {line},")),
        "{}",
        failed[0]
    );
    let script = read("docs/walk-through/update.sql");
    assert!(
        script.contains(&format!("{} statements; statement {statement} is the one that fails", statements.len())),
        "{}",
        statements.len()
    );
    let wrong_line = script.lines().nth(usize::try_from(line.as_u64().unwrap()).unwrap() - 1).unwrap();
    assert!(wrong_line.contains("SET colour = 'blue'"), "{wrong_line}");
    assert!(statements.iter().any(|one| one["ms"].as_u64().unwrap() >= 1000), "none was long");
    assert!(statements.iter().any(|one| one["rows"].as_u64().unwrap_or(0) >= 200_000), "none was large");
    assert!(result["backup_id"].is_string());
}

/// What stands in the place of the document's settings.
fn settings(server: &TestServer, folder: &Path) -> String {
    let url = server.url("shop");
    let host = url.split_once('@').unwrap().1.trim_end_matches("/shop").replace("%2F", "/");
    let program = Path::new(env!("CARGO_BIN_EXE_leasehold")).parent().unwrap();
    let port = free_port();
    format!(
        "export PATH=\"{}:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1):$PATH\"\nexport PGHOST='{host}' PGUSER=postgres\n\
         export DATABASE='{url}'\nexport LEASEHOLD_URL=http://127.0.0.1:{port}\nexport LEASEHOLD_DATA='{}'\nmkdir -m 700 '{}' \"$LEASEHOLD_DATA\"\n",
        program.display(),
        folder.join("data").display(),
        folder.join("kept").display(),
    )
}

/// A port that nobody is given by asking for any: below those that systems hand out, and none that another test of this
/// kind looks at first.
fn free_port() -> u16 {
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    let all = (0..10_000).map(|n| 20_000 + (first + n) % 10_000);
    all.into_iter().find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// The document's commands, with ours for its settings; what they wrote is kept before the last block tidies up.
fn script(document: &str, settings: &str, folder: &Path) -> String {
    let mut blocks = Vec::new();
    let mut block: Option<(String, bool)> = None;
    for line in document.lines() {
        block = match (block.take(), line) {
            (None, "```sh") => Some((String::new(), true)),
            (None, "```sh settings") => Some((settings.to_owned(), false)),
            (None, _) => None,
            (Some((text, _)), "```") => {
                blocks.push(text);
                None
            }
            (Some((text, true)), line) => Some((format!("{text}{line}\n"), true)),
            (Some((text, false)), _) => Some((text, false)),
        };
    }
    assert!(blocks.len() >= 8, "the document has lost its commands: {blocks:?}");
    let keep = format!("cp \"$LEASEHOLD_DATA\".* '{}'\n", folder.join("kept").display());
    blocks.insert(blocks.len() - 1, keep);
    format!("set -eu\n{}", blocks.concat())
}

/// Runs the script in one shell; what it printed.
async fn walk(script: &str, folder: &Path) -> String {
    let (file, output) = (folder.join("walk.sh"), folder.join("walk.out"));
    std::fs::write(&file, script).unwrap();
    let log = std::fs::File::create(&output).unwrap();
    let mut command = Command::new("sh");
    command.arg("-x").arg(&file).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEASEHOLD_")) {
        command.env_remove(variable);
    }
    command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0).kill_on_drop(true);
    let mut shell = command.spawn().unwrap();
    let group = nix::unistd::Pid::from_raw(i32::try_from(shell.id().unwrap()).unwrap());
    let ended = tokio::time::timeout(PATIENCE, shell.wait()).await;
    let said = std::fs::read_to_string(&output).unwrap();
    // Whatever the script left behind when it broke off.
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM);
    match ended {
        Ok(Ok(status)) if status.success() => said,
        other => panic!("{other:?}\n{said}\n{}", std::fs::read_to_string(folder.join("data.log")).unwrap_or_default()),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
