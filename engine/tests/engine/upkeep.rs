//! Retention and bounded work.

use leasehold_engine::{
    Place,
    store::Outcome,
    testing::{Lab, Puppet},
    upkeep::{self, Retention, UpkeepOptions},
};

use crate::{claim, settle};

#[tokio::test]
async fn e7_finished_jobs_are_forgotten_by_age_and_by_count() {
    let lab = Lab::new().await;
    let keep = |age, count| UpkeepOptions {
        succeeded: Retention { max_age_ms: age, max_count: count },
        ..UpkeepOptions::default()
    };
    for minute in 0..10 {
        lab.at(minute * 60_000);
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
        for job in claim(&lab, "w", 1).await.jobs {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    let left = async || {
        lab.store.counts().await.unwrap().into_iter().find(|c| c.place == Place::Succeeded).map_or(0, |c| c.jobs)
    };
    assert_eq!(upkeep::prune(&lab.store, &keep(60_000 * 60, 100)).await.unwrap(), 0);
    upkeep::prune(&lab.store, &keep(60_000 * 60, 7)).await.unwrap();
    assert_eq!(left().await, 7);
    upkeep::prune(&lab.store, &keep(60_000 * 2, 100)).await.unwrap();
    assert_eq!(left().await, 2, "those of minutes 8 and 9; exactly two minutes is over");
    upkeep::prune(&lab.store, &keep(0, 100)).await.unwrap();
    assert_eq!(left().await, 0);
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let leftover: Vec<_> =
        keys.iter().filter(|k| k.contains(":j:") || k.contains(":tenant_jobs:") || k.contains(":finished:")).collect();
    assert!(leftover.is_empty(), "{leftover:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_revived_job_is_not_pruned_by_its_first_ending() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = crate::claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Dead).await;
    lab.store.revive(&id, "").await.unwrap();
    let options = UpkeepOptions { dead: Retention { max_age_ms: 0, max_count: 0 }, ..UpkeepOptions::default() };
    upkeep::prune(&lab.store, &options).await.unwrap();
    let (got, fence) = crate::claim_one(&lab, "w").await;
    assert_eq!(got, id);
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn history_is_capped_and_keeps_the_newest() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    for round in 0..120 {
        lab.at(round * 5000);
        let (_, fence) = crate::claim_one(&lab, "w").await;
        settle(&lab, &id, fence, Outcome::Snooze).await;
    }
    let record = lab.job(&id).await.record;
    assert_eq!(record.attempt, 0, "a snooze costs no attempt");
    assert!(record.events.len() <= 102, "{}", record.events.len());
    assert_eq!(record.events.last().unwrap().seq, record.seq);
    assert!(record.events[1..].windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
    lab.at(120 * 5000);
    let (_, fence) = crate::claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}
