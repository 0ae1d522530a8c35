//! What processes outlive, and how they end.

use std::time::Instant;

use nix::sys::signal::Signal::{SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use rusqlite::Connection;

use crate::lab::{Lab, PATIENCE, Program, Redis, WHO, text};

/// Holds the database's write lock, so that an update waits at its first statement.
fn hold(database: &std::path::Path) -> Connection {
    let other = Connection::open(database).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

fn has_begun(job: &serde_json::Value, step: &str) -> bool {
    job["steps"].as_array().is_some_and(|steps| steps.iter().any(|one| one["name"] == step))
}

fn rows(database: &std::path::Path) -> u32 {
    let db = Connection::open(database).unwrap();
    db.query_row("SELECT COUNT(*) FROM counts", [], |row| row.get(0)).unwrap()
}

fn is_gone(pid: i32) -> bool {
    let begun = Instant::now();
    while kill(Pid::from_raw(pid), None).is_ok()
        && std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
    {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn a_killed_private_redis_is_started_again_and_nothing_is_lost() {
    let lab = Lab::new();
    let (mut up, url) = lab.up();
    lab.tenant(&url);
    let args = r#"{"data_center":"dc","name":"later"}"#;
    for _ in 0..5 {
        lab.json(&url, &[&["enqueue", "data_center_backup", "--args", args, "--at", "+1h"], WHO].concat());
    }
    let first = lab.redis_pid();
    kill(Pid::from_raw(first), SIGKILL).unwrap();
    up.hear("redis_died");
    up.hear("the private Redis runs again");
    assert_ne!(lab.redis_pid(), first);
    let jobs = lab.json(&url, &["jobs", "--tenant", "t-1", "--place", "scheduled"]);
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 5, "{jobs:#}");
    let doctor = lab.run(&["doctor", "--audit"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("5 jobs, each in exactly one place"), "{doctor:?}");
}

#[test]
fn what_a_killed_worker_left_half_written_is_removed_when_it_is_back() {
    let lab = Lab::new();
    let (mut up, url) = lab.up();
    lab.tenant(&url);
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| job["place"] == "succeeded");
    up.signal(SIGKILL);
    up.end();
    let left = lab.data().join("scratch").join(format!("{id}-1-0000abcd.part"));
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, "half a copy").unwrap();
    let (mut up, _) = lab.up();
    up.hear("removed what lost attempts left half-written");
    assert!(!left.exists());
}

#[test]
fn the_private_redis_ends_with_its_parent_even_when_that_is_killed() {
    let lab = Lab::new();
    let (mut up, _) = lab.up();
    let redis = lab.redis_pid();
    up.signal(SIGKILL);
    up.end();
    assert!(is_gone(redis), "redis-server {redis} is still there");
    let (mut up, url) = lab.up();
    lab.json(&url, &["jobs"]);
    let redis = lab.redis_pid();
    up.signal(SIGTERM);
    assert!(up.end().success());
    assert!(is_gone(redis), "redis-server {redis} is still there");
}

#[test]
fn a_redis_that_was_left_behind_is_stopped_before_a_new_one_starts() {
    let lab = Lab::new();
    let (mut up, url) = lab.up();
    lab.tenant(&url);
    let orphan = lab.redis_pid();
    // Not even the shell that guards Redis is left.
    let guard = std::fs::read_to_string(format!("/proc/{orphan}/stat")).ok();
    let Some(guard) = guard.and_then(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok()) else {
        return; // only Linux tells a process' parent this way
    };
    let group = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let watchers: Vec<i32> = group.filter(|pid| parent(*pid) == Some(guard) && *pid != orphan).collect();
    for pid in watchers.into_iter().chain([guard]) {
        kill(Pid::from_raw(pid), SIGKILL).unwrap();
    }
    up.signal(SIGKILL);
    up.end();
    let (mut again, url) = lab.up();
    again.hear("a Redis of an earlier process is still there");
    assert!(is_gone(orphan));
    assert_eq!(lab.json(&url, &["tenant", "show", "t-1"])["name"], "T");
    again.signal(SIGTERM);
    again.end();
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[test]
fn sigterm_waits_for_the_running_job() {
    let lab = Lab::new();
    let (mut up, url) = lab.up();
    let database = lab.tenant(&url);
    let other = hold(&database);
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| has_begun(job, "execute"));
    up.signal(SIGTERM);
    up.hear("waiting for 1 running job, at most 30 s");
    // The job can be asked about while it drains; a new one is not taken.
    assert_eq!(lab.json(&url, &["job", "show", &id])["place"], "running");
    let args = r#"{"data_center":"dc","name":"n"}"#;
    let late = lab.ask(&url, &[&["enqueue", "data_center_backup", "--args", args], WHO].concat());
    assert!(late.status.code() == Some(1) && text(&late).contains("shutting_down"), "{}", text(&late));
    other.execute_batch("ROLLBACK").unwrap();
    assert!(up.end().success(), "{}", up.heard());
    assert_eq!(rows(&database), 1);
    let (_up, url) = lab.up();
    let job = lab.job(&url, &id, |_| true);
    assert_eq!((job["place"].as_str(), job["attempt"].as_u64()), (Some("succeeded"), Some(1)), "{job:#}");
}

#[test]
fn a_second_signal_hands_the_running_job_back_and_the_next_start_completes_it_once() {
    let lab = Lab::new();
    let (mut up, url) = lab.up();
    let database = lab.tenant(&url);
    let other = hold(&database);
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| has_begun(job, "execute"));
    up.signal(SIGTERM);
    up.hear("waiting for 1 running job");
    // Another kind of signal: of the same kind, one that comes so soon would be taken for an echo of the first.
    up.signal(SIGINT);
    up.hear("handing the running jobs back");
    assert!(up.end().success(), "{}", up.heard());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(rows(&database), 0);
    let (_up, url) = lab.up();
    let job = lab.job(&url, &id, |job| job["place"] == "succeeded");
    assert_eq!(
        (rows(&database), job["attempt"].as_u64()),
        (1, Some(1)),
        "an interrupted attempt is not counted: {job:#}"
    );
}

#[test]
fn a_worker_of_its_own_shares_the_private_redis() {
    let lab = Lab::new();
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--no-worker"]);
    let url = up.ready();
    let database = lab.tenant(&url);
    let id = lab.insert(&url);
    let mut worker = lab.start(&["worker", "--name", "beside"]);
    worker.ready();
    lab.job(&url, &id, |job| job["place"] == "succeeded");
    assert_eq!(rows(&database), 1);
    worker.signal(SIGTERM);
    assert!(worker.end().success(), "{}", worker.heard());
}

/// However long a hung Redis would take to answer, the end comes within some seconds of the second signal.
#[test]
fn a_second_signal_ends_the_program_also_when_redis_hangs() {
    let lab = Lab::new();
    let redis = Redis::start(lab.folder.path(), &["--appendonly", "yes", "--appendfsync", "always"]);
    let mut command = lab.command(&["up", "--listen", "127.0.0.1:0", "--redis", &redis.url()]);
    // Longer than this test waits: nothing but the second signal can end what waits for Redis, and for the job.
    command.env("LEASEHOLD__STORE__RESPONSE_TIMEOUT_MS", "600000").env("LEASEHOLD__WORKER__LEASE_MS", "600000");
    command.env("LEASEHOLD__WORKER__DRAIN_TIMEOUT_SECONDS", "600");
    let mut up = Program::start(command);
    let url = up.ready();
    let database = lab.tenant(&url);
    let _other = hold(&database);
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| has_begun(job, "execute"));
    redis.signal(SIGSTOP);
    up.signal(SIGTERM);
    up.hear("waiting for 1 running job");
    up.signal(SIGINT);
    up.hear("a second signal");
    assert!(up.end().success(), "{}", up.heard());
    redis.signal(SIGCONT);
}

#[test]
fn a_private_redis_that_hangs_is_not_taken_for_one_that_is_not_there() {
    let lab = Lab::new();
    let (up, _) = lab.up();
    let redis = Pid::from_raw(lab.redis_pid());
    // Stopped before its Redis, so that it does not mend that meanwhile.
    up.signal(SIGSTOP);
    kill(redis, SIGSTOP).unwrap();
    let doctor = lab.run(&["doctor"]);
    kill(redis, SIGCONT).unwrap();
    assert!(text(&doctor).contains("redis_silent") && text(&doctor).contains(&redis.to_string()), "{}", text(&doctor));
}
