//! The service.
pub mod api;
pub mod cli;
pub mod config;
pub mod demo;
pub mod meters;
pub mod roles;
pub mod webhooks;
