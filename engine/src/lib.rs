//! The durable engine: jobs that survive any crash, run under a lease and a fence, and tell every change.
//!
//! It knows jobs, queues, resources, steps and tickets. It knows nothing of leases of tenants, SQL or HTTP.
//! `model` is pure; `store` is the only room that speaks Redis; `worker` claims and runs; `upkeep` promotes,
//! rescues and prunes.

pub mod model;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod upkeep;
pub mod worker;

pub use model::{
    Allowance, Approval, Decision, Effect, Enqueued, Idempotency, JobError, JobId, JobRecord, JobView, NewJob, Place,
    Priority, Recovery, Resource, Retry, Step, TicketRefusal, TicketUse, UnixMs, Verdict,
};
pub use store::{Store, StoreError, StoreOptions};
pub use worker::{
    ChildEnd, ChildFailure, Ctx, Observer, Runner, Signal, StartError, Verified, Worker, WorkerOptions, args_sha256,
};
