//! A worker that is stopped (SIGSTOP) until another has taken its job over, and then goes on as if nothing had happened
//! (AC-198). Several guards stand behind one another here: the end of its lease, the fence in Redis, the fence and the
//! markers in the data center. This test shows that together they hold; each alone is watched in `engine/tests` and
//! `targets/tests`.

use std::sync::Arc;
use std::time::Instant;

use leasehold_targets::testing::TestServer;

use super::update::{Run, boundaries};
use super::{judge, table};
use crate::estate::center::SCRIPT;
use crate::estate::{Center, Estate, Fault, PATIENCE, Point, TENANT, Watch, sql_update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_198_a_worker_that_comes_back_from_the_dead_changes_nothing() {
    let quick: fn(&Center) -> String = |_| SCRIPT.to_owned();
    let calls = boundaries().await.into_iter().map(|point| (quick, point));
    let slow: fn(&Center) -> String = Center::slow_script;
    let statements = (1..=5).map(|done| (slow, Point::new(&format!("statement {done} ended"), 1)));
    let cases = calls.chain(statements).map(|(script, point)| {
        (point.to_string(), async move { come_back(Estate::start_to_lose_workers().await, script, point).await })
    });
    table::all("worker stopped before the call until another took over, SQLite", cases.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_198_a_worker_that_comes_back_in_the_middle_of_a_script_on_postgres_changes_nothing() {
    let Some(server) = TestServer::start().map(Arc::new) else {
        eprintln!("skipped: PostgreSQL is not installed here");
        return;
    };
    let cases = (1..=5).map(|done| {
        let (point, server) = (Point::new(&format!("statement {done} ended"), 1), server.clone());
        let case = async move {
            let estate = Estate::start_to_lose_workers_on(Center::postgres(&server).await).await;
            come_back(estate, Center::slow_script, point).await
        };
        (format!("statement {done} ended"), case)
    });
    table::all("worker stopped in the middle until another took over, PostgreSQL", cases.collect()).await;
}

/// Both workers live on; whatever the first was about to do, the second has the job.
async fn come_back(estate: Estate, script: fn(&Center) -> String, point: Point) -> Run {
    let (began, script) = (Instant::now(), script(&estate.center));
    let id = estate.portal.ask(&sql_update(TENANT, "dc-1", &script)).await;
    let proxy = estate.proxy();
    // Before its claim it has not had the job, and the other's attempt is the first.
    let taken_over = if point.name == "claim" { 1 } else { 2 };
    proxy.arm(Watch::Job(id.clone()), Some((point, Fault::Frozen)));
    let mut zombie = estate.worker("zombie", &proxy.url());
    proxy.aim(zombie.pid());
    let struck = proxy.struck(PATIENCE).await;
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
