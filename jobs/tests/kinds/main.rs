//! The kinds at work: a real Redis, real workers, real SQLite data centers, in the words of the scenarios.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod admission;
mod codes;
mod copies;
mod estate;
mod postgres;
mod runner;
mod sql;
mod stage;
