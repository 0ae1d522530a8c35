//! Fires schedules: each due slot becomes one job, or is counted as missed and told of. Any number of processes may run it.
//!
//! Nobody leads: each process makes the same plan from what it reads, and the store lets each slot be decided once.

use async_trait::async_trait;
use rand::seq::SliceRandom;
use serde_json::json;

use super::LIMIT;
use crate::{
    model::{Dropped, Missed, MissedSlot, NewJob, Schedule, Timetable, UnixMs},
    store::{ClockWatch, Glance, Slot, Store, StoreError},
};

/// A series of refusals with one reason is told of once in this time, ms; a daily one each time.
const TELL_AGAIN_MS: i64 = 23 * 3_600_000;

/// Makes the jobs of schedules: the service's part, which knows what a schedule's `job` means and by what rules it goes.
#[async_trait]
pub trait SlotJobs: Send + Sync + 'static {
    /// The job of a slot; its id is chosen by the store.
    ///
    /// # Errors
    /// [`SlotRefusal`]: the slot is missed, or is to be asked for again.
    async fn job(&self, schedule: &Schedule, slot: UnixMs) -> Result<NewJob, SlotRefusal>;
}

/// Why a slot has no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotRefusal {
    /// A rule says no: the slot is missed.
    #[error("{code}: {detail}")]
    Refused {
        /// Stable code.
        code: String,
        /// One sentence.
        detail: String,
    },
    /// It cannot be said now: the slot stays due.
    #[error("not now: {0}")]
    NotNow(String),
}

impl SlotRefusal {
    fn of(code: &str, detail: impl Into<String>) -> Self {
        Self::Refused { code: code.to_owned(), detail: detail.into() }
    }
}

/// Decides on the slots that are due; how many decisions. `max_live` bounds the live jobs of a shard, as for an enqueue.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn fire(store: &Store, jobs: &dyn SlotJobs, max_live: u64) -> Result<usize, StoreError> {
    fire_until(store, jobs, max_live, store.now().await?).await
}

/// The same by a clock that is watched: after a jump nothing is decided until somebody has looked at it. By a wrong time
/// every slot might seem to be over, and when the clock is set right again, none would be due for as long as it was wrong.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn fire_by(
    store: &Store,
    jobs: &dyn SlotJobs,
    max_live: u64,
    clock: &mut ClockWatch,
) -> Result<usize, StoreError> {
    let glance = clock.look(store).await?;
    fire_seen(store, jobs, max_live, glance).await
}

/// The same after a look at the clock.
pub(super) async fn fire_seen(
    store: &Store,
    jobs: &dyn SlotJobs,
    max_live: u64,
    glance: Glance,
) -> Result<usize, StoreError> {
    match store.clock_jump().await? {
        Some(_) => Ok(0),
        // Not by a time that is asked for now: the clock may jump after the look.
        None => fire_until(store, jobs, max_live, glance.now).await,
    }
}

async fn fire_until(store: &Store, jobs: &dyn SlotJobs, max_live: u64, now: UnixMs) -> Result<usize, StoreError> {
    let mut decisions = 0;
    for shard in 0..store.shards() {
        let mut due = store.due_schedules(shard, now, LIMIT).await?;
        // Processes that tick together would each lose to the same other one.
        due.shuffle(&mut rand::rng());
        for schedule in &due {
            match schedule.spec.rules.timetable() {
                Ok(table) => decisions += Firing::of((store, jobs, max_live), schedule, table, now).run().await?,
                Err(error) => {
                    let (tenant, name) = (&schedule.spec.tenant, &schedule.spec.name);
                    tracing::error!(tenant, name, %error, "a schedule that an earlier version took cannot be read by this one");
                }
            }
        }
    }
    Ok(decisions)
}

/// One schedule's due slots.
struct Firing<'a> {
    store: &'a Store,
    jobs: &'a dyn SlotJobs,
    schedule: &'a Schedule,
    table: Timetable,
    now: UnixMs,
    max_live: u64,
    /// The last slot that was missed, and when that was told of.
    missed: Option<MissedSlot>,
}

impl<'a> Firing<'a> {
    fn of(
        (store, jobs, max_live): (&'a Store, &'a dyn SlotJobs, u64),
        schedule: &'a Schedule,
        table: Timetable,
        now: UnixMs,
    ) -> Self {
        Self { store, jobs, schedule, table, now, max_live, missed: schedule.last_missed.clone() }
    }

    async fn run(mut self) -> Result<usize, StoreError> {
        let plan = self.schedule.plan(&self.table, self.now);
        let (mut before, mut decisions) = (self.schedule.cursor, 0);
        let untold =
            (self.schedule.untold > 0 && !plan.more).then_some(Dropped { slots: 0, first: before, last: before });
        if let Some(dropped) = plan.dropped.or(untold) {
            if !self.drop_slots(before, dropped, plan.more).await? {
                return Ok(decisions);
            }
            (before, decisions) = (dropped.last, 1);
        }
        for slot in plan.fire {
            if !self.decide(before, slot).await? {
                return Ok(decisions);
            }
            (before, decisions) = (slot, decisions + 1);
        }
        Ok(if plan.more { decisions.max(LIMIT) } else { decisions })
    }

    /// Counts what was missed because nothing fired in time; whether this process was the one to say so.
    async fn drop_slots(&self, before: UnixMs, dropped: Dropped, more: bool) -> Result<bool, StoreError> {
        let detail = match self.schedule.spec.rules.missed {
            Missed::Within { .. } => "nothing fired within the time that its policy allows",
            _ => "nothing fired in time: no upkeep was running, or the store was full or away",
        };
        let slots = self.schedule.untold + u64::from(dropped.slots);
        let why = SlotRefusal::of("not_fired", detail);
        let alert = (!more).then(|| self.alert(slots, dropped.last, &why));
        let said =
            self.store.skip_slots(self.schedule, &self.table, before, dropped, (&why.to_string(), alert)).await?;
        Ok(said == Slot::Skipped)
    }

    /// Fires a slot, or counts it as missed; whether the next one's turn has come.
    async fn decide(&mut self, before: UnixMs, slot: UnixMs) -> Result<bool, StoreError> {
        let why = match self.try_slot(before, slot).await? {
            Ok(done) => return Ok(done),
            Err(why) => why,
        };
        let (tenant, name) = (&self.schedule.spec.tenant, &self.schedule.spec.name);
        if let SlotRefusal::NotNow(detail) = &why {
            tracing::warn!(tenant, name, detail, "a slot stays due");
            return Ok(false);
        }
        tracing::warn!(tenant, name, slot = self.table.show(slot), %why, "a schedule did not fire");
        let dropped = Dropped { slots: 1, first: slot, last: slot };
        let old = self.old_news(before, &why.to_string());
        let alert = old.map_or_else(|| self.alert(1, slot, &why), |_| String::new());
        let why = why.to_string();
        let said = self.store.skip_slots(self.schedule, &self.table, before, dropped, (&why, Some(alert))).await?;
        self.missed = Some(MissedSlot { slot, at: self.now, why, told_at: old.unwrap_or(self.now) });
        Ok(said == Slot::Skipped)
    }

    async fn try_slot(&self, before: UnixMs, slot: UnixMs) -> Result<Result<bool, SlotRefusal>, StoreError> {
        let job = match self.jobs.job(self.schedule, slot).await {
            Ok(job) => job,
            Err(why) => return Ok(Err(why)),
        };
        let said = self.store.fire_slot(self.schedule, &self.table, before, (slot, job), self.max_live).await;
        Ok(match said {
            Ok(Slot::Fired(job)) => {
                tracing::debug!(%job, name = self.schedule.spec.name, slot, "a schedule fired");
                Ok(true)
            }
            Ok(Slot::Skipped | Slot::Overtaken) => Ok(false),
            Ok(Slot::Full(live)) => Err(SlotRefusal::NotNow(format!("{live} jobs are waiting already"))),
            Ok(Slot::Spent(used)) => {
                Err(SlotRefusal::of("quota_exceeded", format!("its quota is used up ({used} used)")))
            }
            Ok(Slot::TicketRefused(_)) => Err(SlotRefusal::of("code_invalid", "its job needs a code of its own")),
            Err(error @ (StoreError::TooLong { .. } | StoreError::BadName { .. })) => {
                Err(SlotRefusal::of(error.code(), error.to_string()))
            }
            Err(error) => return Err(error),
        })
    }

    /// When it was told of, if the slot before was refused for the same reason, and that was told of not long ago.
    fn old_news(&self, before: UnixMs, why: &str) -> Option<UnixMs> {
        let last = self.missed.as_ref().filter(|last| last.slot == before && last.why == why)?;
        Some(last.told_at).filter(|told| self.now - told < TELL_AGAIN_MS)
    }

    fn alert(&self, slots: u64, last: UnixMs, why: &SlotRefusal) -> String {
        let (spec, slot) = (&self.schedule.spec, self.table.show(last));
        let (code, detail) = match why {
            SlotRefusal::Refused { code, detail } => (code.as_str(), detail.as_str()),
            SlotRefusal::NotNow(detail) => ("not_now", detail.as_str()),
        };
        let (name, tenant, missed) = (&spec.name, &spec.tenant, spec.rules.missed);
        json!({ "schedule": name, "tenant": tenant, "slots": slots, "last_slot": slot, "code": code, "detail": detail,
            "missed": missed.to_string() })
        .to_string()
    }
}
