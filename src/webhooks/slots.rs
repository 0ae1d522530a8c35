//! Who may send now: slots of one process, so that a receiver that hangs holds its own few and never another's.
//!
//! An endpoint has at most its own share; endpoints whose last delivery failed share at most half of all slots, so the
//! other half stays free for those that work; a degraded endpoint gets one delivery now and then, as a probe.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::{Health, State};

/// How many deliveries may be under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRules {
    /// Of one process.
    pub all: usize,
    /// Of one endpoint.
    pub endpoint: usize,
    /// Between probes of a degraded endpoint.
    pub probe_every: Duration,
}

#[derive(Debug, Default)]
struct Slot {
    in_flight: usize,
    failures: u32,
    degraded: bool,
    /// Counted under "doubtful" when taken.
    doubtful: usize,
    last_begun: Option<Instant>,
}

#[derive(Debug, Default)]
struct Book {
    endpoints: HashMap<String, Slot>,
    all: usize,
    doubtful: usize,
}

/// The slots.
#[derive(Debug)]
pub struct Slots {
    rules: SlotRules,
    book: Mutex<Book>,
}

impl Slots {
    /// All free.
    pub fn new(rules: SlotRules) -> Self {
        Self { rules, book: Mutex::default() }
    }

    /// How many deliveries of the endpoint may begin now.
    pub fn room(&self, endpoint: &str) -> usize {
        let book = self.book();
        let free = self.rules.all.saturating_sub(book.all);
        let Some(slot) = book.endpoints.get(endpoint) else {
            return free.min(self.rules.endpoint);
        };
        if slot.degraded {
            let rested = slot.last_begun.is_none_or(|begun| begun.elapsed() >= self.rules.probe_every);
            return usize::from(rested && slot.in_flight == 0).min(self.doubtful_room(&book)).min(free);
        }
        let own = self.rules.endpoint.saturating_sub(slot.in_flight).min(free);
        if slot.failures > 0 { own.min(self.doubtful_room(&book)) } else { own }
    }

    fn doubtful_room(&self, book: &Book) -> usize {
        self.rules.all.div_ceil(2).saturating_sub(book.doubtful)
    }

    /// A delivery begins.
    pub fn take(&self, endpoint: &str) {
        let mut book = self.book();
        book.all += 1;
        let slot = book.endpoints.entry(endpoint.to_owned()).or_default();
        slot.in_flight += 1;
        slot.last_begun = Some(Instant::now());
        if slot.failures > 0 || slot.degraded {
            slot.doubtful += 1;
            book.doubtful += 1;
        }
    }

    /// A delivery ended; `health` is what is known of the endpoint now, `None` when nothing was learnt.
    pub fn give_back(&self, endpoint: &str, health: Option<&Health>) {
        let mut book = self.book();
        book.all = book.all.saturating_sub(1);
        let Some(slot) = book.endpoints.get_mut(endpoint) else { return };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        if let Some(health) = health {
            slot.failures = health.failures;
            slot.degraded = health.state == State::Degraded;
        }
        let released = usize::from(slot.doubtful > 0);
        slot.doubtful -= released;
        let forget = slot.in_flight == 0 && slot.failures == 0 && !slot.degraded;
        book.doubtful = book.doubtful.saturating_sub(released);
        if forget {
            book.endpoints.remove(endpoint);
        }
    }

    /// Failures in a row, as far as this process has seen.
    pub fn failures(&self, endpoint: &str) -> u32 {
        self.book().endpoints.get(endpoint).map_or(0, |slot| slot.failures)
    }

    /// Deliveries under way.
    pub fn in_flight(&self) -> usize {
        self.book().all
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        Slots::new(SlotRules { all: 10, endpoint: 4, probe_every: Duration::from_secs(30) })
    }

    fn health(state: State, failures: u32) -> Health {
        Health { state, failures, ..Health::default() }
    }

    #[tokio::test]
    async fn an_endpoint_holds_its_share_and_no_more() {
        let slots = slots();
        for left in [4, 3, 2, 1] {
            assert_eq!(slots.room("a"), left);
            slots.take("a");
        }
        assert_eq!((slots.room("a"), slots.room("b")), (0, 4));
        slots.give_back("a", None);
        assert_eq!(slots.room("a"), 1);
    }

    #[tokio::test]
    async fn endpoints_that_fail_share_half_of_the_slots() {
        let slots = slots();
        for bad in ["a", "b", "c"] {
            slots.take(bad);
            slots.give_back(bad, Some(&health(State::Enabled, 1)));
        }
        (0..4).for_each(|_| slots.take("a"));
        assert_eq!(slots.room("b"), 1);
        slots.take("b");
        assert_eq!((slots.room("c"), slots.room("healthy")), (0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_degraded_endpoint_gets_a_probe_now_and_then() {
        let slots = slots();
        slots.take("a");
        slots.give_back("a", Some(&health(State::Degraded, 10)));
        assert_eq!(slots.room("a"), 0);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(slots.room("a"), 1);
        slots.take("a");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(slots.room("a"), 0, "one at a time");
        slots.give_back("a", Some(&health(State::Enabled, 0)));
        assert_eq!((slots.room("a"), slots.in_flight()), (4, 0));
    }
}
