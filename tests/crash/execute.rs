//! A worker killed in the middle of `execute`, between and within statements: what committed is known by its marker, what
//! did not is run by the next worker (SQL-15).

use std::sync::Arc;

use leasehold_targets::testing::TestServer;

use super::table;
use super::update::{Run, run_on};
use crate::estate::center::{SCRIPT, sabotage};
use crate::estate::{Center, Estate, Fault, Point};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_a_worker_killed_between_statements_repeats_none_of_them() {
    let cases = (1..=5).map(|done| {
        let name = format!("statement {done} ended");
        let point = Point::new(&name, 1);
        (name, async move { killed_at(Estate::start_to_lose_workers().await, point).await })
    });
    table::all("worker killed while statement n + 1 runs, SQLite", cases.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_a_worker_killed_between_statements_on_postgres_repeats_none_of_them() {
    let Some(server) = TestServer::start().map(Arc::new) else {
        eprintln!("skipped: PostgreSQL is not installed here");
        return;
    };
    let cases = (1..=5).map(|done| {
        let (name, server) = (format!("statement {done} ended"), server.clone());
        let point = Point::new(&name, 1);
        (name, async move {
            let estate = Estate::start_to_lose_workers_on(Center::postgres(&server).await).await;
            killed_at(estate, point).await
        })
    });
    table::all("worker killed while statement n + 1 runs, PostgreSQL", cases.collect()).await;
}

async fn killed_at(estate: Estate, point: Point) -> Run {
    let script = estate.center.slow_script();
    run_on(estate, &script, Some((point, Fault::KilledBefore)), |_| ()).await
}

/// The judge is no good if it never condemns: without the markers in the data center, which a broken build would not write
/// or not read, the second worker repeats everything, and that is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_statements_that_are_repeated_for_want_of_their_markers_are_seen() {
    let plan = Some((Point::new("step_end execute", 1), Fault::KilledBefore));
    let run = async { run_on(Estate::start_to_lose_workers().await, SCRIPT, plan, sabotage).await };
    let condemned = tokio::spawn(run).await.err().unwrap().into_panic();
    let text = condemned.downcast_ref::<String>().unwrap();
    assert!(text.contains("what the data center shows") && text.contains("counter: 202"), "{text}");
}
