//! A scripted kind that serves all engine tests: its arguments say what it does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{Ctx, Effect, JobError, NewJob, Recovery, Runner, Store, Verdict, Verified};

/// Does what its argument says: `done`, `fail`, `dead`, `panic`, `hang`, `hang_deaf`, `snooze`, `steps`, `two_steps`, `once`, `talk`, `fail_first`.
#[derive(Default)]
pub struct Puppet {
    ran: Mutex<BTreeMap<String, u32>>,
    /// Told each time an attempt begins.
    pub began: Notify,
    /// Lets a job that hangs go on.
    pub go_on: Notify,
}

impl Puppet {
    /// A puppet to be shared between workers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A job for it.
    #[must_use]
    pub fn job(store: &Store, says: &str) -> NewJob {
        NewJob::new(store.new_id("t-001"), "puppet", "t-001", says.as_bytes().to_vec())
    }

    /// How often something ran: `attempt`, or the name of an effect.
    pub fn times(&self, what: &str) -> u32 {
        self.ran.lock().expect("no panic while held").get(what).copied().unwrap_or(0)
    }

    fn count(&self, what: &str) -> u32 {
        let mut ran = self.ran.lock().expect("no panic while held");
        let n = ran.entry(what.to_owned()).or_default();
        *n += 1;
        *n
    }
}

#[async_trait]
impl Runner for Puppet {
    fn kinds(&self) -> Vec<String> {
        vec!["puppet".to_owned()]
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let nth = self.count("attempt");
        self.began.notify_one();
        match &ctx.args()[..] {
            b"done" => Verdict::done("well"),
            b"fail" => Err(JobError::transient("puppet_failed", "as it was told")),
            b"fail_first" if nth == 1 => Err(JobError::transient("puppet_failed", "the first time")),
            b"store_away_first" if nth == 1 => Err(JobError::transient("storage_unavailable", "the first time")),
            b"dead" => Err(JobError::permanent("puppet_gave_up", "as it was told")),
            b"panic" => panic!("as it was told"),
            b"hang" => {
                tokio::select! {
                    () = self.go_on.notified() => Verdict::done("went on"),
                    () = ctx.cancelled().cancelled() => Err(JobError::transient("cancelled", "saw the token").with(Recovery::Cancelled)),
                }
            }
            b"hang_deaf" => {
                self.go_on.notified().await;
                Verdict::done("went on")
            }
            b"snooze" if nth == 1 => Ok(Verdict::Snooze { until: ctx.now().await? + 50, reason: "not yet".to_owned() }),
            b"steps" => self.steps(ctx).await,
            b"two_steps" => {
                let first: u32 = ctx.step("first", Effect::Idempotent, || async { Ok(self.count("first")) }).await?;
                let second: u32 = ctx.step("second", Effect::Idempotent, || async { Ok(self.count("second")) }).await?;
                Verdict::done((first, second))
            }
            b"talk" => self.talk(ctx).await,
            b"once" => self.once(ctx).await,
            _ => Verdict::done("well"),
        }
    }
}

impl Puppet {
    async fn steps(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let first: u32 = ctx.step("first", Effect::Idempotent, || async { Ok(self.count("first")) }).await?;
        if self.times("attempt") == 1 {
            return Err(JobError::transient("puppet_failed", "between the steps")
                .with(Recovery::RetryAfter(Duration::from_millis(1))));
        }
        let second: u32 = ctx.step("second", Effect::Idempotent, || async { Ok(self.count("second")) }).await?;
        Verdict::done((first, second))
    }

    async fn talk(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        for n in 1..=3 {
            ctx.progress(n * 30, format!("part {n}"));
            ctx.log(format!("line {n}"));
        }
        self.go_on.notified().await;
        ctx.progress(100, "all");
        ctx.note(serde_json::json!({ "detail": "said" }));
        Verdict::done("talked")
    }

    async fn once(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let verify = || async { Ok(Verified::CannotTell) };
        let effect = || async {
            self.count("effect");
            self.began.notify_one();
            self.go_on.notified().await;
            Ok(1_u32)
        };
        Verdict::done(ctx.once("effect", verify, effect).await?)
    }
}
