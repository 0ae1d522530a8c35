//! `queue …`: lists, pauses and resumes queues.

use clap::Subcommand;
use serde_json::Value;

use super::client::{Client, path};
use super::gate::{Why, still};
use super::out::text;
use super::{Failure, Global, Out, Table};

/// List, pause and resume queues.
#[derive(Debug, Subcommand)]
pub(crate) enum Queue {
    /// List queues with their jobs by place
    List,
    /// Stop claiming from a queue; what runs goes on
    Pause {
        /// The queue; * is every queue
        name: String,
        #[command(flatten)]
        why: Why,
    },
    /// Claim from a queue again
    Resume {
        /// The queue; * undoes a pause of every queue
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Queue {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => out.show(&client.get("/v1/queues").await?, table),
            Self::Pause { name, why } => {
                let answer = client.post(&path(&["v1", "queues", &name, "pause"]), &why.body()).await?;
                out.show(&answer, |_| format!("{name} is paused"));
            }
            Self::Resume { name, why } => {
                let answer = client.post(&path(&["v1", "queues", &name, "resume"]), &why.body()).await?;
                // The answer tells of queues; what still stands before this one, only the gates do.
                let gates = if out.is_json() { Value::Null } else { client.get("/v1/gates").await? };
                out.show(&answer, |_| still(&gates, "queue", &name));
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
