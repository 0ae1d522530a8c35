//! `tenant …`: lists, shows, writes, pauses and resumes tenants.

use std::path::PathBuf;

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::client::{Client, path};
use super::enqueue::read_json_file;
use super::gate::{Why, still};
use super::out::text;
use super::{Failure, Global, Out, Table};

/// List, show, write, pause and resume tenants.
#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// List tenants
    List,
    /// Show a tenant's document
    Show {
        /// The tenant
        id: String,
    },
    /// Write a tenant's document
    Set {
        /// The tenant
        id: String,
        /// File with the document as JSON; - is standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// Stop starting a tenant's jobs; what runs goes on
    Pause {
        /// The tenant
        id: String,
        #[command(flatten)]
        why: Why,
    },
    /// Start a tenant's jobs again
    Resume {
        /// The tenant
        id: String,
        #[command(flatten)]
        why: Why,
    },
}

impl Tenant {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::List => out.show(&client.get("/v1/tenants").await?, table),
            Self::Show { id } => out.show(&client.get(&path(&["v1", "tenants", &id])).await?, |t| format!("{t:#}")),
            Self::Set { id, file } => {
                let document = read_json_file("--file", &file)?;
                let answer = client.call(Method::PUT, &path(&["v1", "tenants", &id]), Some(&document), &[]).await?;
                out.show(&answer, |_| format!("tenant {id} is written"));
            }
            Self::Pause { id, why } => {
                let answer = client.post(&path(&["v1", "tenants", &id, "pause"]), &why.body()).await?;
                out.show(&answer, |_| format!("tenant {id} is paused"));
            }
            Self::Resume { id, why } => {
                let answer = client.post(&path(&["v1", "tenants", &id, "resume"]), &why.body()).await?;
                out.show(&answer, |answer| still(answer, "tenant", &id));
            }
        }
        Ok(())
    }
}

fn table(answer: &Value) -> Table {
    let mut table = Table::new(&["id", "name", "class", "formal", "lease end", "data centers"], "no tenants");
    for tenant in answer.get("tenants").and_then(Value::as_array).into_iter().flatten() {
        let environments = tenant.get("environments").and_then(Value::as_array).into_iter().flatten();
        let centers = environments.flat_map(|e| e.get("data_centers").and_then(Value::as_array).into_iter().flatten());
        let names: Vec<String> = centers.map(|c| text(c, "id")).collect();
        let cells = ["id", "name", "class", "formal", "lease_end"].map(|name| text(tenant, name));
        table.row(cells.into_iter().chain([names.join(", ")]));
    }
    table
}
