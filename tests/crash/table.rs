//! Runs many cases, a few at a time, and prints what became of each.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use super::update::{BY_CLOCK, Run};

/// Cases at a time: they mostly wait for leases to run out.
const AT_ONCE: usize = 6;

/// Runs every case and fails with the table when one of them does.
pub async fn all<Fut>(title: &str, cases: Vec<(String, Fut)>)
where
    Fut: Future<Output = Run> + Send + 'static,
{
    let (began, many) = (Instant::now(), cases.len());
    let started = cases.into_iter().map(|(name, case)| async move { (name, tokio::spawn(case).await) });
    let ended: Vec<_> = futures::stream::iter(started).buffered(AT_ONCE).collect().await;
    let mut table = format!("{title}: {many} cases\n");
    let mut bad = Vec::new();
    let mut slowest = Duration::ZERO;
    for (name, end) in ended {
        match end {
            Ok(run) if run.struck => {
                slowest = slowest.max(run.took);
                let _ =
                    writeln!(table, "  ok      {name:<44} attempt {}, {:>5} ms", run.attempts, run.took.as_millis());
            }
            Ok(_) if BY_CLOCK.contains(&name.as_str()) => {
                let _ = writeln!(table, "  -       {name:<44} it ended before its time came");
            }
            Ok(_) => bad.push((name, "the fault never came about".to_owned())),
            Err(panic) => {
                let panic = panic.into_panic();
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
                bad.push((name, text.unwrap_or_default()));
            }
        }
    }
    for (name, why) in &bad {
        let _ = writeln!(table, "  FAILED  {name}\n{why}");
    }
    let _ = writeln!(
        table,
        "{} of {many} well, in {:.1} s; the slowest took {} ms",
        many - bad.len(),
        began.elapsed().as_secs_f64(),
        slowest.as_millis()
    );
    eprintln!("{table}");
    assert!(bad.is_empty(), "{table}");
}
