//! For each way out of a place: the store makes what `next()` says.

use leasehold_engine::{
    JobId, NewJob, Place, Resource,
    model::{CAUSES, Cause, next},
    store::Outcome,
    testing::{Lab, Puppet},
};

use crate::{claim_one, expect_place, settle};

const HELD: &str = "dc:1";

async fn with_resource(lab: &Lab) -> JobId {
    let mut job = Puppet::job(&lab.store, "done");
    job.resources = vec![Resource::exclusive(HELD)];
    lab.enqueue(job).await
}

async fn planned(lab: &Lab, resource: bool) -> JobId {
    let mut job: NewJob = Puppet::job(&lab.store, "done");
    job.run_at = Some(leasehold_engine::testing::NOON + 1000);
    job.resources = resource.then(|| Resource::exclusive(HELD)).into_iter().collect();
    lab.enqueue(job).await
}

/// Brings a job into `place`; `None` for places that this slice does not reach.
async fn bring(lab: &Lab, place: Place) -> Option<JobId> {
    let id = match place {
        Place::Scheduled => planned(lab, false).await,
        Place::Blocked => {
            with_resource(lab).await;
            with_resource(lab).await
        }
        Place::Ready => lab.enqueue(Puppet::job(&lab.store, "done")).await,
        Place::Waiting => return None,
        _ => {
            let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
            let (_, fence) = claim_one(lab, "w").await;
            let outcome = match place {
                Place::Running => return Some(id),
                Place::Succeeded => Outcome::Done,
                Place::Cancelled => Outcome::Cancelled,
                Place::Dead => Outcome::Dead,
                _ => Outcome::Unknown,
            };
            settle(lab, &id, fence, outcome).await;
            id
        }
    };
    expect_place(lab, &id, place).await;
    Some(id)
}

async fn cause(lab: &Lab, id: &JobId, cause: Cause) {
    let fence = lab.job(id).await.record.fence;
    let settled = match cause {
        Cause::Done => Outcome::Done,
        Cause::Postpone => Outcome::Retry,
        Cause::Fail => Outcome::Dead,
        Cause::Release => Outcome::Release,
        Cause::Doubt => Outcome::Unknown,
        _ => return cause_otherwise(lab, id, cause).await,
    };
    settle(lab, id, fence, settled).await;
}

async fn cause_otherwise(lab: &Lab, id: &JobId, cause: Cause) {
    match cause {
        Cause::Due | Cause::DueButHeld => {
            lab.at(1000);
            lab.store.promote(0, 10).await.unwrap();
        }
        Cause::Freed => {
            let (holder, fence) = claim_one(lab, "w").await;
            settle(lab, &holder, fence, Outcome::Done).await;
        }
        Cause::Claim => {
            claim_one(lab, "w").await;
        }
        Cause::Cancel => {
            lab.store.cancel(id, "", None).await.unwrap();
            let record = lab.job(id).await.record;
            if record.place == Place::Running {
                settle(lab, id, record.fence, Outcome::Cancelled).await;
            }
        }
        Cause::Rescue => {
            lab.at(20_000);
            lab.store.rescue(0, 10).await.unwrap();
        }
        Cause::Exhaust => {
            for n in 1..=3 {
                lab.at(n * 20_000);
                lab.store.rescue(0, 10).await.unwrap();
                if n < 3 {
                    claim_one(lab, "w").await;
                }
            }
        }
        Cause::Revive => {
            lab.store.revive(id, "").await.unwrap();
        }
        _ => {
            lab.store.resolve(id, true, b"1", "").await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_scripts_make_what_next_says() {
    let mut seen = 0;
    for from in Place::ALL {
        for by in CAUSES {
            let Some(to) = next(from, by) else { continue };
            if from == Place::Waiting || (from, by) == (Place::Scheduled, Cause::DueButHeld) {
                continue;
            }
            let lab = Lab::new().await;
            let id = bring(&lab, from).await.unwrap();
            cause(&lab, &id, by).await;
            assert_eq!(lab.place(&id).await, to, "{from} by {by:?}");
            let report = lab.store.audit().await.unwrap();
            assert!(report.findings.is_empty(), "{from} by {by:?}: {:#?}", report.findings);
            seen += 1;
            clean(lab).await;
        }
    }
    assert!(seen >= 15, "{seen}");
}

#[tokio::test]
async fn a_due_job_whose_resource_is_held_is_blocked() {
    let lab = Lab::new().await;
    let holder = with_resource(&lab).await;
    let id = planned(&lab, true).await;
    lab.at(1000);
    lab.store.promote(0, 10).await.unwrap();
    expect_place(&lab, &holder, Place::Ready).await;
    expect_place(&lab, &id, Place::Blocked).await;
    clean(lab).await;
}

#[tokio::test]
async fn a_planned_job_starts_at_its_millisecond_and_not_before() {
    let lab = Lab::new().await;
    let id = planned(&lab, false).await;
    lab.at(999);
    assert!(crate::claim(&lab, "w", 1).await.jobs.is_empty());
    lab.at(1000);
    assert_eq!(crate::claim(&lab, "w", 1).await.jobs[0].id, id, "the claim itself promotes");
    clean(lab).await;
}

/// Brings every job to its end, so that the lab may close.
pub(crate) async fn clean(lab: Lab) {
    for _ in 0..4 {
        for place in [Place::Scheduled, Place::Blocked, Place::Ready] {
            let filter = leasehold_engine::store::JobFilter { place: Some(place), ..Default::default() };
            for job in lab.store.jobs(&filter, None, 100).await.unwrap().jobs {
                lab.store.cancel(&job.id, "", None).await.unwrap();
            }
        }
        let filter = leasehold_engine::store::JobFilter { place: Some(Place::Running), ..Default::default() };
        for job in lab.store.jobs(&filter, None, 100).await.unwrap().jobs {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    lab.finish().await;
}

/// The same for many ready jobs.
pub(crate) async fn clean_many(lab: Lab) {
    loop {
        let got = crate::claim(&lab, "w", 250).await.jobs;
        if got.is_empty() {
            break;
        }
        for job in got {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
    }
    lab.finish().await;
}
