//! `/metrics` in the Prometheus text form 0.0.4 (ENG-08): what the store counts, and what this process counted.

use std::fmt::Write;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
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
    head(out, "leasehold_queue_paused", "gauge", "1 for each paused queue; * is every queue.");
    for queue in state.store().paused().await?.keys() {
        let _ = writeln!(out, "leasehold_queue_paused{{{}}} 1", labels(&[("queue", queue)]));
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
    let gauges = [
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
