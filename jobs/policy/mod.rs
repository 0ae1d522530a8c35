//! The rules of the business: who may ask for what, when, how often and on what.
//!
//! Pure: no clock, no storage, no network. The instant is always passed in (T-6), so that a rule gives the same answer
//! when a job is accepted, when it starts and in a test.

pub mod address;
pub mod calendar;
pub mod json;
pub mod lead;
pub mod lease;
pub mod messages;
pub mod quota;
pub mod refusal;
pub mod roles;
pub mod rules;
pub mod shown;
pub mod sql;
pub mod status;
pub mod tenant;
#[cfg(test)]
pub(crate) mod testing;
pub mod verify;
pub mod window;

pub use calendar::Calendar;
pub use messages::{Channel, Language, Messages, Notice};
pub use quota::{Allowance, QuotaRule};
pub use refusal::{ErrorCode, Refusal};
pub use roles::{Actor, KeyRole, Permission, Role};
pub use rules::{Admission, Rules, Start, Submission};
pub use status::Status;
pub use tenant::Tenant;
