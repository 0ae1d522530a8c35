//! Fires schedules: each due slot becomes one job, or is counted as missed and told of. Any number of processes may run it.
//!
//! Nobody leads: each process makes the same plan from what it reads, and the store lets each slot be decided once.

use async_trait::async_trait;
use rand::seq::SliceRandom;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::LIMIT;
use crate::{
    model::{Dropped, Missed, MissedSlot, NewJob, Schedule, Timetable, UnixMs},
    store::{ClockWatch, Glance, Slot, Store, StoreError},
};

/// A series of refusals with one reason is told of once in this time, ms; a daily one each time.
const TELL_AGAIN_MS: i64 = 23 * 3_600_000;

/// A slot that is stuck for so long is told of, ms.
const TELL_STUCK_MS: i64 = 60_000;
/// When a slot that is stuck is tried again: at first, and at most, ms.
const TRY_AGAIN_MS: (i64, i64) = (1000, 15_000);
/// Slots of one schedule that are decided in a row while others wait.
const SHARE: usize = 50;

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

/// Decides on the slots that are due, at most 500 a call; how many decisions. `max_live` bounds the live jobs of a shard, as for
/// an enqueue.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn fire(store: &Store, jobs: &dyn SlotJobs, max_live: u64) -> Result<usize, StoreError> {
    let stop = CancellationToken::new();
    fire_until(&Firer { store, jobs, max_live, stop: &stop }, store.now().await?).await
}

/// The same by a clock that is watched: after a jump nothing is decided until somebody has looked at it. By a wrong time
/// every slot might seem to be over, and when the clock is set right again, none would be due for as long as it was wrong.
/// After `stop` no slot is begun.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn fire_by(
    store: &Store,
    jobs: &dyn SlotJobs,
    max_live: u64,
    clock: &mut ClockWatch,
    stop: &CancellationToken,
) -> Result<usize, StoreError> {
    let glance = clock.look(store).await?;
    fire_seen(store, (jobs, max_live), glance, stop).await
}

/// The same after a look at the clock.
pub(super) async fn fire_seen(
    store: &Store,
    (jobs, max_live): (&dyn SlotJobs, u64),
    glance: Glance,
    stop: &CancellationToken,
) -> Result<usize, StoreError> {
    match store.clock_jump().await? {
        Some(_) => Ok(0),
        // Not by a time that is asked for now: the clock may jump after the look.
        None => fire_until(&Firer { store, jobs, max_live, stop }, glance.now).await,
    }
}

/// What it takes to fire schedules.
struct Firer<'a> {
    store: &'a Store,
    jobs: &'a dyn SlotJobs,
    max_live: u64,
    stop: &'a CancellationToken,
}

async fn fire_until(firer: &Firer<'_>, now: UnixMs) -> Result<usize, StoreError> {
    let (shards, mut done) = (firer.store.shards(), Done::default());
    // Not always from the first on: it might fill each tick.
    let first = rand::random_range(0..shards);
    for shard in (first..shards).chain(0..first) {
        let mut due = firer.store.due_schedules(shard, now, LIMIT).await?;
        // Processes that tick together would each lose to the same other one.
        due.shuffle(&mut rand::rng());
        for schedule in &due {
            if done.decisions >= LIMIT || firer.stop.is_cancelled() {
                break;
            }
            match schedule.spec.rules.timetable() {
                Ok(table) => done.add(Firing::of(firer, schedule, table, now).run(LIMIT - done.decisions).await?),
                Err(error) => {
                    let slot = schedule.next.unwrap_or(now);
                    stuck(firer, schedule, (schedule.cursor, slot), &error.to_string(), now).await?;
                }
            }
        }
    }
    Ok(if done.has_more { done.decisions.max(LIMIT) } else { done.decisions })
}

/// What came of a round.
#[derive(Default)]
struct Done {
    decisions: usize,
    /// More can be decided at once.
    has_more: bool,
}

impl Done {
    fn add(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.has_more |= other.has_more;
    }
}

/// Lets a slot wait that cannot be decided now. It is told of when that lasts, and in the log when the reason is another one.
async fn stuck(
    firer: &Firer<'_>,
    schedule: &Schedule,
    (before, slot): (UnixMs, UnixMs),
    why: &str,
    now: UnixMs,
) -> Result<(), StoreError> {
    let (tenant, name) = (&schedule.spec.tenant, &schedule.spec.name);
    let held = schedule.stuck.as_ref().filter(|held| held.slot == slot);
    if held.is_none_or(|held| held.why != why) {
        tracing::warn!(tenant, name, why, "a slot stays due");
    }
    let waited = held.map_or(0, |held| now - held.since);
    let alert = (waited >= TELL_STUCK_MS).then(|| {
        json!({ "schedule": name, "tenant": tenant, "slot": show(schedule, slot), "detail": why }).to_string()
    });
    let delay = waited.clamp(TRY_AGAIN_MS.0, TRY_AGAIN_MS.1);
    firer.store.stick_slot(schedule, (before, slot), delay, (why, alert)).await
}

fn show(schedule: &Schedule, slot: UnixMs) -> String {
    // An expression that cannot be read has no zone to show it in.
    let table = schedule.spec.rules.timetable().or_else(|_| Timetable::parse("@hourly", "UTC"));
    table.map(|table| table.show(slot)).unwrap_or_default()
}

/// One schedule's due slots.
struct Firing<'a> {
    firer: &'a Firer<'a>,
    schedule: &'a Schedule,
    table: Timetable,
    now: UnixMs,
    /// The last slot that was missed, and when that was told of.
    missed: Option<MissedSlot>,
}

impl<'a> Firing<'a> {
    fn of(firer: &'a Firer<'a>, schedule: &'a Schedule, table: Timetable, now: UnixMs) -> Self {
        Self { firer, schedule, table, now, missed: schedule.last_missed.clone() }
    }

    /// Decides on its slots, at most on so many.
    async fn run(mut self, most: usize) -> Result<Done, StoreError> {
        let plan = self.schedule.plan(&self.table, self.now);
        let (mut before, mut decisions) = (self.schedule.cursor, 0);
        let untold =
            (self.schedule.untold > 0 && !plan.more).then_some(Dropped { slots: 0, first: before, last: before });
        if let Some(dropped) = plan.dropped.or(untold) {
            if !self.drop_slots(before, dropped, plan.more).await? {
                return Ok(Done { decisions, has_more: false });
            }
            (before, decisions) = (dropped.last, 1);
        }
        for slot in plan.fire {
            if decisions >= most.min(SHARE) || self.firer.stop.is_cancelled() {
                return Ok(Done { decisions, has_more: true });
            }
            if !self.decide(before, slot).await? {
                return Ok(Done { decisions, has_more: false });
            }
            (before, decisions) = (slot, decisions + 1);
        }
        Ok(Done { decisions, has_more: plan.more })
    }

    /// Counts what was missed because nothing fired in time; whether this process was the one to say so.
    async fn drop_slots(&self, before: UnixMs, dropped: Dropped, more: bool) -> Result<bool, StoreError> {
        let tried = self.schedule.stuck.as_ref().filter(|held| (dropped.first..=dropped.last).contains(&held.slot));
        let detail = match (tried, self.schedule.spec.rules.missed) {
            (Some(held), _) => format!("it could not fire in time: {}", held.why),
            (None, Missed::Within { .. }) => "nothing fired within the time that its policy allows".to_owned(),
            (None, _) => "nothing fired in time: no upkeep was running, or the store was away".to_owned(),
        };
        let slots = self.schedule.untold + u64::from(dropped.slots);
        let why = SlotRefusal::of("not_fired", detail);
        // A schedule that is stuck gives up one slot after the other, which is one piece of news.
        let is_old =
            tried.is_some() && slots == u64::from(dropped.slots) && self.old_news(before, &why.to_string()).is_some();
        let alert = (!more).then(|| if is_old { String::new() } else { self.alert(slots, dropped.last, &why) });
        let said =
            self.firer.store.skip_slots(self.schedule, &self.table, before, dropped, (&why.to_string(), alert)).await?;
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
            stuck(self.firer, self.schedule, (before, slot), detail, self.now).await?;
            return Ok(false);
        }
        tracing::warn!(tenant, name, slot = self.table.show(slot), %why, "a schedule did not fire");
        let dropped = Dropped { slots: 1, first: slot, last: slot };
        let old = self.old_news(before, &why.to_string());
        let alert = old.map_or_else(|| self.alert(1, slot, &why), |_| String::new());
        let why = why.to_string();
        let said =
            self.firer.store.skip_slots(self.schedule, &self.table, before, dropped, (&why, Some(alert))).await?;
        self.missed = Some(MissedSlot { slot, at: self.now, why, told_at: old.unwrap_or(self.now) });
        Ok(said == Slot::Skipped)
    }

    async fn try_slot(&self, before: UnixMs, slot: UnixMs) -> Result<Result<bool, SlotRefusal>, StoreError> {
        let most = self.firer.max_live;
        let job = match self.firer.jobs.job(self.schedule, slot).await {
            Ok(job) => job,
            Err(why) => return Ok(Err(why)),
        };
        let said = self.firer.store.fire_slot(self.schedule, &self.table, before, (slot, job), most).await;
        Ok(match said {
            Ok(Slot::Fired(job)) => {
                tracing::debug!(%job, name = self.schedule.spec.name, slot, "a schedule fired");
                Ok(true)
            }
            Ok(Slot::Skipped | Slot::Overtaken) => Ok(false),
            Ok(Slot::Full(_)) => {
                Err(SlotRefusal::NotNow(format!("{most} jobs are waiting already, and more are not taken in")))
            }
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
