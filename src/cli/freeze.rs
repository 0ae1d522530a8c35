//! `freeze …` and `window …`: stretches of time in which nothing starts, once or again and again.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, path};
use super::enqueue::instant;
use super::gate::{Why, freezes, reach};
use super::out::text;
use super::{Failure, Global, Out, Table};

/// Which jobs, why, and who answers for it.
#[derive(Debug, Args)]
pub(crate) struct Closing {
    /// Jobs of this kind only
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Jobs of this tenant only
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Jobs that need this resource only, as `job explain` names it
    #[arg(long, value_name = "NAME")]
    resource: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who answers for it
    #[arg(long, value_name = "NAME")]
    owner: String,
}

impl Closing {
    fn body(self) -> Map<String, Value> {
        let scope = [("kind", self.kind), ("tenant", self.tenant), ("resource", self.resource)];
        let scope: Map<_, _> =
            scope.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))).collect();
        let pairs = [("scope", Value::Object(scope)), ("reason", json!(self.reason)), ("owner", json!(self.owner))];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// List, set and remove freezes.
#[derive(Debug, Subcommand)]
pub(crate) enum Freeze {
    /// List freezes, those of windows too
    List,
    /// Start nothing from a time until another
    #[command(
        after_help = "Example:\n  leasehold freeze set year-end --from 2026-12-24T00:00:00+08:00 --until 2027-01-02T00:00:00+08:00 \\\n      --kind sql_update --reason 'books are closed' --owner finance"
    )]
    Set {
        /// Its id
        id: String,
        /// From when; now, when left out
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Until when
        #[arg(long, value_name = "TIME")]
        until: String,
        #[command(flatten)]
        closing: Closing,
    },
    /// Take a freeze away before its end: the emergency override
    Remove {
        /// Its id, as `freeze list` shows it
        id: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Freeze {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => {
                let mut answer = client.get("/v1/gates").await?;
                out.show(&json!({ "freezes": answer["freezes"].take() }), freezes);
            }
            Self::Set { id, from, until, closing } => {
                let mut body = closing.body();
                if let Some(from) = from {
                    body.insert("from".to_owned(), json!(instant(&from, global)?));
                }
                body.insert("until".to_owned(), json!(instant(&until, global)?));
                let place = path(&["v1", "freezes", &id]);
                let answer = client.call(Method::PUT, &place, Some(&Value::Object(body)), &[]).await?;
                out.show(&answer, |f| {
                    format!("freeze {id} stands from {} until {}", text(f, "from"), text(f, "until"))
                });
            }
            Self::Remove { id, why } => {
                client.delete(&format!("{}{}", path(&["v1", "freezes", &id]), why.query())).await?;
                out.show(&json!({ "id": id, "removed": true }), |_| format!("freeze {id} is taken away"));
            }
        }
        Ok(())
    }
}

/// Whether jobs start inside a window, or outside.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// Only inside
    Allow,
    /// Only outside
    Deny,
}

/// List, set and remove windows.
#[derive(Debug, Subcommand)]
pub(crate) enum Window {
    /// List windows and when they are closed
    List,
    /// Let jobs start only inside of a window, or only outside
    #[command(
        after_help = "Example:\n  leasehold window set sundays --mode allow --opens '0 2 * * 0' --duration 4h --zone Asia/Shanghai \\\n      --kind sql_update --reason 'patch night' --owner ops"
    )]
    Set {
        /// Its name
        name: String,
        /// Whether jobs start inside or outside
        #[arg(long, value_enum)]
        mode: Mode,
        /// When it begins: a cron expression
        #[arg(long, value_name = "CRON")]
        opens: String,
        /// How long it lasts, such as 4h or 90m
        #[arg(long, value_name = "TIME")]
        duration: String,
        /// The time zone whose clock counts
        #[arg(long, value_name = "ZONE")]
        zone: String,
        #[command(flatten)]
        closing: Closing,
    },
    /// Remove a window
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Window {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => out.show(&client.get("/v1/windows").await?, windows),
            Self::Set { name, mode, opens, duration, zone, closing } => {
                let mut body = closing.body();
                let mode = if matches!(mode, Mode::Allow) { "allow" } else { "deny" };
                for (field, value) in [("mode", mode), ("opens", &opens), ("duration", &duration), ("zone", &zone)] {
                    body.insert(field.to_owned(), json!(value));
                }
                let place = path(&["v1", "windows", &name]);
                let answer = client.call(Method::PUT, &place, Some(&Value::Object(body)), &[]).await?;
                out.show(&answer, |window| format!("window {name} is written; {}", closed(window)));
            }
            Self::Remove { name, why } => {
                client.delete(&format!("{}{}", path(&["v1", "windows", &name]), why.query())).await?;
                out.show(&json!({ "name": name, "removed": true }), |_| format!("window {name} is removed"));
            }
        }
        Ok(())
    }
}

/// Its next closed time.
fn closed(window: &Value) -> String {
    let mut times = window.get("closed").and_then(Value::as_array).into_iter().flatten();
    times.next().map_or_else(
        || "never closed".to_owned(),
        |time| {
            let until = text(time, "until");
            let until = if until.is_empty() { "not known yet".to_owned() } else { until };
            let away = if text(time, "overridden") == "true" { " (overridden)" } else { "" };
            format!("closed from {} until {until}{away}", text(time, "from"))
        },
    )
}

fn windows(answer: &Value) -> Table {
    let headings = ["window", "mode", "opens", "duration", "zone", "of", "now or next", "reason", "owner"];
    let mut table = Table::new(&headings, "no windows");
    for window in answer.get("windows").and_then(Value::as_array).into_iter().flatten() {
        let [name, mode, opens, duration, zone, reason, owner] =
            ["name", "mode", "opens", "duration", "zone", "reason", "owner"].map(|name| text(window, name));
        table.row([name, mode, opens, duration, zone, reach(window), closed(window), reason, owner]);
    }
    table
}
