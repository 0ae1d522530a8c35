//! `schedule set`: the document of a schedule, from options, from a file, or from a file with options laid over it.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, path, query};
use super::enqueue::{read_json, read_json_file};
use super::schedule::written;
use super::{Failure, Out};

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
    /// Time zone, such as Asia/Shanghai (default: the one that it has, or the business zone of the server)
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// What becomes of missed runs: skip, once, all:N or within:T (90s, 15m, 2h, 1d) (default: what it has, or once)
    #[arg(long, value_name = "POLICY")]
    missed: Option<String>,
    /// Make it paused. One that is paused stays so until it is resumed
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

impl Set {
    pub(super) async fn run(self, client: &Client, out: &Out) -> Result<(), Failure> {
        let mut body = self.body()?;
        let seen = self.keep(client, &mut body).await?;
        let etag = self.if_revision.or(seen).map(|revision| format!("\"{revision}\""));
        let headers: Vec<_> = etag.iter().map(|etag| ("if-match", etag.as_str())).collect();
        let to = path(&["v1", "schedules", &self.name]);
        out.show(&client.call(Method::PUT, &to, Some(&Value::Object(body)), &headers).await?, written);
        Ok(())
    }

    /// The document: what the file says, with the options laid over it.
    fn body(&self) -> Result<Map<String, Value>, Failure> {
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
        Ok(body)
    }

    /// What the options do not say of a schedule that is there stays as it is; the revision that was seen. A file is a whole
    /// document, and says all.
    async fn keep(&self, client: &Client, body: &mut Map<String, Value>) -> Result<Option<u32>, Failure> {
        if self.file.is_some() {
            return Ok(None);
        }
        let of = query([("tenant", self.job.tenant.clone())]);
        let held = match client.get(&(path(&["v1", "schedules", &self.name]) + &of)).await {
            Ok(held) => held,
            Err(Failure::Problem(problem)) if problem.code() == "not_found" => return Ok(None),
            Err(other) => return Err(other),
        };
        for name in ["zone", "missed", "paused"] {
            if let (false, Some(value)) = (body.contains_key(name), held.get(name)) {
                body.insert(name.to_owned(), value.clone());
            }
        }
        Ok(held.get("revision").and_then(Value::as_u64).and_then(|revision| revision.try_into().ok()))
    }
}

/// A document without what the server adds when it shows one.
fn said(document: Value) -> Result<Map<String, Value>, Failure> {
    const ADDED: [&str; 12] = [
        "name",
        "tenant",
        "revision",
        "made_by",
        "from_file",
        "changed_at",
        "next_at",
        "overdue_ms",
        "stuck",
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
