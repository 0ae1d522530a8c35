//! `enqueue`: asks for a job, and waits for its end when told to.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use chrono::Utc;
use clap::Args;
use leasehold_jobs::policy::json as strict;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, path};
use super::out::text;
use super::watch::Patience;
use super::{Failure, Global, Out, time, watch};
use crate::config::Config;

const EXAMPLES: &str = "\
Examples:
  leasehold enqueue sql_update --tenant t-001 --user u1 --role it_ops --role data_ops_specialist \\
      --args-file update.json --at 2026-11-22T04:00 --confirmed --code CHALLENGE:123456 --wait
  leasehold enqueue sql_update --tenant t-001 --user u1 --role it_ops --role data_ops_specialist \\
      --arg data_center=dc-1 --arg script=@update.sql --confirmed --code CHALLENGE:123456
  leasehold enqueue data_center_backup --tenant t-001 --user u1 --role it_ops \\
      --args '{\"data_center\":\"dc-1\",\"name\":\"nightly\"}'

Exit status: 0 accepted (with --wait: succeeded), 1 failed (with --wait: the job failed), 3 refused by a rule,
4 accepted, but the API was away for longer than --patience, so that its end is not known: ask with job watch.";

/// Ask for a job.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Enqueue {
    /// Kind of job: sql_update, data_center_backup, data_center_restore, verification_code
    kind: String,
    /// The tenant it is for
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// Arguments of the kind
    #[arg(long, value_name = "JSON", conflicts_with = "args_file")]
    args: Option<String>,
    /// File with the arguments; - is standard input
    #[arg(long, value_name = "FILE")]
    args_file: Option<PathBuf>,
    /// One argument as text, laid over the others; @FILE is the text of a file (--arg script=@update.sql); may be repeated
    #[arg(long, value_name = "NAME=TEXT|NAME=@FILE")]
    arg: Vec<String>,
    /// Planned time: RFC 3339, 2026-11-22T02:00 in the business zone, or (not with --idempotency-key) +15m
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Wait for the end and show progress
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    patience: Patience,
    /// The person in whose name: {"user_id":"u1","roles":["it_ops"],"mobile":"+86…"}
    #[arg(long, value_name = "JSON", conflicts_with_all = ["user", "role"])]
    actor: Option<String>,
    /// The person's id, when --actor is not given
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// A role of the person; may be repeated
    #[arg(long, value_name = "ROLE", requires = "user")]
    role: Vec<String>,
    /// The person's mobile, to which codes go
    #[arg(long, value_name = "NUMBER", requires = "user")]
    mobile: Option<String>,
    /// The person confirmed a second time (VERIFY-03)
    #[arg(long)]
    confirmed: bool,
    /// Verification code, as CHALLENGE:CODE (VERIFY-01)
    #[arg(long, value_name = "CHALLENGE:CODE")]
    code: Option<String>,
    /// Asking again with the same key and the same request gives the first job; --at then names an instant
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// critical, high, normal or low
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// Where this job's webhooks go, besides the registered endpoints
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    /// A label; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
}

impl Enqueue {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        let body = self.body(global)?;
        let headers: Vec<(&str, &str)> =
            self.idempotency_key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
        let job = client.call(Method::POST, "/v1/jobs", Some(&body), &headers).await?;
        if !self.wait {
            out.show(&job, accepted);
            return Ok(());
        }
        if !out.is_json() {
            out.line(accepted(&job));
        }
        let job = watch::until_final(&client, &text(&job, "id"), self.patience, out).await?;
        out.show(&job, watch::ending);
        watch::verdict(&job)
    }

    fn body(&self, global: &Global) -> Result<Value, Failure> {
        let mut body = json!({ "kind": self.kind, "tenant": self.tenant, "args": self.arguments()? });
        let mut put =
            |name: &str, value: Value| body.as_object_mut().and_then(|body| body.insert(name.to_owned(), value));
        put("actor", self.person()?);
        if let Some(at) = &self.at {
            self.check_repeatable(at)?;
            put("run_at", json!(instant(at, global)?));
        }
        if self.confirmed {
            put("confirmed", json!(true));
        }
        if let Some(code) = &self.code {
            put("verification", verification(code)?);
        }
        if let Some(priority) = &self.priority {
            put("priority", json!(priority));
        }
        if let Some(url) = &self.callback_url {
            put("callback_url", json!(url));
        }
        if !self.label.is_empty() {
            put("labels", labels(&self.label)?);
        }
        Ok(body)
    }

    /// A distance from now means another instant each time: the second request would not be the first one again.
    fn check_repeatable(&self, at: &str) -> Result<(), Failure> {
        if self.idempotency_key.is_none() || !at.trim().starts_with('+') {
            return Ok(());
        }
        let text = format!(
            "--at {at}: with --idempotency-key give an instant (2026-11-22T02:00); a distance from now is another time \
             when it is sent again"
        );
        Err(Failure::Usage(text))
    }

    fn arguments(&self) -> Result<Value, Failure> {
        let mut arguments = match (&self.args, &self.args_file) {
            (Some(text), _) => read_json("--args", text)?,
            (None, Some(file)) => read_json_file("--args-file", file)?,
            (None, None) => json!({}),
        };
        let mut single = once("--arg", self.arg.iter().map(|given| one_argument(given)))?;
        match arguments.as_object_mut() {
            Some(all) => all.append(&mut single),
            None if single.is_empty() => {}
            None => return Err(Failure::Usage("--arg: the other arguments are no JSON object".to_owned())),
        }
        Ok(arguments)
    }

    fn person(&self) -> Result<Value, Failure> {
        let Some(user) = &self.user else {
            let nobody = || Failure::Usage("who asks? give --user ID with --role ROLE, or --actor JSON".to_owned());
            return read_json("--actor", self.actor.as_ref().ok_or_else(nobody)?);
        };
        let mut actor = json!({ "user_id": user, "roles": self.role });
        if let (Some(mobile), Some(actor)) = (&self.mobile, actor.as_object_mut()) {
            actor.insert("mobile".to_owned(), json!(mobile));
        }
        Ok(actor)
    }
}

/// The text of `--at` as the API reads it.
pub(crate) fn instant(at: &str, global: &Global) -> Result<String, Failure> {
    let config = Config::load(global.config.as_deref()).map_err(|e| Failure::failed("configuration", e.to_string()))?;
    let instant =
        time::read(at, Utc::now(), config.rules.calendar()).map_err(|e| Failure::Usage(format!("--at: {e}")))?;
    Ok(time::write(instant))
}

/// `CHALLENGE:CODE` as the API reads it.
pub(crate) fn verification(code: &str) -> Result<Value, Failure> {
    let (challenge, code) = code
        .rsplit_once(':')
        .filter(|(challenge, code)| !challenge.is_empty() && !code.is_empty())
        .ok_or_else(|| Failure::Usage("--code: expected CHALLENGE:CODE".to_owned()))?;
    Ok(json!({ "challenge_id": challenge, "code": code }))
}

/// `NAME=TEXT`, or `NAME=@FILE` for the text of a file.
fn one_argument(given: &str) -> Result<(String, Value), Failure> {
    let (name, value) = given
        .split_once('=')
        .ok_or_else(|| Failure::Usage(format!("--arg {given}: expected NAME=TEXT or NAME=@FILE")))?;
    let value = match value.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).map_err(|e| Failure::Usage(format!("--arg {name}: {file}: {e}")))?
        }
        None => value.to_owned(),
    };
    Ok((name.to_owned(), Value::String(value)))
}

/// The JSON text of an option.
pub(crate) fn read_json(option: &str, text: &str) -> Result<Value, Failure> {
    strict::tree(text.as_bytes()).map_err(|error| Failure::Usage(format!("{option}: no good JSON: {}", error.inner())))
}

/// The JSON in a file; `-` is standard input.
pub(crate) fn read_json_file(option: &str, file: &Path) -> Result<Value, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("{option} {}: {error}", file.display()));
    let mut text = String::new();
    match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(drop).map_err(|error| wrong(&error))?,
        false => text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?,
    }
    strict::tree(text.as_bytes()).map_err(|error| wrong(&format!("no good JSON: {}", error.inner())))
}

fn labels(all: &[String]) -> Result<Value, Failure> {
    let pair = |label: &String| {
        let (name, value) =
            label.split_once('=').ok_or_else(|| Failure::Usage(format!("--label {label}: expected NAME=VALUE")))?;
        Ok((name.to_owned(), json!(value)))
    };
    once("--label", all.iter().map(pair)).map(Value::Object)
}

/// Pairs of an option that may be repeated, each name once: of two values one would be lost.
fn once(
    option: &str,
    pairs: impl Iterator<Item = Result<(String, Value), Failure>>,
) -> Result<serde_json::Map<String, Value>, Failure> {
    let mut all = serde_json::Map::new();
    for pair in pairs {
        let (name, value) = pair?;
        if all.contains_key(&name) {
            return Err(Failure::Usage(format!("{option} {name}: it is given twice; give it once")));
        }
        all.insert(name, value);
    }
    Ok(all)
}

fn accepted(job: &Value) -> String {
    let planned = text(job, "run_at");
    let planned = if planned.is_empty() { planned } else { format!(", planned for {planned}") };
    format!("accepted {} ({}){planned}", text(job, "id"), text(job, "status"))
}

/// The path of a job.
pub(crate) fn job_path(id: &str) -> String {
    path(&["v1", "jobs", id])
}
