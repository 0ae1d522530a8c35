//! When a failed attempt is tried again: exponential back-off with jitter, stored with the job (ENG-04).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A job's retry rule. Stored in its record, so that a later version of the program keeps the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Delay after the first failed attempt, in ms.
    pub base_ms: u32,
    /// The longest delay, in ms.
    pub cap_ms: u32,
    /// How much chance may add or take, in percent of the delay (0 to 100).
    pub jitter_percent: u8,
    /// Attempts in all; at least 1.
    pub max_attempts: u16,
}

impl Retry {
    /// Doubling delays from `base`, at most an hour, ±20 %, three attempts.
    #[must_use]
    pub const fn exponential(base: Duration) -> Self {
        Self { base_ms: base.as_millis() as u32, cap_ms: 3_600_000, jitter_percent: 20, max_attempts: 3 }
    }

    /// The same with another number of attempts.
    #[must_use]
    pub const fn attempts(mut self, max: u16) -> Self {
        self.max_attempts = if max == 0 { 1 } else { max };
        self
    }

    /// The same with another longest delay.
    #[must_use]
    pub const fn at_most(mut self, cap: Duration) -> Self {
        self.cap_ms = cap.as_millis() as u32;
        self
    }

    /// The delay after `attempt` (1 is the first) failed; `chance` is in 0..=1.
    #[must_use]
    pub fn delay_ms(&self, attempt: u16, chance: f64) -> u64 {
        let doublings = u32::from(attempt.saturating_sub(1)).min(40);
        let plain = u64::from(self.base_ms).saturating_mul(1_u64 << doublings).min(u64::from(self.cap_ms));
        let share = f64::from(self.jitter_percent.min(100)) / 100.0;
        let factor = 1.0 + share * (chance.clamp(0.0, 1.0) * 2.0 - 1.0);
        (plain as f64 * factor).round() as u64
    }

    /// Whether a failed `attempt` may be followed by another.
    #[must_use]
    pub const fn allows_after(&self, attempt: u16) -> bool {
        attempt < self.max_attempts
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let retry = Retry::exponential(Duration::from_secs(1)).at_most(Duration::from_secs(10));
        let delays: Vec<_> = (1..=6).map(|n| retry.delay_ms(n, 0.5)).collect();
        assert_eq!(delays, [1000, 2000, 4000, 8000, 10_000, 10_000]);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let retry = Retry::exponential(Duration::from_secs(10));
        assert_eq!(retry.delay_ms(1, 0.0), 8000);
        assert_eq!(retry.delay_ms(1, 1.0), 12_000);
        assert_eq!(retry.delay_ms(u16::MAX, 1.0), 3_600_000 * 12 / 10);
    }

    #[test]
    fn the_last_attempt_is_not_followed() {
        let retry = Retry::default().attempts(2);
        assert!(retry.allows_after(1));
        assert!(!retry.allows_after(2));
    }
}
