//! Decisions on the slots of schedules: one fires, or several are counted as missed.
//!
//! Invariant: a slot is decided by one script that compares the revision and the cursor, and moves the cursor in the
//! same breath as it takes the job in.

use redis::Value;

use super::{
    connect::Store,
    enqueue::{check_names, ticket_refusal, wish},
    error::StoreError,
    schedules::{NEVER, members, word},
    scripts::Script,
};
use crate::model::{Dropped, HOT_BYTES, JobId, NewJob, ON_TIME_MS, Schedule, TicketRefusal, Timetable, UnixMs, pack};

/// What came of deciding on a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// It fired; its job.
    Fired(JobId),
    /// It is counted as missed.
    Skipped,
    /// Another process was first, or the schedule is another by now: read it again.
    Overtaken,
    /// Too many live jobs: try again later.
    Full(u64),
    /// The allowance that its job takes a unit of is used up.
    Spent(u32),
    /// The code that its job spends was refused.
    TicketRefused(TicketRefusal),
}

impl Store {
    /// Fires a slot: its job is taken in and the cursor moves to it, once, however many processes ask. The job's id is
    /// made here. `before` is the cursor that the caller has seen.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached: then it is not known whether it fired; ask again.
    pub async fn fire_slot(
        &self,
        schedule: &Schedule,
        table: &Timetable,
        before: UnixMs,
        (slot, mut job): (UnixMs, NewJob),
        max_live: u64,
    ) -> Result<Slot, StoreError> {
        check_names(&job)?;
        let shard = self.shard_of(&schedule.spec.tenant);
        for salt in 0.. {
            job.id = schedule.job_id(shard, slot, salt);
            let mut cmd = self.decide(&self.scripts.schedule_fire, schedule, before, slot, table)?;
            cmd.arg(ON_TIME_MS).arg(max_live);
            let record = pack(&job);
            let (hot, rest) = record.split_at(HOT_BYTES);
            cmd.arg(job.id.as_str()).arg(hot).arg(rest).arg(job.run_at.unwrap_or(0)).arg(wish(&job));
            let reply: Vec<Value> = self.query("schedule_fire", cmd).await?;
            return Ok(match word(&reply, 0).as_str() {
                "fired" => Slot::Fired(job.id),
                "clash" if salt < 8 => continue,
                "decided" | "changed" | "gone" => Slot::Overtaken,
                "full" => Slot::Full(word(&reply, 1).parse().unwrap_or(0)),
                "spent" => Slot::Spent(word(&reply, 1).parse().unwrap_or(0)),
                "ticket" => Slot::TicketRefused(ticket_refusal(&word(&reply, 1)).unwrap_or(TicketRefusal::Missing)),
                other => return Err(StoreError::UnknownAnswer { verb: "schedule_fire", answer: other.to_owned() }),
            });
        }
        Ok(Slot::Overtaken)
    }

    /// Decides that slots do not fire: they are counted as missed, and `alert` (a JSON document) is told. `None` when a
    /// later decision will tell of them, too; empty when nobody has to be told.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; ask again.
    pub async fn skip_slots(
        &self,
        schedule: &Schedule,
        table: &Timetable,
        before: UnixMs,
        dropped: Dropped,
        (why, alert): (&str, Option<String>),
    ) -> Result<Slot, StoreError> {
        let mut cmd = self.decide(&self.scripts.schedule_skip, schedule, before, dropped.last, table)?;
        cmd.arg(dropped.slots).arg(why).arg(alert.unwrap_or_else(|| "later".to_owned()));
        let reply: Vec<Value> = self.query("schedule_skip", cmd).await?;
        match word(&reply, 0).as_str() {
            "skipped" => Ok(Slot::Skipped),
            "decided" | "changed" | "gone" => Ok(Slot::Overtaken),
            other => Err(StoreError::UnknownAnswer { verb: "schedule_skip", answer: other.to_owned() }),
        }
    }

    /// Says that the slot after `before` cannot be decided now, and why: it is due again after a delay. `alert` (a JSON
    /// document) is told once, until a slot of the schedule
    /// fires.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; ask again.
    pub async fn stick_slot(
        &self,
        schedule: &Schedule,
        (before, slot): (UnixMs, UnixMs),
        delay_ms: i64,
        (why, alert): (&str, Option<String>),
    ) -> Result<(), StoreError> {
        let (member, _) = members(&schedule.spec.tenant, &schedule.spec.name)?;
        let mut cmd = self.begin(&self.scripts.schedule_stuck, self.shard_of(&schedule.spec.tenant));
        cmd.arg(member).arg(schedule.revision).arg(before).arg(slot).arg(delay_ms);
        cmd.arg(why).arg(alert.unwrap_or_default());
        let reply: Vec<Value> = self.query("schedule_stuck", cmd).await?;
        match word(&reply, 0).as_str() {
            "waits" | "decided" | "changed" | "gone" => Ok(()),
            other => Err(StoreError::UnknownAnswer { verb: "schedule_stuck", answer: other.to_owned() }),
        }
    }

    fn decide(
        &self,
        script: &Script,
        schedule: &Schedule,
        before: UnixMs,
        slot: UnixMs,
        table: &Timetable,
    ) -> Result<redis::Cmd, StoreError> {
        let (member, _) = members(&schedule.spec.tenant, &schedule.spec.name)?;
        let mut cmd = self.begin(script, self.shard_of(&schedule.spec.tenant));
        cmd.arg(member).arg(schedule.revision).arg(before).arg(slot).arg(table.next_after(slot).unwrap_or(NEVER));
        Ok(cmd)
    }
}
