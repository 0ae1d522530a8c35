//! Times on the wire: RFC 3339 in UTC with milliseconds, everywhere.

use chrono::{DateTime, SecondsFormat, Utc};
use leasehold_engine::UnixMs;

/// A time of the store as callers read it.
#[must_use]
pub(super) fn rfc3339(at: UnixMs) -> String {
    instant(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The same, when 0 means never.
#[must_use]
pub(super) fn if_any(at: UnixMs) -> Option<String> {
    (at > 0).then(|| rfc3339(at))
}

/// A time of the store as an instant.
#[must_use]
pub(super) fn instant(at: UnixMs) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).unwrap_or_default()
}
