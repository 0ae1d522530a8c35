//! Who asks: bearer keys, what they may do, and whose things they see (ENG-12).
//!
//! Only the SHA-256 of a key is stored. A slow hash would guard a guessable password; a key is 256 random bits, so that
//! guessing is hopeless at any speed, and a fast hash costs no worker. The id of the stored document follows from the
//! hash, so finding it compares nothing an attacker could measure byte by byte.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use leasehold_engine::{JobView, UnixMs};
use leasehold_jobs::policy::{ErrorCode, KeyRole, Permission};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{problem::Problem, state::ApiState};
use crate::webhooks::signature::Secret;

/// The registry of the keys.
pub(super) const KEYS: &str = "keys";
/// The registry of when keys were last used: `id` → ms as text.
pub(super) const KEYS_USED: &str = "keys_used";
/// What every key begins with, so that a leaked one is recognised.
const PREFIX: &str = "lh_";

/// An API key as it is stored: everything but the key.
#[derive(Clone, Serialize, Deserialize)]
pub struct ApiKey {
    /// `key_…`, follows from the hash.
    pub id: String,
    /// For people.
    pub name: String,
    /// What it may do.
    pub roles: Vec<KeyRole>,
    /// Whose things it sees; `None` for all tenants'.
    pub tenant: Option<String>,
    /// When it was made.
    pub created_at: UnixMs,
    /// SHA-256 of the key, hex.
    hash: String,
    /// Signs the callbacks of the jobs that it enqueues.
    pub(super) webhook_secret: Secret,
}

/// A fresh key as its owner gets it, once.
pub struct FreshKey {
    /// What is stored.
    pub stored: ApiKey,
    /// The key.
    pub token: String,
    /// The webhook secret.
    pub webhook_secret: Secret,
}

impl ApiKey {
    /// Makes a key of 256 random bits.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate(name: &str, roles: Vec<KeyRole>, tenant: Option<String>, now: UnixMs) -> Result<FreshKey, Problem> {
        let no_chance = || Problem::new(ErrorCode::Internal, "the operating system gives no random bytes");
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| no_chance())?;
        let webhook_secret = Secret::generate().map_err(|_| no_chance())?;
        let token = format!("{PREFIX}{}", hex::encode(bytes));
        let hash = hash(&token);
        let stored = Self {
            id: id_of(&hash),
            name: name.to_owned(),
            roles,
            tenant,
            created_at: now,
            hash,
            webhook_secret: webhook_secret.clone(),
        };
        Ok(FreshKey { stored, token, webhook_secret })
    }
}

fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

fn id_of(hash: &str) -> String {
    format!("key_{}", &hash[..20])
}

/// An authenticated caller. A route that takes one cannot be reached without a key.
#[derive(Clone)]
pub struct Caller {
    /// The key that was presented.
    pub key: ApiKey,
}

impl Caller {
    /// Whether the key has not been revoked since. A store that is away says nothing of the key.
    pub async fn is_known_still(&self, state: &ApiState) -> bool {
        let known = !matches!(state.store().document(KEYS, &self.key.id).await, Ok(None));
        state.note_known(&self.key.id, known);
        known
    }

    /// The same as of a moment ago: a thousand idle streams of one key ask the store once.
    pub async fn was_known_lately(&self, state: &ApiState) -> bool {
        state.is_known_lately(&self.key.id) || self.is_known_still(state).await
    }

    /// Refuses unless a role of the key allows it.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn check(&self, permission: Permission) -> Result<(), Problem> {
        Ok(KeyRole::check(&self.key.roles, permission)?)
    }

    /// Refuses a key that is bound to a tenant, for what concerns all of them.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn check_everywhere(&self, permission: Permission) -> Result<(), Problem> {
        self.check(permission)?;
        match &self.key.tenant {
            None => Ok(()),
            Some(_) => {
                Err(Problem::new(ErrorCode::Forbidden, "the API key is bound to one tenant, and this concerns all")
                    .rule("ENG-12")
                    .limit("a key for all tenants"))
            }
        }
    }

    /// Whether the tenant's things are this caller's to see.
    #[must_use]
    pub fn sees(&self, tenant: &str) -> bool {
        self.key.tenant.as_deref().is_none_or(|mine| mine == tenant)
    }

    /// The tenant, if it is this caller's to see; otherwise it does not exist (AC-199).
    ///
    /// # Errors
    /// `not_found`.
    pub fn check_tenant(&self, tenant: &str) -> Result<(), Problem> {
        if self.sees(tenant) { Ok(()) } else { Err(Problem::not_found("tenant", tenant)) }
    }

    /// The job, if it is this caller's to see; otherwise it does not exist (AC-199).
    ///
    /// # Errors
    /// `not_found`; or the store cannot be reached.
    pub async fn job(&self, state: &ApiState, id: &str) -> Result<JobView, Problem> {
        let missing = || Problem::not_found("job", id);
        let known = state.store().job(&id.parse().map_err(|_| missing())?).await?;
        known.filter(|view| self.sees(&view.record.tenant)).ok_or_else(missing)
    }
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let refuse = |detail: &str| Problem::new(ErrorCode::Unauthorized, detail).rule("ENG-12");
        let given = parts.headers.get(header::AUTHORIZATION).ok_or_else(|| {
            refuse("no API key was sent").remedy("send `Authorization: Bearer <key>`; `leasehold key create` makes one")
        })?;
        let given = given.to_str().unwrap_or_default();
        let token = given
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| refuse("the authorization is not `Bearer <key>`"))?;
        let hash = hash(token);
        let held = state.store().document(KEYS, &id_of(&hash)).await?;
        let key =
            held.and_then(|d| serde_json::from_slice::<ApiKey>(&d.bytes).ok()).filter(|key| same(&key.hash, &hash));
        let key = key.ok_or_else(|| refuse("the API key is not known, or it was revoked"))?;
        note_use(state, &key.id);
        Ok(Self { key })
    }
}

/// Takes the same time wherever the difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

/// Best effort, beside the request: when a key was last used is for people who tidy up.
fn note_use(state: &ApiState, id: &str) {
    let now = chrono::Utc::now().timestamp_millis();
    if state.note_use(id, now) {
        let (store, id) = (state.store().clone(), id.to_owned());
        tokio::spawn(async move { store.put_document(KEYS_USED, &id, now.to_string().as_bytes(), None).await });
    }
}
