//! Every answer that is not 2xx: RFC 9457 problem+json with a stable `code`.
//!
//! A [`Problem`] travels in the extensions of an otherwise empty response; the outermost layer (`edge`) writes
//! it out with the request's id. So a 404 of the router, a refused body and a refused rule look alike.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::SecondsFormat;
use leasehold_engine::{JobId, StoreError};
use leasehold_jobs::policy::{ErrorCode, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

/// How much of a quota is used (QUOTA-04).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct QuotaState {
    /// Units taken in the period.
    pub used: u32,
    /// Units of the period.
    pub limit: u32,
    /// When the units are there again, RFC 3339 in the business zone.
    pub resets_at: String,
}

impl From<&leasehold_jobs::policy::refusal::QuotaUse> for QuotaState {
    fn from(quota: &leasehold_jobs::policy::refusal::QuotaUse) -> Self {
        Self { used: quota.used, limit: quota.limit, resets_at: stamp(&quota.resets_at) }
    }
}

/// What the caller is told when the answer is no.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemParts {
    /// Where the code is explained.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short text of the code, the same for every occurrence.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Stable, snake_case; programs decide by this.
    pub code: &'static str,
    /// One sentence about this occurrence.
    pub detail: String,
    /// The id of the rule that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
    /// The path of the field at fault, such as `args.script`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value of the limit that was broken, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// From when the same request would be allowed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_at: Option<String>,
    /// The state of the quota, when a quota refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaState>,
    /// What the caller can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The job that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The id of the request, the same as in `x-request-id` and in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip)]
    retry_after: Option<u64>,
    #[serde(skip)]
    accept_encoding: Option<&'static str>,
}

/// A no, one pointer wide.
#[derive(Debug, Clone)]
pub struct Problem(pub(super) Box<ProblemParts>);

impl Problem {
    /// A problem of this code, with one sentence about the occurrence.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let retry_after = match code {
            ErrorCode::StorageUnavailable | ErrorCode::ShuttingDown => Some(2),
            ErrorCode::TooManyJobs | ErrorCode::TooManyRequests => Some(5),
            _ => None,
        };
        Self(Box::new(ProblemParts {
            kind: format!("/docs#{code}"),
            title: code.title(),
            status: code.status(),
            code: code.as_str(),
            detail: detail.into(),
            rule: None,
            field: None,
            limit: None,
            allowed_at: None,
            quota: None,
            remedy: None,
            job_id: None,
            instance: None,
            retry_after,
            accept_encoding: None,
        }))
    }

    /// There is no such thing, or it is another tenant's: the caller cannot tell which (AC-199).
    pub fn not_found(what: &str, id: &str) -> Self {
        let shown: String = id.chars().take(80).collect();
        Self::new(ErrorCode::NotFound, format!("there is no {what} `{shown}`"))
    }

    /// A value of the request is not acceptable.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, detail).field(field)
    }

    /// Names the field at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Names the limit.
    #[must_use]
    pub fn limit(mut self, limit: impl Into<String>) -> Self {
        self.0.limit = Some(limit.into());
        self
    }

    /// Says what the caller can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Names the rule.
    #[must_use]
    pub fn rule(mut self, rule: &'static str) -> Self {
        self.0.rule = Some(rule);
        self
    }

    /// Names the job that is in the way.
    #[must_use]
    pub fn job(mut self, id: &JobId) -> Self {
        self.0.job_id = Some(id.to_string());
        self
    }

    /// Says when to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// Says which encodings of a body are accepted (RFC 9110, 15.5.16).
    #[must_use]
    pub fn accepts_encoding(mut self, encodings: &'static str) -> Self {
        self.0.accept_encoding = Some(encodings);
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The response as the caller gets it.
    #[must_use]
    pub(super) fn write(mut self, request_id: &str) -> Response {
        self.0.instance = Some(request_id.to_owned());
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(encodings) = self.0.accept_encoding {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encodings));
        }
        if self.0.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"leasehold\""));
        }
        response
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Self::new(refusal.code, refusal.detail.clone()).rule(refusal.rule);
        let parts = &mut *problem.0;
        parts.limit.clone_from(&refusal.limit);
        parts.field.clone_from(&refusal.field);
        parts.remedy.clone_from(&refusal.remedy);
        parts.allowed_at = refusal.allowed_at.as_ref().map(stamp);
        parts.quota = refusal.quota.as_ref().map(QuotaState::from);
        if refusal.code.status() == 429 && parts.retry_after.is_none() {
            let wait = refusal.allowed_at.map_or(60, |at| (at.timestamp() - chrono::Utc::now().timestamp()).max(1));
            parts.retry_after = Some(wait.unsigned_abs());
        }
        problem
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::warn!(code = error.code(), %error, "the store did not do what was asked");
        match &error {
            StoreError::Unreachable(_) => Self::new(
                ErrorCode::StorageUnavailable,
                "the store cannot be reached; whether anything changed is not known",
            )
            .remedy("send the same request again, with the same Idempotency-Key if it enqueues"),
            StoreError::Refused { .. } if error.is_out_of_memory() => {
                Self::new(ErrorCode::TooManyJobs, "the store's memory is full")
                    .rule("ENG-08")
                    .remedy("see `leasehold doctor`; what runs comes to its end, and makes room")
            }
            StoreError::Refused { .. } => {
                Self::new(ErrorCode::StorageUnavailable, "the store refuses to write; see `leasehold doctor`")
            }
            StoreError::BadCursor => Self::invalid("cursor", "it is no cursor of this list")
                .remedy("give `next` of the page before, or begin anew without a cursor"),
            StoreError::TooLong { what, max } => Self::invalid(*what, format!("it is longer than {max} bytes")),
            _ => Self::new(ErrorCode::Internal, "the store holds something that this version cannot read"),
        }
    }
}

fn stamp(at: &chrono::DateTime<chrono::FixedOffset>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
