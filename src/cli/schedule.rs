//! `schedule …`: lists, writes, pauses, removes schedules, and looks ahead. `preview` of an expression needs no server.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use leasehold_engine::model::Timetable;
use leasehold_jobs::policy::calendar::Calendar;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, path, query};
use super::enqueue::{read_json, read_json_file};
use super::out::text;
use super::{Failure, Global, Out, Table, config, time};

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

const SET_EXAMPLES: &str = "\
Examples:
  leasehold schedule set nightly --cron '30 2 * * *' --zone Asia/Shanghai --missed within:4h \\
      --kind data_center_backup --tenant t-001 --user scheduler --role it_ops \\
      --args '{\"data_center\":\"dc-1\",\"name\":\"nightly\"}'
  leasehold schedule set nightly --file nightly.json      the whole document, as `schedule show nightly --json` has it

Exit status: 0 written, 1 failed, 2 usage, 3 refused by a rule (an expression that never fires, a job that its rules refuse).";

/// Make a schedule, or replace what is said of it.
#[derive(Debug, Args)]
#[command(after_help = SET_EXAMPLES)]
pub(crate) struct Set {
    /// The schedule: 1 to 64 of A-Z a-z 0-9 _ -
    name: String,
    /// File with the whole document as JSON; - is standard input. The other options are laid over it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Minute, hour, day of month, month, weekday; with six fields the first is the second. L, W and # are known
    #[arg(long, value_name = "EXPR", required_unless_present = "file")]
    cron: Option<String>,
    /// Time zone, such as Asia/Shanghai (default: the business zone of the server)
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// What becomes of missed runs: skip, once, all:N or within:T (90s, 15m, 2h, 1d)
    #[arg(long, value_name = "POLICY")]
    missed: Option<String>,
    /// Make it paused
    #[arg(long)]
    paused: bool,
    /// Only when it is at this revision; 0: only when it is new
    #[arg(long, value_name = "N")]
    if_revision: Option<u32>,
    #[command(flatten)]
    job: Job,
}

#[derive(Debug, Args)]
struct Job {
    /// Kind of job
    #[arg(long, value_name = "KIND", required_unless_present = "file")]
    kind: Option<String>,
    /// The tenant it is for
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    tenant: Option<String>,
    /// The id of the person in whose name it runs
    #[arg(long, value_name = "ID", required_unless_present = "file")]
    user: Option<String>,
    /// A role of the person; may be repeated
    #[arg(long, value_name = "ROLE", requires = "user")]
    role: Vec<String>,
    /// Arguments of the kind
    #[arg(long, value_name = "JSON", conflicts_with = "args_file")]
    args: Option<String>,
    /// File with the arguments; - is standard input
    #[arg(long, value_name = "FILE")]
    args_file: Option<PathBuf>,
    /// critical, high, normal or low
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// The person confirms each run (VERIFY-03)
    #[arg(long)]
    confirmed: bool,
    /// Where webhooks of its jobs go, besides the registered endpoints
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
}

const PREVIEW_EXAMPLES: &str = "\
Examples:
  leasehold schedule preview '30 2 * * *' --zone America/New_York --from 2026-03-07T00:00:00-05:00 --count 3
  leasehold schedule preview '0 22 L * *' --zone Asia/Shanghai --json
  leasehold schedule preview --schedule nightly --tenant t-001

When the clocks change: a time that is jumped over fires right after the jump, and one that is shown twice fires the first
time; an expression with * in second, minute or hour goes on in real time.";

/// Show the next runs.
#[derive(Debug, Args)]
#[command(after_help = PREVIEW_EXAMPLES)]
pub(crate) struct Preview {
    /// Minute, hour, day of month, month, weekday; with six fields the first is the second. L, W and # are known
    #[arg(value_name = "EXPR", required_unless_present = "schedule", conflicts_with = "schedule")]
    expr: Option<String>,
    /// A schedule of the server instead
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// Whose, when several tenants have a schedule of this name
    #[arg(long, value_name = "ID", requires = "schedule")]
    tenant: Option<String>,
    /// Time zone (default: the business zone)
    #[arg(long, value_name = "ZONE", conflicts_with = "schedule")]
    zone: Option<String>,
    /// Runs after this instant: RFC 3339, 2026-11-22T02:00 in the zone, or +15m (default: now)
    #[arg(long, value_name = "INSTANT")]
    from: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
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
            Self::Pause(named) => named.switch(&Client::new(global)?, true, out).await?,
            Self::Resume(named) => named.switch(&Client::new(global)?, false, out).await?,
        }
        Ok(())
    }
}

impl Named {
    fn path(&self) -> String {
        path(&["v1", "schedules", &self.name]) + &query([("tenant", self.tenant.clone())])
    }

    /// Writes what was read, with the pause changed, unless somebody else was first.
    async fn switch(&self, client: &Client, paused: bool, out: &Out) -> Result<(), Failure> {
        let held = client.get(&self.path()).await?;
        let said = ["cron", "zone", "missed", "job"]
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), held.get(name)?.clone())));
        let mut body: Map<String, Value> = said.collect();
        body.insert("paused".to_owned(), json!(paused));
        let etag = format!("\"{}\"", text(&held, "revision"));
        let to = path(&["v1", "schedules", &self.name]);
        let answer = client.call(Method::PUT, &to, Some(&Value::Object(body)), &[("if-match", &etag)]).await?;
        out.show(&answer, written);
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

impl Set {
    async fn run(self, client: &Client, out: &Out) -> Result<(), Failure> {
        let body = self.body()?;
        let etag = self.if_revision.map(|revision| format!("\"{revision}\""));
        let headers: Vec<_> = etag.iter().map(|etag| ("if-match", etag.as_str())).collect();
        let to = path(&["v1", "schedules", &self.name]);
        out.show(&client.call(Method::PUT, &to, Some(&body), &headers).await?, written);
        Ok(())
    }

    /// The document: what the file says, with the options laid over it.
    fn body(&self) -> Result<Value, Failure> {
        let mut body = match &self.file {
            Some(file) => said(read_json_file("--file", file)?)?,
            None => Map::new(),
        };
        let mut job = match body.remove("job") {
            Some(Value::Object(job)) => job,
            None => Map::new(),
            Some(_) => return Err(Failure::Usage("--file: `job` is no JSON object".to_owned())),
        };
        self.job.lay_over(&mut job)?;
        body.insert("job".to_owned(), Value::Object(job));
        for (name, value) in [("cron", &self.cron), ("zone", &self.zone), ("missed", &self.missed)] {
            body.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        if self.paused {
            body.insert("paused".to_owned(), json!(true));
        }
        Ok(Value::Object(body))
    }
}

/// A document without what the server adds when it shows one.
fn said(document: Value) -> Result<Map<String, Value>, Failure> {
    const ADDED: [&str; 11] = [
        "name",
        "tenant",
        "revision",
        "made_by",
        "from_file",
        "changed_at",
        "next_at",
        "overdue_ms",
        "counts",
        "last_fired",
        "last_missed",
    ];
    match document {
        Value::Object(mut fields) => {
            ADDED.iter().for_each(|name| drop(fields.remove(*name)));
            Ok(fields)
        }
        _ => Err(Failure::Usage("--file: a JSON object is expected".to_owned())),
    }
}

impl Job {
    fn lay_over(&self, job: &mut Map<String, Value>) -> Result<(), Failure> {
        let texts = [
            ("kind", &self.kind),
            ("tenant", &self.tenant),
            ("priority", &self.priority),
            ("callback_url", &self.callback_url),
        ];
        for (name, value) in texts {
            job.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        if let Some(user) = &self.user {
            job.insert("actor".to_owned(), json!({ "user_id": user, "roles": self.role }));
        }
        let args = match (&self.args, &self.args_file) {
            (Some(text), _) => Some(read_json("--args", text)?),
            (None, Some(file)) => Some(read_json_file("--args-file", file)?),
            (None, None) => None,
        };
        job.extend(args.map(|args| ("args".to_owned(), args)));
        if self.confirmed {
            job.insert("confirmed".to_owned(), json!(true));
        }
        Ok(())
    }
}

fn written(schedule: &Value) -> String {
    let next = match text(schedule, "next_at") {
        next if next.is_empty() => "paused".to_owned(),
        next => format!("next at {next}"),
    };
    format!("{} is at revision {}, {next}", text(schedule, "name"), text(schedule, "revision"))
}

impl Preview {
    async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let slots = match &self.schedule {
            Some(name) => self.of_server(name, global).await?,
            None => self.of_expression(global)?,
        };
        out.show(&json!(slots), |_| slots.iter().map(|slot| weekday(slot)).collect::<Vec<_>>().join("\n"));
        Ok(())
    }

    async fn of_server(&self, name: &str, global: &Global) -> Result<Vec<String>, Failure> {
        let client = Client::new(global)?;
        let from = self.from.as_ref().map(|from| super::enqueue::instant(from, global)).transpose()?;
        let asked = [("tenant", self.tenant.clone()), ("count", Some(self.count.to_string())), ("from", from)];
        let answer = client.get(&(path(&["v1", "schedules", name, "preview"]) + &query(asked))).await?;
        let slots = answer.get("slots").and_then(Value::as_array).into_iter().flatten();
        Ok(slots.filter_map(|slot| slot.as_str().map(str::to_owned)).collect())
    }

    fn of_expression(&self, global: &Global) -> Result<Vec<String>, Failure> {
        let zone = match &self.zone {
            Some(zone) => zone.clone(),
            None => config::load(global)?.rules.calendar().name().to_owned(),
        };
        let expr = self.expr.as_deref().unwrap_or_default();
        let table = Timetable::parse(expr, &zone).map_err(|bad| Failure::Usage(bad.to_string()))?;
        let calendar = table.zone().parse().map(Calendar::new);
        let calendar = calendar.map_err(|_| Failure::Usage(format!("--zone: {zone}")))?;
        let from = match &self.from {
            Some(text) => {
                time::read(text, Utc::now(), &calendar).map_err(|e| Failure::Usage(format!("--from: {e}")))?
            }
            None => Utc::now(),
        };
        let slots = table.slots_after(from.timestamp_millis()).take(usize::from(self.count));
        Ok(slots.map(|slot| table.show(slot)).collect())
    }
}

fn weekday(slot: &str) -> String {
    let day = DateTime::parse_from_rfc3339(slot).map_or_else(|_| "   ".to_owned(), |at| at.format("%a").to_string());
    format!("{day} {slot}")
}
