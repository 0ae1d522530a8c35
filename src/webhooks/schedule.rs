//! Decides when a delivery that failed is tried again.
//!
//! Pure: the draw for the jitter is handed in. Every failed delivery either gets a later time or is exhausted after
//! the last entry of the list; nothing is tried for ever and nothing is tried at once.

use std::time::Duration;

/// When to try, as data. The defaults are the schedule of Standard Webhooks: 10 attempts over 75 h 35 m.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The wait before attempt 1, 2, 3, …; its length is the number of attempts.
    pub waits: Vec<Duration>,
    /// Each wait is spread by ± this many percent, so that receivers are not hit in step.
    pub jitter_percent: u8,
    /// The least wait after a time-out, 429, 502 or 504: the receiver is overloaded, not wrong.
    pub overload_wait: Duration,
    /// The most that a receiver's `Retry-After` may ask for.
    pub retry_after_cap: Duration,
}

/// What the receiver did, as far as the schedule cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The exchange did not end in time.
    pub timed_out: bool,
    /// `Retry-After` of the answer.
    pub retry_after: Option<Duration>,
}

/// What becomes of the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again after this wait.
    RetryIn(Duration),
    /// The list is used up.
    Exhausted,
    /// 410 Gone: the receiver wants nothing more, ever.
    Gone,
}

impl Default for Schedule {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let seconds = [0, 5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
        Self {
            waits: seconds.map(Duration::from_secs).to_vec(),
            jitter_percent: 20,
            overload_wait: Duration::from_secs(MINUTE),
            retry_after_cap: Duration::from_secs(HOUR),
        }
    }
}

impl Schedule {
    /// What follows after attempt number `attempt` (1-based) failed. `draw` is uniform in `0.0..1.0`.
    pub fn after(&self, attempt: u16, failure: &Failure, draw: f64) -> Next {
        if failure.status == Some(410) {
            return Next::Gone;
        }
        let Some(wait) = self.waits.get(usize::from(attempt)) else {
            return Next::Exhausted;
        };
        let mut wait = self.jittered(*wait, draw);
        if failure.timed_out || matches!(failure.status, Some(429 | 502 | 504)) {
            wait = wait.max(self.overload_wait);
        }
        if let (Some(429 | 503), Some(asked)) = (failure.status, failure.retry_after) {
            wait = wait.max(asked.min(self.retry_after_cap));
        }
        Next::RetryIn(wait)
    }

    fn jittered(&self, wait: Duration, draw: f64) -> Duration {
        let spread = f64::from(self.jitter_percent.min(100)) / 100.0;
        let draw = if draw.is_finite() { draw.clamp(0.0, 1.0) } else { 0.5 };
        wait.mul_f64(1.0 + spread * (2.0 * draw - 1.0))
    }
}

/// Reads a `Retry-After` value: seconds, or an HTTP date that is compared with `now_ms`.
pub fn retry_after(value: &str, now_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(value).ok()?.timestamp_millis();
    Some(Duration::from_millis(u64::try_from(at.saturating_sub(now_ms)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn failed(status: u16) -> Failure {
        Failure { status: Some(status), timed_out: false, retry_after: None }
    }

    const TIMED_OUT: Failure = Failure { status: None, timed_out: true, retry_after: None };

    const fn asked(status: u16, seconds: u64) -> Failure {
        Failure { status: Some(status), timed_out: false, retry_after: Some(Duration::from_secs(seconds)) }
    }

    fn seconds(next: Next) -> u64 {
        match next {
            Next::RetryIn(wait) => wait.as_secs(),
            other => panic!("no retry but {other:?}"),
        }
    }

    #[test]
    fn the_default_is_ten_attempts_over_75_hours_and_35_minutes() {
        let schedule = Schedule::default();
        assert_eq!(schedule.waits.len(), 10);
        assert_eq!(schedule.waits.iter().sum::<Duration>(), Duration::from_secs(75 * 3600 + 35 * 60 + 5));
        let waits: Vec<u64> = (1..10).map(|n| seconds(schedule.after(n, &failed(500), 0.5))).collect();
        assert_eq!(waits, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!(schedule.after(10, &failed(500), 0.5), Next::Exhausted);
    }

    #[test]
    fn an_overloaded_receiver_gets_at_least_a_minute() {
        let schedule = Schedule::default();
        for failure in [TIMED_OUT, failed(429), failed(502), failed(504)] {
            assert_eq!(seconds(schedule.after(1, &failure, 0.5)), 60, "{failure:?}");
            assert_eq!(seconds(schedule.after(3, &failure, 0.5)), 1800, "{failure:?}");
        }
        assert_eq!(seconds(schedule.after(1, &failed(503), 0.5)), 5);
    }

    #[test]
    fn retry_after_is_honoured_on_429_and_503_up_to_an_hour() {
        let schedule = Schedule::default();
        assert_eq!(seconds(schedule.after(1, &asked(503, 120), 0.5)), 120);
        assert_eq!(seconds(schedule.after(1, &asked(429, 120), 0.5)), 120);
        assert_eq!(seconds(schedule.after(1, &asked(503, 86_400), 0.5)), 3600);
        assert_eq!(seconds(schedule.after(3, &asked(503, 120), 0.5)), 1800, "never sooner than the schedule");
        assert_eq!(seconds(schedule.after(1, &asked(500, 120), 0.5)), 5, "not a status that may ask");
    }

    #[test]
    fn gone_ends_it_even_on_the_first_attempt() {
        assert_eq!(Schedule::default().after(1, &failed(410), 0.5), Next::Gone);
        assert_eq!(Schedule::default().after(10, &failed(410), 0.5), Next::Gone);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        assert_eq!(retry_after(" 17 ", 0), Some(Duration::from_secs(17)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 10_000), Some(Duration::from_secs(50)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 99_000), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-5", "1.5", "99999999999999999999999"] {
            assert_eq!(retry_after(nonsense, 0), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn every_wait_is_within_the_jitter_the_floor_and_the_cap(
            attempt in 0u16..20,
            status in proptest::option::of(100u16..600),
            timed_out: bool,
            asked in proptest::option::of(0u64..10_000_000),
            draw in proptest::num::f64::ANY,
        ) {
            let schedule = Schedule::default();
            let failure = Failure { status, timed_out, retry_after: asked.map(Duration::from_secs) };
            match schedule.after(attempt, &failure, draw) {
                Next::Gone => prop_assert_eq!(status, Some(410)),
                Next::Exhausted => prop_assert!(usize::from(attempt) >= schedule.waits.len()),
                Next::RetryIn(wait) => {
                    let planned = schedule.waits[usize::from(attempt)];
                    prop_assert!(wait >= planned.mul_f64(0.799));
                    let most = planned.mul_f64(1.201).max(schedule.overload_wait).max(schedule.retry_after_cap);
                    prop_assert!(wait <= most, "{:?} > {:?}", wait, most);
                }
            }
        }

        #[test]
        fn a_retry_after_header_never_panics(value in ".{0,40}", now in proptest::num::i64::ANY) {
            let _ = retry_after(&value, now);
        }
    }
}
