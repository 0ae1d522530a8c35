//! `job …`: looks at one job or changes it.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, query};
use super::enqueue::{instant, job_path, read_json, verification};
use super::out::text;
use super::signal::{Answer, Signal};
use super::{Failure, Global, Out, Table, watch};

/// Look at one job or change it.
#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Show a job with its steps, progress, result and error
    Show(Id),
    /// Cancel a job, while its rule allows
    Cancel {
        #[command(flatten)]
        id: Id,
        /// Why; kept in the history
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Change a planned job, while its rule allows
    Edit(Edit),
    /// Send a dead or cancelled job back to work
    Revive(Id),
    /// Say what became of an open step of an unknown job
    Resolve {
        #[command(flatten)]
        id: Id,
        /// What happened to the step
        #[arg(value_enum)]
        outcome: Outcome,
        /// Which step; may be left out when only one is open
        #[arg(long, value_name = "NAME")]
        step: Option<String>,
        /// The step's result, when it happened
        #[arg(long, value_name = "JSON")]
        result: Option<String>,
        /// Why it is so; kept in the history
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Tell a job what it waits for
    Signal(Signal),
    /// Agree to what a job asks people
    Approve(Answer),
    /// Say no to what a job asks people
    Refuse(Answer),
    /// Follow a job's events until its end
    #[command(
        after_help = "Exit status: 0 succeeded, 1 it did not succeed, 4 the API was away for longer than --patience."
    )]
    Watch {
        #[command(flatten)]
        id: Id,
        #[command(flatten)]
        patience: watch::Patience,
    },
    /// Why a job is where it is, and what it waits for
    Explain(Id),
    /// Print a job's log lines
    Log(Id),
}

/// Which job.
#[derive(Debug, Args)]
pub(crate) struct Id {
    /// The job
    id: String,
}

/// Change a planned job.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leasehold job edit ID --at +30m --confirmed --code CHALLENGE:123456")]
pub(crate) struct Edit {
    #[command(flatten)]
    id: Id,
    /// New planned time
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// New arguments; what is left out stays
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// The person in whose name
    #[arg(long, value_name = "JSON")]
    actor: Option<String>,
    /// The person confirmed a second time (VERIFY-03)
    #[arg(long)]
    confirmed: bool,
    /// A fresh verification code, as CHALLENGE:CODE
    #[arg(long, value_name = "CHALLENGE:CODE")]
    code: Option<String>,
    /// Refuse unless the job's ETag is this one; without it the present one is fetched first
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
}

/// What became of a step that nobody saw end.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Outcome {
    /// It happened: go on behind it
    Done,
    /// It did not happen: do it again
    NotDone,
}

impl Job {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::Show(id) => out.show(&client.get(&job_path(&id.id)).await?, describe),
            Self::Cancel { id, reason } => {
                let answer = client.post(&format!("{}/cancel", job_path(&id.id)), &json!({ "reason": reason })).await?;
                out.show(&answer, one_line);
            }
            Self::Edit(edit) => out.show(&edit.send(&client, global).await?, one_line),
            Self::Revive(id) => {
                out.show(&client.post(&format!("{}/revive", job_path(&id.id)), &json!({})).await?, one_line)
            }
            Self::Resolve { id, outcome, step, result, reason } => {
                let mut body = json!({ "happened": matches!(outcome, Outcome::Done), "step": step, "reason": reason });
                if let (Some(result), Some(body)) = (result, body.as_object_mut()) {
                    body.insert("result".to_owned(), read_json("--result", &result)?);
                }
                out.show(&client.post(&format!("{}/resolve", job_path(&id.id)), &body).await?, one_line);
            }
            Self::Signal(signal) => signal.run(&client, out).await?,
            Self::Approve(answer) => answer.run("approve", &client, out).await?,
            Self::Refuse(answer) => answer.run("refuse", &client, out).await?,
            Self::Watch { id, patience } => {
                // A job that nobody has seen yet, at an address where nothing answers, is a slip and not waited for.
                client.get(&job_path(&id.id)).await?;
                let job = watch::until_final(&client, &id.id, patience, out).await?;
                out.show(&job, watch::ending);
                return watch::verdict(&job);
            }
            Self::Explain(id) => {
                let answer = client.get(&format!("{}/explain", job_path(&id.id))).await?;
                out.show(&answer, explanation);
            }
            Self::Log(id) => log(&client, &id.id, out).await?,
        }
        Ok(())
    }
}

impl Edit {
    async fn send(self, client: &Client, global: &Global) -> Result<Value, Failure> {
        let path = job_path(&self.id.id);
        let mut body = serde_json::Map::new();
        if let Some(at) = &self.at {
            body.insert("run_at".to_owned(), json!(instant(at, global)?));
        }
        if let Some(args) = &self.args {
            body.insert("args".to_owned(), read_json("--args", args)?);
        }
        if let Some(actor) = &self.actor {
            body.insert("actor".to_owned(), read_json("--actor", actor)?);
        }
        if self.confirmed {
            body.insert("confirmed".to_owned(), json!(true));
        }
        if let Some(code) = &self.code {
            body.insert("verification".to_owned(), verification(code)?);
        }
        let etag = match self.if_match {
            Some(etag) => etag,
            None => client.etag(&path).await?,
        };
        client.call(Method::PATCH, &path, Some(&Value::Object(body)), &[("if-match", &etag)]).await
    }
}

async fn log(client: &Client, id: &str, out: &Out) -> Result<(), Failure> {
    let mut all = Vec::new();
    loop {
        let answer =
            client.get(&format!("{}/log{}", job_path(id), query([("skip", Some(all.len().to_string()))]))).await?;
        let lines = answer.get("lines").and_then(Value::as_array).cloned().unwrap_or_default();
        if lines.is_empty() {
            break;
        }
        all.extend(lines);
    }
    let line = |line: &Value| format!("{}  {}", text(line, "at"), text(line, "text"));
    out.show(&json!({ "lines": all }), |_| all.iter().map(line).collect::<Vec<_>>().join("\n"));
    Ok(())
}

fn one_line(job: &Value) -> String {
    format!("{} {} ({})", text(job, "id"), text(job, "place"), text(job, "status"))
}

/// A job as lines of name and value, then its steps, error and result.
fn describe(job: &Value) -> String {
    let mut lines = Vec::new();
    for name in [
        "id",
        "kind",
        "tenant",
        "place",
        "status",
        "run_at",
        "attempt",
        "max_attempts",
        "created_at",
        "started_at",
        "finished_at",
    ] {
        let value = text(job, name);
        if !value.is_empty() {
            lines.push(format!("{name:<13}{value}"));
        }
    }
    if !text(job, "progress.percent").is_empty() {
        lines.push(format!("{:<13}{} % {}", "progress", text(job, "progress.percent"), text(job, "progress.text")));
    }
    let mut steps = Table::new(&["step", "effect", "begun", "done"], "");
    for step in job.get("steps").and_then(Value::as_array).into_iter().flatten() {
        steps.row([text(step, "name"), text(step, "effect"), text(step, "begun_at"), text(step, "done_at")]);
    }
    let open =
        job.get("steps").and_then(Value::as_array).into_iter().flatten().filter(|step| step.get("wait").is_some());
    let open: Vec<_> = open.map(waiting).collect();
    let steps = steps.to_string();
    if !steps.is_empty() {
        lines.push(steps);
    }
    lines.extend(open);
    if !text(job, "error.code").is_empty() {
        lines.push(format!("{:<13}{}: {}", "error", text(job, "error.code"), text(job, "error.message")));
    }
    if let Some(result) = job.get("result").filter(|r| !r.is_null()) {
        lines.push(format!("{:<13}{result:#}", "result"));
    }
    lines.join("\n")
}

/// What an open wait of a job waits for.
fn waiting(step: &Value) -> String {
    let name = text(step, "name");
    let mut line = match text(step, "wait.for").as_str() {
        "signal" => format!("waits in `{name}` for signal `{}`", text(step, "wait.signal")),
        "children" => format!("waits in `{name}` for {} children", text(step, "wait.many")),
        "approval" => {
            let from = step["wait"]["from"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let from: Vec<_> = from.collect();
            format!("waits in `{name}` for {} of: {}", text(step, "wait.needed"), from.join(", "))
        }
        _ => format!("sleeps in `{name}`"),
    };
    let until = text(step, "wait.until");
    if !until.is_empty() {
        line.push_str(&format!(", until {until}"));
    }
    line
}

fn explanation(answer: &Value) -> String {
    let mut lines = vec![format!("{} is {}", text(answer, "job"), text(answer, "place"))];
    for (nth, reason) in answer.get("reasons").and_then(Value::as_array).into_iter().flatten().enumerate() {
        lines.push(format!("{:>3}. {} ({})", nth + 1, text(reason, "text"), text(reason, "code")));
        let more = [("about", "about"), ("until", "until"), ("jobs", "jobs"), ("by", "who")];
        let more: Vec<String> = more
            .iter()
            .map(|(word, name)| (word, text(reason, name)))
            .filter(|(_, value)| !value.is_empty())
            .map(|(word, value)| format!("{word} {value}"))
            .collect();
        lines.extend((!more.is_empty()).then(|| format!("     {}", more.join("; "))));
    }
    lines.join("\n")
}
