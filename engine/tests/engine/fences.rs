//! Leases and fences: who may write for a job.

use leasehold_engine::{
    Place, Resource,
    store::{Outcome, Renewed, Settled},
    testing::{Lab, Puppet},
};

use crate::{claim, claim_of, claim_one, expect_place, settle};

#[tokio::test]
async fn e3_a_stale_worker_cannot_settle_a_rescued_job() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, old) = claim_one(&lab, "w1").await;
    lab.at(15_000);
    assert_eq!(lab.store.rescue(0, 10).await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(settle(&lab, &id, old, Outcome::Done).await, Settled::Stale, "even before another claims it");
    let (_, new) = claim_one(&lab, "w2").await;
    assert!(new > old);
    assert_eq!(settle(&lab, &id, old, Outcome::Dead).await, Settled::Stale);
    expect_place(&lab, &id, Place::Running).await;
    assert_eq!(settle(&lab, &id, new, Outcome::Done).await, Settled::Ok);
    expect_place(&lab, &id, Place::Succeeded).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_lease_is_rescued_at_its_end_and_not_a_millisecond_before() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w1").await;
    lab.at(14_999);
    assert!(lab.store.rescue(0, 10).await.unwrap().is_empty());
    assert_eq!(lab.store.renew(0, &[(id.clone(), fence)], 15_000).await.unwrap(), [Renewed::Held]);
    lab.at(29_998);
    assert!(lab.store.rescue(0, 10).await.unwrap().is_empty());
    lab.at(29_999);
    assert_eq!(lab.store.rescue(0, 10).await.unwrap().len(), 1);
    assert_eq!(lab.store.renew(0, &[(id.clone(), fence)], 15_000).await.unwrap(), [Renewed::Lost]);
    let (_, fence) = claim_one(&lab, "w2").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn fences_grow_over_all_jobs_and_survive_a_clock_that_goes_back() {
    let lab = Lab::new().await;
    let mut last = 0;
    for round in 0..5 {
        lab.at(-round * 60_000);
        for _ in 0..3 {
            lab.enqueue(Puppet::job(&lab.store, "done")).await;
        }
        for job in claim(&lab, "w", 3).await.jobs {
            assert!(job.fence > last);
            last = job.fence;
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_stale_settlement_spoils_no_other_in_its_batch() {
    let lab = Lab::new().await;
    for _ in 0..2 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    let jobs = claim(&lab, "w", 2).await.jobs;
    let endings = [
        crate::ending(&jobs[0].id, jobs[0].fence + 7, Outcome::Done),
        crate::ending(&jobs[1].id, jobs[1].fence, Outcome::Done),
    ];
    assert_eq!(lab.store.settle(0, &endings).await.unwrap(), [Settled::Stale, Settled::Ok]);
    settle(&lab, &jobs[0].id, jobs[0].fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn e10_claim_and_settle_sent_again_give_the_same_answers() {
    let lab = Lab::new().await;
    for _ in 0..5 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    let asked = claim_of("w", 1, 3);
    let first = lab.store.claim(0, &asked).await.unwrap();
    let again = lab.store.claim(0, &asked).await.unwrap();
    let pairs =
        |c: &leasehold_engine::store::Claimed| c.jobs.iter().map(|j| (j.id.clone(), j.fence)).collect::<Vec<_>>();
    assert_eq!(pairs(&first), pairs(&again));
    assert_eq!(first.jobs.len(), 3);
    for job in first.jobs {
        assert_eq!(settle(&lab, &job.id, job.fence, Outcome::Retry).await, Settled::Ok);
        let settled = lab.job(&job.id).await.record;
        assert_eq!(settle(&lab, &job.id, job.fence, Outcome::Done).await, Settled::Ok);
        let again = lab.job(&job.id).await.record;
        assert_eq!((again.seq, again.place, again.attempt), (settled.seq, Place::Scheduled, 1), "nothing changed");
    }
    for job in claim(&lab, "other", 5).await.jobs {
        settle(&lab, &job.id, job.fence, Outcome::Done).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_attempt_is_counted_at_claim_so_that_a_crash_counts() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    for round in 1..=3 {
        claim_one(&lab, "w").await;
        assert_eq!(lab.job(&id).await.record.attempt, round);
        lab.at(i64::from(round) * 20_000);
        lab.store.rescue(0, 10).await.unwrap();
    }
    let job = lab.job(&id).await.record;
    assert_eq!(job.place, Place::Dead);
    assert!(String::from_utf8_lossy(&job.error).contains("worker_lost"));
    lab.finish().await;
}

/// Most endings are plain: done, with nothing to say. They take a short way through the script.
#[tokio::test]
async fn a_plain_end_is_as_careful_as_any() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    let plain =
        |fence| leasehold_engine::store::Settlement { result: Vec::new(), ..crate::ending(&id, fence, Outcome::Done) };
    assert_eq!(lab.store.settle(0, &[plain(fence - 1)]).await.unwrap(), [Settled::Stale]);
    expect_place(&lab, &id, Place::Running).await;
    assert_eq!(lab.store.settle(0, &[plain(fence), plain(fence)]).await.unwrap(), [Settled::Ok, Settled::Ok]);
    let settled = lab.job(&id).await.record;
    lab.at(10);
    assert_eq!(lab.store.settle(0, &[plain(fence)]).await.unwrap(), [Settled::Ok], "sent again");
    let again = lab.job(&id).await.record;
    assert_eq!((again.seq, again.finished_at, again.place), (settled.seq, settled.finished_at, Place::Succeeded));
    let words: Vec<_> = again.events.iter().map(|e| e.word.as_str()).collect();
    assert_eq!(words, ["accepted", "started", "succeeded"]);
    lab.finish().await;
}

#[tokio::test]
async fn a_plain_end_after_a_cancel_or_under_a_lock_takes_the_long_way() {
    let lab = Lab::new().await;
    let mut job = Puppet::job(&lab.store, "done");
    job.resources = vec![Resource::exclusive("dc:1")];
    lab.enqueue(job.clone()).await;
    let follower = lab.enqueue(leasehold_engine::NewJob { id: lab.store.new_id("t-001"), ..job }).await;
    let (id, fence) = claim_one(&lab, "w").await;
    let plain = leasehold_engine::store::Settlement { result: Vec::new(), ..crate::ending(&id, fence, Outcome::Done) };
    lab.store.settle(0, &[plain]).await.unwrap();
    expect_place(&lab, &follower, Place::Ready).await;
    let (id, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}
