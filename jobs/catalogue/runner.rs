//! The catalogue as the engine's runner: a claimed job finds its kind, and a job that dies is told of.
//!
//! Invariant: whatever lies in a job's arguments, no attempt panics on it.

use async_trait::async_trait;
use leasehold_engine::{JobError, Recovery, Runner, Verdict};

use super::context::Ctx;
use super::submission::Envelope;
use super::{AnyKind, Catalogue};
use crate::policy::Notice;
use crate::services::telling;

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
        Recovery::Retry | Recovery::RetryAfter(_) => ctx.is_last_attempt(),
        Recovery::Doubt | Recovery::Cancelled | Recovery::Lost | Recovery::Suspend | Recovery::Park => false,
    };
    gives_up && !ctx.cancelled().is_cancelled()
}

/// Tells the submitter and the ops monitor of a job that failed for good (NOTIFY-19). Best effort: it never fails.
async fn tell_failure(ctx: &Ctx, kind: &dyn AnyKind, error: &JobError) {
    let Ok(tenant) = ctx.tenant_document().await else { return };
    let Ok(now) = ctx.instant().await else { return };
    let mut receivers = telling::submitter(ctx, &tenant);
    receivers.extend(telling::ops_monitor(ctx));
    let values = [
        ("tenant", tenant.name.clone()),
        ("kind", kind.name().to_owned()),
        ("job", ctx.id().to_string()),
        ("finished_at", ctx.shown(now)),
        ("error_code", error.code.clone()),
        ("error", error.text.chars().take(1000).collect()),
    ];
    telling::tell(ctx, Notice::JobFailed, &receivers, &values).await;
}
