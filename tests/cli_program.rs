//! The program from outside: its processes, their beginnings and ends, and its words.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "cli/archive.rs"]
mod archive;
#[path = "cli/boot.rs"]
mod boot;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/gates.rs"]
mod gates;
#[path = "cli/lab.rs"]
mod lab;
#[path = "cli/life.rs"]
mod life;
#[path = "cli/schedules.rs"]
mod schedules;
#[path = "cli/signals.rs"]
mod signals;
#[path = "cli/waiting.rs"]
mod waiting;
#[path = "cli/words.rs"]
mod words;
