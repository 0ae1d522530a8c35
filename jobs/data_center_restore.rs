//! Replaces a data center by a backup or by another data center, after a safety copy (RESTORE-01 … RESTORE-10).
//!
//! Invariant: whatever goes wrong, the target holds either what the source holds, or what it held before (RESTORE-08).

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::Retry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Ask, Kind};
use crate::policy::rules::{Admission, DATA_CENTER_RESTORE, SourceKind};
use crate::policy::{ErrorCode, Refusal};

/// The arguments of a restore.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataCenterRestore {
    /// The data center that is overwritten.
    pub data_center: String,
    /// Where the data come from.
    pub source: Source,
}

/// Where the data of a restore come from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The sort of source.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// Its id.
    pub id: String,
}

/// The sort of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceType {
    /// A backup of the tenant (RESTORE-03).
    Backup,
    /// Another data center of the tenant (RESTORE-02).
    DataCenter,
    /// An uploaded data center (RESTORE-04).
    Upload,
}

impl From<SourceType> for SourceKind {
    fn from(kind: SourceType) -> Self {
        match kind {
            SourceType::Backup => Self::Backup,
            SourceType::DataCenter => Self::DataCenter,
            SourceType::Upload => Self::Upload,
        }
    }
}

#[async_trait]
impl Kind for DataCenterRestore {
    const NAME: &'static str = DATA_CENTER_RESTORE;
    const SUMMARY: &'static str = "Replaces a data center by a backup or by another data center.";
    const QUEUE: &'static str = "copies";
    const RETRY: Retry = Retry::exponential(Duration::from_secs(5)).attempts(3);
    const RULE: &'static str = "RESTORE-01";

    fn data_center(&self) -> &str {
        &self.data_center
    }

    async fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        // No letter is ever in force: letters are not part of this build, so sources that need one are refused.
        let admission = ask.rules().admit_restore(&ask.command, self.source.kind.into(), &self.source.id, false)?;
        let target = ask.services.database_for(ask.command.tenant, &self.data_center, "args.data_center")?;
        let engine = self.source_engine(ask).await?;
        if engine != target.engine() {
            let detail = format!("the source is of {engine}, the data center of {}", target.engine());
            return Err(Refusal::invalid("RESTORE-07", "args.source.id", detail)
                .with_remedy("choose a source of the same database engine"));
        }
        Ok(admission)
    }
}

impl DataCenterRestore {
    async fn source_engine(&self, ask: &Ask<'_>) -> Result<String, Refusal> {
        let (field, tenant, id) = ("args.source.id", ask.command.tenant, &self.source.id);
        match self.source.kind {
            SourceType::DataCenter => Ok(ask.services.database_for(tenant, id, field)?.engine().to_owned()),
            SourceType::Backup => match ask.services.backups().get(&tenant.id, id).await {
                Ok(Some(backup)) => Ok(backup.engine),
                Ok(None) => Err(Refusal::new(ErrorCode::NotFound, "RESTORE-03", format!("there is no backup `{id}`"))
                    .with_field(field)
                    .with_remedy("take the `backup_id` of a finished backup of this tenant")),
                Err(error) => Err(Refusal::new(ErrorCode::StorageUnavailable, "RESTORE-03", error.to_string())),
            },
            SourceType::Upload => {
                Err(Refusal::new(ErrorCode::NotFound, "RESTORE-04", "uploads are not part of this build")
                    .with_field("args.source.type")
                    .with_remedy("restore from a backup or from another data center"))
            }
        }
    }
}
