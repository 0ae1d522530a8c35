//! The upstream portal of the demo: it asks for jobs over HTTP like any caller, with codes that it reads from the SMS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::error::{DemoError, Result};
use crate::cli::client::Client;
use crate::cli::{Failure, out::text, time};

/// Nothing in the demo takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The portal.
pub(super) struct Desk {
    pub(super) client: Client,
    sms: PathBuf,
    jobs: std::sync::Mutex<Vec<String>>,
}

/// An update to be asked for.
pub(super) struct Update<'a> {
    pub(super) tenant: &'a str,
    pub(super) center: &'a str,
    pub(super) user: &'a str,
    pub(super) script: &'a str,
    pub(super) at: Option<DateTime<Utc>>,
}

impl Desk {
    pub(super) fn new(client: Client, folder: &Path) -> Self {
        Self { client, sms: folder.join("mailbox").join("sms"), jobs: std::sync::Mutex::default() }
    }

    /// Every job that was accepted.
    pub(super) fn jobs(&self) -> Vec<String> {
        self.jobs.lock().map(|jobs| jobs.clone()).unwrap_or_default()
    }

    /// Asks for a job; the problem when it is refused.
    pub(super) async fn ask(&self, body: &Value) -> std::result::Result<Value, Failure> {
        let job = self.client.post("/v1/jobs", body).await?;
        if let Ok(mut jobs) = self.jobs.lock() {
            jobs.push(text(&job, "id"));
        }
        Ok(job)
    }

    /// Asks for an update with a fresh code.
    pub(super) async fn update(&self, update: &Update<'_>) -> Result<std::result::Result<Value, Failure>> {
        let (challenge, code) = self.code(update).await?;
        let mut body = json!({
            "kind": "sql_update", "tenant": update.tenant, "actor": person(update.tenant, update.user),
            "args": { "data_center": update.center, "script": update.script },
            "confirmed": true, "verification": { "challenge_id": challenge, "code": code },
        });
        if let Some(at) = update.at {
            body["run_at"] = json!(time::write(at));
        }
        Ok(self.ask(&body).await)
    }

    /// Has a code sent and reads the SMS.
    async fn code(&self, update: &Update<'_>) -> Result<(String, String)> {
        let body = json!({
            "kind": "verification_code", "tenant": update.tenant, "actor": person(update.tenant, update.user),
            "args": { "operation": "sql_update", "target_id": update.center },
        });
        let job = self.ask(&body).await?;
        let job = self.wait(&text(&job, "id"), "succeeded", |_| ()).await?;
        let challenge = text(&job, "result.challenge_id");
        let sms: Value = serde_json::from_slice(&std::fs::read(self.sms.join(format!("{challenge}.json")))?)?;
        let body = text(&sms, "body");
        let code = body.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 6);
        let code = code.ok_or_else(|| DemoError::new(format!("no code in the SMS `{body}`")))?;
        Ok((challenge, code.to_owned()))
    }

    pub(super) async fn job(&self, id: &str) -> Result<Value> {
        Ok(self.client.get(&format!("/v1/jobs/{id}")).await?)
    }

    /// Waits until the job is in its final place, which must be this one; `look` sees it on the way.
    pub(super) async fn wait(&self, id: &str, place: &str, mut look: impl FnMut(&Value)) -> Result<Value> {
        let found = self.until(id, |job| {
            look(job);
            ["succeeded", "cancelled", "dead", "unknown"].contains(&text(job, "place").as_str())
        });
        let job = found.await?;
        match text(&job, "place") == place {
            true => Ok(job),
            false => Err(DemoError::new(format!(
                "job {id} is {}, not {place}: {}",
                text(&job, "place"),
                text(&job, "error.message")
            ))),
        }
    }

    /// Waits until the job fits.
    pub(super) async fn until(&self, id: &str, mut fits: impl FnMut(&Value) -> bool) -> Result<Value> {
        let begun = Instant::now();
        loop {
            let job = self.job(id).await?;
            if fits(&job) {
                return Ok(job);
            }
            if begun.elapsed() > PATIENCE {
                return Err(DemoError::new(format!(
                    "job {id} is still {} after {} s",
                    text(&job, "place"),
                    PATIENCE.as_secs()
                )));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A person of the tenant who may do everything that the demo does.
pub(super) fn person(tenant: &str, user: &str) -> Value {
    let digits = user.bytes().fold(0_u32, |n, b| (n * 31 + u32::from(b)) % 100_000_000);
    json!({
        "user_id": user, "roles": ["it_ops", "data_ops_specialist"],
        "mobile": format!("+86139{digits:08}"), "email": format!("{user}@{tenant}.example"),
    })
}
