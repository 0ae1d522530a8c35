//! The audit finds each sort of damage, by the name of what is damaged, and nothing in a store that is well.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use leasehold_engine::{
    JobId, NewJob, Place, Resource,
    store::Outcome,
    testing::{Lab, NOON, Puppet},
};

use crate::{claim, claim_one, expect_place, settle};

/// A store with a job in most places: done, scheduled, running with a resource and a key, blocked by it, ready.
struct Estate {
    lab: Lab,
    redis: redis::Connection,
    done: JobId,
    planned: JobId,
    holder: JobId,
    blocked: JobId,
    ready: JobId,
}

impl Estate {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let with = |change: fn(&mut NewJob)| {
            let mut job = Puppet::job(&lab.store, "done");
            change(&mut job);
            job
        };
        let done = lab.enqueue(with(|_| ())).await;
        let (_, fence) = claim_one(&lab, "w").await;
        settle(&lab, &done, fence, Outcome::Done).await;
        let planned = lab.enqueue(with(|job| job.run_at = Some(NOON + 3_600_000))).await;
        let needs = |job: &mut NewJob| {
            job.resources = vec![Resource::exclusive("dc")];
            job.key = Some("k".to_owned());
        };
        let holder = lab.enqueue(with(needs)).await;
        claim_one(&lab, "w").await;
        let blocked = lab.enqueue(with(needs)).await;
        let ready = lab.enqueue(with(|_| ())).await;
        for (id, place) in [(&holder, Place::Running), (&blocked, Place::Blocked), (&ready, Place::Ready)] {
            expect_place(&lab, id, place).await;
        }
        let redis = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
        Self { lab, redis, done, planned, holder, blocked, ready }
    }

    /// What the audit says of the job or key, after the damage `words`.
    async fn damaged(mut self, words: &[&str], subject: &str, text: &str) {
        assert_eq!(self.lab.store.audit().await.unwrap().findings, [], "before {words:?}");
        let mut command = redis::cmd(words[0]);
        command.arg(format!("{{lh:0}}:{}", words[1])).arg(&words[2..]);
        let changed: i64 = command.query(&mut self.redis).unwrap();
        assert!(changed > 0, "{words:?} changed nothing");
        let report = self.lab.store.audit().await.unwrap();
        assert_eq!(report.jobs, if words[0] == "DEL" && words[1].starts_with("j:") { 4 } else { 5 });
        let found = report.findings.iter().any(|f| f.subject == subject && f.text.contains(text));
        assert!(found, "{words:?}: not `{text}` of {subject}, but {:#?}", report.findings);
        redis::cmd("FLUSHALL").exec(&mut self.redis).unwrap();
        self.lab.finish().await;
    }
}

type Case = fn(&Estate) -> (Vec<String>, String, &'static str);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// How to damage it, of what the audit then speaks, and what it says.
const CASES: [Case; 17] = [
    |e| {
        (
            words(&["ZREM", "scheduled", e.planned.as_str()]),
            e.planned.to_string(),
            "the index `scheduled` says otherwise",
        )
    },
    |e| (words(&["ZREM", "leases", e.holder.as_str()]), e.holder.to_string(), "the index `leases` says otherwise"),
    |_| (words(&["ZADD", "blocked", "1", "ghost"]), "ghost".into(), "the index `blocked` says otherwise"),
    |e| (words(&["DEL", &format!("j:{}", e.planned)]), e.planned.to_string(), "says None"),
    |_| (words(&["HINCRBY", "counters", "default|puppet|ready", "1"]), "counters".into(), "the records say"),
    |_| (words(&["HINCRBY", "counters", "live", "1"]), "counters".into(), "the records say"),
    |e| (words(&["DEL", "ready:2:default|t-001"]), e.ready.to_string(), "missing in the list `ready"),
    |e| {
        (
            words(&["LREM", "finished:succeeded:puppet", "0", e.done.as_str()]),
            e.done.to_string(),
            "missing in the list `fin",
        )
    },
    |_| (words(&["ZREM", "ring:2:default", "t-001"]), "t-001".into(), "no turn in the ring"),
    |_| (words(&["HSET", "lock:other", "ghost", "x"]), "other".into(), "its lock names ghost"),
    |e| (words(&["HSET", "lock:dc", e.blocked.as_str(), "x"]), "dc".into(), "not all of them share it"),
    |e| (words(&["DEL", "lock:dc"]), e.holder.to_string(), "it is running and holds 0 of"),
    |e| (words(&["ZREM", "waiters:r dc", e.blocked.as_str()]), e.blocked.to_string(), "nothing will let it go on"),
    |e| (words(&["HDEL", "holds", e.blocked.as_str()]), e.blocked.to_string(), "it is blocked for nothing"),
    |e| (words(&["HSET", "holds", e.ready.as_str(), "r dc"]), e.ready.to_string(), "neither is blocked nor waits"),
    |_| (words(&["ZADD", "waiters:r dc", "1", "ghost"]), "ghost".into(), "stands in the line of `r dc`"),
    |_| (words(&["HINCRBY", "running", "puppet k", "1"]), "running".into(), "the counts by key say"),
];

#[tokio::test]
async fn each_sort_of_damage_is_found() {
    join_all(CASES.map(|case| async move {
        let estate = Estate::new().await;
        let (damage, subject, text) = case(&estate);
        let damage: Vec<&str> = damage.iter().map(String::as_str).collect();
        estate.damaged(&damage, &subject, text).await;
    }))
    .await;
}

#[tokio::test]
async fn an_audit_says_how_far_it_is() {
    let lab = Lab::new().await;
    for _ in 0..3 {
        let job = NewJob { run_at: Some(NOON + 1000), ..Puppet::job(&lab.store, "done") };
        lab.enqueue(job).await;
    }
    let said = std::sync::Mutex::new(Vec::new());
    let told = |p: leasehold_engine::store::AuditProgress| said.lock().unwrap().push((p.stage, p.jobs, p.of));
    lab.store.audit_told(&told).await.unwrap();
    let said = said.into_inner().unwrap();
    assert_eq!(said, [("records", 3, 3), ("lists", 3, 3), ("locks", 3, 3), ("holds", 3, 3)]);
    lab.finish().await;
}

/// Claims jobs and hands them back, ends one and takes another in, until it is told to stop.
async fn keep_busy(lab: &Lab, stop: &AtomicBool) {
    let job = |nth: u64| {
        let resources = vec![Resource::exclusive(format!("dc:{}", nth % 10))];
        NewJob { resources, key: Some("k".to_owned()), ..Puppet::job(&lab.store, "done") }
    };
    lab.store.enqueue(&(0..20).map(job).collect::<Vec<_>>(), 1_000_000).await.unwrap();
    for nth in 20.. {
        for (at, job) in claim(lab, "w", 8).await.jobs.iter().enumerate() {
            settle(lab, &job.id, job.fence, if at == 0 { Outcome::Done } else { Outcome::Release }).await;
        }
        lab.enqueue(job(nth)).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    crate::gates::run_all(lab).await;
}

#[tokio::test]
async fn a_store_at_work_gives_no_false_alarm_and_real_damage_is_still_told() {
    let lab = Lab::new().await;
    let planned = NewJob { run_at: Some(NOON + 3_600_000), ..Puppet::job(&lab.store, "done") };
    let planned = lab.enqueue(planned).await;
    let stop = AtomicBool::new(false);
    let look = async {
        let well = join_all((0..3).map(|_| lab.store.audit())).await;
        let remove = |verb: &str| {
            let mut redis = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
            let mut command = redis::cmd(verb);
            command.arg("{lh:0}:scheduled");
            if verb == "ZADD" {
                command.arg(NOON + 3_600_000);
            }
            command.arg(planned.as_str()).exec(&mut redis).unwrap();
        };
        remove("ZREM");
        let damaged = lab.store.audit().await.unwrap();
        remove("ZADD");
        stop.store(true, Ordering::Relaxed);
        (well, damaged)
    };
    let ((well, damaged), ()) = tokio::join!(look, keep_busy(&lab, &stop));
    for report in well {
        assert_eq!(report.unwrap().findings, []);
    }
    let subjects: Vec<&str> = damaged.findings.iter().map(|finding| finding.subject.as_str()).collect();
    assert_eq!(subjects, [planned.as_str()]);
    lab.finish().await;
}
