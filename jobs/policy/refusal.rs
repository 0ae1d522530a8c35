//! What the caller is told when a rule says no: a stable code, the rule, its limit and when it will be allowed.
//!
//! A code is part of the contract (requirements 7.1): it may be added, never renamed. Each code has one HTTP status.

use std::fmt;
use std::ops::{Deref, DerefMut};

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

/// Makes the codes out of one table: each with its word, its HTTP status and its title.
macro_rules! codes {
    ($($name:ident: $word:literal, $status:literal, $title:literal,)+) => {
        /// A stable reason, the `code` of the problem+json and the label of the metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ErrorCode {
            $(
                #[doc = concat!($title, ".")]
                #[serde(rename = $word)]
                $name,
            )+
        }

        impl ErrorCode {
            /// All codes, in the order of their groups.
            pub const ALL: [Self; [$($status),+].len()] = [$(Self::$name),+];

            /// The word, the HTTP status and the title.
            const fn row(self) -> (&'static str, u16, &'static str) {
                match self {
                    $(Self::$name => ($word, $status, $title),)+
                }
            }
        }
    };
}

codes! {
    // A rule of the business.
    ForbiddenRole: "forbidden_role", 403, "The actor's roles do not allow this",
    NotFormalTenant: "not_formal_tenant", 403, "Only a formal tenant may do this",
    LeaseRestricted: "lease_restricted", 403, "The lease has ended; this operation is closed",
    LeaseClosedRepurchase: "lease_closed_repurchase", 403, "The environment is closed for good",
    QuotaExceeded: "quota_exceeded", 429, "The quota of the period is used up",
    LetterRequired: "letter_required", 403, "An authorization letter in force is required",
    TimeNotAllowed: "time_not_allowed", 422, "The planned time is out of range",
    MaintenanceWindow: "maintenance_window", 422, "The planned time is inside daily maintenance",
    TooLateToCancel: "too_late_to_cancel", 409, "It is too late to cancel",
    TooLateToEdit: "too_late_to_edit", 409, "It is too late to edit",
    InvalidState: "invalid_state", 409, "The job's state does not allow this",
    CodeInvalid: "code_invalid", 422, "The verification code is wrong or missing",
    CodeExpired: "code_expired", 422, "The verification code has expired",
    CodeLocked: "code_locked", 422, "Too many wrong tries; ask for a new code",
    CodeUsed: "code_used", 422, "The verification code was used already",
    CodeTooSoon: "code_too_soon", 429, "A code was sent a moment ago",
    ConfirmationRequired: "confirmation_required", 422, "The second confirmation is missing",
    FileTooLarge: "file_too_large", 413, "The file is too large",
    FileType: "file_type", 422, "This type of file is not accepted",
    TenancyNotSupported: "tenancy_not_supported", 422, "The environment's tenancy does not allow this",
    ResourceClassNotSupported: "resource_class_not_supported", 422, "The environment's resource class does not allow this",
    TypeClosed: "type_closed", 403, "This type of request is closed",
    MeterExhausted: "meter_exhausted", 403, "The purchased volume is used up",
    ResourceBusy: "resource_busy", 409, "Another operation holds the resource",
    AgreementRequired: "agreement_required", 403, "The agreement was not accepted",
    NotEntitled: "not_entitled", 403, "The contract does not cover this",
    LifecycleEnded: "lifecycle_ended", 403, "The release is out of support",
    IdempotencyConflict: "idempotency_conflict", 409, "The idempotency key was used with another request",
    // The request itself.
    MalformedJson: "malformed_json", 400, "The body is not valid JSON",
    InvalidArgument: "invalid_argument", 422, "A value is not acceptable",
    UnknownField: "unknown_field", 422, "A field is not known",
    UnknownKind: "unknown_kind", 422, "There is no such kind of job",
    UnknownTenant: "unknown_tenant", 422, "There is no such tenant",
    UnknownDataCenter: "unknown_data_center", 404, "The tenant has no such data center",
    NotFound: "not_found", 404, "There is no such thing",
    MethodNotAllowed: "method_not_allowed", 405, "The method is not allowed here",
    UnsupportedMediaType: "unsupported_media_type", 415, "The content type is not supported",
    PayloadTooLarge: "payload_too_large", 413, "The request is too large",
    BodyTooSlow: "body_too_slow", 408, "The request did not arrive in time",
    PreconditionFailed: "precondition_failed", 412, "It was changed in the meantime",
    PreconditionRequired: "precondition_required", 428, "If-Match is required",
    Conflict: "conflict", 409, "It conflicts with what is there",
    Gone: "gone", 410, "It is no longer kept",
    // Who asks.
    Unauthorized: "unauthorized", 401, "A valid API key is required",
    Forbidden: "forbidden", 403, "The API key does not allow this",
    NotYourOwn: "not_your_own", 403, "Nobody approves what he asked for himself",
    NotAnApprover: "not_an_approver", 403, "This person may not decide on it",
    TooManyRequests: "too_many_requests", 429, "Too many requests",
    // The state of the program.
    TooManyJobs: "too_many_jobs", 429, "There is no room for more jobs",
    TargetUnreachable: "target_unreachable", 502, "The far end cannot be reached",
    StorageUnavailable: "storage_unavailable", 503, "The store cannot be reached",
    ShuttingDown: "shutting_down", 503, "The program is shutting down",
    RequestTimeout: "request_timeout", 504, "The answer took too long",
    Internal: "internal", 500, "Something went wrong here",
}

impl ErrorCode {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status that goes with the code.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// The short text of the problem+json; the same for every occurrence.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of a quota is used, and when it starts anew (QUOTA-04).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaUse {
    /// Units taken in the period.
    pub used: u32,
    /// Units of the period.
    pub limit: u32,
    /// The first instant of the next period, in the business zone.
    pub resets_at: DateTime<FixedOffset>,
}

/// The parts of a [`Refusal`], in the names of the problem+json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalParts {
    /// The stable reason.
    pub code: ErrorCode,
    /// The id of the rule, such as `SQL-06`.
    pub rule: &'static str,
    /// One sentence about this occurrence.
    pub detail: String,
    /// The value of the limit that was broken, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The first instant at which the same request would be allowed, when there is one, in the business zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_at: Option<DateTime<FixedOffset>>,
    /// The state of the quota, when a quota refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaUse>,
    /// The path of the field that is at fault, such as `args.script`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the caller can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A "no" with its reason. One pointer wide, so that it costs nothing in a `Result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Refusal(Box<RefusalParts>);

impl Refusal {
    /// A refusal by `rule`, with one sentence about the occurrence.
    pub fn new(code: ErrorCode, rule: &'static str, detail: impl Into<String>) -> Self {
        let parts = RefusalParts {
            code,
            rule,
            detail: detail.into(),
            limit: None,
            allowed_at: None,
            quota: None,
            field: None,
            remedy: None,
        };
        Self(Box::new(parts))
    }

    /// An `invalid_argument` that names its field.
    pub fn invalid(rule: &'static str, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, rule, detail).with_field(field)
    }

    /// Names the limit.
    #[must_use]
    pub fn with_limit(mut self, limit: impl Into<String>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// Names the instant from which the same request would be allowed.
    #[must_use]
    pub fn with_allowed_at(mut self, at: DateTime<FixedOffset>) -> Self {
        self.allowed_at = Some(at);
        self
    }

    /// Adds the state of the quota; the reset is also when it will be allowed.
    #[must_use]
    pub fn with_quota(mut self, quota: QuotaUse) -> Self {
        self.allowed_at = Some(quota.resets_at);
        self.quota = Some(quota);
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says what the caller can do.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl Deref for Refusal {
    type Target = RefusalParts;

    fn deref(&self) -> &RefusalParts {
        &self.0
    }
}

impl DerefMut for Refusal {
    fn deref_mut(&mut self) -> &mut RefusalParts {
        &mut self.0
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.code, self.detail, self.rule)?;
        if let Some(at) = &self.allowed_at {
            write!(f, "; allowed from {}", at.to_rfc3339())?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_listed_once_and_its_word_is_what_serde_writes() {
        let words: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ErrorCode::ALL.len(), "a word is used twice");
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!((400..600).contains(&code.status()), "{code}");
            assert!(!code.title().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn the_codes_of_the_requirements_are_all_there() {
        let minimum = "FORBIDDEN_ROLE NOT_FORMAL_TENANT LEASE_RESTRICTED LEASE_CLOSED_REPURCHASE QUOTA_EXCEEDED \
            LETTER_REQUIRED TIME_NOT_ALLOWED MAINTENANCE_WINDOW TOO_LATE_TO_CANCEL TOO_LATE_TO_EDIT INVALID_STATE \
            CODE_INVALID CODE_EXPIRED CONFIRMATION_REQUIRED FILE_TOO_LARGE FILE_TYPE TENANCY_NOT_SUPPORTED \
            RESOURCE_CLASS_NOT_SUPPORTED TYPE_CLOSED METER_EXHAUSTED RESOURCE_BUSY AGREEMENT_REQUIRED NOT_ENTITLED \
            LIFECYCLE_ENDED IDEMPOTENCY_CONFLICT";
        for word in minimum.split_whitespace() {
            let word = word.to_lowercase();
            assert!(ErrorCode::ALL.iter().any(|code| code.as_str() == word), "{word} is missing");
        }
    }

    #[test]
    fn a_refusal_serialises_only_what_it_knows() {
        let refusal = Refusal::new(ErrorCode::FileType, "UPLOAD-01", "zip is not accepted");
        assert_eq!(
            serde_json::to_value(&refusal).unwrap(),
            serde_json::json!({"code": "file_type", "rule": "UPLOAD-01", "detail": "zip is not accepted"})
        );
    }
}
