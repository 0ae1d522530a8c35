//! Slots of a schedule in the model: which are due, which of them fire, and what their jobs are. Slots are counted out, not read
//! from a timetable: an expression is nothing but a period here.

use leasehold_engine::{
    JobId,
    model::{Missed, ON_TIME_MS, Schedule, ScheduleRules, ScheduleSpec, SlotCounts},
};

use crate::verbs::{Asks, CRONS, MISSED, Rules, TENANTS, What};

/// The slots after `cursor` that are due: those that do not fire, and those that do.
pub(crate) fn plan(rules: Rules, cursor: i64, now: i64) -> (Vec<i64>, Vec<i64>) {
    let period = CRONS[rules.cron].1;
    let due = (1..).map(|n| (cursor.div_euclid(period) + n) * period).take_while(|slot| *slot <= now);
    let due: Vec<i64> = due.collect();
    let is_late = |slot: &&i64| now - **slot > ON_TIME_MS || **slot + period < now;
    let late = due.iter().filter(is_late).count();
    let dropped = match MISSED[rules.missed] {
        Missed::Skip => late,
        Missed::Once => late.saturating_sub(1),
        Missed::All { at_most } => late.saturating_sub(at_most as usize),
        Missed::Within { ms } => due.iter().filter(|slot| now - **slot > ms).count(),
    };
    (due[..dropped].to_vec(), due[dropped..].to_vec())
}

pub(crate) fn spec_of(of: usize, rules: Rules) -> ScheduleSpec {
    let Rules { cron, missed, paused, asks } = rules;
    let (cron, missed) = (CRONS[cron].0.to_owned(), MISSED[missed]);
    let (zone, made_by) = ("UTC".to_owned(), String::new());
    let rules = ScheduleRules { cron, zone, missed, paused, made_by, from_file: false };
    ScheduleSpec { tenant: TENANTS[of].to_owned(), name: "s".to_owned(), rules, job: format!("{asks:?}").into() }
}

/// The job of a slot.
pub(crate) fn what_of(of: usize, asks: Asks) -> What {
    let scarce = asks == Asks::Scarce;
    What {
        tenant: of,
        priority: 2,
        attempts: 2,
        resources: if scarce { vec![(0, false)] } else { Vec::new() },
        allowance: scarce.then_some(true),
        ..What::default()
    }
}

/// The id of a slot's job, the same for whoever fires it.
pub(crate) fn id_of(of: usize, rules: Rules, shard: u16, slot: i64) -> JobId {
    let schedule = Schedule {
        spec: spec_of(of, rules),
        revision: 0,
        changed_at: 0,
        cursor: 0,
        next: None,
        stuck: None,
        untold: 0,
        counts: SlotCounts::default(),
        last_fired: None,
        last_missed: None,
    };
    schedule.job_id(shard, slot, 0)
}
