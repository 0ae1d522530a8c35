//! What this process counts for `/metrics`: requests, lateness of starts, durations of attempts. Lost with the process;
//! everything that must not be lost is counted by the store.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, PoisonError},
};

/// Upper bounds of the lateness buckets, in seconds.
const LATENESS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0];
/// Upper bounds of the duration buckets, in seconds.
const DURATION: [f64; 10] = [0.005, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 14_400.0];

/// Counters and histograms of one process. Shared by the API and the worker.
#[derive(Debug, Default)]
pub struct Meters {
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    lateness: Mutex<BTreeMap<String, Histogram>>,
    durations: Mutex<BTreeMap<(String, String), Histogram>>,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; 10],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, bounds: &[f64; 10], seconds: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(bounds) {
            *bucket += u64::from(seconds <= *bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn write(&self, out: &mut String, name: &str, labels: &str, bounds: &[f64; 10]) {
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {bucket}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", self.sum);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", self.count);
    }
}

impl Meters {
    /// An attempt of a job began so many ms after it could have.
    pub fn started(&self, kind: &str, lateness_ms: u64) {
        let mut held = self.lateness.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry(kind.to_owned()).or_default().observe(&LATENESS, lateness_ms as f64 / 1000.0);
    }

    /// An attempt ended.
    pub fn ended(&self, kind: &str, outcome: &str, duration_ms: u64) {
        let mut held = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        held.entry((kind.to_owned(), outcome.to_owned())).or_default().observe(&DURATION, duration_ms as f64 / 1000.0);
    }

    /// A request was answered. `route` is the pattern, never the path: the number of lines stays bounded.
    pub fn answered(&self, method: &str, route: &str, status: u16) {
        let method = if method.len() <= 7 { method } else { "OTHER" };
        let mut held = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry((method.to_owned(), route.to_owned(), status)).or_default() += 1;
    }

    /// Writes everything in the Prometheus text form 0.0.4.
    pub fn write(&self, out: &mut String) {
        head(out, "leasehold_http_requests_total", "counter", "Requests answered by this process.");
        for ((method, route, status), n) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = labels(&[("method", method), ("route", route), ("status", &status.to_string())]);
            let _ = writeln!(out, "leasehold_http_requests_total{{{labels}}} {n}");
        }
        let name = "leasehold_start_lateness_seconds";
        head(out, name, "histogram", "From when a job could start to when its attempt began, in this process.");
        for (kind, histogram) in &*self.lateness.lock().unwrap_or_else(PoisonError::into_inner) {
            histogram.write(out, name, &labels(&[("kind", kind)]), &LATENESS);
        }
        let name = "leasehold_attempt_duration_seconds";
        head(out, name, "histogram", "How long attempts took, in this process.");
        for ((kind, outcome), histogram) in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            histogram.write(out, name, &labels(&[("kind", kind), ("outcome", outcome)]), &DURATION);
        }
    }
}

impl leasehold_engine::Observer for Meters {
    fn started(&self, kind: &str, _queue: &str, lateness_ms: u64) {
        Self::started(self, kind, lateness_ms);
    }

    fn ended(&self, kind: &str, outcome: &str, duration_ms: u64) {
        Self::ended(self, kind, outcome, duration_ms);
    }
}

/// The two lines before a metric.
pub fn head(out: &mut String, name: &str, sort: &str, text: &str) {
    let _ = writeln!(out, "# HELP {name} {text}\n# TYPE {name} {sort}");
}

/// Labels between the braces, with values escaped.
#[must_use]
pub fn labels(pairs: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_with_the_count() {
        let meters = Meters::default();
        for ms in [1, 40, 40, 9_999_000] {
            meters.started("noop", ms);
        }
        let mut text = String::new();
        meters.write(&mut text);
        for line in [
            "leasehold_start_lateness_seconds_bucket{kind=\"noop\",le=\"0.01\"} 1",
            "leasehold_start_lateness_seconds_bucket{kind=\"noop\",le=\"0.05\"} 3",
            "leasehold_start_lateness_seconds_bucket{kind=\"noop\",le=\"3600\"} 3",
            "leasehold_start_lateness_seconds_bucket{kind=\"noop\",le=\"+Inf\"} 4",
            "leasehold_start_lateness_seconds_count{kind=\"noop\"} 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        assert_eq!(labels(&[("kind", "a\"b\\c\nd")]), r#"kind="a\"b\\c\nd""#);
    }
}
