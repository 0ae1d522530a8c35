//! Every call that a worker makes to Redis on behalf of an SQL update, under every fault.

use super::table;
use super::update::{BY_CLOCK, boundaries, run};
use crate::estate::center::SCRIPT;
use crate::estate::{Fault, Point};

/// The calls of an undisturbed run, in their order: the test fails when a step is added, so that nobody forgets to look
/// at what a crash there would do.
const BOUNDARIES: [&str; 12] = [
    "claim",
    "step_begin backup",
    "step_end backup",
    "step_begin publish_backup",
    "registry_put",
    "step_end publish_backup",
    "step_begin execute",
    "step_end execute",
    "step_begin notify",
    "enqueue",
    "step_end notify",
    "settle",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_the_boundaries_of_an_update_are_known() {
    let found: Vec<String> = boundaries().await.iter().map(ToString::to_string).collect();
    assert_eq!(found, BOUNDARIES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_a_worker_killed_before_any_call_repeats_and_loses_nothing() {
    at_every_boundary("worker killed before the call", Fault::KilledBefore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_a_worker_killed_after_any_call_repeats_and_loses_nothing() {
    at_every_boundary("worker killed after the call, before its reply", Fault::KilledAfter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_a_lost_reply_at_any_call_repeats_and_loses_nothing() {
    at_every_boundary("reply lost", Fault::ReplyLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_redis_killed_before_any_call_loses_nothing() {
    at_every_boundary("Redis killed before the call", Fault::RedisKilledBefore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_redis_killed_after_any_call_loses_nothing() {
    at_every_boundary("Redis killed after the call, before its reply", Fault::RedisKilledAfter).await;
}

async fn at_every_boundary(title: &str, fault: Fault) {
    let by_clock = BY_CLOCK.iter().map(|name| Point::new(name, 1));
    let cases = boundaries().await.into_iter().chain(by_clock).map(|point| {
        let name = point.to_string();
        (name, async move { run(SCRIPT, Some((point, fault))).await })
    });
    table::all(title, cases.collect()).await;
}
