//! What a running kind gets: the engine's context, and the services, rules and actor around it.
//!
//! Invariant: what decides (lease, window, time) is read when the attempt runs, never taken from the acceptance.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use leasehold_engine::{JobError, JobId, Recovery, Verdict};
use leasehold_targets::TargetError;
use leasehold_targets::database::{Database, OnProgress, Progress};
use serde_json::json;

use super::submission::{Envelope, instant};
use crate::policy::rules::Start;
use crate::policy::{Notice, Rules, Tenant};
use crate::services::Services;
use crate::services::telling::{self, Speaker};

/// A running job's context; the engine's own verbs (`step`, `progress`, `log`, …) are reached through it.
#[derive(Clone)]
pub struct Ctx {
    engine: leasehold_engine::Ctx,
    services: Arc<Services>,
    envelope: Arc<Envelope>,
}

impl Deref for Ctx {
    type Target = leasehold_engine::Ctx;

    fn deref(&self) -> &Self::Target {
        &self.engine
    }
}

impl Speaker for Ctx {
    fn services(&self) -> &Services {
        &self.services
    }

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn id(&self) -> &JobId {
        self.engine.id()
    }

    fn tenant_id(&self) -> &str {
        self.engine.tenant()
    }

    fn say(&self, line: String) {
        self.engine.log(line);
    }
}

impl Ctx {
    pub(super) fn new(engine: leasehold_engine::Ctx, services: Arc<Services>, envelope: Envelope) -> Self {
        Self { engine, services, envelope: Arc::new(envelope) }
    }

    /// What the kinds reach.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        self.services.rules()
    }

    /// Who asked for it, with labels and planned time.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The store's time as an instant.
    ///
    /// # Errors
    /// Transient when the store cannot be reached.
    pub async fn instant(&self) -> Result<DateTime<Utc>, JobError> {
        Ok(instant(self.now().await?))
    }

    /// An instant as people of the business zone read it.
    #[must_use]
    pub fn shown(&self, at: DateTime<Utc>) -> String {
        self.rules().calendar().stamp(at).format("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// The tenant's document as it is now.
    ///
    /// # Errors
    /// Permanent when there is no such tenant any more.
    pub async fn tenant_document(&self) -> Result<Tenant, JobError> {
        let found = self.services.directory().tenant(self.tenant()).await?;
        found.ok_or_else(|| JobError::permanent("unknown_tenant", format!("there is no tenant `{}`", self.tenant())))
    }

    /// The database of a data center.
    ///
    /// # Errors
    /// Permanent when its address cannot be used.
    pub fn database(&self, tenant: &Tenant, data_center: &str) -> Result<Arc<dyn Database>, JobError> {
        self.services.database(tenant, data_center).map_err(failure)
    }

    /// Whether a step of this job has ended in an earlier attempt.
    ///
    /// # Errors
    /// Transient when the store cannot be reached.
    pub async fn has_ended(&self, step: &str) -> Result<bool, JobError> {
        let view = self.services.store().job(self.id()).await;
        let view = view.map_err(|error| JobError::transient(error.code(), error.to_string()))?;
        Ok(view.is_some_and(|view| view.steps.iter().any(|held| held.done && held.name == step)))
    }

    /// Asks the rules again now that the job starts: `None` to go on, a verdict to wait (SQL-14, SQL-16).
    ///
    /// # Errors
    /// Permanent, with the code of the rule, when it may not run any more.
    pub async fn start_check(&self, tenant: &Tenant, data_center: &str) -> Result<Option<Verdict>, JobError> {
        match self.rules().start_check(self.kind(), self.instant().await?, tenant, data_center) {
            Start::Go => Ok(None),
            Start::Refuse(refusal) => Err(JobError::permanent(refusal.code.as_str(), refusal.to_string())),
            Start::WaitUntil { at, flag } => {
                let until = self.shown(at);
                self.log(format!("{flag}: waits until {until}"));
                self.progress(0, flag);
                self.note(json!({"detail": flag, "until": self.rules().calendar().stamp(at).to_rfc3339()}));
                let window = self.rules().sql.maintenance.window.map(|window| window.to_string());
                let values = [
                    ("tenant", tenant.name.clone()),
                    ("data_center", data_center.to_owned()),
                    ("job", self.id().to_string()),
                    ("starts_at", until),
                    ("window", window.unwrap_or_default()),
                ];
                telling::tell(self, Notice::SqlUpdateDeferred, &telling::submitter(self, tenant), &values).await;
                Ok(Some(Verdict::Snooze { until: at.timestamp_millis(), reason: flag.to_owned() }))
            }
        }
    }

    /// Passes a long operation's progress on as a stretch of the job's own.
    pub(crate) fn stretch(&self, from: u8, to: u8) -> OnProgress {
        let ctx = self.clone();
        Arc::new(move |progress: Progress| {
            let share = u16::from(progress.percent().unwrap_or(0));
            let percent = u16::from(from) + share * u16::from(to.saturating_sub(from)) / 100;
            ctx.progress(u8::try_from(percent).unwrap_or(to), progress.text);
        })
    }
}

/// A target's failure as the engine hears it: what can pass is tried again.
///
/// A stale fence is transient: who really lost the lease is not heard by the engine anyway (E3).
pub(crate) fn failure(error: TargetError) -> JobError {
    let text = chain(&error);
    match &error {
        TargetError::Cancelled { .. } => JobError::permanent("cancelled", text).with(Recovery::Cancelled),
        TargetError::StaleFence { .. } => JobError::transient(error.code(), text),
        other if other.is_transient() => JobError::transient(other.code(), text),
        other => JobError::permanent(other.code(), text),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
