//! `job signal|approve|refuse`: tells a job what it waits for.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, path};
use super::enqueue::read_json;
use super::out::text;
use super::{Failure, Out};

/// In whose name.
#[derive(Debug, Args)]
struct Person {
    /// The person's id
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// A role of the person's; may be given again
    #[arg(long, value_name = "ROLE", requires = "user")]
    role: Vec<String>,
}

/// To which job, and once.
#[derive(Debug, Args)]
struct To {
    /// The job
    id: String,
    /// The signal, or the approval
    name: String,
    /// Sent again with the same key, it counts once
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// Tell a job what it waits for.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leasehold job signal ID paid --payload '{\"amount\":5}' --key order-17")]
pub(crate) struct Signal {
    #[command(flatten)]
    to: To,
    /// What the job is told; any JSON, at most 64 KiB
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    #[command(flatten)]
    person: Person,
}

/// Answer an approval.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leasehold job approve ID 'drop the test data center' --user u7 --role it_ops")]
pub(crate) struct Answer {
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    person: Person,
    /// Why; kept with the answer
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// What the job is told with the answer, such as the fields of a form; any JSON
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The hash of the arguments that were seen (`job show` says it); refused when they have changed since. An answer that comes
    /// before the job asks needs it
    #[arg(long, value_name = "HEX")]
    args_sha256: Option<String>,
}

impl Signal {
    pub(crate) async fn run(self, client: &Client, out: &Out) -> Result<(), Failure> {
        let mut body = self.person.body();
        if let Some(payload) = &self.payload {
            body.insert("payload".to_owned(), read_json("--payload", payload)?);
        }
        self.to.send(client, body, out).await
    }
}

impl Answer {
    pub(crate) async fn run(self, decision: &str, client: &Client, out: &Out) -> Result<(), Failure> {
        let mut body = self.person.body();
        body.insert("decision".to_owned(), json!(decision));
        for (field, value) in [("comment", self.comment), ("args_sha256", self.args_sha256)] {
            if let Some(value) = value {
                body.insert(field.to_owned(), json!(value));
            }
        }
        if let Some(payload) = &self.payload {
            body.insert("payload".to_owned(), read_json("--payload", payload)?);
        }
        self.to.send(client, body, out).await
    }
}

impl Person {
    fn body(&self) -> Map<String, Value> {
        let actor = self.user.as_ref().map(|user| json!({ "user_id": user, "roles": self.role }));
        actor.into_iter().map(|actor| ("actor".to_owned(), actor)).collect()
    }
}

impl To {
    async fn send(self, client: &Client, body: Map<String, Value>, out: &Out) -> Result<(), Failure> {
        let path = path(&["v1", "jobs", &self.id, "signals", &self.name]);
        let headers: Vec<_> = self.key.iter().map(|key| ("idempotency-key", key.as_str())).collect();
        let answer = client.call(Method::POST, &path, Some(&Value::Object(body)), &headers).await?;
        out.show(&answer, |answer| {
            format!("{} {}: {}", text(answer, "job"), text(answer, "signal"), text(answer, "outcome"))
        });
        Ok(())
    }
}
