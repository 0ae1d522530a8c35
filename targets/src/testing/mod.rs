//! What tests of this crate and of others need: a real PostgreSQL, and faults.

mod faults;
mod server;

pub use faults::{FaultPoint, Faults};
pub use server::TestServer;
