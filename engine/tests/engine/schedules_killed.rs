//! Five upkeep processes, killed and stopped at random, over a year in five zones: each slot makes exactly one job.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use leasehold_engine::{
    Store, StoreOptions,
    model::Timetable,
    store::JobFilter,
    testing::{NOON, RedisServer},
    upkeep,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::schedules::{Maker, put, spec};

const DAY: i64 = 86_400_000;
const ZONES: [&str; 5] =
    ["Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"];
const CRONS: [&str; 4] = ["0 */8 * * *", "30 2 * * *", "15,45 1 * * SUN", "0 0 L * *"];
/// Where the simulated time stands.
const TIME: &str = "simulated_time";
const VARIABLE: &str = "LEASEHOLD_TEST_UPKEEP_REDIS";

/// An upkeep process of its own: this test's program, told by a variable to be one.
struct Process(Child);

impl Process {
    fn start(url: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["schedules_killed::an_upkeep_process", "--exact", "--nocapture"])
            .env(VARIABLE, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a [`Process`] runs; nothing without the variable. It ends with its Redis, at the latest.
#[tokio::test]
async fn an_upkeep_process() {
    let Ok(url) = std::env::var(VARIABLE) else { return };
    let mut time = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    let mut options = StoreOptions::new(url);
    options.resends = 0;
    let store = Store::open(options).await.unwrap();
    loop {
        let now: i64 = redis::cmd("GET").arg(TIME).query(&mut time).unwrap();
        store.set_time(now);
        if upkeep::fire(&store, &Maker::default(), 1_000_000).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn due(store: &Store, now: i64) -> usize {
    store.due_schedules(0, now, 200).await.unwrap().len()
}

/// Lets the processes work until nothing is due; meanwhile one is killed, or stopped and let go on late.
async fn year(url: &str, store: &Store, rng: &mut StdRng) -> (u32, u32) {
    let mut time = redis::Client::open(url).unwrap().get_connection().unwrap();
    let (mut killed, mut stopped) = (0, 0);
    let () = redis::cmd("SET").arg(TIME).arg(NOON).query(&mut time).unwrap();
    let mut processes: Vec<Process> = (0..5).map(|_| Process::start(url)).collect();
    for day in (5..=365).step_by(5) {
        let now = NOON + day * DAY;
        let () = redis::cmd("SET").arg(TIME).arg(now).query(&mut time).unwrap();
        let (victim, mut patience, mut asleep) = (rng.random_range(0..5), rng.random_range(0..6), None);
        while due(store, now).await > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            patience -= 1;
            if patience == 0 && rng.random_bool(0.5) {
                processes[victim] = Process::start(url);
                killed += 1;
            } else if patience == 0 {
                processes[victim].signal("-STOP");
                (asleep, stopped) = (Some(victim), stopped + 1);
            }
        }
        if let Some(victim) = asleep {
            processes[victim].signal("-CONT");
        }
    }
    (killed, stopped)
}

/// How many jobs each schedule's slots have, by the jobs' arguments.
async fn jobs_by_slot(store: &Store) -> BTreeMap<String, u32> {
    let (mut count, mut cursor) = (BTreeMap::new(), None);
    loop {
        let filter = JobFilter { tenant: Some("t-001".to_owned()), ..JobFilter::default() };
        let page = store.jobs(&filter, cursor.as_deref(), 500).await.unwrap();
        for job in &page.jobs {
            *count.entry(String::from_utf8_lossy(&job.args).into_owned()).or_default() += 1;
        }
        cursor = page.next;
        if cursor.is_none() {
            return count;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_upkeep_processes_killed_at_random_fire_each_slot_of_a_year_once() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("SEED={seed}");
    let redis = RedisServer::start();
    let store = Store::open(StoreOptions::new(redis.url())).await.unwrap();
    store.set_time(NOON);
    let mut wanted = BTreeMap::new();
    for zone in ZONES {
        for cron in CRONS {
            let (name, table) = (format!("{zone}: {cron}"), Timetable::parse(cron, zone).unwrap());
            put(&store, &spec(&name, cron, zone, "all:1000")).await;
            let slots = table.slots_after(NOON).take_while(|slot| *slot <= NOON + 365 * DAY);
            wanted.extend(slots.map(|slot| (format!("{name} {slot}"), 1)));
        }
    }
    assert!(wanted.len() > 7500, "{}", wanted.len());
    let (killed, stopped) = year(&redis.url(), &store, &mut StdRng::seed_from_u64(seed)).await;
    eprintln!("{killed} killed, {stopped} stopped at work");
    assert!(killed >= 5 && stopped >= 5, "seed {seed}: {killed} killed, {stopped} stopped at work");
    let made = jobs_by_slot(&store).await;
    let wrong: Vec<_> = wanted.iter().filter(|(slot, n)| made.get(*slot) != Some(n)).collect();
    assert!(wrong.is_empty() && made.len() == wanted.len(), "seed {seed}: {wrong:?}");
    let held = store.schedules(None, None, 100).await.unwrap();
    assert_eq!(held.iter().map(|s| s.counts.fired).sum::<u64>(), wanted.len() as u64, "seed {seed}");
    assert_eq!(held.iter().map(|s| s.counts.missed).sum::<u64>(), 0, "seed {seed}");
    store.set_time(NOON + 365 * DAY);
    assert_eq!(store.audit().await.unwrap().findings, [], "seed {seed}");
}
