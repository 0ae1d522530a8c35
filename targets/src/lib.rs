//! The far ends: databases, files, notices. One trait per capability; each driver passes the same conformance suite.
//!
//! Invariant: nothing here knows a tenant, a rule or a queue. A target refuses a fence older than the newest one it
//! has seen, and keeps its own proof of what was done to it.

pub mod database;
mod error;
pub mod files;
mod folder;
pub mod notices;
pub mod script;
mod secrets;
mod space;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::TargetError;
pub use secrets::Secrets;
