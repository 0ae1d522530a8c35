//! `clock …`: looks at a jump of the store's clock, and accepts it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Client;
use super::gate::Why;
use super::out::text;
use super::{Failure, Global, Out};

/// Look at a jump of the store's clock, and accept it. Until then, destructive jobs do not start.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  leasehold clock accept --reason 'the host had the wrong year'")]
pub(crate) enum Clock {
    /// Whether the clock jumped, and nobody has accepted it yet
    Show,
    /// The time that the clock shows now is right: start destructive jobs again
    Accept {
        #[command(flatten)]
        why: Why,
    },
}

impl Clock {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let client = Client::new(global)?;
        match self {
            Self::Show => {
                let mut gates = client.get("/v1/gates").await?;
                out.show(&json!({ "clock": gates["clock"].take() }), shown);
            }
            Self::Accept { why } => {
                let mut gates = client.post("/v1/clock/accept", &why.body()).await?;
                let answer = json!({ "accepted": gates["accepted"].take(), "clock": gates["clock"].take() });
                out.show(&answer, accepted);
            }
        }
        Ok(())
    }
}

fn accepted(answer: &Value) -> String {
    let jump = &answer["accepted"];
    if jump.is_null() {
        return "nothing to accept: the clock has not jumped, or that is accepted".to_owned();
    }
    let is_seen_again = !answer["clock"].is_null();
    let then = if is_seen_again { shown(answer) } else { "destructive jobs start at their times".to_owned() };
    format!("accepted: the clock's jump from {} to {}; {then}", text(jump, "from"), text(jump, "to"))
}

fn shown(answer: &Value) -> String {
    match &answer["clock"] {
        Value::Null => "the clock has not jumped, or it is accepted".to_owned(),
        jump => format!(
            "the clock jumped from {} to {}, seen at {}; destructive jobs wait for `leasehold clock accept`",
            text(jump, "from"),
            text(jump, "to"),
            text(jump, "seen_at")
        ),
    }
}
