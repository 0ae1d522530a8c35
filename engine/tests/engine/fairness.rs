//! Tenants take turns within a queue and priority; priorities come first.

use leasehold_engine::{
    JobId, NewJob, Place, Priority,
    store::{Claim, Outcome},
    testing::{Lab, Puppet},
};

use crate::{claim, claim_of, ending, expect_place};

fn of(lab: &Lab, tenant: &str, priority: Priority) -> NewJob {
    let mut job = Puppet::job(&lab.store, "done");
    job.id = lab.store.new_id(tenant);
    job.tenant = tenant.to_owned();
    job.priority = priority;
    job
}

async fn many(lab: &Lab, tenant: &str, how_many: usize) -> Vec<JobId> {
    let jobs: Vec<_> = (0..how_many).map(|_| of(lab, tenant, Priority::Normal)).collect();
    lab.store.enqueue(&jobs, 100_000).await.unwrap();
    jobs.into_iter().map(|job| job.id).collect()
}

/// Claims `want` at a time until nothing is ready; the tenants in the order in which their jobs started.
async fn turns(lab: &Lab, want: usize) -> Vec<String> {
    let mut order = Vec::new();
    loop {
        let jobs = claim(lab, "w", want).await.jobs;
        if jobs.is_empty() {
            return order;
        }
        let endings: Vec<_> = jobs.iter().map(|job| ending(&job.id, job.fence, Outcome::Done)).collect();
        lab.store.settle(0, &endings).await.unwrap();
        order.extend(jobs.into_iter().map(|job| job.tenant));
    }
}

#[tokio::test]
async fn a_tenant_with_a_long_line_does_not_hold_up_another() {
    let lab = Lab::new().await;
    many(&lab, "t-large", 2000).await;
    let first = claim(&lab, "w", 100).await.jobs;
    many(&lab, "t-small", 1).await;
    let second = claim(&lab, "w", 100).await.jobs;
    assert!(second.iter().any(|job| job.tenant == "t-small"), "the small tenant is served by the next claim");
    assert!(second.len() >= 51, "and the large one goes on");
    for jobs in [first, second] {
        let endings: Vec<_> = jobs.iter().map(|job| ending(&job.id, job.fence, Outcome::Done)).collect();
        lab.store.settle(0, &endings).await.unwrap();
    }
    let rest = turns(&lab, 500).await.len();
    let succeeded = lab.store.counts().await.unwrap().iter().find(|c| c.place == Place::Succeeded).map(|c| c.jobs);
    assert_eq!((rest > 1700, succeeded), (true, Some(2001)));
    lab.finish().await;
}

#[tokio::test]
async fn one_job_at_a_time_goes_round_the_tenants() {
    let lab = Lab::new().await;
    for tenant in ["t-a", "t-b", "t-c"] {
        many(&lab, tenant, 4).await;
    }
    let order = turns(&lab, 1).await;
    assert_eq!(order.len(), 12);
    for round in order.chunks(3) {
        let mut round = round.to_vec();
        round.sort();
        assert_eq!(round, ["t-a", "t-b", "t-c"], "{order:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn more_tenants_than_places_all_get_their_turn() {
    let lab = Lab::new().await;
    for n in 0..250 {
        many(&lab, &format!("t-{n}"), 2).await;
    }
    let order = turns(&lab, 10).await;
    let first: std::collections::BTreeSet<_> = order[..250].iter().collect();
    assert_eq!(first.len(), 250, "nobody goes twice before all went once");
    assert_eq!(order.len(), 500);
    lab.finish().await;
}

#[tokio::test]
async fn four_priorities_go_one_before_the_other_whoever_asks() {
    let lab = Lab::new().await;
    for (tenant, priority) in [
        ("t-a", Priority::Low),
        ("t-a", Priority::Normal),
        ("t-b", Priority::Critical),
        ("t-b", Priority::Low),
        ("t-a", Priority::High),
    ] {
        lab.enqueue(of(&lab, tenant, priority)).await;
    }
    let mut seen = Vec::new();
    for _ in 0..5 {
        let job = claim(&lab, "w", 1).await.jobs.remove(0);
        lab.store.settle(0, &[ending(&job.id, job.fence, Outcome::Done)]).await.unwrap();
        seen.push(job.priority);
    }
    assert_eq!(seen, [Priority::Critical, Priority::High, Priority::Normal, Priority::Low, Priority::Low]);
    lab.finish().await;
}

#[tokio::test]
async fn a_kind_unknown_to_this_worker_is_parked_and_goes_on_with_one_that_knows_it() {
    let lab = Lab::new().await;
    let id = lab.enqueue(of(&lab, "t-a", Priority::Normal)).await;
    let other = NewJob { kind: "other".to_owned(), ..of(&lab, "t-a", Priority::Normal) };
    let other = lab.enqueue(other).await;
    let old = Claim { kinds: vec!["other".to_owned()], ..claim_of("old", 1, 10) };
    let got = lab.store.claim(0, &old).await.unwrap().jobs;
    assert_eq!(got.iter().map(|job| &job.id).collect::<Vec<_>>(), [&other], "what it knows, it does");
    expect_place(&lab, &id, Place::Blocked).await;
    let parked = lab.job(&id).await.record;
    assert_eq!((parked.attempt, parked.blocked_by), (0, leasehold_engine::model::BlockedBy::KindUnknown));
    let new = Claim { kinds: vec!["puppet".to_owned()], ..claim_of("new", 1, 10) };
    let found = lab.store.claim(0, &new).await.unwrap().jobs;
    assert_eq!(found.iter().map(|job| &job.id).collect::<Vec<_>>(), [&id]);
    for job in got.iter().chain(&found) {
        lab.store.settle(0, &[ending(&job.id, job.fence, Outcome::Done)]).await.unwrap();
    }
    lab.finish().await;
}
