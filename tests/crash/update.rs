//! One SQL update under a fault, on an estate of its own, from the request to the verdict.

use std::time::{Duration, Instant};

use super::judge;
use crate::estate::center::SCRIPT;
use crate::estate::{Center, Estate, Fault, PATIENCE, Point, Proxy, TENANT, Watch, sql_update};

/// How a run ended.
pub struct Run {
    /// Attempts that the job took.
    pub attempts: u64,
    /// From the request to the last webhook.
    pub took: Duration,
    /// The calls that concerned the job, in order, with their counts.
    pub calls: Vec<Point>,
    /// Whether the fault came about.
    pub struck: bool,
}

/// Runs an update on a worker behind a proxy that strikes at `plan`, with a second worker taking over from a dead one;
/// panics when anything is not as it must be.
pub async fn run(script: &str, plan: Option<(Point, Fault)>) -> Run {
    // Undisturbed it must show what belongs to one attempt, so no stall may cost it its lease.
    let estate = if plan.is_some() { Estate::start_to_lose_workers().await } else { Estate::start().await };
    run_on(estate, script, plan, |_| ()).await
}

/// The same on this estate, with somebody who meddles with its data center before another worker comes.
pub async fn run_on(
    estate: Estate,
    script: &str,
    plan: Option<(Point, Fault)>,
    meddle: impl FnOnce(&Center) + Send,
) -> Run {
    let began = Instant::now();
    let id = estate.portal.ask(&sql_update(TENANT, "dc-1", script)).await;
    let proxy = estate.proxy();
    proxy.arm(Watch::Job(id.clone()), plan.clone());
    let mut first = estate.worker("first", &proxy.url());
    proxy.aim(first.pid());
    let struck = match &plan {
        Some((point, _)) if BY_CLOCK.contains(&point.name.as_str()) => struck_by_clock(&estate, &id, &proxy).await,
        Some(_) => proxy.struck(PATIENCE).await,
        None => false,
    };
    let kills = plan.as_ref().is_some_and(|(_, fault)| matches!(fault, Fault::KilledBefore | Fault::KilledAfter));
    let mut second = None;
    if struck && kills {
        assert!(!first.ended().await.success());
        meddle(&estate.center);
        second = Some(estate.worker("second", &estate.redis_url()));
    }
    let job = judge::ended(&estate, &id).await;
    let took = began.elapsed();
    second.as_mut().unwrap_or(&mut first).stop().await;
    judge::all_is_well(&estate, &id, &job).await;
    Run { attempts: job["attempt"].as_u64().unwrap(), took, calls: proxy.calls(), struck }
}

/// Waits until it has struck, or the job has ended before the time of the call came.
async fn struck_by_clock(estate: &Estate, id: &str, proxy: &Proxy) -> bool {
    tokio::select! {
        struck = proxy.struck(PATIENCE) => struck,
        _ = estate.receiver.wait(id, PATIENCE, judge::has_ended) => proxy.call_off() && proxy.struck(PATIENCE).await,
    }
}

/// The boundaries of an undisturbed update: each call that concerns it, in order, but for those that come by the clock.
pub async fn boundaries() -> Vec<Point> {
    let run = run(SCRIPT, None).await;
    let by_clock = |point: &Point| {
        BY_CLOCK.contains(&point.name.as_str()) || point.name.contains(',') || point.name.ends_with(" ended")
    };
    // Later claims and settlements are those of the notices that it sent.
    let again = |point: &Point| ["claim", "settle"].contains(&point.name.as_str()) && point.nth > 1;
    run.calls.into_iter().filter(|point| !by_clock(point) && !again(point)).collect()
}

/// Calls that come when their time has come; a short update may end before.
pub const BY_CLOCK: [&str; 2] = ["renew", "progress"];
