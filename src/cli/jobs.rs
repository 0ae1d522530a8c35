//! `jobs`: lists jobs, page by page.

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, query};
use super::out::text;
use super::{Failure, Global, Out, Table, time};
use crate::api::extract::nearest;
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
    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on behind those that were listed before: `next` of --json
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl Jobs {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        let ended = |option, time: &Option<String>| time.as_ref().map(|time| past(option, time, global)).transpose();
        let (since, until) = (ended("--since", &self.since)?, ended("--until", &self.until)?);
        let limit = if self.all { u64::MAX } else { self.limit };
        let (mut jobs, mut cursor) = (Vec::new(), self.cursor.clone());
        loop {
            let left = limit - jobs.len() as u64;
            let page = client.get(&format!("/v1/jobs{}", self.query(left.min(200), cursor, [&since, &until]))).await?;
            jobs.extend(page.get("jobs").and_then(Value::as_array).cloned().unwrap_or_default());
            cursor = Some(text(&page, "next")).filter(|cursor| !cursor.is_empty());
            if cursor.is_none() || jobs.len() as u64 >= limit {
                break;
            }
        }
        if jobs.is_empty()
            && let Some(slip) = self.slip(&client).await
        {
            return Err(Failure::Usage(slip));
        }
        out.show(&json!({ "jobs": jobs, "next": cursor }), |_| {
            let mut table = Table::new(&["id", "kind", "tenant", "place", "status", "run_at", "attempt"], "no jobs");
            for job in &jobs {
                table.row(["id", "kind", "tenant", "place", "status", "run_at", "attempt"].map(|name| text(job, name)));
            }
            table
        });
        if let Some(cursor) = cursor.filter(|_| !out.is_json()) {
            out.aside(format_args!("there are more: --all, --limit N, or --cursor {cursor}"));
        }
        Ok(())
    }

    /// What is wrong with a name for which nothing was found: an empty list would look as if all were well. What this key
    /// may not look at is not known to be wrong.
    async fn slip(&self, client: &Client) -> Option<String> {
        let asked = [
            ("--kind", &self.kind, "/v1/kinds", "kinds", "kind"),
            ("--queue", &self.queue, "/v1/queues", "queues", "name"),
            ("--tenant", &self.tenant, "/v1/tenants", "tenants", "id"),
        ];
        for (option, given, path, list, name) in asked {
            let (Some(given), Ok(known)) = (given, client.get(path).await) else { continue };
            let known = known.get(list).and_then(Value::as_array).into_iter().flatten().map(|one| text(one, name));
            // Kinds that only the program itself asks for are not told of, and may be listed.
            let own = leasehold_jobs::kind_names().into_iter().filter(|_| option == "--kind").map(str::to_owned);
            let known: Vec<String> = known.chain(own).collect();
            if !known.contains(given) {
                let near =
                    nearest(given, known.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?"));
                return Some(format!("{option}: there is no `{given}`{}", near.unwrap_or_default()));
            }
        }
        None
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
