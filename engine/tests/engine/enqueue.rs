//! Taking jobs in: idempotency, allowances, tickets, back-pressure.

use std::time::Duration;

use leasehold_engine::{
    Allowance, Enqueued, Idempotency, NewJob, TicketRefusal, TicketUse,
    store::Issued,
    testing::{Lab, NOON, Puppet},
};

use crate::{claim, settle};

fn keyed(lab: &Lab, says: &str, key: &str) -> NewJob {
    let mut job = Puppet::job(&lab.store, says);
    let mut digest = [0; 32];
    digest[..says.len()].copy_from_slice(says.as_bytes());
    job.idempotency = Some(Idempotency { key: key.to_owned(), digest, ttl: Duration::from_secs(3600) });
    job
}

async fn one(lab: &Lab, job: NewJob, max_live: u64) -> Enqueued {
    lab.store.enqueue(&[job], max_live).await.unwrap().remove(0)
}

async fn finish_all(lab: Lab) {
    for job in claim(&lab, "w", 1000).await.jobs {
        settle(&lab, &job.id, job.fence, leasehold_engine::store::Outcome::Done).await;
    }
    lab.finish().await;
}

#[tokio::test]
async fn eng_03_a_key_gives_the_first_job_again_and_refuses_another_payload() {
    let lab = Lab::new().await;
    let first = keyed(&lab, "done", "k1");
    let id = first.id.clone();
    assert_eq!(one(&lab, first, 100).await, Enqueued::Accepted(id.clone()));
    assert_eq!(one(&lab, keyed(&lab, "done", "k1"), 100).await, Enqueued::Duplicate(id.clone()));
    assert_eq!(one(&lab, keyed(&lab, "fail", "k1"), 100).await, Enqueued::Conflict(id));
    let mut foreign = keyed(&lab, "fail", "k1");
    foreign.tenant = "t-002".to_owned();
    assert!(matches!(one(&lab, foreign, 100).await, Enqueued::Accepted(_)), "another tenant's keys are its own");
    finish_all(lab).await;
}

#[tokio::test]
async fn e10_an_enqueue_sent_again_under_the_same_id_takes_nothing_twice() {
    let lab = Lab::new().await;
    let mut job = Puppet::job(&lab.store, "done");
    job.allowance = Some(Allowance { name: "a".to_owned(), limit: 5, resets_at: NOON + 1000, refund: true });
    for _ in 0..3 {
        assert_eq!(one(&lab, job.clone(), 100).await, Enqueued::Accepted(job.id.clone()));
    }
    assert_eq!(lab.store.allowance_used("t-001", "a").await.unwrap(), 1);
    finish_all(lab).await;
}

#[tokio::test]
async fn quota_03_of_twenty_jobs_at_once_one_gets_the_last_unit() {
    let lab = Lab::new().await;
    let jobs: Vec<_> = (0..20)
        .map(|_| {
            let mut job = Puppet::job(&lab.store, "done");
            job.allowance = Some(Allowance { name: "sql".to_owned(), limit: 1, resets_at: NOON + 1000, refund: true });
            job
        })
        .collect();
    let answers = futures::future::join_all(jobs.into_iter().map(|job| one(&lab, job, 100))).await;
    assert_eq!(answers.iter().filter(|a| matches!(a, Enqueued::Accepted(_))).count(), 1);
    assert_eq!(answers.iter().filter(|a| matches!(a, Enqueued::AllowanceSpent { used: 1 })).count(), 19);
    finish_all(lab).await;
}

#[tokio::test]
async fn quota_03_a_failure_for_good_gives_the_unit_back_if_the_rule_says_so() {
    let lab = Lab::new().await;
    for (refund, used) in [(true, 0), (false, 1)] {
        let mut job = Puppet::job(&lab.store, "done");
        job.allowance = Some(Allowance { name: "sql".to_owned(), limit: 1, resets_at: NOON + 1000, refund });
        lab.enqueue(job).await;
        let (id, fence) = crate::claim_one(&lab, "w").await;
        settle(&lab, &id, fence, leasehold_engine::store::Outcome::Dead).await;
        assert_eq!(lab.store.allowance_used("t-001", "sql").await.unwrap(), used);
    }
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_full_store_refuses_and_writes_nothing() {
    let lab = Lab::new().await;
    lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let refused = Puppet::job(&lab.store, "done");
    assert_eq!(one(&lab, refused.clone(), 1).await, Enqueued::Full { live: 1 });
    assert!(lab.store.job(&refused.id).await.unwrap().is_none());
    finish_all(lab).await;
}

#[tokio::test]
async fn verify_02_a_ticket_is_spent_once_and_locks_after_its_tries() {
    let lab = Lab::new().await;
    let ttl = Duration::from_secs(300);
    let issue = |id: &'static str| {
        lab.store.ticket_issue("t-001", (id, "right", "u1/sql/dc1"), 5, ttl, Duration::from_secs(60))
    };
    assert!(matches!(issue("c1").await.unwrap(), Issued::Ok { .. }));
    assert_eq!(issue("c2").await.unwrap(), Issued::Wait { ms: 60_000 }, "60 s between two codes");
    let with = |id: &str, digest: &str, binding: &str| {
        let mut job = Puppet::job(&lab.store, "done");
        job.ticket = Some(TicketUse { id: id.to_owned(), digest: digest.to_owned(), binding: binding.to_owned() });
        job
    };
    let refused = |why, tries_left| Enqueued::TicketRefused { why, tries_left };
    assert_eq!(one(&lab, with("c1", "wrong", "u1/sql/dc1"), 9).await, refused(TicketRefusal::Wrong, 4));
    assert_eq!(one(&lab, with("c1", "right", "u1/sql/dc2"), 9).await, refused(TicketRefusal::Other, 3));
    assert!(matches!(one(&lab, with("c1", "right", "u1/sql/dc1"), 9).await, Enqueued::Accepted(_)));
    assert_eq!(one(&lab, with("c1", "right", "u1/sql/dc1"), 9).await, refused(TicketRefusal::Missing, 0), "spent");
    lab.at(60_000);
    assert!(matches!(issue("c3").await.unwrap(), Issued::Ok { .. }));
    for left in (0..5).rev() {
        assert_eq!(one(&lab, with("c3", "wrong", "u1/sql/dc1"), 9).await, refused(TicketRefusal::Wrong, left));
    }
    assert_eq!(one(&lab, with("c3", "right", "u1/sql/dc1"), 9).await, refused(TicketRefusal::Locked, 0));
    lab.at(120_000);
    assert!(matches!(issue("c4").await.unwrap(), Issued::Ok { .. }));
    lab.at(120_000 + 300_000);
    assert_eq!(one(&lab, with("c4", "right", "u1/sql/dc1"), 9).await, refused(TicketRefusal::Expired, 0));
    finish_all(lab).await;
}

#[tokio::test]
async fn e10_a_wrong_code_that_is_sent_again_costs_no_other_try() {
    let lab = Lab::new().await;
    let (ttl, gap) = (Duration::from_secs(300), Duration::from_secs(60));
    lab.store.ticket_issue("t-001", ("c1", "right", "u1/sql/dc1"), 2, ttl, gap).await.unwrap();
    let mut job = Puppet::job(&lab.store, "done");
    let mut ticket = TicketUse { id: "c1".into(), digest: "wrong".into(), binding: "u1/sql/dc1".into() };
    job.ticket = Some(ticket.clone());
    let wrong = |tries_left| Enqueued::TicketRefused { why: TicketRefusal::Wrong, tries_left };
    for _ in 0..3 {
        assert_eq!(one(&lab, job.clone(), 9).await, wrong(1), "the same request has the same answer");
    }
    ticket.digest = "as wrong".into();
    job.ticket = Some(ticket.clone());
    assert_eq!(one(&lab, job.clone(), 9).await, wrong(0), "another code is another try");
    assert_eq!(one(&lab, job.clone(), 9).await, wrong(0));
    ticket.digest = "right".into();
    job.ticket = Some(ticket);
    let locked = Enqueued::TicketRefused { why: TicketRefusal::Locked, tries_left: 0 };
    assert_eq!(one(&lab, job, 9).await, locked);
    lab.finish().await;
}

#[tokio::test]
async fn a_bulk_of_a_thousand_is_taken_in_whole_and_in_order() {
    let lab = Lab::new().await;
    let jobs: Vec<_> = (0..1000).map(|_| Puppet::job(&lab.store, "done")).collect();
    let answers = lab.store.enqueue(&jobs, 10_000).await.unwrap();
    assert!(answers.iter().zip(&jobs).all(|(a, j)| *a == Enqueued::Accepted(j.id.clone())));
    let got: Vec<_> = claim(&lab, "w", 250).await.jobs.into_iter().map(|j| j.id).collect();
    assert_eq!(got, jobs[..250].iter().map(|j| j.id.clone()).collect::<Vec<_>>(), "first in, first out");
    for id in got {
        let fence = lab.job(&id).await.record.fence;
        settle(&lab, &id, fence, leasehold_engine::store::Outcome::Done).await;
    }
    for _ in 0..3 {
        for job in claim(&lab, "w", 250).await.jobs {
            settle(&lab, &job.id, job.fence, leasehold_engine::store::Outcome::Done).await;
        }
    }
    lab.finish().await;
}
