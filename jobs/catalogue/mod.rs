//! The catalogue: from a caller's command to a job that the engine can take in, and from a job to the kind that runs it.
//!
//! Invariant: nothing is accepted that the rules refuse, and each refusal names the field, the rule and what to do.

mod arguments;
mod context;
mod kind;
mod refused;
mod runner;
mod submission;

use std::collections::BTreeMap;
use std::sync::Arc;

use leasehold_engine::store::{Cutoff, Edit};
use leasehold_engine::{Enqueued, Idempotency, JobId, JobView, Resource, TicketUse};
use serde::Serialize;
use serde_json::Value;

pub use context::Ctx;
pub(crate) use context::failure;
pub(crate) use kind::{AnyKind, Asked, kind};
pub use kind::{Ask, Kind};
pub use refused::unknown;
pub use submission::{Admitted, Envelope, Limits, Submission, Verification};
pub(crate) use submission::{OWN_KEYS, instant};

use crate::policy::lead::Change;
use crate::policy::status::{self, Seen};
use crate::policy::{ErrorCode, Refusal, Rules, Status};
use crate::services::{Services, tickets};

/// What a person wants to do with a job that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Take it back.
    Cancel,
    /// Change it.
    Edit,
}

/// A kind as it is shown to callers.
#[derive(Debug, Clone, Serialize)]
pub struct KindCard {
    /// Its stable name.
    pub kind: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The queue that it waits in.
    pub queue: &'static str,
    /// Whether a planned job of it may be edited.
    pub editable: bool,
    /// JSON Schema of `args`.
    pub args: Value,
}

/// The JSON Schema of a type.
#[must_use]
pub fn schema_of<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// All kinds, with the rules and the services that they need.
#[derive(Clone)]
pub struct Catalogue {
    kinds: Arc<BTreeMap<&'static str, Box<dyn AnyKind>>>,
    queues: Arc<[&'static str]>,
    services: Arc<Services>,
    limits: Limits,
}

impl Catalogue {
    /// The catalogue of all kinds.
    #[must_use]
    pub fn new(services: Arc<Services>, limits: Limits) -> Self {
        let kinds = crate::kinds();
        let mut queues: Vec<&'static str> = Vec::new();
        for kind in &kinds {
            if !queues.contains(&kind.queue()) {
                queues.push(kind.queue());
            }
        }
        let kinds = kinds.into_iter().map(|kind| (kind.name(), kind)).collect();
        Self { kinds: Arc::new(kinds), queues: queues.into(), services, limits }
    }

    /// The kinds that a caller may ask for, by name.
    #[must_use]
    pub fn cards(&self) -> Vec<KindCard> {
        self.kinds.values().filter(|kind| !kind.internal()).map(|kind| kind.card()).collect()
    }

    /// The names of all kinds, internal ones included.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.kinds.keys().map(|name| (*name).to_owned()).collect()
    }

    /// The queues that jobs of these kinds wait in, in the order in which workers look: that of the list of kinds.
    #[must_use]
    pub fn queues(&self) -> Vec<String> {
        self.queues.iter().map(|queue| (*queue).to_owned()).collect()
    }

    /// The steps that each kind declares.
    #[must_use]
    pub fn steps(&self) -> Vec<(String, Vec<String>)> {
        let names = |kind: &dyn AnyKind| kind.steps().iter().map(|step| (*step).to_owned()).collect();
        self.kinds.values().map(|kind| (kind.name().to_owned(), names(&**kind))).collect()
    }

    /// Whether a kind belongs to the program itself and is never asked for (such as the sending of a notice).
    #[must_use]
    pub fn is_internal(&self, kind: &str) -> bool {
        self.kinds.get(kind).is_some_and(|kind| kind.internal())
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        self.services.rules()
    }

    /// What the kinds reach.
    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&dyn AnyKind> {
        self.kinds.get(kind).map(AsRef::as_ref)
    }

    /// Whether a command is accepted; the answer has all that the engine needs but an id.
    ///
    /// # Errors
    /// The first rule that it breaks. Nothing was written.
    pub async fn admit(&self, ask: &Submission) -> Result<Admitted, Refusal> {
        let kind = self.asked_for(&ask.kind)?;
        ask.check(&self.limits)?;
        let asked = Asked { services: &self.services, submission: ask, args: ask.args.clone(), planned: None };
        let (args, admission) = kind.admit(asked).await?;
        ask.check_time()?;
        let ticket = ask.ticket_use(admission.ticket_binding.as_deref());
        let reads = admission.reads.clone().map(|name| Resource::shared(tickets::short(name)));
        let touches = Resource::exclusive(tickets::short(admission.resource.clone()));
        let resources = [touches].into_iter().chain(reads).collect();
        let idempotency = ask.idempotency_key.as_ref().map(|key| Idempotency {
            key: key.clone(),
            digest: ask.digest(&args),
            ttl: self.limits.idempotency_ttl,
        });
        Ok(Admitted {
            kind: kind.name(),
            queue: kind.queue(),
            tenant: ask.tenant.id.clone(),
            args: args.into(),
            meta: Envelope::of(ask, &admission).to_bytes(),
            run_at: ask.run_at,
            priority: ask.priority,
            resources,
            destructive: kind.destructive(),
            retry: kind.retry(),
            allowance: admission.allowance,
            ticket,
            idempotency,
            notify: ask.callback.is_some(),
            locked: admission.locked,
        })
    }

    /// Reads the engine's answer to an [`Admitted`] job: the id, and whether it is the first job of its key again.
    ///
    /// # Errors
    /// The rule that the engine's script refused by: quota, code, idempotency key, back-pressure.
    pub fn accepted(&self, admitted: &Admitted, answer: Enqueued) -> Result<(JobId, bool), Refusal> {
        let quota_rule = self.get(admitted.kind).map_or("QUOTA-01", |kind| kind.quota_rule());
        refused::read(self.rules(), admitted, quota_rule, answer)
    }

    /// Whether a planned job may be changed to what `ask` says: `args` holds the changed fields only, `run_at` the new
    /// time or nothing. Runs the same guards again, wants a fresh code, takes no unit of the quota (SQL-17).
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub async fn admit_edit(
        &self,
        job: &JobView,
        ask: &Submission,
        expected_seq: Option<u32>,
    ) -> Result<Edit, Refusal> {
        let record = &job.record;
        let kind = self.asked_for(&record.kind)?;
        if !kind.editable() {
            let detail = format!("a job of kind `{}` cannot be edited", record.kind);
            return Err(Refusal::new(ErrorCode::InvalidState, "SQL-17", detail)
                .with_remedy("cancel it, and enqueue it as it should be"));
        }
        if record.place.is_final() || !job.steps.is_empty() {
            let detail = format!("it is {}: only a job that has not begun can be edited", record.place);
            return Err(Refusal::new(ErrorCode::InvalidState, "SQL-17", detail));
        }
        ask.check(&self.limits)?;
        let mut envelope = Envelope::read(&record.meta)
            .map_err(|error| Refusal::new(ErrorCode::Internal, "SQL-17", error.to_string()))?;
        let asked = Asked {
            services: &self.services,
            submission: ask,
            args: arguments::merged(&record.args, &ask.args)?,
            planned: Some(record.run_at),
        };
        let (args, admission) = kind.admit(asked).await?;
        ask.check_time()?;
        envelope.edited_by = Some(ask.actor.user_id.clone());
        envelope.planned_at = admission.run_at.timestamp_millis();
        Ok(Edit {
            expected_seq,
            cutoff: self.cutoff(&record.kind, What::Edit),
            run_at: ask.run_at,
            meta: envelope.to_bytes(),
            args: args.into(),
            note: serde_json::json!({"edited_by": ask.actor.user_id}).to_string(),
            ticket: ask.ticket_use(admission.ticket_binding.as_deref()),
        })
    }

    /// How much time must be left to the planned time (SQL-10); `None` where a kind has no such rule.
    #[must_use]
    pub fn cutoff(&self, kind: &str, what: What) -> Option<Cutoff> {
        let (What::Cancel | What::Edit) = what;
        let rule = self.rules().lead(kind)?;
        Some(Cutoff { lead_ms: u64::from(rule.min_lead_minutes) * 60_000, inclusive: rule.inclusive })
    }

    /// The refusal for a change that the engine found to come too late.
    #[must_use]
    pub fn too_late(&self, job: &JobView, what: What, now: leasehold_engine::UnixMs) -> Refusal {
        let rules = self.rules();
        let (code, change) = match what {
            What::Cancel => (ErrorCode::TooLateToCancel, Change::Cancel),
            What::Edit => (ErrorCode::TooLateToEdit, Change::Edit),
        };
        // After a failed attempt the engine's time is that of the next one, which nobody planned.
        let planned_at = Envelope::read(&job.record.meta).map_or(0, |envelope| envelope.planned_at);
        let retried = job.record.attempt > 0 && planned_at > 0;
        let planned = submission::instant(if retried { planned_at } else { job.record.run_at });
        let now = submission::instant(now);
        let by_lead = rules
            .lead(&job.record.kind)
            .and_then(|rule| rule.check(change, rules.calendar(), now, planned, "SQL-10").err());
        by_lead.unwrap_or_else(|| {
            let rule =
                if job.record.kind == crate::policy::rules::DATA_CENTER_RESTORE { "RESTORE-09" } else { "ENG-05" };
            Refusal::new(code, rule, "the part that cannot be taken back has begun")
        })
    }

    /// The business status of a job.
    #[must_use]
    pub fn status(&self, job: &JobView) -> Status {
        let result: Option<Value> = serde_json::from_slice(&job.record.result).ok();
        let seen = Seen { place: job.record.place, begun: !job.steps.is_empty(), result: result.as_ref() };
        status::of(&job.record.kind, seen)
    }

    fn asked_for(&self, name: &str) -> Result<&dyn AnyKind, Refusal> {
        self.get(name).filter(|kind| !kind.internal()).ok_or_else(|| {
            let known: Vec<_> = self.kinds.values().filter(|kind| !kind.internal()).map(|kind| kind.name()).collect();
            unknown(ErrorCode::UnknownKind, "kind", name, &known)
        })
    }
}

impl Submission {
    /// What the job spends of a ticket: only a digest of the code leaves this function (VERIFY-02).
    fn ticket_use(&self, binding: Option<&str>) -> Option<TicketUse> {
        let given = self.verification.as_ref()?;
        Some(TicketUse {
            id: given.challenge_id.clone(),
            digest: tickets::digest(&given.challenge_id, &given.code),
            binding: tickets::binding(binding?),
        })
    }
}
