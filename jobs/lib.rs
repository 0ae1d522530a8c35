//! The kinds.
pub mod policy;
