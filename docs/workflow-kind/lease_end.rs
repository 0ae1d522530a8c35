use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use leasehold_engine::{Approval, ChildFailure, Ctx, Effect, JobError, NewJob, Runner, Verdict};

use super::Site;

const DAYS_31: Duration = Duration::from_secs(31 * 86_400);

/// A lease has ended: the site is closed, its data is copied, kept for 31 days, and destroyed when two people agree.
pub struct LeaseEnd(pub Arc<dyn Site>);

#[async_trait]
impl Runner for LeaseEnd {
    fn kinds(&self) -> Vec<String> {
        vec!["lease_end".to_owned()]
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let (site, same) = (&self.0, self.0.clone());
        // When a later step fails for good, or the job is cancelled, the site opens again.
        let open = move |_: Ctx, _: Option<()>| async move { same.open().await };
        ctx.step_with_undo("close the site", Effect::Idempotent, || site.close(), open).await?;

        let copy = NewJob::new(ctx.store().new_id(ctx.tenant()), "copy", ctx.tenant(), ctx.args().clone());
        let copy = ctx.spawn_child("ask for a copy", copy).await?;
        ctx.wait_all("the copy", &[copy], ChildFailure::Fail).await?;

        ctx.sleep("31 days", DAYS_31).await?;

        let requester = String::from_utf8_lossy(ctx.args()).into_owned();
        let ask = Approval::new(requester, ["role:it_ops"]).needed(2).within(DAYS_31).prompt("Destroy the data?");
        let by = ctx.approval("destroy", ask).await?.granted()?;

        ctx.step("destroy the data", Effect::Fenced, || site.destroy(ctx.fence())).await?;
        Verdict::done(serde_json::json!({ "agreed": by }))
    }
}
