//! Sends a one-use code to the mobile of the acting user (VERIFY-01, VERIFY-02).
//!
//! Invariant: the code exists in the SMS and nowhere else; the store holds a digest, the result names the challenge.

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::Retry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Ask, Kind};
use crate::policy::Refusal;
use crate::policy::rules::{Admission, VERIFICATION_CODE};

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

    fn data_center(&self) -> &str {
        &self.target_id
    }

    async fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        ask.rules().admit_verification_code(&ask.command, &self.operation)
    }
}
