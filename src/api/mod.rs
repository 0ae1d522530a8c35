//! The HTTP API: JSON, OpenAPI 3.1 from the code, problems by RFC 9457, events by SSE.
//!
//! Invariants: a route without a [`auth::Caller`] is public by intent (probes and pages); another tenant's thing does
//! not exist for a caller (AC-199); whatever is not 2xx is problem+json with a stable code.

mod alerts;
mod archived;
pub mod auth;
mod bounds;
mod changes;
mod clock;
mod deliveries;
mod docs;
mod edge;
mod enqueue;
mod explain;
pub(crate) mod extract;
mod gates;
mod health;
mod hub;
mod idempotency;
mod job_view;
mod jobs;
pub mod keys;
mod kinds;
mod metrics;
pub mod openapi;
mod precondition;
pub mod problem;
mod queues;
pub mod routes;
mod schedule_metrics;
mod schedule_pause;
mod schedule_view;
mod schedules;
pub mod serve;
mod signals;
mod sse;
pub mod state;
mod tenants;
mod times;
mod webhooks;
