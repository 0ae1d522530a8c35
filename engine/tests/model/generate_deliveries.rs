//! Chance for senders: two of them read the outbox, make deliveries, send, vanish, come back late.

use crate::{
    generate::Generator,
    verbs::{Arrival, ENDPOINTS, J, JOBS, Parcel, Verb},
};

impl Generator<'_> {
    pub(crate) fn delivery(&mut self) -> Verb {
        let (sender, to) = (self.below(2), self.below(ENDPOINTS.len()));
        match self.below(20) {
            0..=3 => Verb::OutboxRead { sender, most: self.any(&[1, 2, 5, 100]) },
            4..=8 => Verb::OutboxRoute { sender: self.reader().unwrap_or(sender) },
            9..=11 => {
                let to = self.with_deliveries().unwrap_or(to);
                Verb::DeliveryClaim { to, most: self.any(&[1, 2, 8]), lease_ms: self.any(&[1000, 10_000]) }
            }
            12 => Verb::DeliverySettleAgain { parcel: self.parcel(true) },
            13..=16 => {
                let how = self.any(&[
                    Arrival::Delivered,
                    Arrival::Delivered,
                    Arrival::Retry { ms: 0 },
                    Arrival::Retry { ms: 300 },
                    Arrival::Retry { ms: 5000 },
                    Arrival::Exhausted,
                ]);
                Verb::DeliverySettle { parcel: self.parcel(true), how }
            }
            17..=18 if self.yes(90) => Verb::DeliveryReplay { parcel: self.parcel(false) },
            19 if self.yes(40) => Verb::DeliveriesForget { to, most: self.any(&[1, 3]) },
            _ => Verb::Listen(self.yes(50)),
        }
    }

    fn reader(&mut self) -> Option<usize> {
        let readers: Vec<usize> = (0..2).filter(|n| !self.model.outbox.read[*n].is_empty()).collect();
        if readers.is_empty() { None } else { Some(self.any(&readers)) }
    }

    fn with_deliveries(&mut self) -> Option<usize> {
        let busy: Vec<usize> = (0..ENDPOINTS.len()).filter(|to| self.model.outbox.next_due(*to).is_some()).collect();
        if busy.is_empty() { None } else { Some(self.any(&busy)) }
    }

    /// Mostly one that is kept, and one that was sent if `sent`; now and then one that is not there.
    fn parcel(&mut self, sent: bool) -> Parcel {
        let kept = self.model.outbox.kept.iter().flatten();
        let fitting = kept.filter(|delivery| !sent || (delivery.is_pending() && delivery.attempt > 0));
        let fitting: Vec<Parcel> = fitting.map(|delivery| delivery.parcel).collect();
        if !fitting.is_empty() && self.yes(90) {
            return self.any(&fitting);
        }
        let (to, job) = (self.below(ENDPOINTS.len()), J(self.below(usize::from(JOBS)) as u8));
        Parcel { to, job, seq: 1 + self.below(4) as u32 }
    }
}
