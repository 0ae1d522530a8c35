//! What a write expects of the thing that it replaces: `If-Match` and `If-None-Match` (RFC 9110, 13.1).
//!
//! Guards that a caller who says `*` is taken at his word: `If-Match: *` makes nothing, `If-None-Match: *` replaces nothing.

use axum::http::{HeaderMap, HeaderName, header};
use leasehold_jobs::policy::ErrorCode;

use super::problem::Problem;

/// What the headers of a write say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precondition {
    /// Nothing: whatever is there, or is not.
    None,
    /// `If-Match: *`: it is there.
    There,
    /// `If-None-Match: *`: it is not there.
    Absent,
    /// `If-Match: "7"`: it is there, as it was seen.
    Seen(u32),
}

impl Precondition {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        match (text(headers, header::IF_NONE_MATCH), text(headers, header::IF_MATCH)) {
            (None, None) => Ok(Self::None),
            (None, Some("*")) => Ok(Self::There),
            (None, Some(tag)) => version(tag).map(Self::Seen),
            (Some("*"), None) => Ok(Self::Absent),
            (Some(_), _) => Err(Problem::invalid("If-None-Match", "only `*` is known here, and not beside If-Match")
                .remedy(
                    "give If-None-Match: * to make a new one, or If-Match with the ETag that was seen to replace it",
                )),
        }
    }
}

/// The version that the store is to replace: `Some(0)` none, `None` whichever is there. `held` says the present one.
///
/// # Errors
/// `precondition_failed` for `If-Match: *` when there is none; `invalid_argument` for what is no precondition.
pub(super) async fn expected(
    headers: &HeaderMap,
    what: &str,
    held: impl AsyncFnOnce() -> Result<Option<u32>, Problem>,
) -> Result<Option<u32>, Problem> {
    match Precondition::of(headers)? {
        Precondition::None => Ok(None),
        Precondition::Absent => Ok(Some(0)),
        Precondition::Seen(version) => Ok(Some(version)),
        Precondition::There => held().await?.map(Some).ok_or_else(|| failed(headers, what, 0)),
    }
}

/// Refuses a write of a thing that has no versions, unless it is there or is not as the headers say.
///
/// # Errors
/// `precondition_failed`; `invalid_argument` for what is no precondition.
pub(super) fn check_presence(headers: &HeaderMap, what: &str, there: bool) -> Result<(), Problem> {
    match (Precondition::of(headers)?, there) {
        (Precondition::None, _) | (Precondition::There, true) | (Precondition::Absent, false) => Ok(()),
        (Precondition::There, false) => Err(failed(headers, what, 0)),
        (Precondition::Absent, true) => Err(broken(headers, format!("there is such a {what} already"))),
        (Precondition::Seen(_), _) => Err(broken(headers, format!("a {what} has no ETag: give `*`"))),
    }
}

/// The version of `If-Match: "7"`; `*` and none mean whatever is there. For what is known to be there.
///
/// # Errors
/// `precondition_failed` for what is no ETag.
pub(super) fn seen_version(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    match text(headers, header::IF_MATCH) {
        None | Some("*") => Ok(None),
        Some(tag) => version(tag).map(Some),
    }
}

/// It is at another version than was expected; 0: there is none.
pub(super) fn failed(headers: &HeaderMap, what: &str, found: u32) -> Problem {
    let detail = match found {
        0 => format!("there is no such {what}"),
        version => format!("the {what} is at version {version} by now"),
    };
    broken(headers, detail)
}

fn broken(headers: &HeaderMap, detail: String) -> Problem {
    let field = if headers.contains_key(header::IF_NONE_MATCH) { "If-None-Match" } else { "If-Match" };
    Problem::new(ErrorCode::PreconditionFailed, detail).field(field).remedy("read it again, and decide again")
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default().trim())
}

fn version(tag: &str) -> Result<u32, Problem> {
    let inside = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    inside.and_then(|version| version.parse().ok()).ok_or_else(|| {
        Problem::new(ErrorCode::PreconditionFailed, "If-Match is not an ETag of this thing").field("If-Match")
    })
}
