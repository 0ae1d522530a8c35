//! Sends a one-use code to the mobile of the acting user (VERIFY-01, VERIFY-02).
//!
//! Invariant: the code exists in the SMS and nowhere else; the store holds a digest, the result names the challenge.

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::store::Issued;
use leasehold_engine::{Effect, JobError, Recovery, Retry, Verdict};
use leasehold_targets::notices as sms;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Ask, Ctx, Kind, failure, instant};
use crate::policy::rules::{Admission, VERIFICATION_CODE, ticket_binding};
use crate::policy::{self, Actor, ErrorCode, Notice, Refusal, Tenant};
use crate::services::tickets;

/// The arguments of a code.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerificationCode {
    /// The kind that the code is for, such as `sql_update`.
    pub operation: String,
    /// The data center that the operation will act on.
    pub target_id: String,
}

#[async_trait]
impl Kind for VerificationCode {
    const NAME: &'static str = VERIFICATION_CODE;
    const SUMMARY: &'static str = "Sends a one-use code to the mobile of the acting user.";
    const QUEUE: &'static str = "codes";
    const RETRY: Retry = Retry::exponential(Duration::from_secs(1)).attempts(3);
    const RULE: &'static str = "VERIFY-01";
    const STEPS: &'static [&'static str] = &["send"];
    const TELLS_FAILURE: bool = false;

    fn data_center(&self) -> &str {
        &self.target_id
    }

    async fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        let admission = ask.rules().admit_verification_code(&ask.command, &self.operation);
        let admission = admission.map_err(|refusal| match refusal.field.as_deref() {
            Some("args.target") => refusal.with_field("args.target_id"),
            _ => refusal,
        })?;
        self.expect_gap(ask).await?;
        Ok(admission)
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let sent = ctx.step("send", Effect::Idempotent, || self.send(ctx)).await?;
        Verdict::done(sent)
    }
}

/// What the caller hears of a code: not the code.
#[derive(Debug, Serialize, Deserialize)]
struct Sent {
    challenge_id: String,
    expires_at: String,
}

/// How often a code that could not be handed over is tried again before a new one has to be made.
const SEND_TRIES: u32 = 3;

impl VerificationCode {
    /// VERIFY-02: who asks again too soon hears so at once, and from when on; the job asks once more, for two may be
    /// accepted before the first of them is sent.
    async fn expect_gap(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let (rules, tenant) = (ask.rules(), ask.command.tenant);
        let binding = tickets::binding(&binding_text(tenant, ask.command.actor, &self.operation, &self.target_id));
        let open_at = ask.services.store().ticket_open_at(&tenant.id, &binding).await;
        let open_at =
            open_at.map_err(|error| Refusal::new(ErrorCode::StorageUnavailable, "VERIFY-02", error.to_string()))?;
        let at = instant(open_at.unwrap_or(0));
        if at <= ask.command.now {
            return Ok(());
        }
        let limit = format!("{} s between two codes", rules.verify.resend_seconds);
        Err(Refusal::new(ErrorCode::CodeTooSoon, "VERIFY-02", "a code was sent a moment ago")
            .with_limit(limit)
            .with_allowed_at(rules.calendar().stamp(at)))
    }

    /// Makes a code, leaves its digest in the store, and sends it. A later attempt makes another one: nobody can read
    /// the first one back.
    async fn send(&self, ctx: &Ctx) -> Result<Sent, JobError> {
        let rules = &ctx.rules().verify;
        let tenant = ctx.tenant_document().await?;
        let actor = &ctx.envelope().actor;
        let Some(mobile) = actor.mobile.clone() else {
            return Err(JobError::permanent("invalid_argument", "the actor has no mobile"));
        };
        let challenge_id = format!("{}-{}", ctx.id(), ctx.fence());
        let code = make_code()?;
        let binding = tickets::binding(&binding_text(&tenant, actor, &self.operation, &self.target_id));
        let ticket = (challenge_id.as_str(), &*tickets::digest(&challenge_id, &code), binding.as_str());
        let (ttl, gap) = (Duration::from_secs(rules.code_ttl_seconds), Duration::from_secs(rules.resend_seconds));
        let issued = ctx.services().store().ticket_issue(ctx.tenant(), ticket, rules.max_attempts, ttl, gap).await;
        match issued.map_err(|error| JobError::transient(error.code(), error.to_string()))? {
            Issued::Wait { ms } => Err(too_soon(ctx, ms)),
            Issued::Ok { expires_at } => {
                self.hand_over(ctx, &challenge_id, mobile, &code).await?;
                let expires_at = ctx.rules().calendar().stamp(instant(expires_at)).to_rfc3339();
                Ok(Sent { challenge_id, expires_at })
            }
        }
    }

    async fn hand_over(&self, ctx: &Ctx, challenge_id: &str, mobile: String, code: &str) -> Result<(), JobError> {
        let rules = ctx.rules();
        let values = [
            ("code", code.to_owned()),
            ("operation", self.operation.clone()),
            ("data_center", self.target_id.clone()),
            ("minutes", (rules.verify.code_ttl_seconds / 60).to_string()),
        ];
        let text = ctx.services().messages().render(Notice::VerificationCode, rules.notify.language, &values);
        let notice = sms::Notice {
            id: challenge_id.to_owned(),
            channel: sms::Channel::Sms,
            to: mobile,
            subject: text.subject,
            body: text.body,
        };
        let mut tries = 1;
        loop {
            match ctx.services().notices().send(&notice).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() && tries < SEND_TRIES => {
                    tokio::time::sleep(Duration::from_millis(200 << tries)).await;
                    tries += 1;
                }
                // The next attempt makes a new code, which the gap between two codes has to allow.
                Err(error) => {
                    let wait = Recovery::RetryAfter(Duration::from_secs(rules.verify.resend_seconds));
                    let error = failure(error);
                    return Err(if error.recovery == Recovery::Retry { error.with(wait) } else { error });
                }
            }
        }
    }
}

/// The last code for the same user, operation and target is too recent: said at once to the one who asked; an attempt
/// after a failed one waits.
fn too_soon(ctx: &Ctx, ms: u64) -> JobError {
    let text = format!("a code was sent a moment ago; the next one can be sent in {} s", ms.div_ceil(1000));
    match ctx.attempt() {
        1 => JobError::permanent("code_too_soon", text),
        _ => JobError::transient("code_too_soon", text).with(Recovery::RetryAfter(Duration::from_millis(ms))),
    }
}

/// Six digits, each code as likely as any other.
fn make_code() -> Result<String, JobError> {
    const CODES: u32 = 1_000_000;
    const EVEN: u32 = u32::MAX - u32::MAX % CODES;
    loop {
        let chance =
            getrandom::u32().map_err(|error| JobError::transient("internal", format!("no random numbers: {error}")))?;
        if chance < EVEN {
            return Ok(format!("{:06}", chance % CODES));
        }
    }
}

/// What the code is bound to, in the words of the rules (VERIFY-02).
fn binding_text(tenant: &Tenant, actor: &Actor, operation: &str, target: &str) -> String {
    let asked = policy::Submission {
        now: chrono::DateTime::UNIX_EPOCH,
        tenant,
        actor,
        data_center: target,
        planned_at: None,
        confirmed: false,
        has_code: false,
    };
    ticket_binding(&asked, operation)
}
