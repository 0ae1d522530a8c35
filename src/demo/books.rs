//! The last scenes: whether every webhook came, whether the store's books agree, and what lies on the disk.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{DemoError, Result};
use super::show::Going;
use super::story::{Story, expect};
use crate::cli::out::text;

/// The words that end a job, as webhooks say them.
const ENDS: [(&str, &str); 4] = [
    ("succeeded", "job.succeeded"),
    ("cancelled", "job.cancelled"),
    ("dead", "job.failed"),
    ("unknown", "job.unknown"),
];

impl Story {
    /// Every change of every job came by a webhook, each signature was right, and nothing waits.
    pub(super) async fn webhooks(&self, going: &mut Going) -> Result<String> {
        let mut jobs = Vec::new();
        for id in self.desk.jobs() {
            let job = self.desk.job(&id).await?;
            let end = ENDS.iter().find(|(word, _)| *word == text(&job, "place")).map(|(_, event)| *event);
            jobs.push((id, job["seq"].as_u64().unwrap_or(0), end));
        }
        let begun = Instant::now();
        loop {
            let missing: Vec<String> = jobs.iter().filter_map(|(id, seq, end)| self.unheard(id, *seq, *end)).collect();
            let backlog = self.store.webhook_backlog().await?;
            if missing.is_empty() && backlog == 0 {
                break;
            }
            if begun.elapsed() > Duration::from_secs(15) {
                return Err(DemoError::new(format!("{backlog} deliveries wait; {}", missing.join("; "))));
            }
            let missing = missing.len();
            going.at(0, &format!("{missing} jobs to hear of, {backlog} deliveries wait"));
            let _ = tokio::time::timeout(Duration::from_millis(100), self.receiver.next()).await;
        }
        let counts = self.receiver.counts();
        expect(
            counts.refused == 0,
            &format!("{} signatures were wrong: {}", counts.refused, self.receiver.refused().join("; ")),
        )?;
        Ok(format!(
            "{} received, every signature verified, {} doubles, {} jobs told of without a gap",
            counts.verified,
            counts.doubles,
            jobs.len()
        ))
    }

    /// What has not come of the job: each change from the first seq to the last, and the end that it has.
    fn unheard(&self, id: &str, last: u64, end: Option<&str>) -> Option<String> {
        let events = self.receiver.events(id);
        let gaps: Vec<String> = (1..=last).filter(|seq| !events.contains_key(seq)).map(|seq| seq.to_string()).collect();
        if !gaps.is_empty() {
            return Some(format!("of job {id} seq {} of {last} did not come", gaps.join(", ")));
        }
        let end = end.filter(|end| !events.values().any(|event| event == end))?;
        Some(format!("of job {id} {end} did not come"))
    }

    /// The store's own books.
    pub(super) async fn audit(&self) -> Result<String> {
        let report = self.store.audit().await?;
        let first = report.findings.first().map(|finding| format!("{}: {}", finding.subject, finding.text));
        expect(first.is_none(), &first.unwrap_or_default())?;
        Ok(format!("{} jobs, each in exactly one place; indexes, counters and locks agree", report.jobs))
    }
}

/// Bytes of a folder's files.
pub(super) fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(facts) if facts.is_dir() => bytes_in(&entry.path()),
        Ok(facts) => facts.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
