//! The only room that speaks Redis: one Lua script a verb, one clock, one hash tag a shard.
//!
//! Invariants: every change of place is one script (E2); the store's clock decides (E5); every verb may be sent
//! again after a lost reply (E10).

mod alerts;
mod audit;
mod claim;
mod clock;
mod connect;
mod control;
mod deliveries;
mod durability;
mod enqueue;
mod error;
mod family;
mod gates;
mod hold;
mod keeping;
mod line;
mod listing;
mod read;
mod registry;
mod remembered;
mod schedule_pause;
mod schedule_slots;
mod schedules;
mod scripts;
mod settle;
mod steps;
mod sweep;
mod tickets;
mod watch;
mod workflow;

pub use alerts::Alert;
pub use audit::{AuditFinding, AuditProgress, AuditReport};
pub(crate) use claim::read_claim;
pub use claim::{Claim, Claimed, Renewed};
pub use clock::{ClockWatch, Glance, Pace};
pub use connect::{Store, StoreOptions};
pub use control::{Cancelled, Cutoff, Edit, Edited, Resolution, Resolved, Revived};
pub use deliveries::{DeliveryAttempt, DeliveryOutcome, DeliveryView, NewDelivery, OutboxEntry, Routed};
pub use durability::{Complaint, Durability, Memory, Severity};
pub use error::StoreError;
pub use gates::GateSet;
pub use keeping::{ArchiveState, Entry, Expired, Forgotten, Retention};
pub use listing::{Cursor, JobFilter, Page};
pub use read::{OldestWaiting, PlaceCount, WorkerSeen};
pub use registry::{Document, Put};
pub use schedule_slots::Slot;
pub use schedules::{MOST_SCHEDULES, SchedulePut, ScheduleRemoved};
pub(crate) use settle::read_settled;
pub use settle::{Outcome, Settled, Settlement};
pub(crate) use steps::Said;
pub use steps::{Begun, Ended, Opening};
pub use tickets::Issued;
pub use watch::{Change, Changes};
pub(crate) use workflow::{Letter, Spawned, Suspended, Until, Wanted};
pub use workflow::{MOST_CHILDREN, MOST_SIGNALS, SIGNAL_BYTES, Signalled};
