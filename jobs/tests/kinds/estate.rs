//! An estate for one test: a store on a Redis of its own, three SQLite data centers, a mailbox, a catalogue, workers.
//!
//! The clock stands still until a test moves it. A test ends with `finish`, which audits the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use leasehold_engine::store::Claim;
use leasehold_engine::testing::{Lab, unwatched_clock};
use leasehold_engine::{JobId, JobView, Place, Priority, UnixMs, Worker, WorkerOptions};
use leasehold_jobs::policy::verify::VerifyMode;
use leasehold_jobs::policy::{Actor, Calendar, Role};
use leasehold_jobs::{
    Catalogue, Limits, Refusal, Rules, Services, ServicesOptions, Submission, Tenant, services::TENANTS,
};
use leasehold_targets::Secrets;
use leasehold_targets::database::{Database, DatabaseUrl};
use serde_json::{Value, json};

use super::stage::{Stage, Staged};

pub(crate) const TENANT: &str = "t-001";
/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Estate {
    pub(crate) lab: Lab,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) catalogue: Catalogue,
    pub(crate) tenant: Tenant,
    pub(crate) stage: Arc<Stage>,
    workers: Vec<Worker>,
}

/// The rules as `config/leasehold.toml` states them; the upstream vouches for the user.
pub(crate) fn rules() -> Rules {
    let mut table: toml::Table = toml::from_str(include_str!("../../../config/leasehold.toml")).unwrap();
    let sections = ["time", "role", "expiry", "sql", "backup", "restore", "verify", "quota", "notify"];
    table.retain(|section, _| sections.contains(&section));
    let mut rules: Rules = table.try_into().unwrap();
    rules.verify.mode = VerifyMode::Caller;
    rules
}

/// Milliseconds of a wall-clock time in Shanghai.
pub(crate) fn shanghai(local: &str) -> UnixMs {
    let at: DateTime<Utc> = Calendar::new(Tz::Asia__Shanghai).instant(local.parse().unwrap());
    at.timestamp_millis()
}

pub(crate) fn specialist() -> Actor {
    let roles = vec![Role::DataOpsSpecialist, Role::ItOps];
    Actor {
        user_id: "u1".into(),
        roles,
        mobile: Some("13800000000".into()),
        email: Some("u1@example.com".into()),
        yunzhijia_id: None,
    }
}

impl Estate {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// Noon of 2026-11-22 in Shanghai; `change` makes other rules.
    pub(crate) async fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let lab = Lab::new().await;
        let folder = tempfile::tempdir().unwrap();
        let stage = Arc::new(Stage::default());
        let mut rules = rules();
        change(&mut rules);
        let options = ServicesOptions {
            backups: format!("file:{}", folder.path().join("backups").display()),
            notices: format!("file:{}", folder.path().join("mailbox").display()),
            secrets: Secrets::default(),
            scratch: folder.path().join("scratch"),
            max_live: 10_000,
        };
        let staged = stage.clone();
        let services = Services::open(lab.store.clone(), Arc::new(rules), options).unwrap();
        let services = services.opening_databases_by(Box::new(move |url: &DatabaseUrl| {
            let inner = leasehold_targets::database::open(url)?;
            Ok(Arc::new(Staged { inner, stage: staged.clone() }) as Arc<dyn Database>)
        }));
        let catalogue = Catalogue::new(Arc::new(services), Limits::default());
        let database = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        let document = json!({
            "name": "Example Trading", "formal": true, "lease_end": "2030-12-31",
            "contacts": [
                {"user_id": "admin1", "roles": ["enterprise_admin"], "email": "admin1@example.com"},
                {"user_id": "admin2", "roles": ["enterprise_admin"], "yunzhijia_id": "yz-2"},
                {"user_id": "clerk", "roles": ["employee"], "email": "clerk@example.com"}],
            "environments": [
                {"id": "prod", "kind": "production", "data_centers": [
                    {"id": "dc-1", "name": "Books", "database": database("books.db")},
                    {"id": "dc-2", "name": "Archive", "database": database("archive.db")},
                    {"id": "dc-ms", "name": "Old", "database": "mssql://db/old"}]},
                {"id": "test", "kind": "standard_test", "data_centers": [
                    {"id": "dc-test", "name": "Test", "database": database("test.db")}]}]
        });
        let tenant = Tenant::parse(TENANT, document.to_string().as_bytes()).unwrap();
        let estate = Self { lab, folder, catalogue, tenant, stage, workers: Vec::new() };
        for (name, rows) in [("books.db", 3), ("archive.db", 5), ("test.db", 1)] {
            let sql = "CREATE TABLE led (n INTEGER, why TEXT); CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT)";
            estate.sql(name, sql);
            for n in 0..rows {
                estate.sql(name, &format!("INSERT INTO book (title) VALUES ('{name} {n}')"));
            }
        }
        estate.keep_tenant().await;
        estate
    }

    /// Points a data center of production at another database.
    pub(crate) async fn move_data_center(&mut self, id: &str, database: String) {
        let all = self.tenant.environments.iter_mut().flat_map(|environment| &mut environment.data_centers);
        all.filter(|data_center| data_center.id == id).for_each(|data_center| data_center.database = database.clone());
        self.keep_tenant().await;
    }

    pub(crate) async fn keep_tenant(&self) {
        let bytes = serde_json::to_vec(&self.tenant).unwrap();
        self.lab.store.put_document(TENANTS, TENANT, &bytes, None).await.unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn sql(&self, name: &str, sql: &str) {
        rusqlite::Connection::open(self.path(name)).unwrap().execute_batch(sql).unwrap();
    }

    pub(crate) fn count(&self, name: &str, query: &str) -> i64 {
        rusqlite::Connection::open(self.path(name)).unwrap().query_row(query, [], |row| row.get(0)).unwrap()
    }

    /// The command of a specialist, confirmed, for now.
    pub(crate) async fn ask(&self, kind: &str, args: Value) -> Submission {
        Submission {
            kind: kind.to_owned(),
            tenant: self.tenant.clone(),
            actor: specialist(),
            args,
            run_at: None,
            now: self.lab.store.now().await.unwrap(),
            confirmed: true,
            verification: None,
            idempotency_key: None,
            priority: Priority::Normal,
            labels: Default::default(),
            correlation_id: None,
            callback: None,
        }
    }

    /// Asks for a job as the API does.
    pub(crate) async fn submit(&self, ask: &Submission) -> Result<JobId, Refusal> {
        let admitted = self.catalogue.admit(ask).await?;
        let job = admitted.job(self.lab.store.new_id(TENANT));
        let mut answers = self.lab.store.enqueue(&[job], 10_000).await.unwrap();
        self.catalogue.accepted(&admitted, answers.remove(0)).map(|(id, _)| id)
    }

    pub(crate) async fn submitted(&self, kind: &str, args: Value) -> JobId {
        let ask = self.ask(kind, args).await;
        self.submit(&ask).await.unwrap()
    }

    pub(crate) async fn refused(&self, ask: &Submission) -> Refusal {
        self.catalogue.admit(ask).await.unwrap_err()
    }

    pub(crate) async fn start_worker(&mut self) {
        let options = WorkerOptions {
            name: format!("worker-{}", self.workers.len()),
            queues: self.catalogue.queues(),
            ..unwatched_clock()
        };
        let worker = Worker::start(&self.lab.store, Arc::new(self.catalogue.clone()), options).await.unwrap();
        self.workers.push(worker);
    }

    /// Stops the first worker at once: what it runs is handed back.
    pub(crate) async fn abort_first_worker(&mut self) {
        self.workers[0].abort().await;
    }

    /// Lets all workers end.
    pub(crate) async fn drain(&mut self) {
        for mut worker in std::mem::take(&mut self.workers) {
            worker.drain(Duration::from_secs(10)).await;
        }
    }

    /// Loses the first worker: nobody renews its leases any more. Its jobs are taken back a minute later.
    pub(crate) async fn lose_first_worker(&mut self) {
        self.workers.remove(0).vanish().await;
        self.lab.store.set_time(self.lab.store.now().await.unwrap() + 60_000);
        leasehold_engine::upkeep::rescue(&self.lab.store).await.unwrap();
    }

    /// Claims the job and is never heard of again, so often.
    pub(crate) async fn lose_claims(&self, id: &JobId, times: u64) {
        for request in 1..=times {
            let (worker, queues) = ("lost".to_owned(), self.catalogue.queues());
            let claim = Claim { worker, request, want: 1, lease_ms: 1000, queues, kinds: Vec::new(), by: 0 };
            assert_eq!(self.lab.store.claim(id.shard(), &claim).await.unwrap().jobs.len(), 1);
            self.lab.store.set_time(self.lab.store.now().await.unwrap() + 2000);
            leasehold_engine::upkeep::rescue(&self.lab.store).await.unwrap();
        }
    }

    /// Runs a job to its end; moves the clock over waits.
    pub(crate) async fn run(&mut self, id: &JobId) -> JobView {
        if self.workers.is_empty() {
            self.start_worker().await;
        }
        self.until(id, |view| view.record.place.is_final()).await
    }

    /// Waits until the job is as wanted; moves the clock to the time of the next retry.
    pub(crate) async fn until(&self, id: &JobId, wanted: impl Fn(&JobView) -> bool) -> JobView {
        let changes = self.lab.store.changes(true);
        let mut hints = changes.listen();
        let there = async {
            loop {
                let view = self.lab.job(id).await;
                if wanted(&view) {
                    return view;
                }
                if view.record.place == Place::Scheduled && view.record.attempt > 0 {
                    let now = self.lab.store.now().await.unwrap();
                    self.lab.store.set_time(now.max(view.record.run_at));
                }
                let _ = tokio::time::timeout(Duration::from_millis(50), hints.recv()).await;
            }
        };
        match tokio::time::timeout(PATIENCE, there).await {
            Ok(view) => view,
            Err(_) => panic!("{id} never came there: {:?}", self.lab.job(id).await),
        }
    }

    /// Waits until no job is ready or running.
    pub(crate) async fn idle(&self) {
        let rests = async || {
            let counts = self.lab.store.counts().await.unwrap();
            let busy = |place| counts.iter().any(|count| count.place == place && count.jobs > 0);
            !busy(Place::Ready) && !busy(Place::Running)
        };
        assert!(self.lab.comes_to_be(PATIENCE, rests).await, "the estate does not come to rest");
    }

    /// The notices of a way (`email`, `sms`, `im`), as their files' text.
    pub(crate) fn mailbox(&self, way: &str) -> Vec<String> {
        let Ok(folder) = std::fs::read_dir(self.path("mailbox").join(way)) else { return Vec::new() };
        let whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "eml" || end == "json");
        let mut all: Vec<String> = folder
            .map(|entry| entry.unwrap().path())
            .filter(whole)
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        all.sort();
        all
    }

    /// Head and text of every e-mail.
    pub(crate) fn mails(&self) -> Vec<(String, String)> {
        let read = |mail: &String| {
            let (head, body) = mail.split_once("\r\n\r\n").unwrap();
            let text = STANDARD.decode(body.replace("\r\n", "")).unwrap();
            (head.to_owned(), String::from_utf8(text).unwrap())
        };
        self.mailbox("email").iter().map(read).collect()
    }

    /// Who got e-mail.
    pub(crate) fn mailed(&self) -> Vec<String> {
        let to = |mail: &String| mail.lines().find_map(|line| line.strip_prefix("To: ").map(str::to_owned)).unwrap();
        let mut all: Vec<String> = self.mailbox("email").iter().map(to).collect();
        all.sort();
        all
    }

    /// Who got an instant message.
    pub(crate) fn messaged(&self) -> Vec<String> {
        let to = |text: &String| serde_json::from_str::<Value>(text).unwrap()["to"].as_str().unwrap().to_owned();
        let mut all: Vec<String> = self.mailbox("im").iter().map(to).collect();
        all.sort();
        all
    }

    pub(crate) fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Ok(entries) = std::fs::read_dir(folder) else { return found };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(self.files(&path));
            } else {
                found.push(path);
            }
        }
        found
    }

    pub(crate) async fn finish(mut self) {
        if !self.workers.is_empty() {
            self.idle().await;
        }
        self.drain().await;
        self.lab.finish().await;
    }
}

/// The result of a job.
pub(crate) fn result(view: &JobView) -> Value {
    serde_json::from_slice(&view.record.result).unwrap_or(Value::Null)
}

/// The error of a job.
pub(crate) fn error(view: &JobView) -> Value {
    serde_json::from_slice(&view.record.error).unwrap_or(Value::Null)
}
