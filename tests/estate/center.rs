//! A SQLite data center with a ledger of effects: the judge of what happened, which no part of the program can talk into
//! anything. Every statement of the script leaves its own trace, and none of them can be repeated without being seen.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

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

/// The same, with work between the statements that takes its time.
pub fn slow_script() -> String {
    let slow =
        "(with recursive c(x) as (select 1 union all select x + 1 from c where x < 700000) select count(*) from c)";
    SCRIPT
        .replace("n + 1;", &format!("n + 1 where {slow} > 0;"))
        .replace("values (2)", &format!("select 2 where {slow} > 0"))
        .replace("table made_by_3 (x integer)", &format!("table made_by_3 as select {slow} as x"))
        .replace("n + 100", &format!("n + 100 where {slow} > 0"))
        .replace("from counter", &format!("from counter where {slow} > 0"))
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

/// Makes an empty one.
pub fn build(path: &Path) -> PathBuf {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "pragma journal_mode = wal; create table counter (n integer not null); insert into counter values (0);
         create table ledger (statement integer not null);",
    )
    .unwrap();
    path.to_owned()
}

/// Reads the effects, of a data center or of a backup of one.
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
pub fn sabotage(path: &Path) {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    db.execute_batch("delete from leasehold_statements; update leasehold_fence set fence = 0;").unwrap();
}
