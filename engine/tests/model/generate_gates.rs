//! Chance for gates: pauses, kill switches, limits, freezes, and their ends.

use crate::{
    generate::Generator,
    verbs::{Counted, FREEZES, KINDS, Part, QUEUES, RESOURCES, TENANTS, Verb},
};

impl Generator<'_> {
    fn part(&mut self) -> Part {
        match self.below(7) {
            0 => Part::All,
            1..=2 => Part::Queue(self.below(QUEUES.len())),
            3..=4 => Part::Kind(self.below(KINDS.len())),
            _ => Part::Tenant(self.below(TENANTS.len())),
        }
    }

    fn counted(&mut self) -> Counted {
        match self.below(3) {
            0 => Counted::Queue(self.below(QUEUES.len())),
            1 => Counted::Kind(self.below(KINDS.len())),
            _ => Counted::Key(self.below(KINDS.len())),
        }
    }

    pub(crate) fn gate(&mut self) -> Verb {
        match self.below(20) {
            0..=1 => Verb::Pause(self.part()),
            2..=4 => Verb::Resume(self.stopped().unwrap_or(Part::All)),
            5 => Verb::Kill(self.part()),
            6..=7 => Verb::Unkill(self.stopped().unwrap_or(Part::All)),
            8..=10 => {
                let rate = if self.yes(50) { Some((self.any(&[1, 2]), self.any(&[1000, 5000]))) } else { None };
                let most = if rate.is_some() && self.yes(50) { 0 } else { self.any(&[1, 1, 2]) };
                Verb::Limit { of: self.counted(), most, rate }
            }
            11 => Verb::Unlimit { of: self.counted() },
            12..=13 => {
                let some = |this: &mut Self, n: usize| if this.yes(40) { Some(this.below(n)) } else { None };
                Verb::Freeze {
                    name: self.below(FREEZES.len()),
                    from_in: self.any(&[-1000, 0, 1000, 5000]),
                    lasts: self.any(&[2000, 8000, 100_000]),
                    kind: some(self, KINDS.len()),
                    tenant: some(self, TENANTS.len()),
                    resource: some(self, RESOURCES.len()),
                }
            }
            14..=15 => Verb::Unfreeze { name: self.below(FREEZES.len()) },
            16 => Verb::ClockJumped(true),
            17 => Verb::ClockJumped(false),
            18 => Verb::Takes { kind: self.below(KINDS.len()), ms: self.any(&[0, 2000, 6000]) },
            _ => Verb::Promote,
        }
    }

    fn stopped(&mut self) -> Option<Part> {
        let all = [Part::All].into_iter();
        let parts = all
            .chain((0..QUEUES.len()).map(Part::Queue))
            .chain((0..KINDS.len()).map(Part::Kind))
            .chain((0..TENANTS.len()).map(Part::Tenant));
        let stopped: Vec<Part> = parts.filter(|part| self.model.gates.is_stopped(*part)).collect();
        if stopped.is_empty() { None } else { Some(self.any(&stopped)) }
    }
}
