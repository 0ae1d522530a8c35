//! One suite for all drivers of `Database`: what is promised of one is asked of each.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a test says what it skips")]

#[path = "suite/copies.rs"]
mod copies;
#[path = "suite/crashes.rs"]
mod crashes;
#[path = "suite/engines.rs"]
mod engines;
#[path = "suite/lab.rs"]
mod lab;
#[path = "suite/scripts.rs"]
mod scripts;

use lab::{Case, Engine, run_all};

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(copies::cases());
    cases.extend(crashes::cases());
    cases.extend(scripts::cases());
    cases
}

#[test]
fn sqlite_keeps_all_promises_of_a_database() {
    let mut cases = cases();
    cases.extend(engines::sqlite());
    run_all(Engine::Sqlite, cases);
}

#[test]
fn postgres_keeps_all_promises_of_a_database() {
    let mut cases = cases();
    cases.extend(engines::postgres());
    run_all(Engine::Postgres, cases);
}

/// Not a test of its own: the process that `a_killed_process_never_repeats_a_statement` starts and kills.
#[test]
#[ignore = "run by another test"]
fn the_child_that_is_killed() {
    crashes::child();
}
