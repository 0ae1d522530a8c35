//! `jobs`: lists jobs, page by page.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, query};
use super::out::text;
use super::{Failure, Global, Out, Table, time};
use crate::config::Config;

/// List jobs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leasehold jobs --tenant t-001\n  leasehold jobs --place dead --json\n  leasehold jobs --archived --tenant t-001 --since -30d"
)]
pub(crate) struct Jobs {
    /// Of this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// In this place: scheduled, blocked, ready, running, waiting, succeeded, cancelled, dead, unknown
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// In this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Jobs that Redis has forgotten and the archive has, the newest first
    #[arg(long)]
    archived: bool,
    /// Archived jobs that ended at this time or later: RFC 3339, 2026-11-22T02:00 in the business zone, or -7d
    #[arg(long, value_name = "TIME", requires = "archived", allow_hyphen_values = true)]
    since: Option<String>,
    /// Archived jobs that ended before this time
    #[arg(long, value_name = "TIME", requires = "archived", allow_hyphen_values = true)]
    until: Option<String>,
    /// How many at the most
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
}

impl Jobs {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        let ended = |option, time: &Option<String>| time.as_ref().map(|time| past(option, time, global)).transpose();
        let (since, until) = (ended("--since", &self.since)?, ended("--until", &self.until)?);
        let (mut jobs, mut cursor) = (Vec::new(), None);
        loop {
            let left = self.limit - jobs.len() as u64;
            let page = client.get(&format!("/v1/jobs{}", self.query(left.min(200), cursor, [&since, &until]))).await?;
            jobs.extend(page.get("jobs").and_then(Value::as_array).cloned().unwrap_or_default());
            cursor = Some(text(&page, "next")).filter(|cursor| !cursor.is_empty());
            if cursor.is_none() || jobs.len() as u64 >= self.limit {
                break;
            }
        }
        out.show(&json!({ "jobs": jobs, "next": cursor }), |_| {
            let mut table = Table::new(&["id", "kind", "tenant", "place", "status", "run_at", "attempt"], "no jobs");
            for job in &jobs {
                table.row(["id", "kind", "tenant", "place", "status", "run_at", "attempt"].map(|name| text(job, name)));
            }
            table
        });
        Ok(())
    }

    fn query(&self, limit: u64, cursor: Option<String>, [since, until]: [&Option<String>; 2]) -> String {
        query([
            ("tenant", self.tenant.clone()),
            ("kind", self.kind.clone()),
            ("place", self.place.clone()),
            ("queue", self.queue.clone()),
            ("archived", self.archived.then(|| "true".to_owned())),
            ("since", since.clone()),
            ("until", until.clone()),
            ("limit", Some(limit.to_string())),
            ("cursor", cursor),
        ])
    }
}

/// The text of a time at which jobs ended, as the API reads it.
fn past(option: &str, text: &str, global: &Global) -> Result<String, Failure> {
    let config = Config::load(global.config.as_deref()).map_err(|e| Failure::failed("configuration", e.to_string()))?;
    let at = time::read_past(text, chrono::Utc::now(), config.rules.calendar());
    at.map(time::write).map_err(|e| Failure::Usage(format!("{option}: {e}")))
}
