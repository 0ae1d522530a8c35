//! `/metrics` in the Prometheus text form 0.0.4 (ENG-08): what the store counts, and what this process counted.

use std::fmt::Write;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use leasehold_engine::model::gate::{Note, Scope};
use leasehold_jobs::policy::Permission;

use super::{auth::Caller, explain::WorkerDocument, problem::Problem, state::ApiState};
use crate::meters::{head, labels};

/// Writes the metrics.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) async fn metrics(State(state): State<ApiState>, caller: Caller) -> Result<Response, Problem> {
    caller.check_everywhere(Permission::Metrics)?;
    let mut out = String::with_capacity(8192);
    of_jobs(&state, &mut out).await?;
    of_workers(&state, &mut out).await?;
    of_store(&state, &mut out).await?;
    super::schedule_metrics::of_schedules(&state, &mut out).await?;
    state.meters().write(&mut out);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}

async fn of_jobs(state: &ApiState, out: &mut String) -> Result<(), Problem> {
    head(out, "leasehold_jobs", "gauge", "Jobs by queue, kind and place.");
    for count in state.store().counts().await? {
        let labels = labels(&[("queue", &count.queue), ("kind", &count.kind), ("place", count.place.as_str())]);
        let _ = writeln!(out, "leasehold_jobs{{{labels}}} {}", count.jobs);
    }
    head(out, "leasehold_oldest_waiting_seconds", "gauge", "Since when the oldest ready job of a queue could run.");
    let now = state.store().now().await?;
    for oldest in state.store().oldest_waiting().await? {
        let seconds = (now - oldest.since).max(0) as f64 / 1000.0;
        let _ = writeln!(out, "leasehold_oldest_waiting_seconds{{{}}} {seconds}", labels(&[("queue", &oldest.queue)]));
    }
    of_gates(state, out).await
}

/// What stands before jobs, and how many it holds up.
async fn of_gates(state: &ApiState, out: &mut String) -> Result<(), Problem> {
    let gates = state.store().standing().await?;
    let row = |out: &mut String, name: &str, found: (&Scope, &Note)| {
        let labels = labels(&[("scope", found.0.word()), ("name", found.0.name())]);
        let _ = writeln!(out, "{name}{{{labels}}} 1");
    };
    head(out, "leasehold_queue_paused", "gauge", "1 for each paused queue; * is every queue.");
    for (scope, _) in gates.pauses().filter(|(scope, _)| matches!(scope, Scope::All | Scope::Queue(_))) {
        let _ = writeln!(out, "leasehold_queue_paused{{{}}} 1", labels(&[("queue", scope.name())]));
    }
    head(out, "leasehold_paused", "gauge", "1 for each pause, by what it stops.");
    gates.pauses().for_each(|found| row(out, "leasehold_paused", found));
    head(out, "leasehold_kill_switch", "gauge", "1 for each kill switch that is on.");
    gates.kill_switches().for_each(|found| row(out, "leasehold_kill_switch", found));
    let now = state.store().now().await?;
    let standing = [
        ("limit", gates.limits().count()),
        ("freeze", gates.freezes().filter(|freeze| freeze.stops(now, 0)).count()),
        ("clock", usize::from(gates.clock().is_some())),
        ("parked_kind", gates.parked.len()),
    ];
    head(
        out,
        "leasehold_gates",
        "gauge",
        "Limits, freezes (windows too) that stand now, jumps of the clock, kinds that nobody knows.",
    );
    for (sort, many) in standing {
        let _ = writeln!(out, "leasehold_gates{{{}}} {many}", labels(&[("sort", sort)]));
    }
    head(out, "leasehold_blocked", "gauge", "Blocked jobs by what holds them.");
    for (reason, jobs) in state.store().blocked_by_hold().await? {
        let _ = writeln!(out, "leasehold_blocked{{{}}} {jobs}", labels(&[("by", reason)]));
    }
    Ok(())
}

async fn of_workers(state: &ApiState, out: &mut String) -> Result<(), Problem> {
    let workers = state.store().workers().await?;
    let now = state.store().now().await?;
    head(out, "leasehold_workers", "gauge", "Workers that live.");
    let _ = writeln!(out, "leasehold_workers {}", workers.len());
    let rows = workers
        .iter()
        .map(|worker| (labels(&[("worker", &worker.name)]), WorkerDocument::of(worker), worker.alive_until));
    let rows: Vec<_> = rows.collect();
    head(out, "leasehold_worker_heartbeat_left_seconds", "gauge", "For how long a worker still counts as alive.");
    for (labels, _, until) in &rows {
        let _ = writeln!(
            out,
            "leasehold_worker_heartbeat_left_seconds{{{labels}}} {}",
            (until - now).max(0) as f64 / 1000.0
        );
    }
    head(out, "leasehold_worker_slots", "gauge", "Jobs that a worker runs at a time.");
    for (labels, said, _) in &rows {
        let _ = writeln!(out, "leasehold_worker_slots{{{labels}}} {}", said.slots);
    }
    head(out, "leasehold_worker_running", "gauge", "Jobs that a worker runs now.");
    for (labels, said, _) in &rows {
        let _ = writeln!(out, "leasehold_worker_running{{{labels}}} {}", said.running);
    }
    Ok(())
}

async fn of_store(state: &ApiState, out: &mut String) -> Result<(), Problem> {
    let found = state.store().durability().await?;
    let backlog = state.store().webhook_backlog().await?;
    let archive = state.store().archive_state().await?;
    for (name, text, value) in [
        ("leasehold_archived_jobs_total", "Finished jobs that were put into the archive.", archive.jobs),
        ("leasehold_archive_failures_total", "Times that the archive could not take jobs.", archive.failures),
    ] {
        head(out, name, "counter", text);
        let _ = writeln!(out, "{name} {value}");
    }
    let failing = u64::from(archive.failing_since.is_some());
    let gauges = [
        ("leasehold_archive_failing", "1 while the archive takes no jobs: they stay in Redis.", failing),
        ("leasehold_webhook_backlog", "Webhook deliveries and outbox entries that wait.", backlog),
        ("leasehold_redis_used_memory_bytes", "Memory that Redis uses.", found.used_memory),
        ("leasehold_redis_max_memory_bytes", "Memory that Redis may use; 0 is no limit.", found.max_memory),
        (
            "leasehold_redis_complaints",
            "What is wrong with Redis; see leasehold doctor.",
            found.complaints.len() as u64,
        ),
    ];
    for (name, text, value) in gauges {
        head(out, name, "gauge", text);
        let _ = writeln!(out, "{name} {value}");
    }
    Ok(())
}
