//! Replaces a data center by a backup or by another data center, after a safety copy (RESTORE-01 … RESTORE-10).
//!
//! Invariant: whatever goes wrong, the target holds either what the source holds, or what it held before (RESTORE-08).

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::{Effect, JobError, Recovery, Retry, Verdict};
use leasehold_targets::database::{Database, ExecuteOptions, RestorePlan, quiet, unobserved};
use leasehold_targets::script::Script;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::catalogue::{Ask, Ctx, Kind, failure};
use crate::policy::rules::{Admission, DATA_CENTER_RESTORE, SourceKind};
use crate::policy::{ErrorCode, Notice, Refusal, Tenant};
use crate::services::{Backup, Held, Origin, Wanted, telling};

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
    const DESTRUCTIVE: bool = true;
    const RETRY: Retry = Retry::exponential(Duration::from_secs(5)).attempts(3);
    const RULE: &'static str = "RESTORE-01";
    const STEPS: &'static [&'static str] =
        &["copy_source", "look", "safety_copy", "publish_safety_copy", OVERWRITE, "notify"];

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

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let tenant = ctx.tenant_document().await?;
        // A closing run overwrites nothing: it finds out what the target holds, whatever the hour.
        if !ctx.is_closing()
            && !ctx.has_ended(OVERWRITE).await?
            && let Some(wait) = ctx.start_check(&tenant, &self.data_center).await?
        {
            return Ok(wait);
        }
        let target = ctx.database(&tenant, &self.data_center)?;
        let source = self.read_source(ctx, &tenant, &*target).await?;
        let restored = self.restore(ctx, &tenant, &*target, &source).await;
        let over = match &restored {
            Ok(_) => true,
            Err(error) => is_over(ctx, error).await,
        };
        if source.of_this_job && over {
            ctx.services().backups().discard(&source.file).await;
        }
        restored
    }
}

/// The step from which on a cancel comes too late (RESTORE-09).
const OVERWRITE: &str = "overwrite";

/// The file that a restore reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SourceFile {
    file: String,
    sha256: String,
    bytes: u64,
    of_this_job: bool,
}

/// What an overwrite left behind.
#[derive(Debug, Serialize, Deserialize)]
struct Overwritten {
    checksum: String,
    safety_backup_id: Option<String>,
}

/// Raises the fence in the target, so that a worker that was lost and comes back is refused there.
async fn shut_out(ctx: &Ctx, target: &dyn Database) -> Result<(), JobError> {
    let nothing = Script::parse(target.dialect(), "").map_err(|e| JobError::permanent("internal", e.to_string()))?;
    let options = ExecuteOptions::new(ctx.id().to_string(), ctx.fence());
    target.execute(&nothing, &options, unobserved(), ctx.cancelled().clone()).await.map(drop).map_err(failure)
}

/// Whether no attempt follows, so that the source's file is needed no more.
async fn is_over(ctx: &Ctx, error: &JobError) -> bool {
    match error.recovery {
        Recovery::Retry | Recovery::RetryAfter(_) => ctx.is_last_attempt(),
        Recovery::Give => true,
        Recovery::Doubt | Recovery::Lost | Recovery::Away | Recovery::Suspend | Recovery::Park => false,
        // The token is also that of a worker that stops, and then another one goes on.
        Recovery::Cancelled => {
            let view = ctx.services().store().job(ctx.id()).await;
            view.is_ok_and(|view| view.is_some_and(|view| view.record.cancel_requested))
        }
    }
}

impl DataCenterRestore {
    /// The file to restore from: a backup's, or a snapshot of another data center.
    async fn read_source(&self, ctx: &Ctx, tenant: &Tenant, target: &dyn Database) -> Result<SourceFile, JobError> {
        let backups = ctx.services().backups();
        match self.source.kind {
            SourceType::Backup => {
                let found = backups.get(&tenant.id, &self.source.id).await;
                let found = found.map_err(|error| JobError::transient(error.code(), error.to_string()))?;
                let Some(backup) = found.filter(|backup| backup.engine == target.engine()) else {
                    let text = format!("there is no backup `{}` for this data center any more", self.source.id);
                    return Err(JobError::permanent("not_found", text));
                };
                Ok(SourceFile { file: backup.file, sha256: backup.sha256, bytes: backup.bytes, of_this_job: false })
            }
            SourceType::DataCenter => {
                let database = ctx.database(tenant, &self.source.id)?;
                let place = format!("{}/{}/source_{}", tenant.id, self.source.id, ctx.id());
                let copy = || backups.copy(ctx, &*database, &place, (1, 30));
                let copied = ctx.step("copy_source", Effect::Idempotent, copy).await?;
                Ok(SourceFile { file: copied.file, sha256: copied.sha256, bytes: copied.bytes, of_this_job: true })
            }
            SourceType::Upload => Err(JobError::permanent("not_found", "uploads are not part of this build")),
        }
    }

    async fn restore(
        &self,
        ctx: &Ctx,
        tenant: &Tenant,
        target: &dyn Database,
        source: &SourceFile,
    ) -> Result<Verdict, JobError> {
        let safety = match self.wants_safety(ctx, target).await? {
            true => Some(self.keep_old(ctx, target).await?),
            false => None,
        };
        let overwrite = || self.overwrite(ctx, target, source, safety);
        let restored = ctx.sealed_step(OVERWRITE, Effect::Fenced, overwrite).await?;
        ctx.step("notify", Effect::Idempotent, || self.tell(ctx, tenant)).await?;
        ctx.progress(100, "done");
        let mut result = json!({"bytes": source.bytes, "checksum": restored.checksum});
        if let Some(id) = restored.safety_backup_id {
            result["safety_backup_id"] = json!(id);
        }
        Ok(Verdict::Done(result))
    }

    /// Decided once for a job, so that an attempt after a change of the rules goes the same way.
    async fn wants_safety(&self, ctx: &Ctx, target: &dyn Database) -> Result<bool, JobError> {
        let look = || async { Ok(ctx.rules().restore.safety_backup && target.exists().await.map_err(failure)?) };
        ctx.step("look", Effect::ReadOnly, look).await
    }

    /// RESTORE-08: a copy of what is about to be overwritten.
    async fn keep_old(&self, ctx: &Ctx, target: &dyn Database) -> Result<Backup, JobError> {
        ctx.services().backups().make(ctx, target, self.safety_copy("", &format!("before restore {}", ctx.id()))).await
    }

    fn safety_copy<'a>(&'a self, suffix: &'a str, name: &'a str) -> Wanted<'a> {
        Wanted {
            data_center: &self.data_center,
            name,
            description: "",
            origin: Origin::Safety,
            suffix,
            steps: ["safety_copy", "publish_safety_copy"],
            stretch: (30, 60),
        }
    }

    /// The first safety copy if it holds what the target holds now, else another one: a job that was sent back to work
    /// must not put back what was there days ago.
    async fn current_safety(
        &self,
        ctx: &Ctx,
        target: &dyn Database,
        first: Backup,
        before: &str,
    ) -> Result<Backup, JobError> {
        let backups = ctx.services().backups();
        let held = backups.fetch(ctx, &first.file).await?;
        if target.checksum_of(held.path()).await.map_err(failure)? == before {
            return Ok(first);
        }
        ctx.log("the data center changed since its safety copy: another one is made");
        let (suffix, name) = (format!("_{}", ctx.fence()), format!("before restore {}", ctx.id()));
        backups.make_at_once(ctx, target, self.safety_copy(&suffix, &name)).await
    }

    /// What the overwrite of lost workers left. Nothing is overwritten any more, also not by one of them that comes back.
    async fn left_behind(
        &self,
        ctx: &Ctx,
        target: &dyn Database,
        expected: &str,
        safety: Option<Backup>,
    ) -> Result<Overwritten, JobError> {
        let doubt = |text: &str| JobError::permanent("outcome_unknown", text).with(Recovery::Doubt);
        if !target.exists().await.map_err(failure)? {
            return Err(doubt("its workers were lost while they overwrote the data center, and it is not there"));
        }
        shut_out(ctx, target).await?;
        let found = target.checksum().await.map_err(failure)?;
        if found == expected {
            return Ok(Overwritten { checksum: found, safety_backup_id: safety.map(|safety| safety.id) });
        }
        if let Some(safety) = safety {
            let held = ctx.services().backups().fetch(ctx, &safety.file).await?;
            if target.checksum_of(held.path()).await.map_err(failure)? == found {
                let text = "its workers were lost; the data center holds what it held before";
                return Err(JobError::permanent("worker_lost", text));
            }
        }
        Err(doubt("its workers were lost, and the data center holds neither what the source holds nor a safety copy"))
    }

    /// Replaces the target, and proves that it holds what the source holds.
    async fn overwrite(
        &self,
        ctx: &Ctx,
        target: &dyn Database,
        source: &SourceFile,
        safety: Option<Backup>,
    ) -> Result<Overwritten, JobError> {
        let held = ctx.services().backups().fetch(ctx, &source.file).await?;
        let expected = target.checksum_of(held.path()).await.map_err(failure)?;
        if ctx.is_closing() {
            return self.left_behind(ctx, target, &expected, safety).await;
        }
        let Some(first) = safety else {
            let checksum = self.replace(ctx, target, source, (&held, &expected)).await?;
            return Ok(Overwritten { checksum, safety_backup_id: None });
        };
        let before = target.checksum().await.map_err(failure)?;
        if before == expected {
            // A worker that was lost had done it, or there is nothing to do.
            return Ok(Overwritten { checksum: expected, safety_backup_id: Some(first.id) });
        }
        let safety = self.current_safety(ctx, target, first, &before).await?;
        match self.replace(ctx, target, source, (&held, &expected)).await {
            Ok(checksum) => Ok(Overwritten { checksum, safety_backup_id: Some(safety.id) }),
            // The worker stops or lost its lease: drivers keep the old content, and the next attempt overwrites anew.
            Err(error) if ctx.cancelled().is_cancelled() => Err(error),
            Err(error) => Err(self.put_back(ctx, target, (&safety, &before), error).await),
        }
    }

    async fn replace(
        &self,
        ctx: &Ctx,
        target: &dyn Database,
        source: &SourceFile,
        (held, expected): (&Held, &str),
    ) -> Result<String, JobError> {
        let plan = RestorePlan {
            source: held.path().to_owned(),
            sha256: Some(source.sha256.clone()),
            job: ctx.id().to_string(),
            fence: ctx.fence(),
        };
        let token = ctx.cancelled().clone();
        let restored = target.restore(&plan, ctx.stretch(60, 95), token).await.map_err(failure)?;
        restored.notes.into_iter().for_each(|note| ctx.log(note));
        let found = target.checksum().await.map_err(failure)?;
        match found == expected {
            true => Ok(found),
            false => {
                let text = format!("after the restore the data center has checksum {found}, the source {expected}");
                Err(JobError::permanent("target_corrupt", text))
            }
        }
    }

    /// RESTORE-08: after a failed overwrite, the target is as it was. Drivers keep the old content until the new one is
    /// proven, so mostly there is nothing to do.
    async fn put_back(
        &self,
        ctx: &Ctx,
        target: &dyn Database,
        (safety, before): (&Backup, &str),
        mut error: JobError,
    ) -> JobError {
        let backups = ctx.services().backups();
        let put_back = async {
            if target.checksum().await.is_ok_and(|found| found == before) {
                return Ok::<_, JobError>("the data center holds what it held before");
            }
            let held = backups.fetch(ctx, &safety.file).await?;
            let plan = RestorePlan {
                source: held.path().to_owned(),
                sha256: Some(safety.sha256.clone()),
                job: ctx.id().to_string(),
                fence: ctx.fence(),
            };
            let nothing_stops_this = CancellationToken::new();
            target.restore(&plan, quiet(), nothing_stops_this).await.map_err(failure)?;
            Ok("the data center was put back to its safety copy")
        };
        match put_back.await {
            Ok(what) => error.text = format!("{}; {what}", error.text),
            Err(second) => {
                let id = &safety.id;
                tracing::error!(job = %ctx.id(), safety_backup = %id, code = second.code, error = second.text, "a failed restore could not be put back");
                error.text = format!("{}; putting back the safety copy {id} failed: {}", error.text, second.text);
            }
        }
        ctx.log(error.text.clone());
        error
    }

    /// NOTIFY-07.
    async fn tell(&self, ctx: &Ctx, tenant: &Tenant) -> Result<u32, JobError> {
        let now = ctx.instant().await?;
        let values = [
            ("tenant", tenant.name.clone()),
            ("data_center", self.data_center.clone()),
            ("job", ctx.id().to_string()),
            ("finished_at", ctx.shown(now)),
            ("source", self.source.id.clone()),
        ];
        Ok(telling::tell(ctx, Notice::RestoreSucceeded, &telling::submitter(ctx, tenant), &values).await)
    }

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
