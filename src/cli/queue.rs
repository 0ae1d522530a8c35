//! `queue …`: lists, pauses and resumes queues.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, path};
use super::out::text;
use super::{Failure, Global, Out, Table};

/// List, pause and resume queues.
#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// List queues with their jobs by place
    List,
    /// Stop claiming from a queue; what runs goes on
    Pause {
        /// The queue
        name: String,
    },
    /// Claim from a queue again
    Resume {
        /// The queue
        name: String,
    },
}

impl Queue {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => out.show(&client.get("/v1/queues").await?, table),
            Self::Pause { name } => {
                let answer = client.post(&path(&["v1", "queues", &name, "pause"]), &json!({})).await?;
                out.show(&answer, |_| format!("{name} is paused"));
            }
            Self::Resume { name } => {
                let answer = client.post(&path(&["v1", "queues", &name, "resume"]), &json!({})).await?;
                out.show(&answer, |_| format!("{name} runs"));
            }
        }
        Ok(())
    }
}

fn table(answer: &Value) -> Table {
    const PLACES: [&str; 6] = ["scheduled", "blocked", "ready", "running", "dead", "unknown"];
    let mut table =
        Table::new(&["queue", "paused", "scheduled", "blocked", "ready", "running", "dead", "unknown"], "no queues");
    for queue in answer.get("queues").and_then(Value::as_array).into_iter().flatten() {
        let counts = queue.get("places").or_else(|| queue.get("jobs")).or_else(|| queue.get("counts")).unwrap_or(queue);
        let number =
            |place: &&str| Some(text(counts, place)).filter(|n| !n.is_empty()).unwrap_or_else(|| "0".to_owned());
        let mut row = vec![text(queue, "name"), text(queue, "paused")];
        row.extend(PLACES.iter().map(number));
        table.row(row);
    }
    table
}
