//! Schedules in the model: each slot is decided once, however many processes look at it and however late they are.
//!
//! Invariant: whoever decides names what it saw; it is heard only while that stands.

use std::collections::BTreeMap;

use leasehold_engine::{
    model::{ON_TIME_MS, Schedule, SlotCounts},
    store::{SchedulePut, ScheduleRemoved, Slot},
};

use crate::{
    model::{Model, NEVER},
    slots::{id_of, plan, what_of},
    verbs::{Asks, CRONS, Expected, J, JOBS, Rules, UNITS, Verb},
};

/// A schedule.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) rules: Rules,
    pub(crate) revision: u32,
    /// The last slot that was decided; at first, when it was made.
    pub(crate) cursor: i64,
    pub(crate) next: i64,
    /// When to look at it: at its next slot, or later while that cannot be decided.
    pub(crate) due: i64,
    /// The slot that cannot be decided, and since when.
    pub(crate) stuck: Option<(i64, i64)>,
    pub(crate) counts: SlotCounts,
    /// Slot, when it fired, the job.
    pub(crate) fired: Option<(i64, i64, J)>,
    /// Slot, the cursor before, when it was decided.
    pub(crate) missed: Option<(i64, i64, i64)>,
}

/// What a process saw, and when.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) now: i64,
    /// As they were then.
    pub(crate) schedules: Vec<(Schedule, Rules)>,
}

/// All of them, by tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schedules {
    /// How many jobs they made.
    pub(crate) made: u8,
    pub(crate) kept: BTreeMap<usize, Kept>,
    pub(crate) looked: [Option<Look>; 2],
}

impl Kept {
    fn line_up(&mut self) {
        (self.stuck, self.due) = (None, self.next);
    }

    fn move_to(&mut self, cursor: i64) {
        let period = CRONS[self.rules.cron].1;
        self.cursor = cursor;
        self.next = if self.rules.paused { NEVER } else { (cursor.div_euclid(period) + 1) * period };
        self.line_up();
    }

    fn note_fired(&mut self, slot: i64, now: i64, j: J) {
        let late = now - slot;
        let counts = &mut self.counts;
        counts.fired += 1;
        counts.late += u64::from(late > ON_TIME_MS);
        counts.lateness_ms = late;
        counts.max_lateness_ms = counts.max_lateness_ms.max(late);
        counts.lateness_sum_ms += late;
        self.fired = Some((slot, now, j));
        self.move_to(slot);
    }
}

impl Schedules {
    pub(crate) fn is_due(&self, of: usize, now: i64) -> bool {
        self.kept.get(&of).is_some_and(|kept| kept.due <= now)
    }

    /// Due ones, the longest overdue first.
    pub(crate) fn due(&self, now: i64) -> Vec<usize> {
        let mut due: Vec<usize> = self.kept.keys().copied().filter(|of| self.is_due(*of, now)).collect();
        due.sort_by_key(|of| (self.kept[of].due, *of));
        due
    }

    /// What a writer says that is there.
    pub(crate) fn expected(&self, of: usize, expected: Expected) -> Option<u32> {
        let revision = self.kept.get(&of).map_or(0, |kept| kept.revision);
        match expected {
            Expected::Any => None,
            Expected::New => Some(0),
            Expected::Current => Some(revision),
            Expected::Stale => Some(revision + 7),
        }
    }

    fn put(&mut self, of: usize, rules: Rules, expected: Option<u32>, now: i64) -> SchedulePut {
        let held = self.kept.get(&of);
        let revision = held.map_or(0, |kept| kept.revision);
        let wanted = expected.unwrap_or(revision);
        // Sent again, it is there as it was to be.
        if held.is_some_and(|kept| kept.rules == rules) && (wanted == revision || wanted + 1 == revision) {
            return SchedulePut::Ok(revision);
        }
        if wanted != revision {
            return SchedulePut::Conflict(revision);
        }
        let rhythm = |rules: Rules| (rules.cron, rules.paused);
        let goes_on = held.is_some_and(|kept| rhythm(kept.rules) == rhythm(rules));
        let kept = self.kept.entry(of).or_insert(Kept {
            rules,
            revision: 0,
            cursor: now,
            next: NEVER,
            due: NEVER,
            stuck: None,
            counts: SlotCounts::default(),
            fired: None,
            missed: None,
        });
        (kept.rules, kept.revision) = (rules, revision + 1);
        // A change of its times makes the slots count from now.
        if goes_on {
            kept.line_up()
        } else {
            kept.move_to(now)
        }
        SchedulePut::Ok(revision + 1)
    }

    fn pause(&mut self, of: usize, paused: bool, expected: Option<u32>, now: i64) -> Option<SchedulePut> {
        let held = self.kept.get(&of)?;
        let (rules, revision) = (Rules { paused, ..held.rules }, held.revision);
        Some(self.put(of, rules, Some(expected.unwrap_or(revision)), now))
    }

    fn remove(&mut self, of: usize, expected: Option<u32>) -> ScheduleRemoved {
        let Some(kept) = self.kept.get(&of) else { return ScheduleRemoved::Gone };
        if expected.is_some_and(|wanted| wanted != kept.revision) {
            return ScheduleRemoved::Conflict(kept.revision);
        }
        self.kept.remove(&of);
        ScheduleRemoved::Ok
    }

    /// The schedule, while nobody decided on what follows `before` and nobody wrote it anew.
    fn undecided(&mut self, (of, revision): (usize, u32), before: i64) -> Option<&mut Kept> {
        self.kept.get_mut(&of).filter(|kept| kept.revision == revision && kept.cursor == before)
    }

    pub(crate) fn skip(&mut self, of: (usize, u32), before: i64, (last, many): (i64, u64), now: i64) -> Slot {
        let said =
            |kept: &Kept| kept.cursor == last && kept.missed.is_some_and(|(slot, b, _)| (slot, b) == (last, before));
        if self.kept.get(&of.0).is_some_and(said) {
            return Slot::Skipped;
        }
        let Some(kept) = self.undecided(of, before) else { return Slot::Overtaken };
        kept.counts.missed += many;
        kept.missed = Some((last, before, now));
        kept.move_to(last);
        Slot::Skipped
    }

    pub(crate) fn stick(&mut self, of: (usize, u32), (before, slot): (i64, i64), delay: i64, now: i64) {
        if let Some(kept) = self.undecided(of, before) {
            let since = kept.stuck.map_or(now, |(_, since)| since);
            (kept.stuck, kept.due) = (Some((slot, since)), now + delay);
        }
    }
}

impl Model {
    pub(crate) fn fire_slot(&mut self, of: (usize, u32), asks: Asks, (before, slot): (i64, i64), most: u64) -> Slot {
        let fired = self.schedules.kept.get(&of.0).and_then(|kept| kept.fired).filter(|(at, _, _)| *at == slot);
        if let Some((_, _, j)) = fired {
            return Slot::Fired(self.id(j).clone());
        }
        let Some(kept) = self.schedules.undecided(of, before) else { return Slot::Overtaken };
        let rules = kept.rules;
        let what = what_of(of.0, asks);
        if what.allowance.is_some() && self.units >= i64::from(UNITS) {
            return Slot::Spent(self.units as u32);
        }
        if self.live() >= most {
            return Slot::Full(self.live());
        }
        self.units += i64::from(what.allowance.is_some());
        let (j, now) = (J(JOBS + self.schedules.made), self.now);
        self.schedules.made += 1;
        self.ids[usize::from(j.0)] = id_of(of.0, rules, self.shard(), slot);
        self.take_in(j, &what, None);
        self.schedules.kept.get_mut(&of.0).expect("a schedule").note_fired(slot, now, j);
        Slot::Fired(self.id(j).clone())
    }

    /// How many live jobs there may be; which of two schedules gets the last place is left to chance.
    pub(crate) fn most_of(&self, most: u64) -> u64 {
        if self.schedules.due(self.now).len() > 1 { 1000 } else { most }
    }

    /// A process that nothing disturbs decides on all that is due.
    pub(crate) fn fire(&mut self, most: u64) {
        let (most, now) = (self.most_of(most), self.now);
        for of in self.schedules.due(now) {
            let kept = self.schedules.kept[&of].clone();
            let (dropped, fire) = plan(kept.rules, kept.cursor, now);
            if let Some(last) = dropped.last() {
                let of = (of, kept.revision);
                self.schedules.skip(of, kept.cursor, (*last, dropped.len() as u64), now);
            }
            for slot in fire {
                if !self.decide((of, kept.revision), kept.rules.asks, slot, most) {
                    break;
                }
            }
        }
    }

    /// Fires a slot or counts it as missed; `false` when that cannot be said now.
    fn decide(&mut self, of: (usize, u32), asks: Asks, slot: i64, most: u64) -> bool {
        let (kept, now) = (&self.schedules.kept[&of.0], self.now);
        let (before, waited) =
            (kept.cursor, kept.stuck.filter(|(at, _)| *at == slot).map_or(0, |(_, since)| now - since));
        let said = match asks {
            Asks::Refused => None,
            Asks::NotNow => Some(Slot::Full(0)),
            _ => Some(self.fire_slot(of, asks, (before, slot), most)),
        };
        match said {
            Some(Slot::Full(_)) => {
                self.schedules.stick(of, (before, slot), waited.clamp(1000, 15_000), now);
                return false;
            }
            Some(Slot::Fired(_)) => {}
            _ => drop(self.schedules.skip(of, before, (slot, 1), now)),
        }
        true
    }

    pub(crate) fn apply_schedule(&mut self, verb: &Verb) -> String {
        let now = self.now;
        let all = &mut self.schedules;
        match verb {
            Verb::SchedulePut { of, rules, expected } => {
                let expected = all.expected(*of, *expected);
                format!("{:?}", all.put(*of, *rules, expected, now))
            }
            Verb::SchedulePause { of, paused, expected } => {
                let expected = all.expected(*of, *expected);
                format!("{:?}", all.pause(*of, *paused, expected, now))
            }
            Verb::ScheduleRemove { of, expected } => {
                let expected = all.expected(*of, *expected);
                format!("{:?}", all.remove(*of, expected))
            }
            Verb::Fire { most } => {
                self.fire(*most);
                String::new()
            }
            _ => String::new(),
        }
    }
}
