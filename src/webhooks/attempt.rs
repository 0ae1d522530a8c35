//! One attempt at one delivery: look up the endpoint, sign, send, judge, and write down what happened.
//!
//! Everything that is decided here is written by one settle; a sender that dies before it leaves the delivery under a
//! lease that runs out, so the delivery is sent again under the same `webhook-id`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{Exchange, Parcel, SendError};
use super::directory::{Directory, DirectoryError, millis};
use super::endpoint::{Endpoint, Health, HealthRules, State, rfc3339};
use super::outbox::{DeliveryAttempt, DeliveryOutcome, UnixMs};
use super::schedule::{Failure, Next, Schedule, retry_after};
use super::signature::sign_with_all;

/// One attempt, as the delivery log keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLog {
    /// When it began, RFC 3339.
    pub at: String,
    /// 1 is the first.
    pub attempt: u16,
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How long the exchange took.
    pub ms: u64,
    /// The stable code of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The address that was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The start of the answer, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// When it is tried again, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) outcome: DeliveryOutcome,
    pub(super) log: AttemptLog,
    /// What it says of the endpoint; `None` when nothing was sent.
    pub(super) verdict: Option<Verdict>,
}

/// What an exchange says of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    Failing,
    Gone,
}

/// The endpoint of a delivery, or the code of why nothing is sent to it.
pub(super) async fn receiver(
    directory: &Directory,
    id: &str,
) -> Result<Result<Endpoint, &'static str>, DirectoryError> {
    let Some(endpoint) = directory.endpoint(id).await? else {
        return Ok(Err("endpoint_removed"));
    };
    match endpoint.disabled || directory.health(id).await?.state == State::DisabledAuto {
        true => Ok(Err("endpoint_disabled")),
        false => Ok(Ok(endpoint)),
    }
}

/// Signs for this moment: receivers refuse a timestamp that is 300 s off.
pub(super) fn parcel(endpoint: &Endpoint, delivery: &DeliveryAttempt, clock_ms: UnixMs) -> Parcel {
    let timestamp = clock_ms.div_euclid(1000);
    let secrets = endpoint.live_secrets(clock_ms);
    Parcel {
        signature: sign_with_all(&secrets, &delivery.id, timestamp, &delivery.body),
        id: delivery.id.clone(),
        timestamp,
        body: delivery.body.clone(),
    }
}

/// Nothing was sent, and nothing will be until a person replays it.
pub(super) fn withheld(delivery: &DeliveryAttempt, code: &'static str, now: UnixMs) -> Judgement {
    let mut log = blank(delivery, now);
    log.error = Some(code.to_owned());
    Judgement { outcome: DeliveryOutcome::Exhausted, log, verdict: None }
}

/// Judges an exchange that began at `began` and ended at `now`.
pub(super) fn judge(
    exchange: &Exchange,
    delivery: &DeliveryAttempt,
    schedule: &Schedule,
    (began, now): (UnixMs, UnixMs),
    draw: f64,
) -> Judgement {
    let mut log = blank(delivery, began);
    log.ms = u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX);
    log.ip = exchange.ip.map(|ip| ip.to_string());
    let failure = match &exchange.result {
        Ok(reply) => {
            log.status = Some(reply.status);
            log.answer = (!reply.head.is_empty()).then(|| reply.head.clone());
            if (200..300).contains(&reply.status) {
                return Judgement { outcome: DeliveryOutcome::Delivered, log, verdict: Some(Verdict::Fine) };
            }
            log.error = Some(status_code(reply.status).to_owned());
            log.detail = reply.location.as_ref().map(|to| format!("not followed: {to}"));
            let asked = reply.retry_after.as_deref().and_then(|value| retry_after(value, now));
            Failure { status: Some(reply.status), timed_out: false, retry_after: asked }
        }
        Err(error) => {
            log.error = Some(error.code().to_owned());
            log.detail = Some(error.to_string());
            Failure { status: None, timed_out: matches!(error, SendError::TimedOut(_)), retry_after: None }
        }
    };
    let (outcome, verdict) = match schedule.after(delivery.attempt, &failure, draw) {
        Next::RetryIn(wait) => (DeliveryOutcome::Retry { at: now.saturating_add(millis(wait)) }, Verdict::Failing),
        Next::Exhausted => (DeliveryOutcome::Exhausted, Verdict::Failing),
        Next::Gone => (DeliveryOutcome::Exhausted, Verdict::Gone),
    };
    if let DeliveryOutcome::Retry { at } = outcome {
        log.next_at = Some(rfc3339(at));
    }
    Judgement { outcome, log, verdict: Some(verdict) }
}

/// Notes what an exchange says of the endpoint; gives what is known of it now.
pub(super) async fn note_health(
    directory: &Directory,
    id: &str,
    verdict: Verdict,
    failures_seen: u32,
    now: UnixMs,
    rules: &HealthRules,
) -> Result<Health, DirectoryError> {
    let mut health = directory.health(id).await?;
    health.failures = health.failures.max(failures_seen);
    let news = match verdict {
        Verdict::Fine => health.succeeded(),
        Verdict::Failing => health.failed(now, false, rules),
        Verdict::Gone => health.failed(now, true, rules),
    };
    if news {
        tracing::info!(endpoint = id, state = ?health.state, reason = health.reason, "webhook endpoint changed its state");
        directory.set_health(id, &health).await?;
    }
    Ok(health)
}

/// The stable code of a status that is no success.
const fn status_code(status: u16) -> &'static str {
    match status {
        300..=399 => "redirect_refused",
        410 => "receiver_gone",
        429 => "receiver_overloaded",
        400..=499 => "receiver_rejects",
        _ => "receiver_failed",
    }
}

fn blank(delivery: &DeliveryAttempt, at: UnixMs) -> AttemptLog {
    AttemptLog {
        at: rfc3339(at),
        attempt: delivery.attempt,
        status: None,
        ms: 0,
        error: None,
        detail: None,
        ip: None,
        answer: None,
        next_at: None,
    }
}

/// How long to wait before a settle is tried again; `None` when it is time to give up.
pub(super) const fn settle_pause(tries: u32) -> Option<Duration> {
    match tries {
        0..=5 => Some(Duration::from_millis(100 << tries)),
        _ => None,
    }
}
