//! Makes a named backup of a data center (BACKUP-01 … BACKUP-05).
//!
//! Invariant: a backup is visible only when its file is complete, was read back and has a checksum (BACKUP-05).

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::{Effect, JobError, Retry, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::catalogue::{Ask, Ctx, Kind, failure};
use crate::policy::rules::{Admission, DATA_CENTER_BACKUP};
use crate::policy::{Notice, Refusal, Tenant};
use crate::services::{Backup, Origin, Wanted, telling};

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
    const STEPS: &'static [&'static str] = &["estimate", "copy", "publish"];

    fn data_center(&self) -> &str {
        &self.data_center
    }

    async fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        let admission = ask.rules().admit_backup(&ask.command, &self.name, &self.description)?;
        ask.services.database_for(ask.command.tenant, &self.data_center, "args.data_center")?;
        Ok(admission)
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let tenant = ctx.tenant_document().await?;
        if let Some(wait) = ctx.start_check(&tenant, &self.data_center).await? {
            return Ok(wait);
        }
        let database = ctx.database(&tenant, &self.data_center)?;
        let estimate = || async { database.estimate().await.map_err(failure) };
        let estimate = ctx.step("estimate", Effect::ReadOnly, estimate).await?;
        let seconds = estimate_seconds(estimate.backup_bytes);
        ctx.progress(5, format!("about {seconds} s for {} bytes", estimate.backup_bytes));
        let wanted = Wanted {
            data_center: &self.data_center,
            name: &self.name,
            description: &self.description,
            origin: Origin::Manual,
            suffix: "",
            steps: ["copy", "publish"],
            stretch: (5, 90),
        };
        let backup = ctx.services().backups().make(ctx, &*database, wanted).await?;
        ctx.progress(100, "done");
        self.tell(ctx, &tenant, &backup).await?;
        Verdict::done(json!({
            "backup_id": backup.id,
            "bytes": backup.bytes,
            "sha256": backup.sha256,
            "estimate_seconds": seconds,
        }))
    }
}

impl DataCenterBackup {
    /// NOTIFY-18: off unless the rules name a channel.
    async fn tell(&self, ctx: &Ctx, tenant: &Tenant, backup: &Backup) -> Result<(), JobError> {
        let now = ctx.instant().await?;
        let values = [
            ("tenant", tenant.name.clone()),
            ("data_center", self.data_center.clone()),
            ("job", ctx.id().to_string()),
            ("finished_at", ctx.shown(now)),
            ("name", self.name.clone()),
            ("bytes", backup.bytes.to_string()),
        ];
        telling::tell(ctx, Notice::BackupFinished, &telling::submitter(ctx, tenant), &values).await;
        Ok(())
    }
}

/// Roughly how long a backup takes: it is written, stored and read back at 20 MiB/s each at worst (BACKUP-02).
fn estimate_seconds(bytes: u64) -> u64 {
    1 + bytes.saturating_mul(3) / (20 * 1024 * 1024)
}
