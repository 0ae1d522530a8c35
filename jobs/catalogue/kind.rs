//! What a kind is, and how the catalogue holds kinds of different types in one list.
//!
//! Invariant: arguments are parsed once, at the border; a kind sees only its own type.

use std::marker::PhantomData;

use async_trait::async_trait;
use leasehold_engine::{JobError, Retry, UnixMs, Verdict};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::arguments;
use super::context::Ctx;
use super::submission::{Submission, instant};
use super::{KindCard, schema_of};
use crate::policy::rules::Admission;
use crate::policy::{self, Refusal, Rules};
use crate::services::Services;

/// A sort of job: its arguments, who may ask for it when, and what it does.
#[async_trait]
pub trait Kind: Serialize + DeserializeOwned + JsonSchema + Send + Sync + Sized + 'static {
    /// Stable snake_case name; never a Rust path.
    const NAME: &'static str;
    /// One sentence for callers.
    const SUMMARY: &'static str;
    /// The queue that it waits in.
    const QUEUE: &'static str = "default";
    /// When a failed attempt is tried again.
    const RETRY: Retry;
    /// The rule that its arguments come from.
    const RULE: &'static str;
    /// The rule that a spent quota is refused by.
    const QUOTA_RULE: &'static str = "QUOTA-01";
    /// The names of its steps, waits, spawns and critical sections, for a test of their names at the worker's start; one that
    /// ends in `*` stands for all that begin so. Which of them a job comes by, and in which order, follows from its arguments
    /// and from what its steps gave, never from rules or settings that may change while it is in flight.
    const STEPS: &'static [&'static str];
    /// Whether a planned job may be edited.
    const EDITABLE: bool = false;
    /// It has effects that cannot be repeated: after a jump of the clock it waits for a person (3.8).
    const DESTRUCTIVE: bool = false;
    /// Only the program itself makes jobs of this kind.
    const INTERNAL: bool = false;
    /// Whether the submitter is told when a job of it fails for good (NOTIFY-19).
    const TELLS_FAILURE: bool = true;

    /// Fills in what the caller left out, so that a later change of a default does not change an accepted job.
    fn complete(&mut self, rules: &Rules) {
        let _ = rules;
    }

    /// The data center that it acts on.
    fn data_center(&self) -> &str;

    /// Whether the rules accept it, and what the store has to hold on to.
    async fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal>;

    /// Runs one attempt. Steps that ended in an earlier attempt give what they gave then.
    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError>;
}

/// A command, with what is needed to judge it.
pub struct Ask<'a> {
    /// What the kinds reach.
    pub services: &'a Services,
    /// Who asks for what, when.
    pub command: policy::Submission<'a>,
    /// The planned time of the job that is to be edited; `None` for a new job.
    pub planned: Option<chrono::DateTime<chrono::Utc>>,
}

impl Ask<'_> {
    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        self.services.rules()
    }
}

/// A command before its arguments are read.
pub(crate) struct Asked<'a> {
    pub(crate) services: &'a Services,
    pub(crate) submission: &'a Submission,
    pub(crate) args: Value,
    pub(crate) planned: Option<UnixMs>,
}

/// A [`Kind`] without its type.
#[async_trait]
pub(crate) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn queue(&self) -> &'static str;
    fn retry(&self) -> Retry;
    fn quota_rule(&self) -> &'static str;
    fn editable(&self) -> bool;
    fn internal(&self) -> bool;
    fn destructive(&self) -> bool;
    fn tells_failure(&self) -> bool;
    fn steps(&self) -> &'static [&'static str];
    fn card(&self) -> KindCard;

    /// Whether arguments have the kind's form; no rule is asked.
    fn check_form(&self, args: Value) -> Result<(), Refusal>;

    /// The arguments as they are stored, and what the rules said.
    async fn admit(&self, asked: Asked<'_>) -> Result<(Vec<u8>, Admission), Refusal>;

    /// Reads the arguments and runs one attempt.
    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError>;
}

struct Registered<K>(PhantomData<fn() -> K>);

/// A kind for the list.
pub(crate) fn kind<K: Kind>() -> Box<dyn AnyKind> {
    Box::new(Registered::<K>(PhantomData))
}

#[async_trait]
impl<K: Kind> AnyKind for Registered<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn queue(&self) -> &'static str {
        K::QUEUE
    }

    fn retry(&self) -> Retry {
        K::RETRY
    }

    fn quota_rule(&self) -> &'static str {
        K::QUOTA_RULE
    }

    fn editable(&self) -> bool {
        K::EDITABLE
    }

    fn internal(&self) -> bool {
        K::INTERNAL
    }

    fn destructive(&self) -> bool {
        K::DESTRUCTIVE
    }

    fn tells_failure(&self) -> bool {
        K::TELLS_FAILURE
    }

    fn steps(&self) -> &'static [&'static str] {
        K::STEPS
    }

    fn card(&self) -> KindCard {
        KindCard { kind: K::NAME, summary: K::SUMMARY, queue: K::QUEUE, editable: K::EDITABLE, args: schema_of::<K>() }
    }

    fn check_form(&self, args: Value) -> Result<(), Refusal> {
        arguments::read::<K>(K::RULE, args).map(drop)
    }

    async fn admit(&self, asked: Asked<'_>) -> Result<(Vec<u8>, Admission), Refusal> {
        let mut args: K = arguments::read(K::RULE, asked.args)?;
        args.complete(asked.services.rules());
        let submission = asked.submission;
        let command = policy::Submission {
            now: instant(submission.now),
            tenant: &submission.tenant,
            actor: &submission.actor,
            data_center: args.data_center(),
            planned_at: submission.run_at.map(instant),
            confirmed: submission.confirmed,
            has_code: submission.verification.is_some(),
        };
        let ask = Ask { services: asked.services, command, planned: asked.planned.map(instant) };
        let admission = args.admit(&ask).await?;
        Ok((arguments::write(&args)?, admission))
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let args: K = serde_json::from_slice(ctx.args())
            .map_err(|error| JobError::permanent("arguments_unreadable", format!("the kept arguments: {error}")))?;
        args.run(ctx).await
    }
}
