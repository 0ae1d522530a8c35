//! End to end, through the real binary, on real servers: what survives a crash, what the walk-through promises, and what
//! bad input is told.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(unreachable_pub, reason = "the modules of a test are its own")]

#[path = "estate/mod.rs"]
mod estate;

#[path = "bad_input/mod.rs"]
mod bad_input;
#[path = "crash/mod.rs"]
mod crash;
#[path = "jump/mod.rs"]
mod jump;
#[path = "rolling/mod.rs"]
mod rolling;
#[path = "walkthrough/mod.rs"]
mod walkthrough;
