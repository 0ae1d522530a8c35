//! The book of endpoints: register, show, rotate, switch, remove, and the implicit endpoints of callback URLs.
//!
//! Every write names the version it replaces and is done again on a conflict, so that no writer undoes another's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::endpoint::{Endpoint, EndpointView, EventPattern, Health, State, callback_id, is_callback};
use super::endpoint_url::{EndpointUrl, UrlRefused, UrlRules};
use super::outbox::{Document, OutboxError, Registry, UnixMs};
use super::signature::{Secret, SecretError};

const ENDPOINTS: &str = "webhooks";
const CALLBACKS: &str = "webhook_callbacks";
const HEALTH: &str = "webhook_health";
const MOST_TRIES: usize = 16;
/// A callback endpoint is written anew at most this often to say that it is still in use.
const USE_NOTED_EVERY: Duration = Duration::from_hours(24);

/// Why the book could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The URL is not allowed.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// No secret could be made.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] OutboxError),
    /// A stored document cannot be read by this version.
    #[error("the document `{0}` cannot be read")]
    Unreadable(String),
    /// Others wrote the same document all the time.
    #[error("the endpoint is being changed by others; try again")]
    Busy,
}

impl DirectoryError {
    /// The stable code for logs and problem documents.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Url(refused) => refused.code(),
            Self::Secret(_) => "secret_refused",
            Self::Store(_) => "storage_unavailable",
            Self::Unreadable(_) => "storage_corrupt",
            Self::Busy => "conflict",
        }
    }
}

type Result<T> = std::result::Result<T, DirectoryError>;

/// What a caller registers.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Where to.
    pub url: String,
    /// Which events; empty means `job.*`.
    pub events: Vec<EventPattern>,
    /// Whose events; `None` for every tenant's.
    pub tenant: Option<String>,
    /// The API key that asks.
    pub owner: String,
}

/// The callback URL of a job.
#[derive(Debug, Clone, Copy)]
pub struct NewCallback<'a> {
    /// The API key that asks.
    pub key: &'a str,
    /// Where to.
    pub url: &'a str,
    /// The key's webhook secret.
    pub secret: &'a Secret,
    /// Whose job it is.
    pub tenant: &'a str,
}

/// The book of endpoints.
#[derive(Clone)]
pub struct Directory {
    registry: Arc<dyn Registry>,
}

impl Directory {
    /// A book kept in this registry.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry }
    }

    /// Registers an endpoint. The secret is given this once.
    pub async fn register(&self, new: NewEndpoint, rules: &UrlRules, now: UnixMs) -> Result<(EndpointView, Secret)> {
        let url = EndpointUrl::parse(&new.url, rules)?.to_string();
        let events = if new.events.is_empty() { vec![EventPattern::all_of_jobs()] } else { new.events };
        let (endpoint, secret) = Endpoint::new(url, events, new.tenant, new.owner, now)?;
        self.write(ENDPOINTS, &endpoint.id, &endpoint, Some(0)).await?;
        self.registry.set_listening(true).await?;
        Ok((endpoint.view(&Health::default()), secret))
    }

    /// Makes sure that a callback URL has its endpoint, signed with the key's webhook secret; gives its id. One that was
    /// given up gets another chance: whoever asks anew has mended it, and nobody else would say so.
    pub async fn callback(&self, ask: NewCallback<'_>, rules: &UrlRules, now: UnixMs) -> Result<String> {
        let NewCallback { key, secret, tenant, .. } = ask;
        let url = EndpointUrl::parse(ask.url, rules)?.to_string();
        let id = callback_id(key, &url);
        if self.health(&id).await?.state == State::DisabledAuto {
            self.set_health(&id, &Health::on_probation(now)).await?;
        }
        for _ in 0..MOST_TRIES {
            let held: Option<(Endpoint, u32)> = self.read(CALLBACKS, &id).await?;
            let (endpoint, version) = match held {
                None => {
                    let mut fresh = Endpoint::callback(key, &url, secret.clone(), now);
                    fresh.asked_for = Some(tenant.to_owned());
                    (fresh, 0)
                }
                Some((held, version)) => {
                    let mut fresh = held.clone();
                    fresh.rotate(secret.clone(), now);
                    if must_be_noted(&fresh, now) {
                        fresh.used_at = now;
                    }
                    if fresh == held {
                        return Ok(id);
                    }
                    (fresh, version)
                }
            };
            if self.write(CALLBACKS, &id, &endpoint, Some(version)).await? {
                return Ok(id);
            }
        }
        Err(DirectoryError::Busy)
    }

    /// Notes that a callback endpoint is still in use, although nobody has asked for it anew: a schedule does not.
    pub async fn touch(&self, id: &str, now: UnixMs) -> Result<()> {
        let known: Option<(Endpoint, u32)> = self.read(registry_of(id), id).await?;
        if known.is_some_and(|(endpoint, _)| must_be_noted(&endpoint, now)) {
            self.change(id, |endpoint| endpoint.used_at = now).await?;
        }
        Ok(())
    }

    /// The endpoint, registered or of a callback.
    pub async fn endpoint(&self, id: &str) -> Result<Option<Endpoint>> {
        Ok(self.read(registry_of(id), id).await?.map(|(endpoint, _)| endpoint))
    }

    /// All registered endpoints, by id. A document that this version cannot read is left out and logged.
    pub async fn endpoints(&self) -> Result<Vec<Endpoint>> {
        self.all_of(ENDPOINTS).await
    }

    async fn all_of(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let documents = self.registry.documents(registry).await?;
        let read = documents.into_iter().filter_map(|(id, document)| match serde_json::from_slice(&document.bytes) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::error!(endpoint = id, %error, "webhook endpoint cannot be read");
                None
            }
        });
        Ok(read.collect())
    }

    /// What is shown of those endpoints that `seen` says yes to: the registered ones, then those of callbacks.
    pub async fn views(&self, seen: impl Fn(&Endpoint) -> bool) -> Result<Vec<EndpointView>> {
        let mut health = self.all_health().await?;
        let mut endpoints = self.endpoints().await?;
        endpoints.extend(self.all_of(CALLBACKS).await?);
        let seen = endpoints.iter().filter(|endpoint| seen(endpoint));
        Ok(seen.map(|endpoint| endpoint.view(&health.remove(&endpoint.id).unwrap_or_default())).collect())
    }

    /// What is shown of one endpoint.
    pub async fn view(&self, id: &str) -> Result<Option<EndpointView>> {
        let Some(endpoint) = self.endpoint(id).await? else { return Ok(None) };
        Ok(Some(endpoint.view(&self.health(id).await?)))
    }

    /// Forgets an endpoint; whether it was there. Deliveries under way end as exhausted.
    pub async fn remove(&self, id: &str) -> Result<bool> {
        let was = self.registry.delete_document(registry_of(id), id).await?;
        self.registry.delete_document(HEALTH, id).await?;
        if self.registry.documents(ENDPOINTS).await?.is_empty() {
            self.registry.set_listening(false).await?;
            // Somebody may have registered in between.
            if !self.registry.documents(ENDPOINTS).await?.is_empty() {
                self.registry.set_listening(true).await?;
            }
        }
        Ok(was)
    }

    /// Gives a registered endpoint a fresh secret; the old one signs beside it for 24 hours. `None`: no such endpoint.
    pub async fn rotate(&self, id: &str, now: UnixMs) -> Result<Option<Secret>> {
        let fresh = Secret::generate()?;
        let known = self.change(id, |endpoint| endpoint.rotate(fresh.clone(), now)).await?;
        Ok(known.then_some(fresh))
    }

    /// Switches an endpoint on or off; switching on also forgets that the sender gave it up. `false`: no such endpoint.
    pub async fn switch(&self, id: &str, on: bool) -> Result<bool> {
        let known = self.change(id, |endpoint| endpoint.disabled = !on).await?;
        if on {
            self.registry.delete_document(HEALTH, id).await?;
        }
        Ok(known)
    }

    /// Forgets callback endpoints that no job has asked for since `before`; how many.
    pub async fn prune_callbacks(&self, before: UnixMs) -> Result<u64> {
        let mut gone = 0;
        for (id, document) in self.registry.documents(CALLBACKS).await? {
            let old = serde_json::from_slice(&document.bytes).is_ok_and(|endpoint: Endpoint| endpoint.used_at < before);
            if old && self.registry.delete_document(CALLBACKS, &id).await? {
                self.registry.delete_document(HEALTH, &id).await?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// How an endpoint is doing.
    pub async fn health(&self, id: &str) -> Result<Health> {
        Ok(self.read(HEALTH, id).await?.map(|(health, _)| health).unwrap_or_default())
    }

    /// Notes how an endpoint is doing. Two senders may find different things; the later finding stays.
    pub async fn set_health(&self, id: &str, health: &Health) -> Result<()> {
        match health.state == State::Enabled && health.failing_since.is_none() {
            true => self.registry.delete_document(HEALTH, id).await.map(|_| ())?,
            false => self.write(HEALTH, id, health, None).await.map(|_| ())?,
        }
        Ok(())
    }

    async fn all_health(&self) -> Result<BTreeMap<String, Health>> {
        let documents = self.registry.documents(HEALTH).await?;
        let read = |(id, document): (String, Document)| Some((id, serde_json::from_slice(&document.bytes).ok()?));
        Ok(documents.into_iter().filter_map(read).collect())
    }

    async fn change(&self, id: &str, change: impl Fn(&mut Endpoint)) -> Result<bool> {
        for _ in 0..MOST_TRIES {
            let Some((mut endpoint, version)) = self.read::<Endpoint>(registry_of(id), id).await? else {
                return Ok(false);
            };
            change(&mut endpoint);
            if self.write(registry_of(id), id, &endpoint, Some(version)).await? {
                return Ok(true);
            }
        }
        Err(DirectoryError::Busy)
    }

    async fn read<T: DeserializeOwned>(&self, registry: &str, id: &str) -> Result<Option<(T, u32)>> {
        let Some(document) = self.registry.document(registry, id).await? else { return Ok(None) };
        let read = serde_json::from_slice(&document.bytes).map_err(|_| DirectoryError::Unreadable(id.to_owned()))?;
        Ok(Some((read, document.version)))
    }

    async fn write<T: Serialize>(&self, registry: &str, id: &str, document: &T, expected: Option<u32>) -> Result<bool> {
        let bytes = serde_json::to_vec(document).map_err(|_| DirectoryError::Unreadable(id.to_owned()))?;
        Ok(self.registry.put_document(registry, id, &bytes, expected).await?)
    }
}

fn must_be_noted(endpoint: &Endpoint, now: UnixMs) -> bool {
    now - endpoint.used_at > millis(USE_NOTED_EVERY)
}

fn registry_of(id: &str) -> &'static str {
    if is_callback(id) { CALLBACKS } else { ENDPOINTS }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
