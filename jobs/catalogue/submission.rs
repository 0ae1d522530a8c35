//! A caller's command as it comes in, what is kept beside the job, and the job-to-be that the engine takes in.
//!
//! Invariant: a verification code is never part of what is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use leasehold_engine::{Allowance, Idempotency, JobId, NewJob, Priority, Resource, Retry, TicketUse, UnixMs};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::policy::rules::Admission;
use crate::policy::{self, Actor, ErrorCode, Refusal, Tenant, shown};

/// The prefix of idempotency keys that the program itself uses.
pub(crate) const OWN_KEYS: &str = "leasehold:";

/// A command that asks to be accepted.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The kind.
    pub kind: String,
    /// The tenant's document.
    pub tenant: Tenant,
    /// The person in whose name.
    pub actor: Actor,
    /// The kind's arguments; for an edit, the changed ones.
    pub args: Value,
    /// When it is to run; now when left out.
    pub run_at: Option<UnixMs>,
    /// The store's clock (T-6).
    pub now: UnixMs,
    /// The second confirmation (VERIFY-03).
    pub confirmed: bool,
    /// A code that was sent to the actor.
    pub verification: Option<Verification>,
    /// The caller's key against doubles, 1 to 128 bytes.
    pub idempotency_key: Option<String>,
    /// Order among ready jobs.
    pub priority: Priority,
    /// The caller's own labels.
    pub labels: BTreeMap<String, String>,
    /// The caller's own id of whatever this belongs to.
    pub correlation_id: Option<String>,
    /// What the webhooks need for a callback of this very job; kept in the meta document as it is.
    pub callback: Option<Value>,
}

/// A code presented with a command (VERIFY-01).
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// The `challenge_id` of the `verification_code` job's result.
    pub challenge_id: String,
    /// The code that the user typed.
    pub code: String,
}

impl std::fmt::Debug for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verification").field("challenge_id", &self.challenge_id).field("code", &"…").finish()
    }
}

/// Bounds on what a caller may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an idempotency key is remembered.
    pub idempotency_ttl: Duration,
    /// Labels of a job.
    pub max_labels: usize,
    /// Bytes of all labels of a job.
    pub max_labels_bytes: usize,
}

/// A planned time may be past by as much: the caller's clock differs from the store's, and the command was on its way.
const LATE_MS: i64 = 60_000;
/// A planned time further ahead than this is a slip.
const FAR_MS: i64 = 3653 * 86_400_000;

impl Default for Limits {
    fn default() -> Self {
        Self { idempotency_ttl: Duration::from_secs(86_400), max_labels: 32, max_labels_bytes: 4096 }
    }
}

/// What is kept beside a job and told with its events: the engine's `meta`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The person in whose name it runs.
    pub actor: Actor,
    /// The planned time as it was accepted.
    pub planned_at: UnixMs,
    /// Neither edit nor revocation was possible from the start.
    #[serde(default)]
    pub locked: bool,
    /// The caller's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The caller's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Who edited it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_by: Option<String>,
    /// What the webhooks need for a callback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Value>,
}

impl Envelope {
    pub(super) fn of(ask: &Submission, admission: &Admission) -> Self {
        Self {
            actor: ask.actor.clone(),
            planned_at: admission.run_at.timestamp_millis(),
            locked: admission.locked,
            labels: ask.labels.clone(),
            correlation_id: ask.correlation_id.clone(),
            edited_by: None,
            callback: ask.callback.clone(),
        }
    }

    /// The envelope of a job that another job makes in its submitter's name.
    pub(crate) fn internal(of: &Self, parent: &JobId) -> Self {
        Self {
            actor: of.actor.clone(),
            planned_at: 0,
            locked: false,
            labels: BTreeMap::new(),
            correlation_id: Some(parent.to_string()),
            edited_by: None,
            callback: None,
        }
    }

    /// Reads a job's meta document.
    ///
    /// # Errors
    /// When the bytes are not an envelope.
    pub fn read(meta: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(meta)
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        // Strings, numbers and maps with text keys: this cannot fail; an empty document would be refused when read.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// A command that the rules accept: all that the engine needs but an id.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The kind.
    pub kind: &'static str,
    /// The queue.
    pub queue: &'static str,
    /// The tenant.
    pub tenant: String,
    /// The arguments in their stored form.
    pub args: Bytes,
    /// The [`Envelope`], as JSON.
    pub meta: Bytes,
    /// When it is to run; now when `None`.
    pub run_at: Option<UnixMs>,
    /// Order among ready jobs.
    pub priority: Priority,
    /// What only one job may touch at a time, and what it shares with others that only read it.
    pub resources: Vec<Resource>,
    /// It has effects that cannot be repeated: after a jump of the clock it waits for a person.
    pub destructive: bool,
    /// Attempts and delays.
    pub retry: Retry,
    /// The unit of a quota that the acceptance takes (QUOTA-03).
    pub allowance: Option<policy::Allowance>,
    /// The code that the acceptance spends (VERIFY-02).
    pub ticket: Option<TicketUse>,
    /// The caller's key.
    pub idempotency: Option<Idempotency>,
    /// Tell each change even if no endpoint listens.
    pub notify: bool,
    /// Neither edit nor revocation is possible from the start.
    pub locked: bool,
}

impl Admitted {
    /// The job for [`Store::enqueue`](leasehold_engine::Store::enqueue); `id` is of
    /// [`Store::new_id`](leasehold_engine::Store::new_id) for the tenant.
    #[must_use]
    pub fn job(&self, id: JobId) -> NewJob {
        NewJob {
            id,
            kind: self.kind.to_owned(),
            tenant: self.tenant.clone(),
            queue: self.queue.to_owned(),
            args: self.args.clone(),
            meta: self.meta.clone(),
            run_at: self.run_at,
            priority: self.priority,
            resources: self.resources.clone(),
            retry: self.retry,
            idempotency: self.idempotency.clone(),
            allowance: self.allowance.as_ref().map(|allowance| Allowance {
                name: allowance.name.clone(),
                limit: allowance.limit,
                resets_at: allowance.resets_at_ms(),
                refund: allowance.refund,
            }),
            ticket: self.ticket.clone(),
            notify: self.notify,
            destructive: self.destructive,
            // Limits by key count a tenant's jobs of a kind.
            key: Some(self.tenant.clone()),
            parent: None,
        }
    }
}

impl Submission {
    /// Checks what is common to all kinds (7.1).
    pub(super) fn check(&self, limits: &Limits) -> Result<(), Refusal> {
        let user = self.actor.user_id.trim();
        if user.is_empty() || user.len() > 128 {
            return Err(Refusal::invalid("ROLE-19", "actor.user_id", "1 to 128 bytes are needed"));
        }
        if let Some(key) = &self.idempotency_key {
            let own = key.starts_with(OWN_KEYS);
            if own || !(1..=128).contains(&key.len()) {
                let detail = if own { "keys that begin with `leasehold:` are the program's own" } else { "its length" };
                return Err(Refusal::invalid("ENG-03", "Idempotency-Key", detail).with_limit("1 to 128 bytes"));
            }
        }
        if let Some(given) = &self.verification
            && (given.challenge_id.len() > 64 || given.code.len() > 64)
        {
            return Err(Refusal::invalid("VERIFY-02", "verification", "a challenge and a code have at most 64 bytes"));
        }
        shown::check_name("ROLE-19", "actor.user_id", &self.actor.user_id)?;
        self.actor.check_addresses()?;
        for (name, value) in &self.labels {
            shown::check_name("ENG-01", "labels", name)?;
            shown::check_name("ENG-01", &format!("labels.{name}"), value)?;
        }
        shown::check_name("ENG-01", "correlation_id", self.correlation_id.as_deref().unwrap_or_default())?;
        let bytes: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.labels.len() > limits.max_labels || bytes > limits.max_labels_bytes {
            let limit = format!("{} labels, {} bytes", limits.max_labels, limits.max_labels_bytes);
            return Err(Refusal::invalid("ENG-01", "labels", format!("{} labels, {bytes} bytes", self.labels.len()))
                .with_limit(limit));
        }
        if self.correlation_id.as_ref().is_some_and(|id| id.len() > 256) {
            return Err(Refusal::invalid("ENG-01", "correlation_id", "it is too long").with_limit("256 bytes"));
        }
        Ok(())
    }

    /// A planned time is to come. The rules of a kind may be stricter, and are told first.
    pub(super) fn check_time(&self) -> Result<(), Refusal> {
        let Some(at) = self.run_at else { return Ok(()) };
        let why = match at.saturating_sub(self.now) {
            ahead if ahead < -LATE_MS => "it is in the past",
            ahead if ahead > FAR_MS => "it is more than ten years ahead",
            _ => return Ok(()),
        };
        Err(Refusal::new(ErrorCode::TimeNotAllowed, "ENG-01", why)
            .with_field("run_at")
            .with_limit("from a minute ago to ten years ahead")
            .with_remedy("leave it out to begin at once"))
    }

    /// The digest of what is asked for; the same for a repeated command (ENG-03).
    pub(super) fn digest(&self, args: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        let run_at = self.run_at.map_or_else(String::new, |at| at.to_string());
        for part in
            [self.kind.as_bytes(), self.tenant.id.as_bytes(), self.actor.user_id.as_bytes(), run_at.as_bytes(), args]
        {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// An instant of the store's clock; the far end of time when it is none ([`Submission::check`] refuses such).
pub(crate) fn instant(at: UnixMs) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
