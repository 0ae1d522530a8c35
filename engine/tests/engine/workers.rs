//! Workers with the clock running: endings, drain, abort, lost Redis.

use std::time::Duration;

use leasehold_engine::{
    NewJob, Place, Worker, WorkerOptions,
    testing::{Lab, Puppet},
};

use crate::lost_replies::until_ended;

#[tokio::test]
async fn each_ending_comes_to_its_place() {
    let lab = Lab::with_running_clock().await;
    let mut worker = lab.worker("w", Puppet::new()).await;
    for (says, place) in [
        ("done", Place::Succeeded),
        ("dead", Place::Dead),
        ("fail", Place::Dead),
        ("panic", Place::Dead),
        ("snooze", Place::Succeeded),
    ] {
        let mut job = Puppet::job(&lab.store, says);
        job.retry.base_ms = 1;
        let attempts = if says == "dead" || place == Place::Succeeded { 1 } else { 3 };
        let id = lab.enqueue(job).await;
        let record = lab.until(&id, place).await.record;
        assert_eq!(record.attempt, attempts, "{says}");
        if says == "panic" {
            assert!(String::from_utf8_lossy(&record.error).contains("as it was told"));
        }
    }
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn eng_11_a_drain_waits_and_an_abort_hands_back_uncounted() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let id = lab.enqueue(Puppet::job(&lab.store, "hang_deaf")).await;
    let mut worker = lab.worker("w1", puppet.clone()).await;
    puppet.began.notified().await;
    worker.drain(Duration::from_millis(50)).await;
    let record = lab.job(&id).await.record;
    assert_eq!((record.place, record.attempt), (Place::Ready, 0));
    puppet.go_on.notify_one();
    let mut second = lab.worker("w2", puppet.clone()).await;
    lab.until(&id, Place::Succeeded).await;
    second.drain(Duration::from_secs(5)).await;
    second.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn e9_a_worker_that_cannot_renew_stops_before_its_lease_ends() {
    let mut lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let id = lab.enqueue(Puppet::job(&lab.store, "hang")).await;
    // So long that no stall ends it before the job has begun.
    let options = WorkerOptions { lease_ms: 5000, renew_ms: 300, ..WorkerOptions::default() };
    let worker = Worker::start(&lab.store, puppet.clone(), options).await.unwrap();
    puppet.began.notified().await;
    lab.redis.kill();
    let stopped = async {
        while worker.running() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("the job is stopped without Redis");
    drop(worker);
    drop(id);
    lab.redis.restart();
    lab.finish().await;
}

#[tokio::test]
async fn eng_01_a_thousand_jobs_survive_a_killed_redis() {
    let mut redis = leasehold_engine::testing::RedisServer::start_durable();
    let store = leasehold_engine::Store::open(leasehold_engine::StoreOptions::new(redis.url())).await.unwrap();
    let jobs: Vec<_> = (0..1000).map(|_| Puppet::job(&store, "done")).collect();
    store.enqueue(&jobs, 10_000).await.unwrap();
    let puppet = Puppet::new();
    let options = WorkerOptions { slots: 16, lease_ms: 2000, renew_ms: 500, ..WorkerOptions::default() };
    let mut worker = Worker::start(&store, puppet.clone(), options).await.unwrap();
    let mut upkeep = leasehold_engine::upkeep::Upkeep::start(
        &store,
        leasehold_engine::upkeep::UpkeepOptions { rescue_ms: 100, ..Default::default() },
    );
    puppet.began.notified().await;
    redis.kill();
    redis.restart();
    until_ended(&store, (1000, 0)).await;
    worker.drain(Duration::from_secs(5)).await;
    upkeep.stop().await;
    assert!(store.audit().await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn jobs_of_several_shards_are_all_run() {
    let redis = leasehold_engine::testing::RedisServer::start();
    let mut options = leasehold_engine::StoreOptions::new(redis.url());
    options.shards = 3;
    let store = leasehold_engine::Store::open(options.clone()).await.unwrap();
    let jobs: Vec<_> = (0..60)
        .map(|n| {
            let tenant = format!("t-{n}");
            leasehold_engine::NewJob::new(store.new_id(&tenant), "puppet", tenant, &b"done"[..])
        })
        .collect();
    assert!(jobs.iter().map(|j| j.id.shard()).collect::<std::collections::BTreeSet<_>>().len() == 3);
    store.enqueue(&jobs, 1000).await.unwrap();
    let mut worker = Worker::start(&store, Puppet::new(), WorkerOptions::default()).await.unwrap();
    until_ended(&store, (60, 0)).await;
    worker.drain(Duration::from_secs(5)).await;
    assert!(store.audit().await.unwrap().findings.is_empty());
    options.shards = 2;
    assert!(matches!(
        leasehold_engine::Store::open(options).await,
        Err(leasehold_engine::StoreError::OtherShards { recorded: 3, asked: 2 })
    ));
}

#[tokio::test]
async fn progress_and_log_lines_are_kept_and_the_last_word_is_told() {
    // The clock stands, so that all is said within one second, however long it takes.
    let lab = Lab::new().await;
    let puppet = Puppet::new();
    let mut job = Puppet::job(&lab.store, "talk");
    job.notify = true;
    let id = lab.enqueue(job).await;
    let changes = lab.store.changes(true);
    let mut hints = changes.listen();
    let mut worker = lab.worker("w", puppet.clone()).await;
    let said = async {
        while lab.job(&id).await.progress.percent < 90 {
            let _ = tokio::time::timeout(Duration::from_millis(100), hints.recv()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), said).await.unwrap();
    puppet.go_on.notify_one();
    let job = lab.until(&id, Place::Succeeded).await;
    assert_eq!((job.progress.percent, job.progress.text.as_str()), (100, "all"));
    let lines = lab.store.log(&id, 0, 10).await.unwrap();
    assert!(lines.iter().map(|l| l.split_once(' ').unwrap().1).eq(["line 1", "line 2", "line 3"]), "{lines:?}");
    let told = lab.store.outbox_read(0, 20).await.unwrap();
    assert_eq!(&told.last().unwrap().note[..], br#"{"detail":"said"}"#);
    let progress = told.iter().filter(|e| e.event == leasehold_engine::model::EventWord::Progress).count();
    assert_eq!(progress, 1, "told at most once a second");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn eng_05_a_cancel_arrives_with_the_renewal_when_pub_sub_is_lost() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let id = lab.enqueue(Puppet::job(&lab.store, "hang")).await;
    let options = WorkerOptions { renew_ms: 300, ..WorkerOptions::default() };
    let mut worker = Worker::start(&lab.store, puppet.clone(), options).await.unwrap();
    puppet.began.notified().await;
    let url = lab.redis.url();
    let deaf = tokio::task::spawn_blocking(move || {
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        // From here on nobody may subscribe: only a renewal can bring the news.
        redis::cmd("ACL").arg(&["SETUSER", "default", "-subscribe"]).exec(&mut connection).unwrap();
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).exec(&mut connection).unwrap();
    });
    deaf.await.unwrap();
    lab.store.cancel(&id, "", None).await.unwrap();
    // The renewal brings the cancel.
    lab.until(&id, Place::Cancelled).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_panicking_kind_harms_no_other_attempt() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let long = lab.enqueue(Puppet::job(&lab.store, "hang")).await;
    let mut worker = lab.worker("w", puppet.clone()).await;
    puppet.began.notified().await;
    for _ in 0..5 {
        let mut job = Puppet::job(&lab.store, "panic");
        job.retry.max_attempts = 1;
        let id = lab.enqueue(job).await;
        lab.until(&id, Place::Dead).await;
    }
    assert_eq!(lab.place(&long).await, Place::Running);
    puppet.go_on.notify_one();
    lab.until(&long, Place::Succeeded).await;
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_queue_that_is_never_empty_does_not_keep_back_the_others() {
    let lab = Lab::with_running_clock().await;
    let of = |queue: &str| NewJob { queue: queue.to_owned(), ..Puppet::job(&lab.store, "done") };
    let mut copies = Vec::new();
    for _ in 0..6 {
        copies.push(lab.enqueue(of("copies")).await);
    }
    let sql = lab.enqueue(of("sql")).await;
    let queues = vec!["copies".to_owned(), "sql".to_owned()];
    let options = WorkerOptions { slots: 1, queues, ..WorkerOptions::default() };
    let mut worker = Worker::start(&lab.store, Puppet::new(), options).await.unwrap();
    let mut before = 0;
    let started = lab.until(&sql, Place::Succeeded).await.record.fence;
    for id in &copies {
        before += usize::from(lab.until(id, Place::Succeeded).await.record.fence < started);
    }
    assert!(before <= 2, "{before} of the first queue went before the only one of the second");
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn sql_18_jobs_put_off_to_one_instant_go_in_the_order_in_which_they_were_taken_in() {
    let lab = Lab::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(lab.enqueue(Puppet::job(&lab.store, "done")).await);
    }
    let mut held = crate::claim(&lab, "w", 3).await.jobs;
    // They say so one after the other, the first one last.
    for (nth, job) in held.drain(..).rev().enumerate() {
        lab.at(10 * nth as i64);
        let mut later = crate::ending(&job.id, job.fence, leasehold_engine::store::Outcome::Snooze);
        later.wait_ms = leasehold_engine::testing::NOON.unsigned_abs() + 5000;
        lab.store.settle(job.id.shard(), &[later]).await.unwrap();
    }
    lab.at(5000);
    for id in ids {
        let (got, fence) = crate::claim_one(&lab, "w").await;
        assert_eq!(got, id);
        crate::settle(&lab, &id, fence, leasehold_engine::store::Outcome::Done).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn sql_16_what_is_put_off_to_an_instant_is_due_at_that_instant() {
    let lab = Lab::with_running_clock().await;
    let until = lab.store.now().await.unwrap() + 3_600_000;
    let actor = leasehold_engine::testing::Actor::new(move |_| async move {
        Ok(leasehold_engine::Verdict::Snooze { until, reason: "not yet".to_owned() })
    });
    let mut worker = lab.worker("w", actor).await;
    for _ in 0..5 {
        let id = lab.enqueue(leasehold_engine::testing::Actor::job(&lab.store, "later")).await;
        let view = lab.until(&id, Place::Scheduled).await;
        assert_eq!(view.record.run_at, until);
    }
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_outage_of_the_store_costs_no_last_attempt() {
    let lab = Lab::with_running_clock().await;
    let mut job = Puppet::job(&lab.store, "store_away_first");
    job.retry.max_attempts = 1;
    let id = lab.enqueue(job).await;
    let mut worker = lab.worker("w", Puppet::new()).await;
    let job = lab.until(&id, Place::Succeeded).await;
    assert_eq!(job.record.attempt, 1);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}
