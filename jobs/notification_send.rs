//! Sends one notice to one person by one way; the program's own kind, made by other jobs (NOTIFY-20).
//!
//! Invariant: the notice's id is its identity: sent twice, the receiver has it once.

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::{Effect, JobError, Retry, Verdict};
use leasehold_targets::notices::{Channel, Notice};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Ask, Ctx, Kind, failure};
use crate::policy::rules::Admission;
use crate::policy::{ErrorCode, Refusal};

/// The arguments: the notice as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationSend {
    /// Its identity.
    pub id: String,
    /// By which way.
    #[schemars(with = "String")]
    pub channel: Channel,
    /// An e-mail address, a mobile number or a user id, by the channel.
    pub to: String,
    /// One line.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

#[async_trait]
impl Kind for NotificationSend {
    const NAME: &'static str = "notification_send";
    const SUMMARY: &'static str = "Sends one notice to one person.";
    const QUEUE: &'static str = "notices";
    const RETRY: Retry = Retry::exponential(Duration::from_secs(10)).attempts(10);
    const RULE: &'static str = "NOTIFY-20";
    const STEPS: &'static [&'static str] = &["send"];
    const INTERNAL: bool = true;
    const TELLS_FAILURE: bool = false;

    fn data_center(&self) -> &str {
        ""
    }

    async fn admit(&self, _: &Ask<'_>) -> Result<Admission, Refusal> {
        Err(Refusal::new(ErrorCode::UnknownKind, "NOTIFY-20", "only the program itself sends notices"))
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let notice = Notice {
            id: self.id.clone(),
            channel: self.channel,
            to: self.to.clone(),
            subject: self.subject.clone(),
            body: self.body.clone(),
        };
        let send = || async { ctx.services().notices().send(&notice).await.map_err(failure) };
        ctx.step("send", Effect::Idempotent, send).await?;
        Verdict::done(serde_json::json!({"notice_id": self.id, "channel": self.channel}))
    }
}
