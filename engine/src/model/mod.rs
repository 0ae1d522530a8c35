//! The pure part: places, records, retry, verdicts. No tokio, no redis, no clock.

mod effect;
mod event;
mod id;
mod job;
mod place;
mod record;
mod retry;
mod verdict;
mod view;

pub use effect::Effect;
pub use event::{Event, EventWord};
pub use id::{BadJobId, JobId};
pub use job::{Allowance, Enqueued, Idempotency, NewJob, Priority, TicketRefusal, TicketUse};
pub use place::{BadPlace, CAUSES, Cause, Place, chart, next};
pub(crate) use record::HOT_BYTES;
pub use record::{BadRecord, BlockedBy, JobRecord, pack};
pub use retry::Retry;
pub use verdict::{ErrorDocument, JobError, Recovery, Verdict};
pub use view::{JobView, Progress, Step};

/// Milliseconds since 1970-01-01T00:00:00Z, by the store's clock.
pub type UnixMs = i64;
