//! `schedule …`: lists, shows, pauses, resumes and removes schedules.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, path, query};
use super::out::text;
use super::schedule_preview::Preview;
use super::schedule_set::Set;
use super::{Failure, Global, Out, Table};

/// List, write, pause and remove schedules; look ahead.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// List schedules with what became of their runs
    List {
        /// Of this tenant only
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Show a schedule
    Show(Named),
    /// Make a schedule, or replace what is said of it
    Set(Box<Set>),
    /// Forget a schedule; the jobs that it made stay
    Remove(Named),
    /// Let a schedule fire nothing; what passes meanwhile is not missed
    Pause(Named),
    /// Let a schedule fire again, from now on
    Resume(Named),
    /// Show the next runs of an expression, or of a schedule
    Preview(Preview),
}

/// A schedule by its name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The schedule
    name: String,
    /// Whose, when several tenants have one of this name
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

impl Schedule {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        match self {
            Self::Preview(preview) => return preview.run(global, out).await,
            Self::List { tenant } => out.show(&list(&Client::new(global)?, tenant).await?, table),
            Self::Show(named) => out.show(&Client::new(global)?.get(&named.path()).await?, |s| format!("{s:#}")),
            Self::Set(set) => set.run(&Client::new(global)?, out).await?,
            Self::Remove(named) => {
                let answer = Client::new(global)?.delete(&named.path()).await?;
                out.show(&answer, |_| format!("{} is removed", named.name));
            }
            Self::Pause(named) => named.switch(&Client::new(global)?, "pause", out).await?,
            Self::Resume(named) => named.switch(&Client::new(global)?, "resume", out).await?,
        }
        Ok(())
    }
}

impl Named {
    fn path(&self) -> String {
        path(&["v1", "schedules", &self.name]) + &query([("tenant", self.tenant.clone())])
    }

    async fn switch(&self, client: &Client, verb: &str, out: &Out) -> Result<(), Failure> {
        let to = path(&["v1", "schedules", &self.name, verb]) + &query([("tenant", self.tenant.clone())]);
        out.show(&client.call(Method::POST, &to, None, &[]).await?, written);
        Ok(())
    }
}

async fn list(client: &Client, tenant: Option<String>) -> Result<Value, Failure> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let mut page =
            client.get(&format!("/v1/schedules{}", query([("tenant", tenant.clone()), ("cursor", cursor)]))).await?;
        if let Some(Value::Array(schedules)) = page.get_mut("schedules").map(Value::take) {
            all.extend(schedules);
        }
        cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(json!({ "schedules": all }));
        }
    }
}

fn table(answer: &Value) -> Table {
    let headings = ["name", "tenant", "cron", "zone", "kind", "next", "fired", "late", "missed", "overdue"];
    let mut table = Table::new(&headings, "no schedules");
    for schedule in answer.get("schedules").and_then(Value::as_array).into_iter().flatten() {
        let next = if text(schedule, "paused") == "true" { "paused".to_owned() } else { text(schedule, "next_at") };
        let overdue = schedule.get("overdue_ms").and_then(Value::as_i64).unwrap_or(0) / 1000;
        let said = ["name", "tenant", "cron", "zone", "job.kind"].map(|name| text(schedule, name));
        let counts = ["counts.fired", "counts.late", "counts.missed"].map(|name| text(schedule, name));
        let overdue = if overdue > 0 { format!("{overdue} s") } else { String::new() };
        table.row(said.into_iter().chain([next]).chain(counts).chain([overdue]));
    }
    table
}

pub(super) fn written(schedule: &Value) -> String {
    let next = match text(schedule, "next_at") {
        next if next.is_empty() => "paused".to_owned(),
        next => format!("next at {next}"),
    };
    format!("{} is at revision {}, {next}", text(schedule, "name"), text(schedule, "revision"))
}
