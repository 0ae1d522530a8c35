//! A data center with a ledger of effects: the judge of what happened, which no part of the program can talk into
//! anything. Every statement of the script leaves its own trace, and none of them can be repeated without being seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leasehold_targets::testing::TestServer;
use rusqlite::Connection;
use tokio_postgres::{Client, NoTls};

/// Six statements: none may be repeated, and the fourth fails.
pub const SCRIPT: &str = "\
update counter set n = n + 1;
insert into ledger values (2);
create table made_by_3 (x integer);
insert into no_such_table values (4);
update counter set n = n + 100;
insert into ledger select 6 from counter;
";
/// The statement that fails.
pub const FAILS: u64 = 4;

fn slow(work: &str) -> String {
    SCRIPT
        .replace("n + 1;", &format!("n + 1 where {work} > 0;"))
        .replace("values (2)", &format!("select 2 where {work} > 0"))
        .replace("table made_by_3 (x integer)", &format!("table made_by_3 as select {work} as x"))
        .replace("n + 100", &format!("n + 100 where {work} > 0"))
        .replace("from counter", &format!("from counter where {work} > 0"))
}

/// What a data center shows of a script's effects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// 1 from the first statement, 100 from the fifth.
    pub counter: i64,
    /// A 2 from the second statement, a 6 from the sixth.
    pub ledger: Vec<i64>,
    /// From the third.
    pub table: bool,
}

impl Effects {
    /// Each statement that can succeed, exactly once.
    pub fn once() -> Self {
        Self { counter: 101, ledger: vec![2, 6], table: true }
    }
}

const TABLES: &str = "create table counter (n integer not null); insert into counter values (0);
    create table ledger (statement integer not null);";

/// A data center.
#[derive(Clone)]
pub enum Center {
    /// A file.
    Sqlite(PathBuf),
    /// A database of a server of this test's own.
    Postgres { server: Arc<TestServer>, database: String },
}

impl Center {
    /// An empty one in a file.
    pub fn sqlite(path: &Path) -> Self {
        let db = Connection::open(path).unwrap();
        db.execute_batch("pragma journal_mode = wal").unwrap();
        db.execute_batch(TABLES).unwrap();
        Self::Sqlite(path.to_owned())
    }

    /// An empty one in PostgreSQL.
    pub async fn postgres(server: &Arc<TestServer>) -> Self {
        let database = server.database().await.to_string().rsplit('/').next().unwrap().to_owned();
        let center = Self::Postgres { server: server.clone(), database };
        center.connect().await.batch_execute(TABLES).await.unwrap();
        center
    }

    /// The address for the tenant's document.
    pub fn address(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres { server, database } => server.url(database),
        }
    }

    /// The script, with work between the statements that takes its time.
    pub fn slow_script(&self) -> String {
        match self {
            Self::Sqlite(_) => slow(
                "(with recursive c(x) as (select 1 union all select x + 1 from c where x < 700000) select count(*) from c)",
            ),
            Self::Postgres { .. } => slow("(select 1 from pg_sleep(0.3))"),
        }
    }

    /// Reads the effects.
    pub async fn effects(&self) -> Effects {
        let Self::Sqlite(path) = self else { return self.effects_in_postgres().await };
        effects(path)
    }

    async fn effects_in_postgres(&self) -> Effects {
        let client = self.connect().await;
        let count = |sql| client.query(sql, &[]);
        let numbers =
            |rows: Vec<tokio_postgres::Row>| rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).collect::<Vec<_>>();
        let ledger = numbers(count("select statement from ledger order by 1").await.unwrap());
        let counter = numbers(count("select n from counter").await.unwrap())[0];
        let table = count("select 1 from pg_tables where tablename = 'made_by_3'").await.unwrap().len() == 1;
        Effects { counter, ledger, table }
    }

    async fn connect(&self) -> Client {
        let Self::Postgres { server, database } = self else { panic!("it is a file") };
        let host = server.url("").split_once('@').unwrap().1.replace("%2F", "/");
        let address = format!("host={} user=postgres dbname={database}", host.trim_end_matches('/'));
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// Reads the effects from a file: a data center, or a backup of one.
pub fn effects(path: &Path) -> Effects {
    let db = Connection::open(path).unwrap();
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let mut ledger = db.prepare("select statement from ledger order by 1").unwrap();
    let ledger = ledger.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let table = one("select count(*) from sqlite_master where name = 'made_by_3'") == 1;
    Effects { counter: one("select n from counter"), ledger, table }
}

/// Whether the file is a whole database.
pub fn is_sound(path: &Path) -> bool {
    let db = Connection::open(path).unwrap();
    db.query_row("pragma integrity_check", [], |row| row.get::<_, String>(0)).unwrap() == "ok"
}

/// Takes away the proof of what has run and the fence, as a broken build of ours would.
pub fn sabotage(center: &Center) {
    let Center::Sqlite(path) = center else { panic!("only a file is sabotaged") };
    let db = Connection::open(path).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    db.execute_batch("delete from leasehold_statements; update leasehold_fence set fence = 0;").unwrap();
}
