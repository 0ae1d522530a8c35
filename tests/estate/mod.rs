//! An estate to test on, end to end: a durable Redis, the real binary in several processes, data centers, a receiver of
//! webhooks. Everything lies in a temporary folder, on free ports, and ends with the test.

pub mod center;
pub mod day;
pub mod portal;
pub mod program;
pub mod proxy;
pub mod receiver;
pub mod resp;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold_engine::testing::RedisServer;
use leasehold_engine::{Store, StoreOptions};
use serde_json::{Value, json};

pub use center::{Center, Effects};
pub use day::Day;
pub use portal::{Portal, sql_update};
pub use program::Program;
pub use proxy::{Fault, Point, Proxy, Watch};
pub use receiver::{Arrival, Receiver};

/// Quick loops, no maintenance window, an upstream that vouches for its users, receivers on this machine. Leases outlast
/// any stall of the machine: a test in which nobody is lost must not see a job rescued.
pub const CONFIG: &str = r#"
[worker]
lease_ms = 15000
renew_ms = 300
poll_ms = 200
[upkeep]
promote_ms = 100
rescue_ms = 100
[verify]
mode = "caller"
[sql.maintenance]
window = ""
[webhooks]
allow = ["127.0.0.0/8"]
schedule_seconds = [0, 1, 1, 1, 1, 1]
total_timeout_seconds = 2
jitter_percent = 0
"#;

/// The same with short leases, for tests that lose workers and wait for the rescue. A busy machine may let a live worker
/// wait for seconds, and a job has but three attempts.
pub fn with_short_leases() -> String {
    CONFIG.replace("lease_ms = 15000", "lease_ms = 5000")
}

/// The tenant of every test.
pub const TENANT: &str = "t-001";
/// Nothing that a test waits for takes longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the process of the API serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// The API, upkeep and the webhook sender.
    All,
    /// The API; upkeep is a process of its own, past all proxies.
    Api,
}

/// A running estate: Redis, the API with upkeep and the webhook sender, one data center `dc-1`, one receiver.
pub struct Estate {
    pub portal: Portal,
    pub receiver: Receiver,
    pub center: Center,
    pub service: Program,
    serves: Serves,
    _upkeep: Option<Program>,
    redis: Arc<Mutex<RedisServer>>,
    listen: String,
    folder: tempfile::TempDir,
}

impl Estate {
    /// Starts one without a worker.
    pub async fn start() -> Self {
        Self::start_with(CONFIG, |folder| Center::sqlite(&folder.join("dc-1.db"))).await
    }

    /// The same with short leases: its workers will be lost.
    pub async fn start_to_lose_workers() -> Self {
        Self::start_with(&with_short_leases(), |folder| Center::sqlite(&folder.join("dc-1.db"))).await
    }

    /// The same with this data center.
    pub async fn start_to_lose_workers_on(center: Center) -> Self {
        Self::start_with(&with_short_leases(), |_| center).await
    }

    /// The same with a configuration of the test's, and a data center that it makes in the folder.
    pub async fn start_with(config: &str, prepare: impl FnOnce(&Path) -> Center) -> Self {
        let (folder, redis) = (new_folder(), start_redis().await);
        let center = prepare(folder.path());
        let redis_url = redis.lock().unwrap().url();
        Self::on(folder, redis, center, Setup { config, redis_url, serves: Serves::All }).await
    }

    /// The same, with a proxy on the way to Redis of the process that serves the API.
    pub async fn start_proxied(config: &str, serves: Serves) -> (Self, Proxy) {
        let folder = new_folder();
        let redis = start_redis().await;
        let proxy = Proxy::start(folder.path().join("api.sock"), redis.clone());
        let center = Center::sqlite(&folder.path().join("dc-1.db"));
        let estate = Self::on(folder, redis, center, Setup { config, redis_url: proxy.url(), serves }).await;
        proxy.aim(estate.service.pid());
        (estate, proxy)
    }

    async fn on(
        folder: tempfile::TempDir,
        redis: Arc<Mutex<RedisServer>>,
        center: Center,
        Setup { config, redis_url, serves }: Setup<'_>,
    ) -> Self {
        let config =
            if config.contains("business_zone") { config.into() } else { config.to_owned() + &Day::now().settings() };
        std::fs::write(folder.path().join("leasehold.toml"), config).unwrap();
        let mut service = serve(folder.path(), serves, &redis_url, "127.0.0.1:0");
        let line = service.ready().await;
        let past_proxies = redis.lock().unwrap().url();
        let upkeep = (serves == Serves::Api).then(|| start(folder.path(), &["upkeep"], &past_proxies, "upkeep"));
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        let key = std::fs::read_to_string(folder.path().join("data/admin.key")).unwrap();
        let portal = Portal::new(&url, key.trim());
        let receiver = Receiver::start().await;
        let (status, endpoint) = portal.post("/v1/webhooks", &json!({"url": receiver.url, "events": ["job.*"]})).await;
        assert!(status.is_success(), "{endpoint}");
        receiver.trust(endpoint["secret"].as_str().unwrap());
        let environments = json!([{"id": "production", "kind": "production", "data_centers": [
            {"id": "dc-1", "name": "First", "database": center.address()}]}]);
        portal.put(&format!("/v1/tenants/{TENANT}"), &tenant(environments)).await;
        let listen = url.trim_start_matches("http://").to_owned();
        Self { portal, receiver, center, service, serves, _upkeep: upkeep, redis, listen, folder }
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of its Redis.
    pub fn redis_url(&self) -> String {
        self.redis.lock().unwrap().url()
    }

    /// A proxy for one process.
    pub fn proxy(&self) -> Proxy {
        Proxy::start(self.folder().join("proxy.sock"), self.redis.clone())
    }

    /// Starts a worker that reaches Redis by `url`; it is not waited for.
    pub fn worker(&self, name: &str, url: &str) -> Program {
        start(self.folder(), &["worker", "--name", name], url, name)
    }

    /// Starts the API again at the same address, after it was killed; it is not waited for.
    pub fn service_again(&mut self, url: &str) {
        self.service = serve(self.folder.path(), self.serves, url, &self.listen);
    }

    /// The store, past all proxies.
    pub async fn store(&self) -> Store {
        Store::open(StoreOptions::new(self.redis_url())).await.unwrap()
    }

    /// Where the backups lie.
    pub fn backups(&self) -> PathBuf {
        self.folder().join("data/backups")
    }

    /// What a part logged, for a failing test.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for file in std::fs::read_dir(self.folder())
            .unwrap()
            .flatten()
            .filter(|f| f.path().extension().is_some_and(|e| e == "log"))
        {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let last: Vec<_> = text.lines().rev().take(40).collect();
            all += &format!("--- {}\n", file.path().display());
            last.into_iter().rev().for_each(|line| all += &format!("{line}\n"));
        }
        all
    }
}

/// How the processes of an estate begin.
struct Setup<'a> {
    config: &'a str,
    redis_url: String,
    serves: Serves,
}

fn new_folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("lh-").tempdir().unwrap()
}

async fn start_redis() -> Arc<Mutex<RedisServer>> {
    Arc::new(Mutex::new(tokio::task::spawn_blocking(RedisServer::start_durable).await.unwrap()))
}

fn serve(folder: &Path, serves: Serves, redis_url: &str, listen: &str) -> Program {
    let command: &[&str] = if serves == Serves::All { &["up", "--no-worker"] } else { &["api"] };
    start(folder, &[command, &["--listen", listen]].concat(), redis_url, "service")
}

/// A process of the estate that logs by its name.
fn start(folder: &Path, command: &[&str], redis_url: &str, name: &str) -> Program {
    let data = folder.join("data").display().to_string();
    let args = [command, &["--redis", redis_url, "--data", &data]].concat();
    Program::spawn(&args, &folder.join("leasehold.toml"), &folder.join(format!("{name}.log")))
}

/// A tenant's document.
pub fn tenant(environments: Value) -> Value {
    json!({
        "name": "First", "formal": true, "lease_end": "2099-12-31", "environments": environments,
        "contacts": [{"user_id": "boss", "roles": ["enterprise_admin"], "email": "boss@example.test"}],
    })
}
