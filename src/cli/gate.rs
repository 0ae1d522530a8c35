//! `gates`, `kind …`, `kill-switch …`, `limit …`: what stands before jobs, and how it is changed.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, path, query};
use super::out::text;
use super::{Failure, Global, Out, Table};

/// Why it is done.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Why; kept with it and in the log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

impl Why {
    /// The body of a request that says why.
    pub(crate) fn body(&self) -> Value {
        self.reason.as_ref().map_or_else(|| json!({}), |reason| json!({ "reason": reason }))
    }

    /// The query of a request that says why.
    pub(crate) fn query(self) -> String {
        query([("reason", self.reason)])
    }
}

/// List all that stands before jobs: pauses, kill switches, limits, freezes.
#[derive(Debug, Args)]
pub(crate) struct Gates {}

impl Gates {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        out.show(&Client::new(global)?.get("/v1/gates").await?, all);
        Ok(())
    }
}

/// List, pause and resume kinds.
#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// List kinds
    List,
    /// Stop starting jobs of a kind; what runs goes on
    Pause {
        /// The kind
        name: String,
        #[command(flatten)]
        why: Why,
    },
    /// Start jobs of a kind again
    Resume {
        /// The kind
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Kind {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => out.show(&client.get("/v1/kinds").await?, kinds),
            Self::Pause { name, why } => {
                let answer = client.post(&path(&["v1", "kinds", &name, "pause"]), &why.body()).await?;
                out.show(&answer, |_| format!("kind {name} is paused"));
            }
            Self::Resume { name, why } => {
                let answer = client.post(&path(&["v1", "kinds", &name, "resume"]), &why.body()).await?;
                out.show(&answer, |answer| still(answer, "kind", &name));
            }
        }
        Ok(())
    }
}

/// What a resume leaves standing.
pub(crate) fn still(answer: &Value, scope: &str, name: &str) -> String {
    let stops = answer.get("stops").and_then(Value::as_array).into_iter().flatten();
    let mut left =
        stops.filter(|stop| text(stop, "scope") == "all" || text(stop, "scope") == scope && text(stop, "name") == name);
    match left.next() {
        Some(stop) => format!(
            "{scope} {name} is not paused, but a {} stands for {}",
            text(stop, "what").replace('_', " "),
            text(stop, "name")
        ),
        None => format!("{scope} {name} runs"),
    }
}

/// The emergency stop: from the answer on nothing within its scope is started, by any worker.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  leasehold kill-switch on --kind sql_update --reason 'wrong rows are deleted'")]
pub(crate) enum KillSwitch {
    /// Start nothing more, or nothing of a kind; what runs goes on
    On {
        /// Of this kind only
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Why; kept with it and in the log
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Start again; pauses stay
    Off {
        /// That of this kind
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        #[command(flatten)]
        why: Why,
    },
}

impl KillSwitch {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        let named =
            |kind: &Option<String>| kind.as_ref().map_or("everything".to_owned(), |kind| format!("kind {kind}"));
        match self {
            Self::On { kind, reason } => {
                let scope = if kind.is_some() { "kind" } else { "all" };
                let mut body = json!({ "scope": scope, "reason": reason });
                if let (Some(kind), Some(body)) = (&kind, body.as_object_mut()) {
                    body.insert("kind".to_owned(), json!(kind));
                }
                let answer = client.post("/v1/kill-switch", &body).await?;
                out.show(&answer, |_| format!("the kill switch is on for {}: nothing of it is started", named(&kind)));
            }
            Self::Off { kind, why } => {
                let query = query([("kind", kind.clone()), ("reason", why.reason)]);
                let answer = client.delete(&format!("/v1/kill-switch{query}")).await?;
                out.show(&answer, |_| format!("the kill switch is off for {}", named(&kind)));
            }
        }
        Ok(())
    }
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Of {
    /// Jobs of a queue
    Queue,
    /// Jobs of a kind
    Kind,
    /// Jobs of a kind, each limit key by itself; the limit key of the kinds here is the tenant
    Key,
}

impl Of {
    fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Key => "key",
        }
    }
}

/// List, set and remove limits.
#[derive(Debug, Subcommand)]
pub(crate) enum Limit {
    /// List limits with what runs under them
    List,
    /// Limit how many run at a time, how many start in a period, or both
    #[command(after_help = "Example:\n  leasehold limit set kind sql_update --max-running 4 --rate 10/1m")]
    Set {
        /// What is counted
        #[arg(value_enum)]
        of: Of,
        /// The queue or the kind
        name: String,
        /// Jobs at a time
        #[arg(long, value_name = "N", required_unless_present = "rate")]
        max_running: Option<u64>,
        /// Starts in any such stretch of time, as COUNT/PERIOD
        #[arg(long, value_name = "COUNT/PERIOD")]
        rate: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Remove a limit; who waited for it goes on
    Remove {
        /// What is counted
        #[arg(value_enum)]
        of: Of,
        /// The queue or the kind
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Limit {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => {
                let mut answer = client.get("/v1/gates").await?;
                out.show(&json!({ "limits": answer["limits"].take() }), limits);
            }
            Self::Set { of, name, max_running, rate, why } => {
                let mut body = why.body();
                if let Some(body) = body.as_object_mut() {
                    body.extend(max_running.map(|max| ("max_running".to_owned(), json!(max))));
                    body.extend(rate.as_deref().map(read_rate).transpose()?.map(|rate| ("rate".to_owned(), rate)));
                }
                let answer =
                    client.call(Method::PUT, &path(&["v1", "limits", of.word(), &name]), Some(&body), &[]).await?;
                out.show(&answer, |limit| format!("{} {name}: {}", of.word(), limited(limit)));
            }
            Self::Remove { of, name, why } => {
                client.delete(&format!("{}{}", path(&["v1", "limits", of.word(), &name]), why.query())).await?;
                let answer = json!({ "of": of.word(), "name": name, "removed": true });
                out.show(&answer, |_| format!("the limit of {} {name} is removed", of.word()));
            }
        }
        Ok(())
    }
}

fn read_rate(given: &str) -> Result<Value, Failure> {
    let wrong = || Failure::Usage(format!("--rate {given}: give COUNT/PERIOD, such as 10/1m"));
    let (count, per) = given.split_once('/').ok_or_else(wrong)?;
    Ok(json!({ "count": count.trim().parse::<u64>().map_err(|_| wrong())?, "per": per.trim() }))
}

fn limited(limit: &Value) -> String {
    let mut parts = Vec::new();
    if !text(limit, "max_running").is_empty() {
        parts.push(format!("{} at a time", text(limit, "max_running")));
    }
    if !text(limit, "rate.count").is_empty() {
        parts.push(format!("{} starts in {}", text(limit, "rate.count"), text(limit, "rate.per")));
    }
    parts.join(", ")
}

fn rows<'a>(answer: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    answer.get(list).and_then(Value::as_array).into_iter().flatten()
}

fn limits(answer: &Value) -> Table {
    let mut table = Table::new(&["of", "name", "limit", "running", "reason", "by"], "no limits");
    for limit in rows(answer, "limits") {
        let [of, name, running, reason, by] = ["of", "name", "running", "reason", "by"].map(|name| text(limit, name));
        table.row([of, name, limited(limit), running, reason, by]);
    }
    table
}

fn kinds(answer: &Value) -> Table {
    let mut table = Table::new(&["kind", "queue", "editable", "what it does"], "no kinds");
    for kind in rows(answer, "kinds") {
        table.row(["kind", "queue", "editable", "summary"].map(|name| text(kind, name)));
    }
    table
}

/// Freezes, also in `freeze list`.
pub(crate) fn freezes(answer: &Value) -> Table {
    let headings = ["freeze", "active", "from", "until", "of", "reason", "owner"];
    let mut table = Table::new(&headings, "no freezes");
    for freeze in rows(answer, "freezes") {
        let [id, active, from, until, reason, owner] =
            ["id", "active", "from", "until", "reason", "owner"].map(|name| text(freeze, name));
        let until = if until.is_empty() { "not known yet".to_owned() } else { until };
        table.row([id, active, from, until, reach(freeze), reason, owner]);
    }
    table
}

/// What a freeze or a window is about.
pub(crate) fn reach(value: &Value) -> String {
    let scope: Map<String, Value> = value.get("scope").and_then(Value::as_object).cloned().unwrap_or_default();
    let parts: Vec<String> =
        scope.iter().map(|(name, one)| format!("{name} {}", one.as_str().unwrap_or_default())).collect();
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}

fn all(answer: &Value) -> String {
    let mut stops = Table::new(&["what", "of", "name", "since", "reason", "by"], "nothing is paused");
    for stop in rows(answer, "stops") {
        let what = text(stop, "what").replace('_', " ");
        let [scope, name, since, reason, by] = ["scope", "name", "since", "reason", "by"].map(|name| text(stop, name));
        stops.row([what, scope, name, since, reason, by]);
    }
    let mut parts = vec![stops.to_string(), limits(answer).to_string(), freezes(answer).to_string()];
    if !text(answer, "clock.seen_at").is_empty() {
        parts.push(format!("the clock jumped from {} to {}", text(answer, "clock.from"), text(answer, "clock.to")));
    }
    let parked = text(answer, "parked_kinds");
    parts.extend((!parked.is_empty()).then(|| format!("kinds that no worker knows: {parked}")));
    parts.join("\n\n")
}
