//! The pure part: places, records, retry, verdicts. No tokio, no redis, no clock.

mod approval;
mod clock;
mod effect;
mod event;
pub mod explain;
pub mod gate;
mod gate_bytes;
mod hot;
mod id;
mod job;
mod journal;
mod place;
mod record;
mod retry;
mod schedule;
mod schedule_fields;
mod schedule_missed;
pub mod schedule_times;
mod schedule_zones;
mod standing;
mod stretch;
mod verdict;
mod view;
pub mod window;

pub use approval::{Answer, Approval, ApprovalSpec, Choice, Decision, NotAllowed, decide};
pub use clock::Reading;
pub use effect::{Effect, Sort};
pub use event::{Event, EventWord};
pub(crate) use hot::Hot;
pub use id::{BadJobId, JobId};
pub use job::{Allowance, Enqueued, Idempotency, NewJob, Priority, Resource, TicketRefusal, TicketUse};
pub(crate) use journal::undo_name;
pub use journal::{CodeChanged, Journal};
pub use place::{BadPlace, CAUSES, Cause, Place, chart, next};
pub use record::{BadRecord, BlockedBy, JobRecord, pack};
pub(crate) use record::{CLAIMED, HOT_BYTES, shared_bytes};
pub use retry::Retry;
pub use schedule::{FiredSlot, MissedSlot, Schedule, ScheduleRules, ScheduleSpec, SlotCounts, Stuck};
pub use schedule_missed::{BadMissed, Dropped, Missed, ON_TIME_MS, Plan};
pub use schedule_times::{BadTimetable, Timetable, TooFarAhead};
pub(crate) use stretch::longest_stretch;
pub use verdict::{ErrorDocument, JobError, Recovery, Verdict};
pub use view::{Awaited, JobView, Progress, Step, Wait};
pub(crate) use view::{NO_ORDINAL, WITH_UNDO};

/// Milliseconds since 1970-01-01T00:00:00Z, by the store's clock.
pub type UnixMs = i64;
