//! What a schedule makes a job of, and how: by the same rules as a caller's request, asked anew for each slot.
//!
//! Invariant: a schedule has no more rights than its job's actor has at the time of the slot. A rule that says no makes
//! the slot a missed one; a store or a target that is away makes it a late one.

mod file;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use leasehold_engine::{
    JobId, NewJob, Priority, Store, StoreError, UnixMs,
    model::Schedule,
    upkeep::{SlotJobs, SlotRefusal},
};
use leasehold_jobs::{Actor, Admitted, Catalogue, Refusal, Submission, Tenant, policy::ErrorCode, services::TENANTS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::webhooks::directory::Directory;

pub use file::{FileSchedule, apply, load, warn_of_orphans};

/// The job that a schedule asks for at each slot: a job request without a time and without a code that can be used once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobTemplate {
    /// The kind.
    pub kind: String,
    /// Whose job it is.
    pub tenant: String,
    /// In whose name (ROLE-19).
    pub actor: Actor,
    /// What the kind reads.
    #[serde(default = "no_args")]
    pub args: Value,
    /// Order among ready jobs.
    #[serde(default)]
    pub priority: Priority,
    /// Told of every change of each job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// The caller's own words; `schedule` and `slot` are added, and taken.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The caller's own id of whatever this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The user's second confirmation (VERIFY-03), for every slot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
}

/// Labels that each job of a schedule gets, by which it is known.
const OWN_LABELS: [&str; 2] = ["schedule", "slot"];

/// A schedule's job brings a label that is not its own to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the label `{0}` is the schedule's own: each of its jobs gets it; use another name")]
pub(crate) struct TakenLabel(&'static str);

impl TakenLabel {
    pub(crate) fn field(self) -> String {
        format!("job.labels.{}", self.0)
    }
}

impl JobTemplate {
    pub(crate) fn check_labels(&self) -> Result<(), TakenLabel> {
        OWN_LABELS.into_iter().find(|name| self.labels.contains_key(*name)).map_or(Ok(()), |name| Err(TakenLabel(name)))
    }
}

fn no_args() -> Value {
    Value::Object(serde_json::Map::new())
}

/// What the store keeps of a schedule's job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) job: JobTemplate,
    /// What the webhooks need for the callback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) callback: Option<Value>,
}

impl Kept {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        // Texts, numbers and maps with text keys: this cannot fail; an empty document would be refused when read.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Asks the rules for the job of a slot.
    pub(crate) async fn admit(
        self,
        catalogue: &Catalogue,
        tenant: Tenant,
        (name, slot): (&str, UnixMs),
        now: UnixMs,
    ) -> Result<Admitted, Refusal> {
        let Self { job, callback } = self;
        let mut labels = job.labels;
        labels.extend(OWN_LABELS.map(str::to_owned).into_iter().zip([name.to_owned(), stamp(slot)]));
        let asked = Submission {
            kind: job.kind,
            tenant,
            actor: job.actor,
            args: job.args,
            run_at: None,
            now,
            confirmed: job.confirmed,
            verification: None,
            idempotency_key: None,
            priority: job.priority,
            labels,
            correlation_id: job.correlation_id,
            callback,
        };
        catalogue.admit(&asked).await
    }
}

fn stamp(at: UnixMs) -> String {
    DateTime::from_timestamp_millis(at).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Makes the jobs of schedules with the catalogue of kinds.
pub struct SlotMaker {
    store: Store,
    catalogue: Arc<Catalogue>,
}

impl SlotMaker {
    /// A maker on this store.
    #[must_use]
    pub fn new(store: Store, catalogue: Arc<Catalogue>) -> Self {
        Self { store, catalogue }
    }
}

#[async_trait]
impl SlotJobs for SlotMaker {
    async fn job(&self, schedule: &Schedule, slot: UnixMs) -> Result<NewJob, SlotRefusal> {
        let spec = &schedule.spec;
        let kept = Kept::read(&spec.job).map_err(|error| refused(ErrorCode::Internal, error.to_string()))?;
        let held = self.store.document(TENANTS, &spec.tenant).await.map_err(|error| away(&error))?;
        let missing = || refused(ErrorCode::UnknownTenant, format!("there is no tenant `{}`", spec.tenant));
        let tenant = Tenant::parse(&spec.tenant, &held.ok_or_else(missing)?.bytes).map_err(|no| said(&no))?;
        let now = self.store.now().await.map_err(|error| away(&error))?;
        let callback = kept.callback.as_ref().and_then(|c| c.get("endpoint")?.as_str().map(str::to_owned));
        let admitted = kept.admit(&self.catalogue, tenant, (&spec.name, slot), now).await.map_err(|no| said(&no))?;
        self.keep_callback(callback.as_deref(), now).await;
        // The store gives the job the id of its slot.
        Ok(admitted.job(JobId::new(self.store.shard_of(&spec.tenant))))
    }
}

impl SlotMaker {
    /// A callback that only a schedule asks for must not be forgotten as one that nobody uses. The job is not held up.
    async fn keep_callback(&self, callback: Option<&str>, now: UnixMs) {
        let Some(id) = callback else { return };
        if let Err(error) = Directory::new(Arc::new(self.store.clone())).touch(id, now).await {
            tracing::warn!(endpoint = id, code = error.code(), "the use of a callback is not noted");
        }
    }
}

fn refused(code: ErrorCode, detail: String) -> SlotRefusal {
    SlotRefusal::Refused { code: code.as_str().to_owned(), detail }
}

fn away(error: &StoreError) -> SlotRefusal {
    SlotRefusal::NotNow(error.to_string())
}

/// What is the program's state, not a rule, is asked again.
fn said(no: &Refusal) -> SlotRefusal {
    match no.code {
        ErrorCode::TargetUnreachable
        | ErrorCode::StorageUnavailable
        | ErrorCode::ShuttingDown
        | ErrorCode::TooManyJobs => SlotRefusal::NotNow(no.detail.clone()),
        code => refused(code, no.detail.clone()),
    }
}
