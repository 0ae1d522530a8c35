//! What becomes of slots whose time went by while nothing fired: the policy, and the plan that follows from it. Pure.
//!
//! Invariant: every slot after the cursor and not after now is in a plan exactly once, fired or dropped, and what is
//! dropped comes before what fires; so a process that stops in the middle of a plan leaves one that the next can go on with.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{UnixMs, schedule_times::Timetable};

/// A slot that fires at most this long after its time is on time, if the next one's time is not over by then: restarts and moves
/// of Redis take that long, ms.
pub const ON_TIME_MS: i64 = 60_000;
/// The most slots that `all` makes up for.
const MAX_ALL: u32 = 1000;
/// The longest `within`: 366 days.
const MAX_WITHIN_MS: i64 = 366 * 86_400_000;
/// Slots that one plan looks at; when more are due, the next plan goes on.
const LOOK: usize = 5000;

/// What becomes of missed slots: those that are more than [`ON_TIME_MS`] late, or later
/// than the next slot. Text form: `skip`, `once`, `all:10`, `within:15m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Missed {
    /// None of them fires.
    Skip,
    /// The newest fires, for all of them.
    #[default]
    Once,
    /// The newest ones fire, at most so many.
    All {
        /// How many, 1 to 1000.
        at_most: u32,
    },
    /// Those fire that are at most so late.
    Within {
        /// How late, ms; 1 s to 366 days. Less than [`ON_TIME_MS`] counts as it is said.
        ms: i64,
    },
}

/// The text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no policy for missed runs: `skip`, `once`, `all:N` (N is 1 to 1000) or `within:T` (90s, 15m, 2h, 1d) is expected"
)]
pub struct BadMissed(String);

impl FromStr for Missed {
    type Err = BadMissed;

    fn from_str(text: &str) -> Result<Self, BadMissed> {
        let bad = || BadMissed(text.chars().take(40).collect());
        match text.split_once(':') {
            None if text == "skip" => Ok(Self::Skip),
            None if text == "once" => Ok(Self::Once),
            Some(("all", n)) => {
                let at_most = n.parse().ok().filter(|n| (1..=MAX_ALL).contains(n)).ok_or_else(bad)?;
                Ok(Self::All { at_most })
            }
            Some(("within", time)) => Ok(Self::Within { ms: duration(time).ok_or_else(bad)? }),
            _ => Err(bad()),
        }
    }
}

const UNITS: [(char, i64); 4] = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000), ('s', 1000)];

fn duration(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let (_, ms) = UNITS.iter().find(|(letter, _)| *letter == unit)?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(*ms).filter(|ms| (1000..=MAX_WITHIN_MS).contains(ms))
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("skip"),
            Self::Once => f.write_str("once"),
            Self::All { at_most } => write!(f, "all:{at_most}"),
            Self::Within { ms } => {
                let unit = UNITS.iter().find(|(_, unit)| ms % unit == 0).unwrap_or(&('s', 1000));
                write!(f, "within:{}{}", ms / unit.1, unit.0)
            }
        }
    }
}

impl TryFrom<String> for Missed {
    type Error = BadMissed;

    fn try_from(text: String) -> Result<Self, BadMissed> {
        text.parse()
    }
}

impl From<Missed> for String {
    fn from(missed: Missed) -> Self {
        missed.to_string()
    }
}

/// Slots that do not fire, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub slots: u32,
    /// The first of them.
    pub first: UnixMs,
    /// The last of them.
    pub last: UnixMs,
}

/// What is to be done about the slots that are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// These do not fire; they come before those that do.
    pub dropped: Option<Dropped>,
    /// These fire, in this order.
    pub fire: Vec<UnixMs>,
    /// More slots are due than one plan looks at: make another one after this.
    pub more: bool,
}

impl Plan {
    /// The plan for the slots after `cursor` (the last one that was decided) that are due at `now`.
    #[must_use]
    pub fn make(table: &Timetable, missed: Missed, cursor: UnixMs, now: UnixMs) -> Self {
        let mut due: Vec<UnixMs> = table.slots_after(cursor).take_while(|slot| *slot <= now).take(LOOK + 1).collect();
        let more = due.len() > LOOK;
        let until = |at: usize| due.get(at + 1).map_or(UnixMs::MAX, |next| *next).min(due[at] + ON_TIME_MS);
        let late = (0..due.len().min(LOOK)).take_while(|at| now > until(*at)).count();
        due.truncate(LOOK);
        let dropped = match missed {
            Missed::Skip => late,
            // With more to come, the last ones here may be among the newest of all: the next plan knows.
            Missed::Once => late.saturating_sub(1),
            Missed::All { at_most } => late.saturating_sub(at_most as usize),
            Missed::Within { ms } => due.partition_point(|slot| now - slot > ms),
        };
        let fire = if more && !matches!(missed, Missed::Within { .. }) { Vec::new() } else { due.split_off(dropped) };
        due.truncate(dropped);
        let dropped = match (due.first(), due.last()) {
            (Some(first), Some(last)) => Some(Dropped { slots: due.len() as u32, first: *first, last: *last }),
            _ => None,
        };
        Self { dropped, fire, more }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 3_600_000;

    fn hourly() -> Timetable {
        Timetable::parse("0 * * * *", "UTC").unwrap()
    }

    /// The plan at `now` for an hourly schedule whose last slot was at 0: numbers of dropped ones and the hours that fire.
    fn plan(missed: &str, now: i64) -> (u32, Vec<i64>) {
        let plan = Plan::make(&hourly(), missed.parse().unwrap(), 0, now);
        (plan.dropped.map_or(0, |d| d.slots), plan.fire.iter().map(|slot| slot / HOUR).collect())
    }

    #[test]
    fn each_policy_decides_on_what_was_missed() {
        let late = 5 * HOUR + 30 * MINUTE;
        assert_eq!(plan("skip", late), (5, vec![]));
        assert_eq!(plan("once", late), (4, vec![5]));
        assert_eq!(plan("all:3", late), (2, vec![3, 4, 5]));
        assert_eq!(plan("all:9", late), (0, vec![1, 2, 3, 4, 5]));
        assert_eq!(plan("within:2h", late), (3, vec![4, 5]));
        assert_eq!(plan("within:30m", late), (4, vec![5]), "exactly 30 minutes is within");
        assert_eq!(plan("within:29m", late), (5, vec![]));
    }

    #[test]
    fn what_is_on_time_fires_whatever_the_policy_says() {
        for policy in ["skip", "once", "all:1", "within:60s"] {
            assert_eq!(plan(policy, HOUR), (0, vec![1]), "{policy}");
            assert_eq!(plan(policy, HOUR + ON_TIME_MS), (0, vec![1]), "{policy}");
            assert_eq!(plan(policy, HOUR - 1), (0, vec![]), "{policy}");
        }
        assert_eq!(plan("skip", HOUR + ON_TIME_MS + 1), (1, vec![]));
        assert_eq!(plan("within:30s", HOUR + 30_000), (0, vec![1]));
        assert_eq!(plan("within:30s", HOUR + 30_001), (1, vec![]), "less than a minute counts as it is said");
        assert_eq!(plan("once", 3 * HOUR), (1, vec![2, 3]), "the newest of the missed ones, and the one on time");
    }

    #[test]
    fn what_is_later_than_the_next_slot_is_not_on_time() {
        let table = Timetable::parse("*/10 * * * * *", "UTC").unwrap();
        for (policy, dropped, fires) in
            [("skip", 3, vec![40, 50]), ("once", 2, vec![30, 40, 50]), ("within:15s", 3, vec![40, 50])]
        {
            let plan = Plan::make(&table, policy.parse().unwrap(), 0, 50_000);
            let fire: Vec<i64> = plan.fire.iter().map(|slot| slot / 1000).collect();
            assert_eq!((plan.dropped.map_or(0, |d| d.slots), fire), (dropped, fires), "{policy}");
        }
    }

    #[test]
    fn a_plan_that_was_cut_off_is_gone_on_with() {
        let now = 5 * HOUR + 30 * MINUTE;
        for (policy, wanted) in [("once", vec![5]), ("all:3", vec![3, 4, 5]), ("within:2h", vec![4, 5])] {
            let missed = policy.parse().unwrap();
            let first = Plan::make(&hourly(), missed, 0, now);
            let after = Plan::make(&hourly(), missed, first.dropped.unwrap().last, now);
            assert_eq!(after.fire.iter().map(|slot| slot / HOUR).collect::<Vec<_>>(), wanted, "{policy}");
            assert_eq!(after.dropped, None);
        }
    }

    #[test]
    fn a_long_outage_of_a_busy_schedule_is_looked_at_in_bounded_plans() {
        let table = Timetable::parse("* * * * * *", "UTC").unwrap();
        for (policy, dropped, fired) in [("skip", 11_998, 2), ("once", 11_997, 3), ("all:1000", 10_998, 1002)] {
            let (mut cursor, mut lost, mut ran) = (0, 0, 0);
            for _ in 0..9 {
                let plan = Plan::make(&table, policy.parse().unwrap(), cursor, 12_000_000);
                assert!(plan.fire.len() + plan.dropped.map_or(0, |d| d.slots as usize) <= LOOK);
                cursor = plan.fire.last().copied().or(plan.dropped.map(|d| d.last)).unwrap_or(cursor);
                lost += plan.dropped.map_or(0, |d| d.slots);
                ran += plan.fire.len();
                if !plan.more {
                    break;
                }
            }
            assert_eq!((lost, ran, cursor), (dropped, fired, 12_000_000), "{policy}");
        }
    }

    #[test]
    fn policies_have_one_text_form() {
        for text in ["skip", "once", "all:10", "within:90s", "within:15m", "within:2h", "within:1d"] {
            assert_eq!(text.parse::<Missed>().unwrap().to_string(), text);
            assert_eq!(serde_json::from_value::<Missed>(text.into()).unwrap().to_string(), text);
        }
        for text in [
            "",
            "all",
            "all:0",
            "all:1001",
            "all:-1",
            "within:",
            "within:5",
            "within:0s",
            "within:400d",
            "twice",
            "within:é",
        ] {
            assert!(text.parse::<Missed>().unwrap_err().to_string().contains("all:N"), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn every_due_slot_is_in_the_plan_exactly_once(
            policy in prop::sample::select(&["skip", "once", "all:4", "within:3h"][..]),
            cursor in 0_i64..40 * HOUR,
            gone_by in 0_i64..40 * HOUR,
        ) {
            let (table, now) = (hourly(), cursor + gone_by);
            let due: Vec<i64> = table.slots_after(cursor).take_while(|slot| *slot <= now).collect();
            let plan = Plan::make(&table, policy.parse().unwrap(), cursor, now);
            let dropped = plan.dropped.map_or(0, |d| d.slots as usize);
            prop_assert_eq!(&due[dropped..], &plan.fire[..]);
            prop_assert_eq!(plan.dropped.map(|d| (d.first, d.last)), dropped.checked_sub(1).map(|last| (due[0], due[last])));
        }
    }
}
