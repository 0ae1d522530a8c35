//! Makes a named backup of a data center (BACKUP-01 … BACKUP-05).
//!
//! Invariant: a backup is visible only when its file is complete, was read back and has a checksum (BACKUP-05).

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::Retry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Ask, Kind};
use crate::policy::Refusal;
use crate::policy::rules::{Admission, DATA_CENTER_BACKUP};

/// The arguments of a backup.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataCenterBackup {
    /// The data center to copy.
    pub data_center: String,
    /// The backup's name, 1 to 100 characters.
    pub name: String,
    /// A note about it, at most 500 characters.
    #[serde(default)]
    pub description: String,
}

#[async_trait]
impl Kind for DataCenterBackup {
    const NAME: &'static str = DATA_CENTER_BACKUP;
    const SUMMARY: &'static str = "Makes a verified backup of a data center.";
    const QUEUE: &'static str = "copies";
    const RETRY: Retry = Retry::exponential(Duration::from_secs(5)).attempts(3);
    const RULE: &'static str = "BACKUP-01";

    fn data_center(&self) -> &str {
        &self.data_center
    }

    async fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        let admission = ask.rules().admit_backup(&ask.command, &self.name, &self.description)?;
        ask.services.database_for(ask.command.tenant, &self.data_center, "args.data_center")?;
        Ok(admission)
    }
}
