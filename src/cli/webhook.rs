//! `webhook …`: endpoints, their deliveries and replays.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, path, query};
use super::enqueue::instant;
use super::out::text;
use super::{Failure, Global, Out, Table};

/// List, add and remove webhook endpoints; look at deliveries and replay them.
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    /// List endpoints with their state
    List,
    /// Add an endpoint; prints its secret, once
    Add(Add),
    /// Remove an endpoint
    Remove {
        /// The endpoint
        id: String,
    },
    /// Switch an endpoint on again, also after it was given up
    Enable {
        /// The endpoint
        id: String,
    },
    /// Switch an endpoint off: it hears nothing of what happens from now on
    Disable {
        /// The endpoint
        id: String,
    },
    /// Give an endpoint a fresh secret; the old one signs beside it for 24 hours
    Rotate {
        /// The endpoint
        id: String,
    },
    /// List an endpoint's deliveries, newest first
    Deliveries {
        /// The endpoint
        id: String,
        /// How many at the most
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
    },
    /// Send deliveries again under their first ids
    Replay(Replay),
}

/// Add an endpoint.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leasehold webhook add https://portal.example/hooks --event 'job.*' --tenant t-001")]
pub(crate) struct Add {
    /// Where to
    address: String,
    /// What of: job.*, job.succeeded, …; may be repeated
    #[arg(long = "event", value_name = "EVENT", default_value = "job.*")]
    events: Vec<String>,
    /// Of this tenant only
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

/// Send deliveries again.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The endpoint
    id: String,
    /// This delivery
    #[arg(long, value_name = "ID", conflicts_with = "since", required_unless_present = "since")]
    delivery: Option<String>,
    /// All that failed since this time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

impl Webhook {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => out.show(&client.get("/v1/webhooks").await?, endpoints),
            Self::Add(add) => {
                let mut body = json!({ "url": add.address, "events": add.events });
                if let (Some(tenant), Some(body)) = (add.tenant, body.as_object_mut()) {
                    body.insert("tenant".to_owned(), json!(tenant));
                }
                out.show(&client.post("/v1/webhooks", &body).await?, |e| {
                    format!("id      {}\nsecret  {}\nThe secret is not shown again.", text(e, "id"), text(e, "secret"))
                });
            }
            Self::Remove { id } => {
                let answer = client.delete(&path(&["v1", "webhooks", &id])).await?;
                let answer = if answer.is_null() { json!({ "id": id, "removed": true }) } else { answer };
                out.show(&answer, |_| format!("webhook {id} is removed"));
            }
            Self::Enable { id } => switch(&client, out, &id, true).await?,
            Self::Disable { id } => switch(&client, out, &id, false).await?,
            Self::Rotate { id } => {
                let answer = client.post(&path(&["v1", "webhooks", &id, "rotate"]), &json!({})).await?;
                out.show(&answer, |e| format!("secret  {}\nThe secret is not shown again.", text(e, "secret")));
            }
            Self::Deliveries { id, limit } => {
                let limit = query([("limit", Some(limit.to_string()))]);
                out.show(
                    &client.get(&format!("{}{limit}", path(&["v1", "webhooks", &id, "deliveries"]))).await?,
                    deliveries,
                );
            }
            Self::Replay(replay) => {
                let body = match (replay.delivery, replay.since) {
                    (Some(delivery), _) => json!({ "delivery": delivery }),
                    (None, since) => json!({ "failed_since": instant(&since.unwrap_or_default(), global)? }),
                };
                let answer = client.post(&path(&["v1", "webhooks", &replay.id, "replay"]), &body).await?;
                out.show(&answer, |a| format!("{} deliveries are due again", text(a, "replayed")));
            }
        }
        Ok(())
    }
}

async fn switch(client: &Client, out: &Out, id: &str, on: bool) -> Result<(), Failure> {
    let answer = client.patch(&path(&["v1", "webhooks", id]), &json!({ "enabled": on })).await?;
    out.show(&answer, |e| format!("webhook {} is {}", text(e, "id"), text(e, "state")));
    Ok(())
}

fn endpoints(answer: &Value) -> Table {
    let mut table = Table::new(&["id", "url", "events", "tenant", "state"], "no webhooks");
    for endpoint in answer.get("webhooks").and_then(Value::as_array).into_iter().flatten() {
        table.row(["id", "url", "events", "tenant", "state"].map(|name| text(endpoint, name)));
    }
    table
}

fn deliveries(answer: &Value) -> Table {
    let mut table = Table::new(&["id", "state", "attempts", "created", "event", "job"], "no deliveries");
    for delivery in answer.get("deliveries").and_then(Value::as_array).into_iter().flatten() {
        let cells = ["id", "state", "attempts", "created_at", "body.type", "body.data.job_id"];
        table.row(cells.map(|name| text(delivery, name)));
    }
    table
}
