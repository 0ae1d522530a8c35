//! Chance for schedules: people write them, two processes fire them, stop in the middle and come back late.

use crate::{
    generate::{Generator, Theme},
    verbs::{Asks, CRONS, Expected, MISSED, Rules, TENANTS, Verb},
};

/// Around a slot, around what counts as on time, and past many slots.
const STEPS: [i64; 9] = [5000, 20_000, 40_000, 60_000, 61_000, 300_000, 361_000, 3_600_000, 7_300_000];

impl Generator<'_> {
    pub(crate) fn schedule(&mut self) -> Verb {
        let (of, process) = (self.below(TENANTS.len()), self.below(2));
        match self.below(20) {
            _ if self.model.schedules.kept.is_empty() && self.yes(80) => self.put(of),
            0..=2 => self.put(of),
            3 => Verb::SchedulePause { of, paused: self.yes(50), expected: self.expected() },
            4 => Verb::ScheduleRemove { of, expected: self.expected() },
            5..=8 => Verb::Fire { most: self.any(&[1000, 1000, 3]) },
            9..=11 => Verb::FireLook { process },
            12..=15 => {
                let looked = &self.model.schedules.looked;
                let has_seen = |n: &usize| looked[*n].as_ref().is_some_and(|look| !look.schedules.is_empty());
                let process = Some(process).filter(has_seen).or((0..2).find(has_seen)).unwrap_or(process);
                Verb::FireSeen { process, decisions: self.any(&[1, 2, 9]), again: self.yes(30) }
            }
            _ => Verb::Advance { ms: self.any(&STEPS) },
        }
    }

    fn expected(&mut self) -> Expected {
        self.any(&[Expected::Any, Expected::Any, Expected::Current, Expected::Current, Expected::New, Expected::Stale])
    }

    fn put(&mut self, of: usize) -> Verb {
        // Elsewhere days go by, which are many slots of twenty seconds.
        let crons = if self.theme == Theme::Schedules { CRONS.len() } else { 2 };
        let (cron, missed) = (self.below(crons), self.below(MISSED.len()));
        // So many jobs have no names.
        let missed = if cron == 2 { missed.min(3) } else { missed };
        // Which of two schedules gets the last unit or comes first in a line is left to chance.
        let scarce = if of == 0 { Asks::Scarce } else { Asks::Plain };
        let asks = self.any(&[Asks::Plain, Asks::Plain, scarce, Asks::Refused, Asks::NotNow]);
        let expected = if self.yes(50) { Expected::Any } else { self.expected() };
        Verb::SchedulePut { of, rules: Rules { cron, missed, paused: self.yes(8), asks }, expected }
    }
}
