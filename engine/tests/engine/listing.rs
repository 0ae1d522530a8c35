//! Pages of jobs: everything is listed once, whatever lies where, and each page costs a bounded amount.

use std::collections::BTreeSet;

use leasehold_engine::{
    JobId, NewJob, Place, Priority,
    model::gate::{Note, Scope},
    store::{JobFilter, Outcome},
    testing::{Lab, Puppet},
};

use crate::{claim, places::clean_many, settle};

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
async fn a_cursor_that_fits_nothing_begins_anew() {
    let lab = Lab::new().await;
    let id = lab.enqueue(of(&lab, "t-1", "puppet")).await;
    for cursor in ["", "x", "0.0.leases", "9.9.nothing~5", "0.0.leases~nine"] {
        let page = lab.store.jobs(&JobFilter::default(), Some(cursor), 10).await.unwrap();
        assert!(page.jobs.iter().all(|job| job.id == id), "{cursor}");
    }
    clean_many(lab).await;
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
