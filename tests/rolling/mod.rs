//! A rolling restart: three workers, one after the other, while jobs come in. Nobody may notice but the log.
//!
//! The judge is the data centers' own ledgers, which no part of the program can talk into anything, and what callers see
//! of each job: one attempt.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use leasehold_engine::store::JobFilter;
use leasehold_engine::{JobRecord, Place, Store};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::estate::{CONFIG, Center, Estate, PATIENCE, Portal, Program, TENANT, sql_update, tenant};

/// Data centers: as many updates may run at a time.
const CENTERS: u32 = 10;
/// Of these, an update hangs in each while its worker is told to end, and told again. They are another tenant's, whose
/// jobs can be held while they are with no worker.
const HANGING: u32 = 2;
const HANGS: &str = "t-002";
/// Updates at the most; the restarts are over before, or there was no load.
const MOST: u32 = 2000;
/// A job so long that a drain meets some of them in the middle.
const LONG_EVERY: u32 = 10;

fn center(n: u32) -> String {
    format!("dc-{n}")
}

/// Leaves the job's number, once for each statement.
fn script(n: u32) -> String {
    let work =
        "(with recursive c(x) as (select 1 union all select x + 1 from c where x < 200000) select count(*) from c)";
    match n % LONG_EVERY {
        0 => format!("insert into ledger select {n} where {work} > 0;\n").repeat(3),
        _ => format!("insert into ledger values ({n});"),
    }
}

fn statements(n: u32) -> usize {
    if n.is_multiple_of(LONG_EVERY) { 3 } else { 1 }
}

/// Goes on for as long as the gate is shut, which a lock would not: who waits for a lock gives up after some seconds.
fn script_that_hangs(n: u32) -> String {
    let work = "(with recursive c(x) as (select 1 union all select x + 1 from c where x < (select n from gate)) select count(*) from c)";
    format!("insert into ledger select {n} where {work} > 0;")
}

fn update(center_of: u32, n: u32) -> Value {
    let (tenant, script) = if n <= HANGING { (HANGS, script_that_hangs(n)) } else { (TENANT, script(n)) };
    let mut update = sql_update(tenant, &center(center_of), &script);
    update["args"]["backup"] = json!(false);
    update
}

async fn estate() -> Estate {
    let config = CONFIG.replace("[worker]", "[worker]\ndrain_timeout_seconds = 600");
    let config = format!("{config}\n[quota.sql_update]\nlimit = 100_000\n");
    let estate = Estate::start_with(&config, |folder| Center::sqlite(&folder.join("dc-1.db"))).await;
    let centers: Vec<_> = (1..=CENTERS)
        .map(|n| {
            let path = estate.folder().join(format!("{}.db", center(n)));
            let made = if n == 1 { estate.center.clone() } else { Center::sqlite(&path) };
            json!({"id": center(n), "name": center(n), "database": made.address()})
        })
        .collect();
    let (hanging, others) = centers.split_at(HANGING as usize);
    // In this order: the estate began with the first one as the other tenant's.
    for (name, centers) in [(TENANT, others), (HANGS, hanging)] {
        let environments = json!([{"id": "production", "kind": "production", "data_centers": centers}]);
        estate.portal.put(&format!("/v1/tenants/{name}"), &tenant(environments)).await;
    }
    for n in 1..=HANGING {
        open(estate.folder(), n).execute_batch("create table gate as select 1000000000000 as n").unwrap();
    }
    estate
}

fn open(folder: &Path, n: u32) -> Connection {
    let db = Connection::open(folder.join(format!("{}.db", center(n)))).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    db
}

/// Posts updates until told to stop, to the data centers that do not hang, one after the other; how many.
fn feed(portal: Portal, stop: Arc<AtomicBool>, fed: Arc<AtomicU32>) -> tokio::task::JoinHandle<u32> {
    tokio::spawn(async move {
        let mut n = HANGING;
        while !stop.load(Ordering::SeqCst) && n < MOST {
            n += 1;
            portal.ask(&update(HANGING + 1 + n % (CENTERS - HANGING), n)).await;
            fed.store(n, Ordering::SeqCst);
        }
        n
    })
}

/// Waits until so many updates have ended since.
async fn work_goes_on(store: &Store, more: u64) {
    let ended = async || {
        let counts = store.counts().await.unwrap();
        counts.iter().filter(|c| c.place == Place::Succeeded && c.kind == "sql_update").map(|c| c.jobs).sum::<u64>()
    };
    let (goal, changes) = (ended().await + more, store.changes(true));
    let mut hints = changes.listen();
    let wait = async {
        while ended().await < goal {
            let _ = timeout(std::time::Duration::from_millis(100), hints.recv()).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("work does not go on"));
}

async fn all_ended(store: &Store, estate: &Estate) -> Vec<JobRecord> {
    let live = async || {
        let counts = store.counts().await.unwrap();
        counts.iter().filter(|c| !c.place.is_final()).map(|c| c.jobs).sum::<u64>()
    };
    let changes = store.changes(true);
    let mut hints = changes.listen();
    let wait = async {
        while live().await > 0 {
            let _ = timeout(std::time::Duration::from_millis(100), hints.recv()).await;
        }
    };
    timeout(PATIENCE * 2, wait).await.unwrap_or_else(|_| panic!("jobs are left\n{}", estate.logs()));
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = store.jobs(&JobFilter::default(), cursor.as_deref(), 200).await.unwrap();
        all.extend(page.jobs);
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// What the ledgers say: job number → how many of its statements left their trace.
fn ledgers(folder: &Path) -> BTreeMap<u32, usize> {
    let mut all = BTreeMap::new();
    for n in 1..=CENTERS {
        let db = open(folder, n);
        let mut rows = db.prepare("select statement from ledger").unwrap();
        for number in rows.query_map([], |row| row.get::<_, u32>(0)).unwrap() {
            *all.entry(number.unwrap()).or_default() += 1;
        }
    }
    all
}

async fn started(estate: &Estate, name: &str) -> Program {
    let mut worker = estate.worker(name, &estate.redis_url());
    worker.ready().await;
    worker
}

/// Pauses the jobs that hang, or resumes them.
async fn hold(estate: &Estate, verb: &str) {
    let (status, answer) =
        estate.portal.post(&format!("/v1/tenants/{HANGS}/{verb}"), &json!({"reason": "the gate is moved"})).await;
    assert!(status.is_success(), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_three_workers_under_load_spends_no_attempt_and_loses_nothing() {
    let estate = estate().await;
    let store = estate.store().await;
    // Two updates hang in their data centers, both on the only worker that there is yet; of the three it ends first, since
    // they cost as many cores.
    let mut second = started(&estate, "second").await;
    for n in 1..=HANGING {
        let id = estate.portal.ask(&update(n, n)).await;
        let began =
            |told: &BTreeMap<u64, _>| told.values().any(|one: &crate::estate::Arrival| one.word() == "job.started");
        estate.receiver.wait(&id, PATIENCE, began).await.unwrap();
    }
    let (mut first, mut third) = (started(&estate, "first").await, started(&estate, "third").await);
    let (stop, fed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let feeding = feed(estate.portal.clone(), stop.clone(), fed.clone());
    work_goes_on(&store, 10).await;

    second.terminate();
    second.says("a second signal hands them back at once").await;
    work_goes_on(&store, 10).await;
    hold(&estate, "pause").await;
    // Of another kind: of the same, one so soon would be an echo of the first.
    second.interrupt();
    second.says("handing the running jobs back").await;
    assert!(second.ended().await.success(), "{}", second.logged());
    for n in 1..=HANGING {
        open(estate.folder(), n).execute_batch("update gate set n = 1").unwrap();
    }
    hold(&estate, "resume").await;
    second = started(&estate, "second again").await;
    work_goes_on(&store, 30).await;

    first.stop().await;
    work_goes_on(&store, 10).await;
    first = started(&estate, "first again").await;

    third.stop().await;
    work_goes_on(&store, 10).await;
    third = started(&estate, "third again").await;
    work_goes_on(&store, 10).await;
    stop.store(true, Ordering::SeqCst);
    let many = feeding.await.unwrap();
    assert!(many < MOST, "there was no load any more");

    let jobs = all_ended(&store, &estate).await;
    let bad: Vec<_> = jobs.iter().filter(|job| job.place != Place::Succeeded || job.attempt != 1).collect();
    assert!(bad.is_empty(), "{} of {}: {bad:?}\n{}", bad.len(), jobs.len(), estate.logs());
    assert_eq!(jobs.iter().filter(|job| job.kind == "sql_update").count(), many as usize);
    let meant: BTreeMap<u32, usize> = (1..=many).map(|n| (n, statements(n))).collect();
    assert_eq!(ledgers(estate.folder()), meant, "each statement of each update once");
    let released = jobs.iter().filter(|job| job.events.iter().any(|event| event.word.as_str() == "released")).count();
    assert!(released >= HANGING as usize, "{released} were handed back");
    for worker in [&mut first, &mut second, &mut third] {
        worker.stop().await;
    }
    let audit = store.audit().await.unwrap();
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
    eprintln!("{many} updates and {} further jobs; {released} handed back", jobs.len() - many as usize);
}
