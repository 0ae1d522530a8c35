//! The catalogue as the engine's runner: a claimed job finds its kind, and a job that dies is told of.
//!
//! Invariant: whatever lies in a job's arguments, no attempt panics on it.

use async_trait::async_trait;
use leasehold_engine::model::ErrorDocument;
use leasehold_engine::upkeep::Herald;
use leasehold_engine::{JobError, JobId, JobRecord, JobView, Recovery, Runner, Verdict};

use super::context::Ctx;
use super::submission::{Envelope, instant};
use super::{AnyKind, Catalogue};
use crate::policy::{Notice, Tenant};
use crate::services::Services;
use crate::services::telling::{self, Speaker};

/// How long a job of a kind that this version does not know waits for one that does, ms.
const UNKNOWN_KIND_WAIT_MS: i64 = 60_000;

#[async_trait]
impl Runner for Catalogue {
    fn kinds(&self) -> Vec<String> {
        self.names()
    }

    fn steps(&self) -> Vec<(String, Vec<String>)> {
        self.steps()
    }

    async fn run(&self, ctx: &leasehold_engine::Ctx) -> Result<Verdict, JobError> {
        // The engine hands out jobs of known kinds only: this one was claimed by a caller that named none.
        let Some(kind) = self.get(ctx.kind()) else {
            let reason = format!("this version does not know the kind `{}`", ctx.kind());
            return Ok(Verdict::Snooze { until: ctx.now().await? + UNKNOWN_KIND_WAIT_MS, reason });
        };
        let envelope = Envelope::read(ctx.meta())
            .map_err(|error| JobError::permanent("meta_unreadable", format!("the job's meta document: {error}")))?;
        let ctx = Ctx::new(ctx.clone(), self.services().clone(), envelope);
        let ended = kind.run(&ctx).await;
        if let Err(error) = &ended
            && kind.tells_failure()
            && is_final(&ctx, error)
        {
            tell_failure(&ctx, kind, error).await;
        }
        ended
    }
}

/// Whether the engine will give the job up after this error.
fn is_final(ctx: &Ctx, error: &JobError) -> bool {
    let gives_up = match error.recovery {
        Recovery::Give => true,
        // The last error of a closing run leaves the job unknown, and an outage of the store costs no last attempt.
        Recovery::Retry | Recovery::RetryAfter(_) => {
            ctx.is_last_attempt() && !ctx.is_closing() && error.code != "storage_unavailable"
        }
        Recovery::Doubt
        | Recovery::Cancelled
        | Recovery::Lost
        | Recovery::Away
        | Recovery::Suspend
        | Recovery::Park => false,
    };
    gives_up && !ctx.cancelled().is_cancelled()
}

/// Tells the submitter and the ops monitor of a job that failed for good (NOTIFY-19). Best effort: it never fails.
async fn tell_failure(ctx: &Ctx, kind: &dyn AnyKind, error: &JobError) {
    let Ok(tenant) = ctx.tenant_document().await else { return };
    let Ok(now) = ctx.instant().await else { return };
    let values = failure_values(ctx, &tenant, kind, (ctx.shown(now), &error.code, &error.text));
    for (notice, receivers) in failure_notices(ctx, &tenant) {
        telling::tell(ctx, notice, &receivers, &values).await;
    }
}

type Values = [(&'static str, String); 6];

/// Who hears of a job that failed for good. The submitter is a customer: an error's words name hosts and folders of
/// ours, so that they go to the ops monitor alone.
fn failure_notices(speaker: &impl Speaker, tenant: &Tenant) -> [(Notice, Vec<telling::Receiver>); 2] {
    [
        (Notice::JobFailed, telling::submitter(speaker, tenant)),
        (Notice::JobFailedOps, telling::ops_monitor(speaker).into_iter().collect()),
    ]
}

fn failure_values(
    speaker: &impl Speaker,
    tenant: &Tenant,
    kind: &dyn AnyKind,
    (finished_at, code, text): (String, &str, &str),
) -> Values {
    [
        ("tenant", tenant.name.clone()),
        ("kind", kind.name().to_owned()),
        ("job", speaker.id().to_string()),
        ("finished_at", finished_at),
        ("error_code", code.to_owned()),
        ("error", text.chars().take(1000).collect()),
    ]
}

/// A job that died with its worker: nothing runs that could speak for it.
struct Deceased<'a> {
    services: &'a Services,
    envelope: Envelope,
    record: &'a JobRecord,
}

impl Speaker for Deceased<'_> {
    fn services(&self) -> &Services {
        self.services
    }

    fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    fn id(&self) -> &JobId {
        &self.record.id
    }

    fn tenant_id(&self) -> &str {
        &self.record.tenant
    }

    fn say(&self, line: String) {
        tracing::warn!(job = %self.record.id, line, "telling of a job that died with its worker");
    }
}

#[async_trait]
impl Herald for Catalogue {
    /// NOTIFY-19 for a job whose last attempt could not tell of it.
    async fn died(&self, job: &JobView) -> Result<(), String> {
        let record = &job.record;
        let Some(kind) = self.get(&record.kind).filter(|kind| kind.tells_failure()) else { return Ok(()) };
        let Ok(envelope) = Envelope::read(&record.meta) else { return Ok(()) };
        let speaker = Deceased { services: self.services(), envelope, record };
        let found = self.services().directory().tenant(&record.tenant).await.map_err(|error| error.text)?;
        let Some(tenant) = found else { return Ok(()) };
        let error = serde_json::from_slice::<ErrorDocument>(&record.error);
        let (code, text) = error.map_or_else(|_| Default::default(), |error| (error.code, error.message));
        let stamp = self.services().rules().calendar().stamp(instant(record.finished_at));
        let finished_at = stamp.format("%Y-%m-%d %H:%M:%S").to_string();
        let values = failure_values(&speaker, &tenant, kind, (finished_at, &code, &text));
        for (notice, receivers) in failure_notices(&speaker, &tenant) {
            let told = telling::try_to_tell(&speaker, notice, &receivers, &values).await;
            told.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
