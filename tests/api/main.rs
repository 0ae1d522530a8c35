//! The HTTP API against a real Redis, in process: every refusal, every route, whose things are whose.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod archived;
mod clock;
mod documents;
mod events;
mod gates;
mod isolation;
mod jobs;
mod operations;
mod refusals;
mod schedules;
mod served;
mod signals;
mod stand;
mod told;
mod worked;
