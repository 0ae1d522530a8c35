//! An endpoint: who hears of which events, signed with what, and how it has been doing.
//!
//! The document (owner's wishes) and the health (sender's findings) are two documents, so that a sender that notes a
//! failure can never undo a rotation of secrets that happened at the same time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::outbox::UnixMs;
use super::signature::{Secret, SecretError};

/// How long the old secret still signs after a rotation.
pub const OLD_SECRET_LIVES: Duration = Duration::from_hours(24);
const MOST_SECRETS: usize = 10;
const CALLBACK_PREFIX: &str = "wh_cb_";

/// Which events an endpoint hears: `*`, `job.*` or `job.succeeded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventPattern(String);

/// The text is not an event pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an event pattern such as `job.succeeded`, `job.*` or `*`")]
pub struct BadPattern(String);

impl EventPattern {
    /// Every event of every job.
    pub fn all_of_jobs() -> Self {
        Self("job.*".to_owned())
    }

    /// Whether the event (`job.succeeded`) is meant.
    pub fn matches(&self, event: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => event.starts_with(prefix),
            None => self.0 == event,
        }
    }
}

impl FromStr for EventPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let word =
            |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let names = text.strip_suffix(".*").unwrap_or(text);
        let good = text == "*" || (text.len() <= 64 && names.split('.').all(word));
        if good { Ok(Self(text.to_owned())) } else { Err(BadPattern(text.chars().take(64).collect())) }
    }
}

impl TryFrom<String> for EventPattern {
    type Error = BadPattern;
    fn try_from(text: String) -> Result<Self, BadPattern> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret and until when it signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LiveSecret {
    secret: Secret,
    /// `None`: it is the current one.
    expires_at: Option<UnixMs>,
}

/// What its owner wants. Stored as JSON; [`Endpoint::view`] is what is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `wh_…`; `wh_cb_…` for a callback URL of jobs.
    pub id: String,
    /// Where to.
    pub url: String,
    /// Which events.
    pub events: Vec<EventPattern>,
    /// Whose events; `None` for every tenant's.
    pub tenant: Option<String>,
    /// The API key that made it.
    pub owner: String,
    /// Switched off by its owner.
    pub disabled: bool,
    /// When it was made.
    pub created_at: UnixMs,
    /// When it was last asked for by a new job (callbacks only; used to forget old ones).
    #[serde(default)]
    pub used_at: UnixMs,
    /// The tenant of the job that named it first (callbacks only): whose slots its deliveries use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_for: Option<String>,
    secrets: Vec<LiveSecret>,
}

impl Endpoint {
    /// A new endpoint with a fresh secret, which is the second value: to be shown once.
    pub fn new(
        url: String,
        events: Vec<EventPattern>,
        tenant: Option<String>,
        owner: String,
        now: UnixMs,
    ) -> Result<(Self, Secret), SecretError> {
        let mut bytes = [0; 12];
        getrandom::fill(&mut bytes).map_err(|_| SecretError::NoRandomness)?;
        let secret = Secret::generate()?;
        let endpoint = Self {
            id: format!("wh_{}", hex::encode(bytes)),
            url,
            events,
            tenant,
            owner,
            disabled: false,
            created_at: now,
            used_at: now,
            asked_for: None,
            secrets: vec![LiveSecret { secret: secret.clone(), expires_at: None }],
        };
        Ok((endpoint, secret))
    }

    /// The implicit endpoint of a job's `callback_url`, signed with the webhook secret of the key that enqueued it.
    pub fn callback(key: &str, url: &str, secret: Secret, now: UnixMs) -> Self {
        Self {
            id: callback_id(key, url),
            url: url.to_owned(),
            events: vec![EventPattern::all_of_jobs()],
            tenant: None,
            owner: key.to_owned(),
            disabled: false,
            created_at: now,
            used_at: now,
            asked_for: None,
            secrets: vec![LiveSecret { secret, expires_at: None }],
        }
    }

    /// Whose deliveries these are, where somebody less than everybody is meant: a tenant, or the API key of a callback.
    pub fn on_behalf_of(&self) -> Option<String> {
        let owner = || is_callback(&self.id).then(|| self.owner.clone());
        self.tenant.clone().or_else(|| self.asked_for.clone()).or_else(owner)
    }

    /// Whether this endpoint hears the event of a tenant's job.
    pub fn hears(&self, event: &str, tenant: &str) -> bool {
        !self.disabled
            && self.tenant.as_deref().is_none_or(|mine| mine == tenant)
            && self.events.iter().any(|pattern| pattern.matches(event))
    }

    /// The secrets that sign now, the current one first.
    pub fn live_secrets(&self, now: UnixMs) -> Vec<&Secret> {
        let live = self.secrets.iter().filter(|s| s.expires_at.is_none_or(|end| now < end));
        live.map(|s| &s.secret).collect()
    }

    /// Makes `fresh` the current secret; the old one signs beside it for 24 hours more.
    pub fn rotate(&mut self, fresh: Secret, now: UnixMs) {
        if self.secrets.first().is_some_and(|current| current.secret == fresh) {
            return;
        }
        self.secrets.retain(|s| s.secret != fresh && s.expires_at.is_none_or(|end| now < end));
        let end = now + i64::try_from(OLD_SECRET_LIVES.as_millis()).unwrap_or(i64::MAX);
        for old in &mut self.secrets {
            old.expires_at.get_or_insert(end);
        }
        self.secrets.insert(0, LiveSecret { secret: fresh, expires_at: None });
        self.secrets.truncate(MOST_SECRETS);
    }

    /// What is shown: everything but the secrets.
    pub fn view(&self, health: &Health) -> EndpointView {
        EndpointView {
            id: self.id.clone(),
            callback: is_callback(&self.id),
            url: self.url.clone(),
            events: self.events.clone(),
            tenant: self.tenant.clone(),
            state: if self.disabled { State::Disabled } else { health.state },
            reason: health.reason.clone(),
            created_at: rfc3339(self.created_at),
            failing_since: health.failing_since.map(rfc3339),
        }
    }
}

/// The id of a callback endpoint follows from the key and the URL, so that jobs of one caller share one.
pub fn callback_id(key: &str, url: &str) -> String {
    let digest = Sha256::digest(format!("{key}\n{url}"));
    format!("{CALLBACK_PREFIX}{}", hex::encode(&digest[..16]))
}

/// Whether the id is that of a callback endpoint.
pub fn is_callback(id: &str) -> bool {
    id.starts_with(CALLBACK_PREFIX)
}

/// An endpoint as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointView {
    /// Its id.
    pub id: String,
    /// It is the `callback_url` of jobs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub callback: bool,
    /// Where to.
    pub url: String,
    /// Which events.
    pub events: Vec<EventPattern>,
    /// Whose events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// How it is doing.
    pub state: State,
    /// Why it is not enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Since when no delivery has succeeded, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<String>,
}

/// How an endpoint is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Gets what it asked for.
    #[default]
    Enabled,
    /// Fails all the time: it is probed with one delivery now and then, the rest waits.
    Degraded,
    /// Given up by the sender: failed for five days, or answered 410. A person enables it again.
    DisabledAuto,
    /// Switched off by its owner.
    Disabled,
}

/// When an endpoint is held back, and when it is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthRules {
    /// Failures in a row …
    pub degrade_after_failures: u32,
    /// … over at least this long make it degraded.
    pub degrade_after: Duration,
    /// The time between probes of a degraded endpoint.
    pub probe_every: Duration,
    /// Failing for this long disables it.
    pub disable_after: Duration,
}

impl Default for HealthRules {
    fn default() -> Self {
        Self {
            degrade_after_failures: 10,
            degrade_after: Duration::from_mins(1),
            probe_every: Duration::from_secs(30),
            disable_after: Duration::from_hours(120),
        }
    }
}

/// What the sender found out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Health {
    /// Enabled, degraded or given up.
    pub state: State,
    /// Why it was given up.
    pub reason: Option<String>,
    /// The first failure since the last success.
    pub failing_since: Option<UnixMs>,
    /// Failures in a row. Exact in the sender's memory; stored only with a change of the other fields.
    pub failures: u32,
}

impl Health {
    /// A delivery succeeded; whether this is news that must be stored.
    pub fn succeeded(&mut self) -> bool {
        let news = self.state == State::Degraded || self.failing_since.is_some();
        // One that was given up stays so: a late success of a delivery under way is no decision to go on.
        if self.state != State::DisabledAuto {
            *self = Self::default();
        }
        news && self.state != State::DisabledAuto
    }

    /// A delivery failed; whether this is news that must be stored.
    pub fn failed(&mut self, now: UnixMs, gone: bool, rules: &HealthRules) -> bool {
        if self.state == State::DisabledAuto {
            return false;
        }
        let before = (self.state, self.failing_since);
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        let failing = Duration::from_millis(u64::try_from(now - since).unwrap_or(0));
        if gone {
            self.give_up("the receiver answered 410 Gone");
        } else if failing >= rules.disable_after {
            self.give_up("every delivery failed for too long");
        } else if self.failures >= rules.degrade_after_failures && failing >= rules.degrade_after {
            self.state = State::Degraded;
        }
        before != (self.state, self.failing_since)
    }

    /// Gives one that was given up another chance: probes, until one succeeds or they have failed for too long again.
    pub fn on_probation(now: UnixMs) -> Self {
        Self { state: State::Degraded, failing_since: Some(now), ..Self::default() }
    }

    fn give_up(&mut self, reason: &str) {
        self.state = State::DisabledAuto;
        self.reason = Some(reason.to_owned());
    }
}

/// A time as people read it.
pub fn rfc3339(at: UnixMs) -> String {
    let time: DateTime<Utc> = DateTime::from_timestamp_millis(at).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
