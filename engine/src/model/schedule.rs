//! A schedule: which job, when, and what becomes of runs that were missed. The store keeps it, upkeep fires it.
//!
//! Invariant: `cursor` is the last slot that was decided (fired or dropped); it only rises, and each decision moves it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    BadTimetable, JobId, UnixMs,
    schedule_missed::{Missed, Plan},
    schedule_times::Timetable,
};

/// What a person says of a schedule. Its name is unique within its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSpec {
    /// Whose jobs it makes; decides the shard.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// When, and how.
    pub rules: ScheduleRules,
    /// What the service makes a job of; opaque bytes here.
    pub job: Bytes,
}

/// The part of a schedule that the engine reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRules {
    /// A cron expression, see [`Timetable`].
    pub cron: String,
    /// Name of a time zone.
    pub zone: String,
    /// What becomes of missed runs.
    #[serde(default)]
    pub missed: Missed,
    /// It fires nothing, and nothing counts as missed.
    #[serde(default)]
    pub paused: bool,
    /// Who wrote it: an API key's id, a file's name.
    #[serde(default)]
    pub made_by: String,
    /// A file says it, and says it again at the next start.
    #[serde(default)]
    pub from_file: bool,
}

impl ScheduleRules {
    /// Its timetable.
    ///
    /// # Errors
    /// [`BadTimetable`], saying why.
    pub fn timetable(&self) -> Result<Timetable, BadTimetable> {
        Timetable::parse(&self.cron, &self.zone)
    }

    /// What decides on the times: while it stays the same, slots that are due stay due.
    pub(crate) fn rhythm(&self) -> String {
        format!("{}\n{}\n{}", self.cron, self.zone, self.paused)
    }
}

/// A schedule as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What was said.
    pub spec: ScheduleSpec,
    /// Rises with each change of what was said; 1 is the first.
    pub revision: u32,
    /// When it was changed, ms.
    pub changed_at: UnixMs,
    /// The last slot that was decided; at first, when it was made, ms.
    pub cursor: UnixMs,
    /// The next slot, ms; `None` when it is paused.
    pub next: Option<UnixMs>,
    /// Why the next slot is due and not decided, when that was tried.
    pub stuck: Option<Stuck>,
    /// Missed slots of an outage that is not yet told of.
    pub untold: u64,
    /// What has become of its slots.
    pub counts: SlotCounts,
    /// The last slot that fired.
    pub last_fired: Option<FiredSlot>,
    /// The last slot that did not.
    pub last_missed: Option<MissedSlot>,
}

/// What has become of a schedule's slots since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotCounts {
    /// They made a job.
    pub fired: u64,
    /// Of these, more than [`ON_TIME_MS`](super::ON_TIME_MS) after their time.
    pub late: u64,
    /// They did not.
    pub missed: u64,
    /// How late the last one fired, ms.
    pub lateness_ms: i64,
    /// The most, ms.
    pub max_lateness_ms: i64,
    /// The sum, ms.
    pub lateness_sum_ms: i64,
}

/// A slot that made a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiredSlot {
    /// Its time, ms.
    pub slot: UnixMs,
    /// When it fired, ms.
    pub at: UnixMs,
    /// The job.
    pub job: JobId,
}

/// A slot that made none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedSlot {
    /// Its time, ms; of several, the last one's.
    pub slot: UnixMs,
    /// When that was decided, ms.
    pub at: UnixMs,
    /// Why.
    pub why: String,
    /// When a missed slot was last told of among the alerts, ms.
    pub told_at: UnixMs,
}

/// A slot that is due and could not be decided when that was last tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Its time, ms.
    pub slot: UnixMs,
    /// Since when, ms.
    pub since: UnixMs,
    /// Why, the last time.
    pub why: String,
}

impl Schedule {
    /// What is to be done now, by its timetable.
    #[must_use]
    pub fn plan(&self, table: &Timetable, now: UnixMs) -> Plan {
        match self.spec.rules.paused {
            true => Plan::default(),
            false => Plan::make(table, self.spec.rules.missed, self.cursor, now),
        }
    }

    /// For how long its next slot is due without having been decided, ms; 0 when all is well.
    #[must_use]
    pub fn overdue_ms(&self, now: UnixMs) -> i64 {
        self.next.map_or(0, |next| (now - next).max(0))
    }

    /// The id of the job of a slot: the same for whoever fires it. `salt` makes another, when it is another job's.
    #[must_use]
    pub fn job_id(&self, shard: u16, slot: UnixMs, salt: u32) -> JobId {
        let mut hash = Sha256::new();
        for part in [self.spec.tenant.as_bytes(), self.spec.name.as_bytes(), &slot.to_be_bytes(), &salt.to_be_bytes()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let tail = hash.finalize().iter().take(8).fold(0_u64, |tail, byte| (tail << 8) | u64::from(*byte));
        JobId::of(shard, slot.max(0).unsigned_abs(), tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(name: &str) -> Schedule {
        let rules = ScheduleRules {
            cron: "0 2 * * *".to_owned(),
            zone: "Asia/Shanghai".to_owned(),
            missed: Missed::Once,
            paused: false,
            made_by: String::new(),
            from_file: false,
        };
        let spec = ScheduleSpec { tenant: "t-001".to_owned(), name: name.to_owned(), rules, job: Bytes::new() };
        let (counts, stuck, last_fired, last_missed) = Default::default();
        Schedule {
            spec,
            revision: 1,
            changed_at: 0,
            cursor: 0,
            next: Some(64_800_000),
            stuck,
            untold: 0,
            counts,
            last_fired,
            last_missed,
        }
    }

    #[test]
    fn the_job_of_a_slot_has_one_id_whoever_fires_it() {
        let (a, b) = (schedule("a"), schedule("b"));
        let id = a.job_id(3, 64_800_000, 0);
        assert_eq!(id, a.clone().job_id(3, 64_800_000, 0));
        assert_eq!((id.shard(), id.made_at()), (3, 64_800_000));
        for other in [a.job_id(3, 151_200_000, 0), a.job_id(3, 64_800_000, 1), b.job_id(3, 64_800_000, 0)] {
            assert_ne!(id, other);
        }
        assert!(id.as_str().parse::<JobId>().is_ok());
    }

    #[test]
    fn a_paused_schedule_plans_nothing_and_an_overdue_one_says_for_how_long() {
        let mut paused = schedule("a");
        let table = Timetable::parse("0 2 * * *", "Asia/Shanghai").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(paused.plan(&table, 64_800_000).fire, [64_800_000]);
        assert_eq!((paused.overdue_ms(64_799_999), paused.overdue_ms(64_800_500)), (0, 500));
        paused.spec.rules.paused = true;
        paused.next = None;
        assert_eq!((paused.plan(&table, 64_800_000), paused.overdue_ms(i64::MAX)), (Plan::default(), 0));
    }
}
