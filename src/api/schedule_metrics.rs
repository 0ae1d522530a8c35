//! What the store counts of schedules, for `/metrics`: fired, late and missed slots, lateness, and slots that nobody fires.

use std::fmt::Write;

use leasehold_engine::model::Schedule;

use super::{problem::Problem, state::ApiState};
use crate::meters::{head, labels};

/// Schedules that are shown one by one; beyond, only their number is.
const MOST: usize = 2000;

/// Name, sort, text, value.
type Row = (&'static str, &'static str, &'static str, fn(&Schedule, i64) -> f64);

const ROWS: [Row; 7] = [
    ("leasehold_schedule_fired_total", "counter", "Slots of a schedule that made a job.", |s, _| s.counts.fired as f64),
    ("leasehold_schedule_late_total", "counter", "Of these, more than a minute late.", |s, _| s.counts.late as f64),
    ("leasehold_schedule_missed_total", "counter", "Slots that made no job.", |s, _| s.counts.missed as f64),
    ("leasehold_schedule_lateness_seconds", "gauge", "How late the last slot fired.", |s, _| {
        seconds(s.counts.lateness_ms)
    }),
    ("leasehold_schedule_lateness_seconds_total", "counter", "How late all slots fired together.", |s, _| {
        seconds(s.counts.lateness_sum_ms)
    }),
    (
        "leasehold_schedule_overdue_seconds",
        "gauge",
        "For how long the next slot is due and nobody fires it.",
        |s, now| seconds(s.overdue_ms(now)),
    ),
    ("leasehold_schedule_paused", "gauge", "1 for a schedule that is paused.", |s, _| {
        f64::from(u8::from(s.spec.rules.paused))
    }),
];

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// Writes them in the Prometheus text form.
pub(super) async fn of_schedules(state: &ApiState, out: &mut String) -> Result<(), Problem> {
    let schedules = state.store().schedules(None, None, MOST).await?;
    let now = state.store().now().await?;
    head(out, "leasehold_schedules", "gauge", "Schedules.");
    let _ = writeln!(out, "leasehold_schedules {}", state.store().schedule_count().await?);
    for (name, sort, text, value) in ROWS {
        head(out, name, sort, text);
        for schedule in &schedules {
            let labels = labels(&[("tenant", &schedule.spec.tenant), ("schedule", &schedule.spec.name)]);
            let _ = writeln!(out, "{name}{{{labels}}} {}", value(schedule, now));
        }
    }
    Ok(())
}
