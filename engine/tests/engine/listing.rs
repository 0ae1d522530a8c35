//! Pages of jobs: everything is listed once, whatever lies where, and each page costs a bounded amount.

use std::collections::BTreeSet;

use leasehold_engine::{
    JobId, NewJob, Place, Priority,
    model::gate::{Note, Scope},
    store::{JobFilter, Outcome, StoreError},
    testing::{Lab, NOON, Puppet},
};

use crate::{claim, claim_one, places::clean_many, settle};

fn of(lab: &Lab, tenant: &str, kind: &str) -> NewJob {
    let job = Puppet::job(&lab.store, "done");
    NewJob { id: lab.store.new_id(tenant), tenant: tenant.to_owned(), kind: kind.to_owned(), ..job }
}

/// Pages through all; the ids, and how many pages it took.
async fn all(lab: &Lab, filter: &JobFilter, limit: usize) -> (Vec<JobId>, usize) {
    let (mut ids, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = lab.store.jobs(filter, cursor.as_deref(), limit).await.unwrap();
        assert!(page.jobs.len() <= limit);
        pages += 1;
        ids.extend(page.jobs.into_iter().map(|job| job.id));
        cursor = page.next;
        if cursor.is_none() {
            return (ids, pages);
        }
    }
}

fn set(ids: Vec<JobId>) -> BTreeSet<JobId> {
    let (many, set) = (ids.len(), BTreeSet::from_iter(ids));
    assert_eq!(set.len(), many, "each once");
    set
}

fn in_place(place: Place) -> JobFilter {
    JobFilter { place: Some(place), ..JobFilter::default() }
}

#[tokio::test]
async fn ready_jobs_of_many_tenants_are_listed_page_by_page() {
    let lab = Lab::new().await;
    let mut meant = BTreeSet::new();
    for n in 0..120 {
        for priority in [Priority::Critical, Priority::Low] {
            let many = if n == 60 { 30 } else { 1 };
            for _ in 0..many {
                meant.insert(lab.enqueue(NewJob { priority, ..of(&lab, &format!("t-{n}"), "puppet") }).await);
            }
        }
    }
    for limit in [1, 7, 100, 1000] {
        let (ids, _) = all(&lab, &in_place(Place::Ready), limit).await;
        assert_eq!(set(ids), meant, "{limit} a page");
    }
    clean_many(lab).await;
}

#[tokio::test]
async fn the_ready_jobs_of_a_paused_tenant_are_listed_too() {
    let lab = Lab::new().await;
    let meant = BTreeSet::from([
        lab.enqueue(of(&lab, "t-paused", "puppet")).await,
        lab.enqueue(of(&lab, "t-other", "puppet")).await,
    ]);
    let scope = Scope::Tenant("t-paused".to_owned());
    let _ = lab.store.pause(&scope, &Note::default()).await.unwrap();
    let got = claim(&lab, "w", 10).await.jobs;
    assert_eq!(got.len(), 1);
    let (ids, _) = all(&lab, &in_place(Place::Ready), 10).await;
    assert_eq!(ids.len(), 1, "the claim took it out of the ring");
    assert_eq!(set(all(&lab, &JobFilter::default(), 1).await.0), meant);
    settle(&lab, &got[0].id, got[0].fence, Outcome::Done).await;
    let _ = lab.store.resume(&scope).await.unwrap();
    clean_many(lab).await;
}

#[tokio::test]
async fn finished_jobs_of_many_kinds_are_listed_and_a_kind_that_comes_meanwhile_shifts_nothing() {
    let lab = Lab::new().await;
    let end = async |kind: &str| {
        let id = lab.enqueue(of(&lab, "t-1", kind)).await;
        for job in claim(&lab, "w", 1).await.jobs {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
        }
        id
    };
    let mut meant = Vec::new();
    for kind in ["b", "d", "f"] {
        for _ in 0..3 {
            meant.push(end(kind).await);
        }
    }
    let of_kind = JobFilter { kind: Some("d".to_owned()), ..in_place(Place::Succeeded) };
    let newest_first: Vec<_> = meant[3..6].iter().rev().cloned().collect();
    assert_eq!(all(&lab, &of_kind, 2).await.0, newest_first);

    let first = lab.store.jobs(&in_place(Place::Succeeded), None, 5).await.unwrap();
    for kind in ["a", "c", "e"] {
        end(kind).await;
    }
    let (mut cursor, mut rest) = (first.next, Vec::new());
    while let Some(at) = cursor {
        let page = lab.store.jobs(&in_place(Place::Succeeded), Some(&at), 2).await.unwrap();
        rest.extend(page.jobs.into_iter().map(|job| job.id));
        cursor = page.next;
    }
    let seen = set(first.jobs.into_iter().map(|job| job.id).chain(rest).collect());
    assert!(meant.iter().all(|id| seen.contains(id)), "none of those that were there is missed");
    lab.finish().await;
}

#[tokio::test]
async fn e6_a_filter_that_fits_nothing_costs_a_bounded_amount_a_page() {
    let lab = Lab::new().await;
    let jobs: Vec<_> = (0..2500).map(|_| of(&lab, "t-1", "puppet")).collect();
    for some in jobs.chunks(500) {
        lab.store.enqueue(some, 1 << 40).await.unwrap();
    }
    let nobody = JobFilter { kind: Some("nobody".to_owned()), ..JobFilter::default() };
    let of_tenant = JobFilter { tenant: Some("t-1".to_owned()), ..nobody.clone() };
    for filter in [nobody, of_tenant] {
        let (ids, pages) = all(&lab, &filter, 100).await;
        assert!(ids.is_empty() && (3..10).contains(&pages), "{pages}");
    }
    clean_many(lab).await;
}

#[tokio::test]
async fn a_cursor_that_no_listing_gave_is_refused() {
    let lab = Lab::new().await;
    let id = lab.enqueue(of(&lab, "t-1", "puppet")).await;
    for cursor in ["", "x", "0.0.leases", "0.0.leases~nine", "0.0.finished:dead:x~1:"] {
        let refused = lab.store.jobs(&JobFilter::default(), Some(cursor), 10).await;
        let refused = match refused {
            // A list that is not there any more: it goes on behind it.
            Ok(page) => page.jobs.iter().all(|job| job.id == id) && cursor.ends_with(':'),
            Err(error) => matches!(error, StoreError::BadCursor),
        };
        assert!(refused, "{cursor}");
    }
    clean_many(lab).await;
}

/// Pages through a place while jobs are taken away after each page; those that were met.
async fn met(lab: &Lab, place: Place, mut take_away: impl AsyncFnMut(&[JobId])) -> BTreeSet<JobId> {
    let (mut met, mut cursor) = (BTreeSet::new(), None);
    loop {
        let page = lab.store.jobs(&in_place(place), cursor.as_deref(), 5).await.unwrap();
        let ids: Vec<_> = page.jobs.into_iter().map(|job| job.id).collect();
        take_away(&ids).await;
        met.extend(ids);
        cursor = page.next;
        if cursor.is_none() {
            return met;
        }
    }
}

#[tokio::test]
async fn a_job_that_stays_is_listed_while_others_go() {
    let lab = Lab::new().await;
    let cancel = async |ids: &[JobId]| {
        for id in ids {
            lab.store.cancel(id, "", None).await.unwrap();
        }
    };
    let mut meant = BTreeSet::new();
    for n in 0..60_u32 {
        // Some have a time of their own, many have one together.
        let run_at = Some(NOON + 3_600_000 + i64::from(n.min(20)));
        meant.insert(lab.enqueue(NewJob { run_at, ..of(&lab, "t-1", "puppet") }).await);
    }
    assert_eq!(met(&lab, Place::Scheduled, cancel).await, meant);

    let mut meant = BTreeSet::new();
    for n in 0..300 {
        meant.insert(lab.enqueue(of(&lab, &format!("t-{}", n % 150), "puppet")).await);
    }
    // Claims take from the heads of the lists and turn the ring; cancels take from anywhere.
    let mut claimed = BTreeSet::new();
    let seen = met(&lab, Place::Ready, async |ids: &[JobId]| {
        cancel(&ids[ids.len() / 2..]).await;
        for job in claim(&lab, "w", 2).await.jobs {
            settle(&lab, &job.id, job.fence, Outcome::Done).await;
            claimed.insert(job.id);
        }
    })
    .await;
    assert!(meant.iter().all(|id| seen.contains(id) || claimed.contains(id)), "one that stayed was not met");
    assert!(seen.len() > 100);
    clean_many(lab).await;
}

#[tokio::test]
async fn ended_jobs_are_listed_once_while_others_end() {
    let lab = Lab::new().await;
    let mut meant = Vec::new();
    let end = async || {
        let id = lab.enqueue(of(&lab, "t-1", "puppet")).await;
        let (_, fence) = claim_one(&lab, "w").await;
        settle(&lab, &id, fence, Outcome::Done).await;
        id
    };
    for _ in 0..20 {
        meant.push(end().await);
    }
    let (mut met, mut cursor) = (Vec::new(), None);
    loop {
        let page = lab.store.jobs(&in_place(Place::Succeeded), cursor.as_deref(), 3).await.unwrap();
        met.extend(page.jobs.into_iter().map(|job| job.id));
        end().await;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    meant.reverse();
    assert_eq!(met, meant, "each once, the newest first");
    lab.finish().await;
}

#[tokio::test]
async fn the_oldest_waiting_job_of_a_queue_is_told_whoevers_it_is() {
    let lab = Lab::new().await;
    lab.enqueue(of(&lab, "t-old", "puppet")).await;
    lab.at(5000);
    lab.enqueue(of(&lab, "t-new", "puppet")).await;
    let oldest = lab.store.oldest_waiting().await.unwrap();
    assert_eq!(
        oldest.iter().map(|o| (o.queue.as_str(), o.since)).collect::<Vec<_>>(),
        [("default", leasehold_engine::testing::NOON)]
    );
    clean_many(lab).await;
}
