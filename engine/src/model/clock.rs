//! Whether the store's clock jumped: two readings of it, against a steady clock that only counts. Pure.
//!
//! Guards that a slow answer, a stopped process or a sleeping machine is never taken for a jump.

use super::{UnixMs, gate::ClockJump};

/// What the store's clock said, between two moments of the steady clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The store's time, ms.
    pub store: UnixMs,
    /// When it was asked, ms of the steady clock.
    pub asked: u64,
    /// When its answer was there, ms of the steady clock.
    pub answered: u64,
}

impl Reading {
    /// The jump between this reading and a later one, when it is of more than `most_ms`.
    #[must_use]
    pub fn jump_to(&self, later: &Self, most_ms: u64) -> Option<ClockJump> {
        let passed_at_least = signed(later.asked.saturating_sub(self.answered));
        let passed_at_most = signed(later.answered.saturating_sub(self.asked));
        let (least, most) = (self.store + passed_at_least, self.store + passed_at_most);
        let expected = later.store.clamp(least, most.max(least));
        (later.store.abs_diff(expected) > most_ms).then_some(ClockJump {
            from: expected,
            to: later.store,
            at: later.store,
        })
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn read(store: UnixMs, asked: u64, answered: u64) -> Reading {
        Reading { store, asked, answered }
    }

    #[test]
    fn a_clock_that_goes_with_the_steady_one_has_not_jumped() {
        assert_eq!(read(1000, 0, 2).jump_to(&read(6000, 5000, 5001), MINUTE), None);
        let month = 30 * 86_400_000;
        assert_eq!(read(0, 0, 1).jump_to(&read(month, month.unsigned_abs(), month.unsigned_abs()), MINUTE), None);
    }

    #[test]
    fn more_than_a_minute_either_way_is_a_jump_and_exactly_a_minute_is_not() {
        let first = read(1_000_000, 0, 0);
        assert_eq!(first.jump_to(&read(1_061_000, 1000, 1000), MINUTE), None);
        let forward = first.jump_to(&read(1_061_001, 1000, 1000), MINUTE);
        assert_eq!(forward, Some(ClockJump { from: 1_001_000, to: 1_061_001, at: 1_061_001 }));
        assert_eq!(first.jump_to(&read(941_000, 1000, 1000), MINUTE), None);
        let back = first.jump_to(&read(940_999, 1000, 1000), MINUTE);
        assert_eq!(back, Some(ClockJump { from: 1_001_000, to: 940_999, at: 940_999 }));
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_is_no_jump() {
        // Asked, then the process stood still for an hour: the time is of any moment of that hour.
        let hour = 3_600_000;
        let first = read(0, 0, hour);
        assert_eq!(first.jump_to(&read(signed(hour) + 5, hour + 5, hour + 6), MINUTE), None);
        assert_eq!(first.jump_to(&read(5, hour + 5, hour + 6), MINUTE), None);
        let second = read(signed(hour), 10, 2 * hour);
        assert_eq!(read(0, 0, 1).jump_to(&second, MINUTE), None);
    }
}
