//! A worker that is stopped (SIGSTOP) until another has taken its job over, and then goes on as if nothing had happened
//! (AC-198): its fence is old, so neither Redis nor the data center lets it do anything more.

use std::time::{Duration, Instant};

use super::update::{Run, boundaries};
use super::{judge, table};
use crate::estate::center::{SCRIPT, slow_script};
use crate::estate::{Estate, Fault, PATIENCE, Point, TENANT, Watch, sql_update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_198_a_worker_that_comes_back_from_the_dead_changes_nothing() {
    let calls = boundaries().await.into_iter().map(|point| (SCRIPT.to_owned(), point));
    let statements = (1..=5).map(|done| (slow_script(), Point::new(&format!("statement {done} ended"), 1)));
    let cases = calls.chain(statements).map(|(script, point)| (point.to_string(), come_back(script, point)));
    table::all("worker stopped before the call until another took over", cases.collect()).await;
}

/// Both workers live on; whatever the first was about to do, the second has the job.
async fn come_back(script: String, point: Point) -> Run {
    let began = Instant::now();
    let estate = Estate::start().await;
    let id = estate.portal.ask(&sql_update(TENANT, "dc-1", &script)).await;
    let proxy = estate.proxy();
    // Before its claim it has not had the job, and the other's attempt is the first.
    let taken_over = if point.name == "claim" { 1 } else { 2 };
    proxy.arm(Watch::Job(id.clone()), Some((point, Fault::Frozen)));
    let mut zombie = estate.worker("zombie", &proxy.url());
    proxy.aim(zombie.pid());
    let struck = proxy.struck(Duration::from_secs(20)).await;
    let mut second = estate.worker("second", &estate.redis_url());
    let by_second =
        |one: &crate::estate::Arrival| one.word() == "job.started" && one.body["data"]["attempt"] == taken_over;
    let started = estate.receiver.wait(&id, PATIENCE, |told| told.values().any(by_second)).await;
    started.unwrap_or_else(|why| panic!("nobody took over: {why}\n{}", estate.logs()));
    assert!(proxy.thaw(PATIENCE).await, "the stopped worker's call was not answered\n{}", estate.logs());
    let job = judge::ended(&estate, &id).await;
    let took = began.elapsed();
    // Drained, so that whatever the zombie still had in mind has been tried.
    zombie.stop().await;
    second.stop().await;
    judge::all_is_well(&estate, &id, &job).await;
    Run { attempts: job["attempt"].as_u64().unwrap(), took, calls: proxy.calls(), struck }
}
