//! A job that dies with its worker is told of: at least once, whatever fails on the way.

use std::sync::Mutex;

use async_trait::async_trait;
use leasehold_engine::{
    JobId, JobView, Place,
    testing::{Lab, Puppet},
    upkeep::{self, Herald},
};

use crate::{claim_one, expect_place, settle};

/// Hears of deaths; the first time it cannot pass them on.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<JobId>>,
    was_deaf: Mutex<bool>,
}

#[async_trait]
impl Herald for Ear {
    async fn died(&self, job: &JobView) -> Result<(), String> {
        if !std::mem::replace(&mut *self.was_deaf.lock().unwrap(), true) {
            return Err("not now".to_owned());
        }
        self.heard.lock().unwrap().push(job.record.id.clone());
        Ok(())
    }
}

/// Claims the job and is never heard of again, until it has no attempt left.
async fn dies(lab: &Lab, from_ms: i64) -> JobId {
    let mut job = Puppet::job(&lab.store, "done");
    job.retry.max_attempts = 2;
    let id = lab.enqueue(job).await;
    for attempt in 1..=2 {
        claim_one(lab, "lost").await;
        lab.at(from_ms + attempt * 20_000);
        lab.store.rescue(0, 10).await.unwrap();
    }
    expect_place(lab, &id, Place::Dead).await;
    id
}

#[tokio::test]
async fn who_dies_with_its_worker_is_told_of_until_somebody_heard_it() {
    let lab = Lab::new().await;
    let id = dies(&lab, 0).await;
    let ear = Ear::default();
    assert_eq!(upkeep::tell_deaths(&lab.store, &ear).await.unwrap(), 0, "nobody could be told");
    assert_eq!(upkeep::tell_deaths(&lab.store, &ear).await.unwrap(), 1);
    assert_eq!(upkeep::tell_deaths(&lab.store, &ear).await.unwrap(), 0);
    assert_eq!(*ear.heard.lock().unwrap(), [id]);
    lab.finish().await;
}

#[tokio::test]
async fn who_was_revived_before_it_was_told_of_is_no_news() {
    let lab = Lab::new().await;
    let id = dies(&lab, 0).await;
    lab.store.revive(&id, "").await.unwrap();
    let ear = Ear { was_deaf: Mutex::new(true), ..Ear::default() };
    upkeep::tell_deaths(&lab.store, &ear).await.unwrap();
    assert!(ear.heard.lock().unwrap().is_empty());
    assert!(lab.store.untold(0, 10).await.unwrap().is_empty());
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, leasehold_engine::store::Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_second_death_is_told_of_though_the_first_was_noted_late() {
    let lab = Lab::new().await;
    let id = dies(&lab, 0).await;
    assert_eq!(lab.store.untold(0, 10).await.unwrap(), std::slice::from_ref(&id), "somebody begins to tell of it");
    lab.store.revive(&id, "").await.unwrap();
    for attempt in 1..=2 {
        claim_one(&lab, "lost").await;
        lab.at(60_000 + attempt * 20_000);
        lab.store.rescue(0, 10).await.unwrap();
    }
    lab.store.note_told(&id).await.unwrap();
    assert_eq!(lab.store.untold(0, 10).await.unwrap(), [id], "nobody was told that it died again");
    lab.finish().await;
}

#[tokio::test]
async fn when_too_many_die_unheard_it_is_said_how_many() {
    let lab = Lab::new().await;
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let nobody = lab.store.new_id("t-001");
    for _ in 0..100 {
        let ids = vec![nobody.as_str(); 1000];
        let _: u64 = redis::cmd("RPUSH").arg("{lh:0}:untold").arg(ids).query(&mut connection).unwrap();
    }
    let id = dies(&lab, 0).await;
    let ear = Ear { was_deaf: Mutex::new(true), ..Ear::default() };
    upkeep::tell_deaths(&lab.store, &ear).await.unwrap();
    upkeep::tell_deaths(&lab.store, &ear).await.unwrap();
    let alerts = lab.store.alerts(0, 10).await.unwrap();
    let said: Vec<_> = alerts.iter().map(|a| (a.word.as_str(), a.document.as_str())).collect();
    assert_eq!(said, [("deaths_untold", r#"{"jobs":1}"#)], "once");
    let _: u64 = redis::cmd("LREM").arg("{lh:0}:untold").arg(0).arg(nobody.as_str()).query(&mut connection).unwrap();
    upkeep::tell_deaths(&lab.store, &ear).await.unwrap();
    assert_eq!(*ear.heard.lock().unwrap(), [id]);
    lab.finish().await;
}

#[tokio::test]
async fn a_key_remembers_the_first_job_and_what_was_asked_for() {
    let lab = Lab::new().await;
    assert_eq!(lab.store.remembered("t-001", "k1").await.unwrap(), None);
    let mut job = Puppet::job(&lab.store, "done");
    let ttl = std::time::Duration::from_secs(60);
    job.idempotency = Some(leasehold_engine::Idempotency { key: "k1".into(), digest: [7; 32], ttl });
    let id = lab.enqueue(job).await;
    let (first, digest) = lab.store.remembered("t-001", "k1").await.unwrap().unwrap();
    assert_eq!((first, &digest[..]), (id, &[7; 32][..]));
    assert_eq!(lab.store.remembered("t-002", "k1").await.unwrap(), None, "each tenant's keys are its own");
    let (id, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, leasehold_engine::store::Outcome::Done).await;
    lab.finish().await;
}
