//! Resources that are shared, and several at a time: first come first served, taken in one order, never two exclusive holders.

use leasehold_engine::{
    JobId, NewJob, Place, Resource, StoreError,
    store::Outcome,
    testing::{Lab, NOON, Puppet},
};

use crate::{claim, claim_one, expect_place, settle};

async fn with(lab: &Lab, resources: &[Resource]) -> JobId {
    let mut job = Puppet::job(&lab.store, "done");
    job.resources = resources.to_vec();
    lab.enqueue(job).await
}

fn shared(name: &str) -> Resource {
    Resource::shared(name)
}

fn alone(name: &str) -> Resource {
    Resource::exclusive(name)
}

/// Claims and settles one job after the other; in which order they went.
async fn run_all(lab: &Lab) -> Vec<JobId> {
    let mut order = Vec::new();
    loop {
        let got = claim(lab, "w", 1).await.jobs;
        let Some(job) = got.first() else { return order };
        settle(lab, &job.id, job.fence, Outcome::Done).await;
        order.push(job.id.clone());
    }
}

#[tokio::test]
async fn those_who_share_go_together_and_one_alone_waits_for_all_of_them() {
    let lab = Lab::new().await;
    let (a, b) = (with(&lab, &[shared("host:1")]).await, with(&lab, &[shared("host:1")]).await);
    let writer = with(&lab, &[alone("host:1")]).await;
    let (first, second) = (claim_one(&lab, "w").await, claim_one(&lab, "w").await);
    expect_place(&lab, &writer, Place::Blocked).await;
    settle(&lab, &a, first.1, Outcome::Done).await;
    expect_place(&lab, &writer, Place::Blocked).await;
    settle(&lab, &b, second.1, Outcome::Done).await;
    expect_place(&lab, &writer, Place::Ready).await;
    run_all(&lab).await;
    lab.finish().await;
}

#[tokio::test]
async fn nobody_who_shares_goes_before_one_who_waits_to_be_alone() {
    let lab = Lab::new().await;
    let reader = with(&lab, &[shared("host:1")]).await;
    lab.at(1);
    let writer = with(&lab, &[alone("host:1")]).await;
    lab.at(2);
    let late = with(&lab, &[shared("host:1")]).await;
    let later = with(&lab, &[shared("host:1")]).await;
    expect_place(&lab, &late, Place::Blocked).await;
    let (id, fence) = claim_one(&lab, "w").await;
    assert_eq!(id, reader);
    settle(&lab, &id, fence, Outcome::Done).await;
    for (id, place) in [(&writer, Place::Ready), (&late, Place::Blocked), (&later, Place::Blocked)] {
        expect_place(&lab, id, place).await;
    }
    assert_eq!(run_all(&lab).await, [writer, late, later]);
    lab.finish().await;
}

#[tokio::test]
async fn jobs_that_need_the_same_two_never_wait_for_each_other() {
    let lab = Lab::new().await;
    let one = with(&lab, &[alone("dc:1"), alone("host:1")]).await;
    let two = with(&lab, &[alone("host:1"), alone("dc:1")]).await;
    let host = with(&lab, &[alone("host:1")]).await;
    expect_place(&lab, &two, Place::Blocked).await;
    assert_eq!(run_all(&lab).await, [one, two, host], "each got both in its turn");
    lab.finish().await;
}

#[tokio::test]
async fn jobs_that_name_two_in_different_order_do_not_each_hold_what_the_other_needs() {
    let lab = Lab::new().await;
    let (dc, host) = (with(&lab, &[alone("dc:1")]).await, with(&lab, &[alone("host:1")]).await);
    lab.at(1);
    let one = with(&lab, &[alone("host:1"), alone("dc:1")]).await;
    lab.at(2);
    let two = with(&lab, &[alone("dc:1"), alone("host:1")]).await;
    assert_eq!(run_all(&lab).await, [dc, host, one, two], "nobody waits for ever");
    lab.finish().await;
}

#[tokio::test]
async fn what_a_blocked_job_holds_already_is_let_go_when_it_is_cancelled() {
    let lab = Lab::new().await;
    let host = with(&lab, &[alone("host:1")]).await;
    let both = with(&lab, &[alone("dc:1"), alone("host:1")]).await;
    let dc = with(&lab, &[alone("dc:1")]).await;
    expect_place(&lab, &dc, Place::Blocked).await;
    lab.store.cancel(&both, "", None).await.unwrap();
    expect_place(&lab, &dc, Place::Ready).await;
    assert_eq!(run_all(&lab).await, [host, dc]);
    lab.finish().await;
}

#[tokio::test]
async fn a_job_freed_and_blocked_again_in_one_call_is_in_one_place() {
    let lab = Lab::new().await;
    let dc = with(&lab, &[alone("dc:1")]).await;
    let host = with(&lab, &[alone("host:1")]).await;
    let both = with(&lab, &[alone("dc:1"), alone("host:1")]).await;
    let got = claim(&lab, "w", 2).await.jobs;
    let endings: Vec<_> = got.iter().map(|job| crate::ending(&job.id, job.fence, Outcome::Done)).collect();
    assert_eq!([&got[0].id, &got[1].id], [&dc, &host]);
    lab.store.settle(0, &endings).await.unwrap();
    expect_place(&lab, &both, Place::Ready).await;
    assert_eq!(run_all(&lab).await, [both]);
    lab.finish().await;
}

#[tokio::test]
async fn a_planned_job_takes_its_resources_when_it_is_due_and_not_before() {
    let lab = Lab::new().await;
    let mut planned = Puppet::job(&lab.store, "done");
    planned.resources = vec![alone("dc:1")];
    planned.run_at = Some(NOON + 1000);
    let planned = lab.enqueue(planned).await;
    let now = with(&lab, &[alone("dc:1")]).await;
    assert_eq!(run_all(&lab).await, [now]);
    lab.at(1000);
    assert_eq!(run_all(&lab).await, [planned]);
    lab.finish().await;
}

#[tokio::test]
async fn names_that_would_break_the_order_are_refused() {
    let lab = Lab::new().await;
    for name in ["", "~dc", "dc\n1"] {
        let job = NewJob { resources: vec![alone(name)], ..Puppet::job(&lab.store, "done") };
        let refused = lab.store.enqueue(&[job], 100).await;
        assert!(matches!(refused, Err(StoreError::BadName { what: "resource", .. })), "{name:?}");
    }
    lab.finish().await;
}
