//! `doctor --audit`: whether every job is in exactly one place, and indexes, counters, locks and limits agree.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use leasehold_engine::Store;
use leasehold_engine::store::AuditProgress;

use super::Findings;
use crate::cli::Out;

/// How often a long audit says how far it is.
const SAYS_EVERY: Duration = Duration::from_secs(2);
/// Findings that are shown as text; `--json` has all.
const SHOWN: usize = 100;

pub(super) async fn audit(store: &Store, out: &Out, findings: &mut Findings) {
    let said_at = Mutex::new(Instant::now());
    let told = |progress: AuditProgress| {
        let mut said_at = said_at.lock().unwrap_or_else(PoisonError::into_inner);
        if !out.is_json() && said_at.elapsed() >= SAYS_EVERY {
            *said_at = Instant::now();
            out.aside(line(progress));
        }
    };
    let report = match store.audit_told(&told).await {
        Err(error) => return findings.wrong("audit", error.to_string()),
        Ok(report) => report,
    };
    if report.findings.is_empty() {
        return findings.ok("audit", format!("{} jobs, each in exactly one place", report.jobs));
    }
    let shown = if out.is_json() { usize::MAX } else { SHOWN };
    for finding in report.findings.iter().take(shown) {
        findings.wrong("audit", format!("{}: {}", finding.subject, finding.text));
    }
    let more = report.findings.len().saturating_sub(shown);
    if more > 0 {
        findings.wrong("audit", format!("and {more} more findings; --json shows all"));
    }
}

fn line(progress: AuditProgress) -> String {
    match progress.stage {
        "records" => format!("audit: {} of about {} jobs read", progress.jobs, progress.of),
        stage => format!("audit: {} jobs, looking at {stage}", progress.jobs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_audit_says_how_far_it_is() {
        let at = |stage| line(AuditProgress { stage, jobs: 1500, of: 9000 });
        assert_eq!(at("records"), "audit: 1500 of about 9000 jobs read");
        assert_eq!(at("locks"), "audit: 1500 jobs, looking at locks");
    }
}
