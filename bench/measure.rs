//! Figures: rates, latencies, and the median and spread of interleaved rounds.

use std::time::{Duration, Instant};

/// Jobs in a second.
pub(crate) type PerSecond = f64;

/// The payload of every job here: 200 bytes of JSON, ours and the peers'.
pub(crate) fn payload() -> Vec<u8> {
    format!(r#"{{"pad":"{}"}}"#, "x".repeat(190)).into_bytes()
}

/// How many jobs went through, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Jobs.
    pub(crate) count: usize,
    /// From the first to the last.
    pub(crate) took: Duration,
}

impl Rate {
    /// `count` jobs since `started`.
    pub(crate) fn since(started: Instant, count: usize) -> Self {
        Self { count, took: started.elapsed() }
    }

    /// Jobs in a second.
    pub(crate) fn per_second(self) -> PerSecond {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// The rounds of one measure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<f64>);

impl Rounds {
    /// Adds a round.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one (of two, the lower).
    pub(crate) fn median(&self) -> Option<f64> {
        self.0.get(self.0.len().checked_sub(1)? / 2).copied()
    }

    /// The lowest and the highest.
    pub(crate) fn spread(&self) -> Option<(f64, f64)> {
        Some((*self.0.first()?, *self.0.last()?))
    }
}

/// Milliseconds, sorted, for percentiles.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Takes milliseconds in any order.
    pub(crate) fn new(mut milliseconds: Vec<f64>) -> Self {
        milliseconds.sort_by(f64::total_cmp);
        Self(milliseconds)
    }

    /// The value that `percent` of all stay below or at (nearest rank); 0 when there is none.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let rank = (self.0.len() as f64 * percent / 100.0).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_three_rounds_is_the_middle_one() {
        let mut rounds = Rounds::default();
        for value in [9.0, 1.0, 4.0] {
            rounds.push(value);
        }
        assert_eq!(rounds.median(), Some(4.0));
        assert_eq!(rounds.spread(), Some((1.0, 9.0)));
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let latencies = Latencies::new((1..=200).rev().map(f64::from).collect());
        assert_eq!(latencies.percentile(50.0), 100.0);
        assert_eq!(latencies.percentile(99.0), 198.0);
        assert_eq!(latencies.percentile(100.0), 200.0);
    }
}
