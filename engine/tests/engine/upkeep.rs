//! Retention and bounded work.

use leasehold_engine::{
    Place,
    store::Outcome,
    testing::{Lab, Puppet},
    upkeep::{self, Retention, UpkeepOptions},
};

use crate::{claim, settle};

const DAY: i64 = 86_400_000;

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
async fn a_job_that_died_again_after_it_was_revived_keeps_no_older_one_from_being_forgotten() {
    for (keep, left) in [((90, 100), 1), ((1000, 2), 2)] {
        let lab = Lab::new().await;
        let mut ids = Vec::new();
        for day in 0..3 {
            lab.at(day * DAY);
            ids.push(lab.enqueue(Puppet::job(&lab.store, "done")).await);
            let (id, fence) = crate::claim_one(&lab, "w").await;
            settle(&lab, &id, fence, Outcome::Dead).await;
        }
        for day in [88, 89] {
            lab.at(day * DAY);
            lab.store.revive(&ids[0], "").await.unwrap();
            let (id, fence) = crate::claim_one(&lab, "w").await;
            settle(&lab, &id, fence, Outcome::Dead).await;
        }
        lab.at(93 * DAY);
        let dead = Retention { max_age_ms: keep.0 * DAY as u64, max_count: keep.1 };
        let options = UpkeepOptions { dead, ..UpkeepOptions::default() };
        for _ in 0..3 {
            upkeep::prune(&lab.store, &options).await.unwrap();
        }
        let places = lab.store.counts().await.unwrap();
        let dead = places.iter().find(|c| c.place == Place::Dead).map(|c| c.jobs);
        assert_eq!(dead, Some(left), "the oldest are forgotten");
        assert_eq!(lab.place(&ids[0]).await, Place::Dead, "and the one that ended last is kept");
        let all = UpkeepOptions { dead: Retention { max_age_ms: 0, max_count: 0 }, ..UpkeepOptions::default() };
        upkeep::prune(&lab.store, &all).await.unwrap();
        let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*:void:*").query(&mut connection).unwrap();
        assert!(keys.is_empty(), "nothing is remembered of entries that are gone: {keys:?}");
        lab.finish().await;
    }
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
