//! Cancel in every place, edit, revive.

use leasehold_engine::{
    NewJob, Place,
    store::{Cancelled, Cutoff, Edit, Edited, JobFilter, Outcome, Renewed, Revived},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim, claim_one, expect_place, settle};

fn planned(lab: &Lab, in_ms: i64) -> NewJob {
    let mut job = Puppet::job(&lab.store, "done");
    job.run_at = Some(NOON + in_ms);
    job
}

const TEN_MINUTES: Cutoff = Cutoff { lead_ms: 600_000, inclusive: false };

#[tokio::test]
async fn sql_10_exactly_the_lead_is_too_late_and_a_millisecond_more_is_not() {
    let lab = Lab::new().await;
    let id = lab.enqueue(planned(&lab, 3_600_000)).await;
    lab.at(3_000_000);
    assert_eq!(lab.store.cancel(&id, "", Some(TEN_MINUTES)).await.unwrap(), Cancelled::TooLate(Place::Scheduled));
    expect_place(&lab, &id, Place::Scheduled).await;
    lab.at(2_999_999);
    assert_eq!(lab.store.cancel(&id, "", Some(TEN_MINUTES)).await.unwrap(), Cancelled::Now);
    assert_eq!(lab.store.cancel(&id, "", Some(TEN_MINUTES)).await.unwrap(), Cancelled::Now, "sent again");
    let id = lab.enqueue(planned(&lab, 2_999_999 + 600_000)).await;
    let inclusive = Cutoff { inclusive: true, ..TEN_MINUTES };
    assert_eq!(lab.store.cancel(&id, "", Some(inclusive)).await.unwrap(), Cancelled::Now);
    lab.finish().await;
}

#[tokio::test]
async fn e8_a_running_job_is_asked_to_stop_and_the_renewal_says_so() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
    assert_eq!(lab.store.renew(0, &[(id.clone(), fence)], 15_000).await.unwrap(), [Renewed::CancelRequested]);
    settle(&lab, &id, fence, Outcome::Retry).await;
    expect_place(&lab, &id, Place::Cancelled).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_cancel_that_lost_its_worker_ends_as_cancelled() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    claim_one(&lab, "w").await;
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.at(15_000);
    lab.store.rescue(0, 10).await.unwrap();
    expect_place(&lab, &id, Place::Cancelled).await;
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Now);
    lab.finish().await;
}

#[tokio::test]
async fn a_cancelled_job_deep_in_a_long_list_is_never_claimed() {
    let lab = Lab::new().await;
    let jobs: Vec<_> = (0..1500).map(|_| Puppet::job(&lab.store, "done")).collect();
    lab.store.enqueue(&jobs, 10_000).await.unwrap();
    lab.store.cancel(&jobs[3].id, "", None).await.unwrap();
    lab.store.cancel(&jobs[1200].id, "", None).await.unwrap();
    lab.store.revive(&jobs[1200].id, "").await.unwrap();
    let mut ran = Vec::new();
    loop {
        let got = claim(&lab, "w", 250).await.jobs;
        if got.is_empty() {
            break;
        }
        for job in got {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
            ran.push(job.id);
        }
    }
    assert_eq!(ran.len(), 1499, "each once");
    assert!(!ran.contains(&jobs[3].id));
    lab.finish().await;
}

#[tokio::test]
async fn an_edit_moves_the_job_and_refuses_a_stale_reader() {
    let lab = Lab::new().await;
    let id = lab.enqueue(planned(&lab, 3_600_000)).await;
    let seq = lab.job(&id).await.record.seq;
    let edit = Edit {
        expected_seq: Some(seq),
        cutoff: Some(TEN_MINUTES),
        run_at: Some(NOON + 7_200_000),
        meta: "{\"m\":1}".into(),
        args: "other".into(),
        note: String::new(),
        ticket: None,
    };
    let Edited::Ok(newer) = lab.store.edit(&id, &edit).await.unwrap() else { panic!("refused") };
    assert!(newer > seq);
    assert_eq!(lab.store.edit(&id, &edit).await.unwrap(), Edited::Ok(newer), "sent again");
    let record = lab.job(&id).await.record;
    assert_eq!(
        (&record.args[..], &record.meta[..], record.run_at),
        (&b"other"[..], &b"{\"m\":1}"[..], NOON + 7_200_000)
    );
    let stale = Edit { args: "third".into(), ..edit.clone() };
    assert_eq!(lab.store.edit(&id, &stale).await.unwrap(), Edited::Changed(newer));
    lab.at(6_600_000);
    let late = Edit { expected_seq: None, args: "late".into(), ..edit };
    assert_eq!(lab.store.edit(&id, &late).await.unwrap(), Edited::TooLate);
    lab.at(7_200_000);
    let (_, fence) = claim_one(&lab, "w").await;
    assert_eq!(lab.store.edit(&id, &late).await.unwrap(), Edited::NotScheduled(Place::Running));
    settle(&lab, &id, fence, Outcome::Done).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_dead_job_is_revived_with_fresh_attempts_and_a_succeeded_one_is_not() {
    let lab = Lab::new().await;
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Dead).await;
    assert_eq!(lab.store.revive(&id, "").await.unwrap(), Revived::Ok(Place::Ready));
    let (_, fence) = claim_one(&lab, "w").await;
    assert_eq!(lab.job(&id).await.record.attempt, 1);
    settle(&lab, &id, fence, Outcome::Done).await;
    assert_eq!(lab.store.revive(&id, "").await.unwrap(), Revived::NotFinal(Place::Succeeded));
    lab.finish().await;
}

#[tokio::test]
async fn listings_go_page_by_page_and_see_only_their_tenant() {
    let lab = Lab::new().await;
    let mut all: Vec<_> = (0..130).map(|_| Puppet::job(&lab.store, "done")).collect();
    for job in &mut all[..40] {
        job.tenant = "t-002".to_owned();
    }
    lab.store.enqueue(&all, 1000).await.unwrap();
    for (filter, many) in [
        (JobFilter { tenant: Some("t-001".to_owned()), ..Default::default() }, 90),
        (JobFilter { tenant: Some("t-002".to_owned()), ..Default::default() }, 40),
        (JobFilter { tenant: Some("t-00".to_owned()), ..Default::default() }, 0),
        (JobFilter { place: Some(Place::Ready), ..Default::default() }, 130),
        (JobFilter { place: Some(Place::Dead), ..Default::default() }, 0),
        (JobFilter { kind: Some("puppet".to_owned()), ..Default::default() }, 130),
        (JobFilter::default(), 130),
    ] {
        let (mut seen, mut cursor) = (std::collections::BTreeSet::new(), None);
        loop {
            let page = lab.store.jobs(&filter, cursor.as_deref(), 17).await.unwrap();
            assert!(page.jobs.len() <= 17);
            seen.extend(page.jobs.into_iter().map(|j| j.id));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), many, "{filter:?}");
    }
    let ready = lab.store.counts().await.unwrap().into_iter().find(|c| c.place == Place::Ready).unwrap();
    assert_eq!(ready.jobs, 130);
    crate::places::clean_many(lab).await;
}

#[tokio::test]
async fn a_revived_job_still_waits_for_its_planned_time() {
    let lab = Lab::new().await;
    let id = lab.enqueue(planned(&lab, 3_600_000)).await;
    lab.store.cancel(&id, "", None).await.unwrap();
    assert_eq!(lab.store.revive(&id, "").await.unwrap(), Revived::Ok(Place::Scheduled));
    assert_eq!(lab.job(&id).await.record.run_at, NOON + 3_600_000);
    lab.finish().await;
}
