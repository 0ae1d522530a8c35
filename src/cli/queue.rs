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
    let headings = ["queue", "paused", "scheduled", "blocked", "ready", "running", "dead", "unknown"];
    let mut table = Table::new(&headings, "no queues");
    for queue in answer.get("queues").and_then(Value::as_array).into_iter().flatten() {
        let counts = queue.get("jobs").and_then(Value::as_array);
        let number = |place: &str| {
            let there = counts.into_iter().flatten().filter(|count| text(count, "place") == place);
            there.filter_map(|count| count.get("jobs").and_then(Value::as_u64)).sum::<u64>().to_string()
        };
        let mut row = vec![text(queue, "name"), text(queue, "paused")];
        row.extend(PLACES.iter().map(|place| number(place)));
        table.row(row);
    }
    table
}
