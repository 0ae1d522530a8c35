//! The bench on which each case gets a database of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use leasehold_targets::Secrets;
use leasehold_targets::database::{self, Database, DatabaseUrl, ExecuteOptions, ScriptReport, StatementOutcome};
use leasehold_targets::script::Script;
use leasehold_targets::testing::TestServer;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A case that takes longer hangs: the longest takes 10 s alone, and 40 s on two cores with a load of 25.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

type Run = fn(Lab) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A promise by name.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
}

/// Lists functions as cases.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => { vec![$(crate::lab::Case { name: stringify!($name), run: |lab| Box::pin($name(lab)) }),+] };
}
pub(crate) use cases;

/// A database, a folder, and what a case does with them.
pub(crate) struct Lab {
    pub(crate) engine: Engine,
    pub(crate) db: Arc<dyn Database>,
    pub(crate) url: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Option<Arc<TestServer>>,
}

impl Lab {
    async fn new(engine: Engine, server: Option<Arc<TestServer>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match (&server, engine) {
            (Some(server), Engine::Postgres) => {
                // The address of the test server carries no secret, so that what is shown can be parsed again.
                server.database().await.to_string()
            }
            _ => format!("sqlite:{}", folder.path().join("live.db").display()),
        };
        let db = database::open(&DatabaseUrl::parse(&url, &Secrets::default()).unwrap()).unwrap();
        db.create().await.unwrap();
        let lab = Self { engine, db, url, folder, server };
        lab.green("set-up", 0, "CREATE TABLE effects (n INTEGER, t TEXT);").await;
        lab
    }

    pub(crate) fn script(&self, text: &str) -> Script {
        Script::parse(self.db.dialect(), text).unwrap()
    }

    pub(crate) async fn run(&self, options: &ExecuteOptions, text: &str) -> ScriptReport {
        let script = self.script(text);
        self.db.execute(&script, options, database::unobserved(), CancellationToken::new()).await.unwrap()
    }

    /// Runs a script that must go well.
    pub(crate) async fn green(&self, job: &str, fence: u64, text: &str) -> ScriptReport {
        let report = self.run(&ExecuteOptions::new(job, fence), text).await;
        assert!(report.is_green(), "{report:#?}");
        report
    }

    /// How often an effect was made, by its number.
    pub(crate) async fn effects(&self, n: u32) -> u64 {
        self.count(&format!("SELECT * FROM effects WHERE n = {n}")).await
    }

    /// Rows of a query, by a session of its own.
    pub(crate) async fn count(&self, query: &str) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self.engine {
            Engine::Sqlite => {
                let path = self.url.strip_prefix("sqlite:").unwrap();
                let link = rusqlite::Connection::open(path).unwrap();
                link.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
                link.query_row(&format!("SELECT count(*) FROM ({query}) AS q"), [], |row| row.get(0)).unwrap()
            }
            Engine::Postgres => {
                NEXT.fetch_add(1, Ordering::Relaxed);
                let (link, work) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(work);
                let row = link.query_one(&format!("SELECT count(*) FROM ({query}) AS q"), &[]).await.unwrap();
                u64::try_from(row.get::<_, i64>(0)).unwrap()
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) fn codes(statements: &[StatementOutcome]) -> Vec<String> {
    let code = |s: &StatementOutcome| s.error.as_ref().map_or_else(|| "ok".to_owned(), |error| error.code.clone());
    statements.iter().map(code).collect()
}

/// Runs all cases, and fails with the names of those that failed.
pub(crate) fn run_all(engine: Engine, cases: Vec<Case>) {
    let server = match engine {
        Engine::Sqlite => None,
        Engine::Postgres => match TestServer::shared() {
            Some(server) => Some(server),
            None if std::env::var_os("CI").is_none() => {
                println!("skipped: PostgreSQL is not installed");
                return;
            }
            None => panic!("PostgreSQL is not installed, and CI has to have it"),
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let mut failed = Vec::new();
        let mut running = tokio::task::JoinSet::new();
        let only = std::env::var("CASE").unwrap_or_default();
        for case in cases.into_iter().filter(|case| case.name.contains(&only)) {
            if running.len() >= 6 {
                failed.extend(running.join_next().await.and_then(|done: Result<Option<&str>, _>| done.unwrap()));
            }
            let server = server.clone();
            running.spawn(async move {
                let name = case.name;
                let work = tokio::spawn(async move { (case.run)(Lab::new(engine, server).await).await });
                match tokio::time::timeout(PATIENCE, work).await {
                    Ok(Ok(())) => None,
                    Ok(Err(_)) => Some(name),
                    Err(_) => {
                        println!("{name} hangs");
                        Some(name)
                    }
                }
            });
        }
        while let Some(done) = running.join_next().await {
            failed.extend(done.unwrap());
        }
        failed
    });
    assert!(failed.is_empty(), "{engine:?} breaks: {failed:#?}");
}
