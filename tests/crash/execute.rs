//! A worker killed in the middle of `execute`, between and within statements: what committed is known by its marker, what
//! did not is run by the next worker (SQL-15).

use super::table;
use super::update::{run, run_meddled};
use crate::estate::center::{SCRIPT, sabotage, slow_script};
use crate::estate::{Fault, Point};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_a_worker_killed_between_statements_repeats_none_of_them() {
    let cases = (1..=5).map(|done| {
        let name = format!("statement {done} ended");
        let point = Point::new(&name, 1);
        (name, async move { run(&slow_script(), Some((point, Fault::KilledBefore))).await })
    });
    table::all("worker killed while statement n + 1 runs", cases.collect()).await;
}

/// The judge is no good if it never condemns: without the markers in the data center, which a broken build would not write
/// or not read, the second worker repeats everything, and that is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_15_statements_that_are_repeated_for_want_of_their_markers_are_seen() {
    let plan = Some((Point::new("step_end execute", 1), Fault::KilledBefore));
    let condemned = tokio::spawn(run_meddled(SCRIPT, plan, sabotage)).await.err().unwrap().into_panic();
    let text = condemned.downcast_ref::<String>().unwrap();
    assert!(text.contains("what the data center shows") && text.contains("counter: 202"), "{text}");
}
