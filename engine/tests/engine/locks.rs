//! One job at a time on a resource, first come first served (ENG-09, SQL-18).

use leasehold_engine::{
    JobId, Place, Resource,
    store::{Cancelled, Outcome, Resolution},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim_one, expect_place, settle};

async fn on(lab: &Lab, resource: &str, run_at: Option<i64>) -> JobId {
    let mut job = Puppet::job(&lab.store, "done");
    job.resources = vec![Resource::exclusive(resource)];
    job.run_at = run_at.map(|ms| NOON + ms);
    lab.enqueue(job).await
}

#[tokio::test]
async fn eng_09_waiters_go_in_the_order_of_their_planned_times() {
    let lab = Lab::new().await;
    let first = on(&lab, "dc:1", None).await;
    let (third, second) = (on(&lab, "dc:1", Some(2000)).await, on(&lab, "dc:1", Some(1000)).await);
    let other = on(&lab, "dc:2", None).await;
    lab.at(3000);
    lab.store.promote(0, 10).await.unwrap();
    for (id, place) in
        [(&first, Place::Ready), (&second, Place::Blocked), (&third, Place::Blocked), (&other, Place::Ready)]
    {
        expect_place(&lab, id, place).await;
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let (id, fence) = claim_one(&lab, "w").await;
        settle(&lab, &id, fence, Outcome::Done).await;
        order.push(id);
    }
    assert_eq!(order, [first, other, second, third]);
    lab.finish().await;
}

#[tokio::test]
async fn a_cancelled_holder_lets_the_next_go_and_a_cancelled_waiter_is_passed_over() {
    let lab = Lab::new().await;
    let (first, second, third) =
        (on(&lab, "dc:1", None).await, on(&lab, "dc:1", None).await, on(&lab, "dc:1", None).await);
    assert_eq!(lab.store.cancel(&second, "", None).await.unwrap(), Cancelled::Now);
    assert_eq!(lab.store.cancel(&first, "", None).await.unwrap(), Cancelled::Now);
    expect_place(&lab, &third, Place::Ready).await;
    let (id, fence) = claim_one(&lab, "w").await;
    assert_eq!(id, third);
    settle(&lab, &id, fence, Outcome::Done).await;
    assert_eq!(lab.store.resource_holder("t-001", "dc:1").await.unwrap(), None);
    lab.finish().await;
}

#[tokio::test]
async fn a_job_in_the_middle_of_its_work_keeps_its_resource_while_it_waits_to_retry() {
    let lab = Lab::with_running_clock().await;
    let puppet = Puppet::new();
    let mut job = Puppet::job(&lab.store, "steps");
    job.resources = vec![Resource::exclusive("dc:1")];
    let id = lab.enqueue(job).await;
    let follower = on(&lab, "dc:1", None).await;
    let mut worker = lab.worker("w", puppet.clone()).await;
    lab.until(&id, Place::Succeeded).await;
    let done = lab.until(&follower, Place::Succeeded).await.record;
    assert!(done.started_at >= lab.job(&id).await.record.finished_at, "the follower began before the first had ended");
    worker.drain(std::time::Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_unknown_job_keeps_its_resource_until_it_is_resolved() {
    let lab = Lab::new().await;
    let id = on(&lab, "dc:1", None).await;
    let follower = on(&lab, "dc:1", None).await;
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Unknown).await;
    expect_place(&lab, &follower, Place::Blocked).await;
    lab.store.resolve(&id, Resolution::of_the_only(true, b"1"), "").await.unwrap();
    for expected in [id, follower] {
        let (got, fence) = claim_one(&lab, "w").await;
        assert_eq!(got, expected);
        settle(&lab, &got, fence, Outcome::Done).await;
    }
    lab.finish().await;
}
