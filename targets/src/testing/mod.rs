//! What tests of this crate and of others need: a real PostgreSQL, and faults.

mod faults;

pub use faults::{FaultPoint, Faults};
