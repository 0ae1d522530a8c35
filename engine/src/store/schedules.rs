//! Schedules in the store: written, read, forgotten. Each lies in its tenant's shard, beside the jobs that it makes.
//!
//! Invariant: the last writer does not win silently, and a change of the times makes the slots count from now.

use std::collections::HashMap;

use bytes::Bytes;
use redis::Value;

use super::{connect::Store, error::StoreError};
use crate::model::{FiredSlot, JobId, MissedSlot, Schedule, ScheduleSpec, SlotCounts, Stuck, Timetable, UnixMs};

/// Schedules of a shard; more are refused (E7).
pub const MOST_SCHEDULES: u64 = 10_000;
/// The score of a schedule that fires nothing.
pub(super) const NEVER: UnixMs = 9_000_000_000_000_000;
/// Schedules that are read at a time.
const BATCH: usize = 200;

/// What came of writing a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulePut {
    /// Written, or there already as it was to be; its revision, 1 when it is new.
    Ok(u32),
    /// It is at another revision than expected; 0 when there is none.
    Conflict(u32),
    /// The shard has as many as it may.
    Full(u64),
}

/// What came of forgetting a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleRemoved {
    /// Forgotten.
    Ok,
    /// It is at another revision than expected.
    Conflict(u32),
    /// There is none.
    Gone,
}

impl Store {
    /// Writes a schedule. `expected`: `None` whatever is there, `Some(0)` it must be new, else the revision to replace.
    ///
    /// While expression, zone and pause stay the same, slots that are due stay due; otherwise they count from now, or
    /// from the last one that was decided, if that is later: no slot is decided twice.
    ///
    /// # Errors
    /// [`StoreError::BadName`] when tenant or name is empty, too long or has a line break; or the store cannot be reached.
    pub async fn put_schedule(
        &self,
        spec: &ScheduleSpec,
        table: &Timetable,
        expected: Option<u32>,
    ) -> Result<SchedulePut, StoreError> {
        self.write_schedule(spec, |at| table.next_after(at), expected).await
    }

    pub(super) async fn write_schedule(
        &self,
        spec: &ScheduleSpec,
        next_after: impl Fn(UnixMs) -> Option<UnixMs>,
        expected: Option<u32>,
    ) -> Result<SchedulePut, StoreError> {
        let mut cursor = self.now().await?;
        // Each turn means that a slot was decided since; that takes its time, too, so that there are few.
        loop {
            let next = if spec.rules.paused { None } else { next_after(cursor) };
            let (word, number) = self.put_from(spec, expected, cursor, next).await?;
            return match word.as_str() {
                "written" | "same" => Ok(SchedulePut::Ok(number as u32)),
                "conflict" => Ok(SchedulePut::Conflict(number as u32)),
                "full" => Ok(SchedulePut::Full(number)),
                "late" => {
                    cursor = number as UnixMs;
                    continue;
                }
                _ => Err(StoreError::UnknownAnswer { verb: "schedule_put", answer: word }),
            };
        }
    }

    async fn put_from(
        &self,
        spec: &ScheduleSpec,
        expected: Option<u32>,
        cursor: UnixMs,
        next: Option<UnixMs>,
    ) -> Result<(String, u64), StoreError> {
        let (member, by_name) = members(&spec.tenant, &spec.name)?;
        let rules = serde_json::to_string(&spec.rules).unwrap_or_default();
        let mut cmd = self.begin(&self.scripts.schedule_put, self.shard_of(&spec.tenant));
        cmd.arg(member).arg(by_name).arg(expected_word(expected)).arg(MOST_SCHEDULES);
        cmd.arg(rules).arg(&spec.job[..]).arg(spec.rules.rhythm()).arg(cursor).arg(next.unwrap_or(NEVER));
        self.query("schedule_put", cmd).await
    }

    /// Forgets a schedule; its jobs stay. `expected` as in [`Store::put_schedule`].
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn remove_schedule(
        &self,
        tenant: &str,
        name: &str,
        expected: Option<u32>,
    ) -> Result<ScheduleRemoved, StoreError> {
        let (member, by_name) = members(tenant, name)?;
        let mut cmd = self.begin(&self.scripts.schedule_remove, self.shard_of(tenant));
        cmd.arg(member).arg(by_name).arg(expected_word(expected)).arg(format!("{:016x}", rand::random::<u64>()));
        let reply: Vec<Value> = self.query("schedule_remove", cmd).await?;
        match word(&reply, 0).as_str() {
            "removed" => Ok(ScheduleRemoved::Ok),
            "gone" => Ok(ScheduleRemoved::Gone),
            "conflict" => Ok(ScheduleRemoved::Conflict(word(&reply, 1).parse().unwrap_or(0))),
            other => Err(StoreError::UnknownAnswer { verb: "schedule_remove", answer: other.to_owned() }),
        }
    }

    /// A schedule of a tenant.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached or its schedule cannot be read.
    pub async fn schedule(&self, tenant: &str, name: &str) -> Result<Option<Schedule>, StoreError> {
        let Ok((member, _)) = members(tenant, name) else { return Ok(None) };
        Ok(self.read_schedules(self.shard_of(tenant), vec![member]).await?.pop())
    }

    /// The schedules of this name, of all tenants; at most 200.
    ///
    /// # Errors
    /// As [`Store::schedule`].
    pub async fn schedules_named(&self, name: &str) -> Result<Vec<Schedule>, StoreError> {
        let mut found = Vec::new();
        for shard in 0..self.shards {
            let (from, to) = (format!("[{name}\n"), format!("({name}\x0b"));
            let by_name = self.members_between(shard, "schedules_by_name", &from, &to, BATCH).await?;
            let members =
                by_name.iter().filter_map(|text| text.split_once('\n')).map(|(name, t)| format!("{t}\n{name}"));
            found.extend(self.read_schedules(shard, members.collect()).await?);
        }
        Ok(found)
    }

    /// A page of schedules by shard, tenant and name, of one tenant or of all; after the given tenant and name.
    ///
    /// # Errors
    /// As [`Store::schedule`].
    pub async fn schedules(
        &self,
        tenant: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Result<Vec<Schedule>, StoreError> {
        let first = after.map_or(0, |(tenant, _)| self.shard_of(tenant));
        let shards = tenant.map_or(first..self.shards, |t| self.shard_of(t)..self.shard_of(t) + 1);
        let mut page = Vec::new();
        for shard in shards {
            let after = after.filter(|(tenant, _)| self.shard_of(tenant) == shard);
            let from = match (after, tenant) {
                (Some((tenant, name)), _) => format!("({tenant}\n{name}"),
                (None, Some(tenant)) => format!("[{tenant}\n"),
                (None, None) => "-".to_owned(),
            };
            let to = tenant.map_or_else(|| "+".to_owned(), |tenant| format!("({tenant}\x0b"));
            let members = self.members_between(shard, "schedule_names", &from, &to, limit - page.len()).await?;
            for batch in members.chunks(BATCH) {
                page.extend(self.read_schedules(shard, batch.to_vec()).await?);
            }
            if page.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    /// How many schedules there are.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn schedule_count(&self) -> Result<u64, StoreError> {
        let mut all = 0;
        for shard in 0..self.shards {
            let mut cmd = redis::cmd("ZCARD");
            cmd.arg(self.key(shard, "schedule_names"));
            all += self.query::<u64>("schedule_count", cmd).await?;
        }
        Ok(all)
    }

    /// The schedules of a shard whose next slot is due, the longest overdue first; those that are stuck when their time to be
    /// tried again has come.
    ///
    /// # Errors
    /// As [`Store::schedule`].
    pub async fn due_schedules(&self, shard: u16, now: UnixMs, limit: usize) -> Result<Vec<Schedule>, StoreError> {
        let mut cmd = redis::cmd("ZRANGEBYSCORE");
        cmd.arg(self.key(shard, "schedules")).arg("-inf").arg(now).arg("LIMIT").arg(0).arg(limit.min(BATCH));
        let members: Vec<String> = self.query("due_schedules", cmd).await?;
        self.read_schedules(shard, members).await
    }

    async fn members_between(
        &self,
        shard: u16,
        index: &str,
        from: &str,
        to: &str,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut cmd = redis::cmd("ZRANGEBYLEX");
        cmd.arg(self.key(shard, index)).arg(from).arg(to).arg("LIMIT").arg(0).arg(limit);
        self.query("schedules", cmd).await
    }

    async fn read_schedules(&self, shard: u16, members: Vec<String>) -> Result<Vec<Schedule>, StoreError> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for member in &members {
            pipe.cmd("HGETALL").arg(self.key(shard, &format!("schedule:{member}")));
        }
        let held: Vec<HashMap<String, Bytes>> = self.pipe("schedules", &pipe).await?;
        let there = members.iter().zip(held).filter(|(_, fields)| !fields.is_empty());
        there.map(|(member, fields)| read(member, &fields)).collect()
    }
}

/// The members of the two indexes: tenant first, name first.
pub(super) fn members(tenant: &str, name: &str) -> Result<(String, String), StoreError> {
    let bad = |text: &str| text.is_empty() || text.len() > 255 || text.chars().any(|c| c.is_control());
    for (what, text) in [("tenant", tenant), ("name", name)] {
        if bad(text) {
            return Err(StoreError::BadName { what, rule: "1 to 255 bytes without control characters" });
        }
    }
    Ok((format!("{tenant}\n{name}"), format!("{name}\n{tenant}")))
}

fn expected_word(expected: Option<u32>) -> String {
    expected.map_or_else(|| "*".to_owned(), |revision| revision.to_string())
}

pub(super) fn word(reply: &[Value], at: usize) -> String {
    reply.get(at).and_then(|v| redis::from_redis_value_ref::<String>(v).ok()).unwrap_or_default()
}

fn read(member: &str, fields: &HashMap<String, Bytes>) -> Result<Schedule, StoreError> {
    let bad = || StoreError::UnknownAnswer { verb: "schedules", answer: format!("the schedule {member:?}") };
    let text = |name: &str| fields.get(name).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default();
    let number = |name: &str| text(name).parse::<i64>().ok();
    let count = |name: &str| number(name).unwrap_or(0);
    let (tenant, name) = member.split_once('\n').ok_or_else(bad)?;
    let spec = ScheduleSpec {
        tenant: tenant.to_owned(),
        name: name.to_owned(),
        rules: serde_json::from_str(text("rules")).map_err(|_| bad())?,
        job: fields.get("job").cloned().unwrap_or_default(),
    };
    let fired = text("fired_job").parse::<JobId>().ok();
    let missed = number("missed_at");
    Ok(Schedule {
        spec,
        revision: text("revision").parse().map_err(|_| bad())?,
        changed_at: count("changed_at"),
        cursor: number("cursor").ok_or_else(bad)?,
        next: number("next").filter(|next| *next < NEVER),
        stuck: number("stuck_since").map(|since| Stuck {
            slot: count("stuck_slot"),
            since,
            why: text("stuck_why").to_owned(),
        }),
        untold: count("untold").unsigned_abs(),
        counts: SlotCounts {
            fired: count("fired").unsigned_abs(),
            late: count("late").unsigned_abs(),
            missed: count("missed").unsigned_abs(),
            lateness_ms: count("lateness"),
            max_lateness_ms: count("max_lateness"),
            lateness_sum_ms: count("lateness_sum"),
        },
        last_fired: fired.map(|job| FiredSlot { slot: count("fired_slot"), at: count("fired_at"), job }),
        last_missed: missed.map(|at| MissedSlot {
            slot: count("missed_slot"),
            at,
            why: text("missed_why").to_owned(),
            told_at: count("told_at"),
        }),
    })
}
