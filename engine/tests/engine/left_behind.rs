//! What the model test found, each in a few lines: jobs that were left behind, units that were lost.

use leasehold_engine::{
    Allowance, JobId, NewJob, Place, Resource,
    model::gate::{Gate, Limit, LimitScope, Note, Rate},
    store::{Cancelled, Edit, Edited, Outcome, Revived},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim, claim_one, expect_place, places::clean, settle};

async fn on(lab: &Lab, resources: &[Resource]) -> JobId {
    lab.enqueue(NewJob { resources: resources.to_vec(), ..Puppet::job(&lab.store, "done") }).await
}

fn later(run_in: i64) -> Edit {
    Edit {
        expected_seq: None,
        cutoff: None,
        run_at: Some(NOON + run_in),
        meta: "{}".into(),
        args: "done".into(),
        note: String::new(),
        ticket: None,
    }
}

#[tokio::test]
async fn who_may_share_goes_on_when_the_one_before_it_in_line_gives_up() {
    let lab = Lab::new().await;
    let (shared, exclusive) = ([Resource::shared("host:1")], [Resource::exclusive("host:1")]);
    on(&lab, &shared).await;
    let (gives_up, behind) = (on(&lab, &exclusive).await, on(&lab, &shared).await);
    expect_place(&lab, &behind, Place::Blocked).await;
    assert_eq!(lab.store.cancel(&gives_up, "", None).await.unwrap(), Cancelled::Now);
    lab.store.promote(0, 10).await.unwrap();
    expect_place(&lab, &behind, Place::Ready).await;
    clean(lab).await;
}

#[tokio::test]
async fn a_blocked_job_that_is_put_off_keeps_nothing_from_others() {
    let lab = Lab::new().await;
    let (first, second) = (Resource::exclusive("dc:1"), Resource::exclusive("dc:2"));
    on(&lab, std::slice::from_ref(&second)).await;
    let put_off = on(&lab, &[first.clone(), second]).await;
    let waits = on(&lab, &[first]).await;
    expect_place(&lab, &waits, Place::Blocked).await;
    assert!(matches!(lab.store.edit(&put_off, &later(86_400_000)).await.unwrap(), Edited::Ok(_)));
    expect_place(&lab, &put_off, Place::Scheduled).await;
    expect_place(&lab, &waits, Place::Ready).await;
    clean(lab).await;
}

#[tokio::test]
async fn e10_an_edit_that_made_the_job_due_says_so_when_it_is_sent_again() {
    let lab = Lab::new().await;
    let id = lab.enqueue(NewJob { run_at: Some(NOON + 5000), ..Puppet::job(&lab.store, "done") }).await;
    let edited = lab.store.edit(&id, &later(0)).await.unwrap();
    expect_place(&lab, &id, Place::Ready).await;
    assert_eq!(lab.store.edit(&id, &later(0)).await.unwrap(), edited, "sent again");
    clean(lab).await;
}

#[tokio::test]
async fn quota_03_a_revived_job_takes_its_unit_again_and_gives_it_back_once() {
    let lab = Lab::new().await;
    let units = || Allowance { name: "sql".to_owned(), limit: 2, resets_at: NOON + 1000, refund: true };
    for _ in 0..2 {
        lab.enqueue(NewJob { allowance: Some(units()), ..Puppet::job(&lab.store, "done") }).await;
    }
    let used = async || lab.store.allowance_used("t-001", "sql").await.unwrap();
    for _ in 0..3 {
        let (id, fence) = claim_one(&lab, "w").await;
        settle(&lab, &id, fence, Outcome::Dead).await;
        assert_eq!(used().await, 1, "given back");
        assert_eq!(lab.store.revive(&id, "").await.unwrap(), Revived::Ok(Place::Ready));
        assert_eq!(used().await, 2, "taken again");
    }
    clean(lab).await;
}

#[tokio::test]
async fn a_rate_that_is_lowered_lets_the_next_go_when_its_period_is_over() {
    let lab = Lab::new().await;
    let at_most = |count| {
        let rate = Some(Rate { count, period_ms: 5000 });
        Gate::Limit(Limit {
            scope: LimitScope::Kind("puppet".to_owned()),
            max_running: None,
            rate,
            note: Note::default(),
        })
    };
    let _ = lab.store.put_gate(&at_most(2)).await.unwrap();
    for _ in 0..3 {
        lab.enqueue(Puppet::job(&lab.store, "done")).await;
    }
    assert_eq!(claim(&lab, "w", 9).await.jobs.len(), 2);
    let _ = lab.store.put_gate(&at_most(1)).await.unwrap();
    assert_eq!(claim(&lab, "w", 9).await.jobs.len(), 0);
    lab.at(5000);
    assert_eq!(claim(&lab, "w", 9).await.jobs.len(), 1, "it waited for ever before");
    clean(lab).await;
}

#[tokio::test]
async fn a_queues_limit_holds_when_tenants_share_it_unevenly() {
    let lab = Lab::new().await;
    let scope = LimitScope::Queue("default".to_owned());
    let limit = Limit { scope, max_running: Some(3), rate: None, note: Note::default() };
    let _ = lab.store.put_gate(&Gate::Limit(limit)).await.unwrap();
    for tenant in ["t-001", "t-001", "t-002", "t-002"] {
        lab.enqueue(NewJob { tenant: tenant.to_owned(), ..Puppet::job(&lab.store, "done") }).await;
    }
    assert_eq!(claim(&lab, "w", 9).await.jobs.len(), 3, "half of three is not two for each");
    clean(lab).await;
}
