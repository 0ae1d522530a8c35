//! The scripted day: each scene asks for something over the API, and checks what came of it.

use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use leasehold_engine::Store;
use leasehold_jobs::policy::Calendar;
use leasehold_jobs::{Catalogue, Tenant};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::crew::Crew;
use super::desk::{Desk, Update, person};
use super::error::{DemoError, Result};
use super::estate::{FIRST, SECOND, file};
use super::receiver::Receiver;
use super::show::Going;
use crate::cli::Failure;
use crate::cli::out::text;

/// What every scene works with.
pub(super) struct Story {
    pub(super) desk: Desk,
    pub(super) crew: Crew,
    pub(super) receiver: Receiver,
    pub(super) store: Store,
    pub(super) kinds: Catalogue,
    pub(super) calendar: Calendar,
    pub(super) folder: PathBuf,
}

impl Story {
    /// Writes the tenants and the webhook.
    pub(super) async fn open(&self) -> Result<String> {
        for (id, name) in [(FIRST, "华信实业"), (SECOND, "蓝海贸易")] {
            let document = super::estate::tenant(&self.folder, id, name);
            self.desk.client.call(reqwest::Method::PUT, &format!("/v1/tenants/{id}"), Some(&document), &[]).await?;
        }
        let webhook =
            self.desk.client.post("/v1/webhooks", &json!({ "url": self.receiver.url(), "events": ["job.*"] })).await?;
        self.receiver.trust(&text(&webhook, "secret"));
        Ok(format!("2 tenants, webhooks to {}", self.receiver.url()))
    }

    /// Plans the update that will succeed; its id.
    pub(super) async fn plan_green(&self) -> Result<String> {
        let script = "UPDATE products SET price_fen = price_fen + 100 WHERE price_fen < 1000;\n\
            CREATE INDEX order_lines_by_product ON order_lines (product);\n\
            UPDATE orders SET state = 'closed' WHERE state = 'open' AND day < '2026-03-01';\n\
            INSERT INTO ledger (account, fen, orders) SELECT '6001', SUM(fen), NULL FROM order_lines;\n";
        let at = Utc::now() + TimeDelta::seconds(4);
        let job = self
            .desk
            .update(&Update { tenant: FIRST, center: "dc-prod", user: "planner", script, at: Some(at) })
            .await??;
        Ok(text(&job, "id"))
    }

    /// The planned update: green, and not before its time.
    pub(super) async fn green(&self, id: &str, going: &mut Going) -> Result<String> {
        let job = self.desk.wait(id, "succeeded", |job| bar(going, job)).await?;
        let late = milliseconds(&job, "started_at")? - milliseconds(&job, "run_at")?;
        let counts = (text(&job, "result.counts.ok"), text(&job, "result.counts.total"));
        expect(text(&job, "result.colour") == "green" && counts.0 == counts.1, "it is not green")?;
        expect((0..2_000).contains(&late), &format!("it started {late} ms after its time"))?;
        Ok(format!(
            "green, {} of {} statements, started {late} ms after its planned time, backup {}",
            counts.0,
            counts.1,
            text(&job, "result.backup_id")
        ))
    }

    /// An update with failing statements: red, and what failed.
    pub(super) async fn red(&self, going: &mut Going) -> Result<String> {
        let script = "UPDATE customers SET credit = credit + 1 WHERE city = '上海';\n\
            INSERT INTO customers (id, name, city, credit) VALUES (1, 'twice', '上海', 0);\n\
            UPDATE no_such_table SET x = 1;\n\
            UPDATE orders SET state = 'closed' WHERE id = 5;\n";
        let job =
            self.desk.update(&Update { tenant: FIRST, center: "dc-test", user: "hasty", script, at: None }).await??;
        let job = self.desk.wait(&text(&job, "id"), "succeeded", |job| bar(going, job)).await?;
        let failed: Vec<String> = job["result"]["statements"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| one["ok"] == false)
            .map(|one| format!("line {}: {}", one["line"], text(one, "error")))
            .collect();
        expect(text(&job, "result.colour") == "red" && failed.len() == 2, "it is not red with two failures")?;
        Ok(format!("red; {}", failed.join("; ")))
    }

    /// A cancel more than ten minutes ahead, and one less than that.
    pub(super) async fn cancel_in_time(&self) -> Result<String> {
        let job = self.planned(FIRST, "dc-test", "early", TimeDelta::minutes(30)).await??;
        let id = text(&job, "id");
        self.desk
            .client
            .post(&format!("/v1/jobs/{id}/cancel"), &json!({ "reason": "the customer changed their mind" }))
            .await?;
        let job = self.desk.job(&id).await?;
        expect(text(&job, "place") == "cancelled", "it is not cancelled")?;
        Ok(format!("cancelled ({}, {})", text(&job, "status"), text(&job, "status_name")))
    }

    pub(super) async fn cancel_too_late(&self) -> Result<String> {
        let job = self.planned(FIRST, "dc-test", "late", TimeDelta::minutes(5)).await??;
        let id = text(&job, "id");
        let answer = self.desk.client.post(&format!("/v1/jobs/{id}/cancel"), &json!({ "reason": "too late" })).await;
        let refusal = refused(answer, "too_late_to_cancel")?;
        expect(text(&self.desk.job(&id).await?, "place") == "scheduled", "the job is no longer planned")?;
        Ok(refusal)
    }

    /// A time inside the daily maintenance.
    pub(super) async fn in_the_window(&self) -> Result<String> {
        let tomorrow =
            self.calendar.day_of(Utc::now()).succ_opt().ok_or_else(|| DemoError::new("no day after today"))?;
        let two = NaiveTime::from_hms_opt(2, 0, 0).ok_or_else(|| DemoError::new("no two o'clock"))?;
        let at = self.calendar.instant(tomorrow.and_time(two));
        let update = Update {
            tenant: FIRST,
            center: "dc-test",
            user: "night",
            script: "UPDATE proof SET times = 9;",
            at: Some(at),
        };
        refused(self.desk.update(&update).await?, "maintenance_window")
    }

    /// Ten updates of a day are accepted, the eleventh is not.
    pub(super) async fn eleventh(&self, going: &mut Going) -> Result<String> {
        for n in 0..10 {
            self.planned(SECOND, "dc-prod", &format!("clerk-{n}"), TimeDelta::minutes(20)).await??;
            going.at(10 * (n + 1), "of the updates of the day");
        }
        refused(self.planned(SECOND, "dc-prod", "clerk-10", TimeDelta::minutes(20)).await?, "quota_exceeded")
    }

    /// A worker is killed between backup and execute; another one completes the job, and no statement runs twice.
    pub(super) async fn killed(&mut self, going: &mut Going) -> Result<String> {
        let path = file(&self.folder, FIRST, "dc-test");
        let script: String =
            (1..=5).map(|n| format!("UPDATE proof SET times = times + 1 WHERE statement = {n};\n")).collect();
        // A long transaction of somebody else keeps the script from its first statement, but not the backup from reading.
        let other = Connection::open(&path)?;
        other.execute_batch("BEGIN IMMEDIATE")?;
        let job = self
            .desk
            .update(&Update { tenant: FIRST, center: "dc-test", user: "unlucky", script: &script, at: None })
            .await??;
        let id = text(&job, "id");
        let begun = self.desk.until(&id, |job| {
            bar(going, job);
            step(job, "execute").is_some()
        });
        let begun = begun.await?;
        expect(step(&begun, "backup").is_some_and(|step| step["done"] == true), "the backup is not done")?;
        let pid = self.crew.kill("worker-1").await?;
        let killed = Instant::now();
        expect(proof(&other)? == [0; 5], "a statement ran before the kill")?;
        other.execute_batch("ROLLBACK")?;
        self.crew.hire("worker-2").await?;
        going.at(40, "worker-1 was killed; waiting for its lease to end");
        let job = self.desk.wait(&id, "succeeded", |job| bar(going, job)).await?;
        let times = proof(&other)?;
        expect(times == [1; 5], &format!("the statements ran {times:?} times"))?;
        let backups = self.kinds.services().backups().list(FIRST).await?;
        expect(backups.iter().filter(|backup| backup.job == id).count() == 1, "the backup was made twice")?;
        let attempt = text(&job, "attempt");
        expect(
            attempt == "2" && text(&job, "result.colour") == "green",
            &format!("attempt {attempt}, {}", text(&job, "result.colour")),
        )?;
        Ok(format!(
            "kill -9 of process {pid}; worker-2 completed it {:.1} s later, attempt 2, one backup, each of 5 statements ran once",
            killed.elapsed().as_secs_f64()
        ))
    }

    /// A careless update is undone by a restore, to the byte.
    pub(super) async fn restored(&self, going: &mut Going) -> Result<String> {
        let ask = |kind: &str, args: Value| json!({ "kind": kind, "tenant": FIRST, "actor": person(FIRST, "keeper"), "args": args });
        let backup = self
            .desk
            .ask(&ask("data_center_backup", json!({ "data_center": "dc-prod", "name": "before the careless update" })))
            .await?;
        let backup = self.desk.wait(&text(&backup, "id"), "succeeded", |job| bar(going, job)).await?;
        let backup = text(&backup, "result.backup_id");
        let careless = "DELETE FROM order_lines;\nUPDATE customers SET credit = 0;\n";
        let update = Update { tenant: FIRST, center: "dc-prod", user: "careless", script: careless, at: None };
        let update = self.desk.update(&update).await??;
        self.desk.wait(&text(&update, "id"), "succeeded", |job| bar(going, job)).await?;
        let wanted = self.checksum_of(&backup).await?;
        expect(self.checksum().await? != wanted, "the careless update changed nothing")?;
        let source = json!({ "data_center": "dc-prod", "source": { "type": "backup", "id": backup } });
        let restore = self.desk.ask(&ask("data_center_restore", source)).await?;
        let restore = self.desk.wait(&text(&restore, "id"), "succeeded", |job| bar(going, job)).await?;
        let found = self.checksum().await?;
        expect(found == wanted, &format!("the checksum is {found}, the backup's is {wanted}"))?;
        let safety = text(&restore, "result.safety_backup_id");
        expect(!safety.is_empty(), "there is no safety copy")?;
        Ok(format!(
            "checksum {}… equals the backup's; safety copy {safety}",
            found.chars().take(16).collect::<String>()
        ))
    }

    async fn checksum(&self) -> Result<String> {
        Ok(self.kinds.services().database(&self.first().await?, "dc-prod")?.checksum().await?)
    }

    async fn checksum_of(&self, backup: &str) -> Result<String> {
        let held = self.kinds.services().backups().get(FIRST, backup).await?;
        let held = held.ok_or_else(|| DemoError::new(format!("no backup {backup}")))?;
        let database = self.kinds.services().database(&self.first().await?, "dc-prod")?;
        Ok(database.checksum_of(&self.folder.join("backups").join(held.file)).await?)
    }

    async fn first(&self) -> Result<Tenant> {
        let document = self.store.document("tenants", FIRST).await?.ok_or_else(|| DemoError::new("no tenant"))?;
        Tenant::parse(FIRST, &document.bytes).map_err(|refusal| DemoError::new(refusal.to_string()))
    }

    async fn planned(
        &self,
        tenant: &str,
        center: &str,
        user: &str,
        ahead: TimeDelta,
    ) -> Result<std::result::Result<Value, Failure>> {
        let script = "UPDATE proof SET times = times WHERE statement = 1;";
        self.desk.update(&Update { tenant, center, user, script, at: Some(Utc::now() + ahead) }).await
    }
}

fn bar(going: &mut Going, job: &Value) {
    let percent = job["progress"]["percent"].as_u64().unwrap_or(0);
    going.at(percent, &format!("{} {}", text(job, "place"), text(job, "progress.text")));
}

fn step<'a>(job: &'a Value, name: &str) -> Option<&'a Value> {
    job["steps"].as_array()?.iter().find(|step| step["name"] == name)
}

fn proof(db: &Connection) -> Result<[u32; 5]> {
    let mut query = db.prepare("SELECT times FROM proof ORDER BY statement")?;
    let times = query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<u32>>>()?;
    times.try_into().map_err(|_| DemoError::new("the table of proof has not five rows"))
}

pub(super) fn expect(good: bool, otherwise: &str) -> Result<()> {
    if good { Ok(()) } else { Err(DemoError::new(otherwise)) }
}

/// The refusal in words, when it is the one that was expected.
fn refused(answer: std::result::Result<Value, Failure>, code: &str) -> Result<String> {
    match answer {
        Err(Failure::Problem(problem)) if problem.code() == code => {
            let at = text(problem.body(), "allowed_at");
            let at = if at.is_empty() { at } else { format!("; allowed from {at}") };
            Ok(format!("refused: {code} ({}){at}", text(problem.body(), "rule")))
        }
        Err(other) => Err(DemoError::new(format!("not {code}, but {other}"))),
        Ok(job) => Err(DemoError::new(format!("not refused with {code}: job {} was accepted", text(&job, "id")))),
    }
}

fn milliseconds(job: &Value, name: &str) -> Result<i64> {
    let at =
        DateTime::parse_from_rfc3339(&text(job, name)).map_err(|error| DemoError::new(format!("{name}: {error}")))?;
    Ok(at.timestamp_millis())
}
