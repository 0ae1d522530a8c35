//! `key …`: creates, lists and revokes API keys. A key is shown once; the store has only its hash.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, path};
use super::out::text;
use super::{Failure, Global, Out, Table};

/// Create, list and revoke API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Create a key; prints it and its webhook secret, once
    Create(Create),
    /// List keys
    List,
    /// Revoke a key
    Revoke {
        /// The key's id
        id: String,
    },
}

/// Create a key.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leasehold key create --name portal --role caller --tenant t-001")]
pub(crate) struct Create {
    /// What it is for
    #[arg(long, value_name = "NAME")]
    name: String,
    /// admin, operator, caller or monitor; may be repeated
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<String>,
    /// For this tenant only
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

impl Key {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::Create(create) => {
                let mut body = json!({ "name": create.name, "roles": create.role });
                if let (Some(tenant), Some(body)) = (create.tenant, body.as_object_mut()) {
                    body.insert("tenant".to_owned(), json!(tenant));
                }
                out.show(&client.post("/v1/keys", &body).await?, created);
            }
            Self::List => out.show(&client.get("/v1/keys").await?, table),
            Self::Revoke { id } => {
                let answer = client.delete(&path(&["v1", "keys", &id])).await?;
                let answer = if answer.is_null() { json!({ "id": id, "revoked": true }) } else { answer };
                out.show(&answer, |_| format!("key {id} is revoked"));
            }
        }
        Ok(())
    }
}

fn created(answer: &Value) -> String {
    let secret = text(answer, "webhook_secret");
    let secret = if secret.is_empty() { secret } else { format!("\nwebhook secret  {secret}") };
    format!(
        "id              {}\nkey             {}{secret}\nThey are not shown again.",
        text(answer, "id"),
        text(answer, "key")
    )
}

fn table(answer: &Value) -> Table {
    let mut table = Table::new(&["id", "name", "roles", "tenant", "created"], "no keys");
    for key in answer.get("keys").and_then(Value::as_array).into_iter().flatten() {
        table.row(["id", "name", "roles", "tenant", "created_at"].map(|name| text(key, name)));
    }
    table
}
