//! Archived jobs through the API: listed, shown, by whom.

use std::sync::Arc;

use leasehold::{api::routes::router, archive::Shelf};
use leasehold_engine::{
    Place,
    testing::NOON,
    upkeep::{self, Retention, UpkeepOptions},
};
use leasehold_jobs::policy::KeyRole;
use serde_json::Value;

use crate::stand::{MINUTE, Stand, backup};

/// A stand with an archive, and upkeep that keeps nothing in Redis.
async fn stand() -> (Stand, UpkeepOptions) {
    let mut stand = Stand::new().await;
    let folder = stand._folder.path();
    let shelf = Shelf::open(&format!("file:{}", folder.join("archive").display()), folder.join("scratch")).unwrap();
    stand.state = stand.state.clone().with_shelf(Some(shelf.clone()));
    stand.router = router(stand.state.clone());
    let none = Retention { max_age_ms: 0, max_count: 0 };
    let (succeeded, cancelled, dead) = (none, none, none);
    let archive = Some(Arc::new(shelf) as Arc<dyn upkeep::Archive>);
    (stand, UpkeepOptions { succeeded, cancelled, dead, archive, gather_ms: 0, ..UpkeepOptions::default() })
}

/// Asks for a backup, cancels it, and has upkeep put it away.
async fn archived(stand: &Stand, options: &UpkeepOptions, tenant: &str) -> String {
    let id = stand.post("/v1/jobs", &backup(tenant)).await.expect(202).id().to_owned();
    stand.post(&format!("/v1/jobs/{id}/cancel"), &serde_json::json!({"reason": "enough"})).await.expect(200);
    upkeep::prune(&stand.store, options).await.unwrap();
    assert!(stand.store.job(&id.parse().unwrap()).await.unwrap().is_none());
    id
}

fn ids(page: &Value) -> Vec<&str> {
    page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_job_that_redis_has_forgotten_is_still_listed_and_shown() {
    let (stand, options) = stand().await;
    let id = archived(&stand, &options, "t-001").await;
    assert!(ids(&stand.get("/v1/jobs?tenant=t-001").await.expect(200).json).is_empty());
    let page = stand.get("/v1/jobs?archived=true").await.expect(200).json;
    assert_eq!(ids(&page), [id.as_str()]);
    let job = &page["jobs"][0];
    assert_eq!((&job["place"], &job["tenant"], &job["archived"]), (&"cancelled".into(), &"t-001".into(), &true.into()));
    let shown = stand.get(&format!("/v1/jobs/{id}")).await.expect(200).json;
    assert_eq!((&shown["archived"], &shown["args"]["name"]), (&true.into(), &"before".into()));
    assert_eq!(shown["history"].as_array().unwrap().last().unwrap()["note"]["reason"], "enough");
    stand.post(&format!("/v1/jobs/{id}/revive"), &serde_json::json!({})).await.refused(404, "not_found");
    let metrics = stand.get("/metrics").await.expect(200).text;
    assert!(metrics.contains("leasehold_archived_jobs_total 1\n"), "{metrics}");
    assert!(metrics.contains("leasehold_archive_failing 0\n"), "{metrics}");
}

#[tokio::test]
async fn archived_jobs_are_filtered_and_paged() {
    let (stand, options) = stand().await;
    let mut all = Vec::new();
    for minute in 0..5 {
        stand.at(minute * MINUTE);
        all.push(archived(&stand, &options, "t-001").await);
    }
    all.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/jobs?archived=true&limit=2".to_owned());
    loop {
        let page = stand.get(&path).await.expect(200).json;
        assert!(ids(&page).len() <= 2);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next"].as_str() else { break };
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        path = format!("/v1/jobs?archived=true&limit=2&cursor={next}");
    }
    assert_eq!(seen, all);
    let at = |minutes: i64| chrono::DateTime::from_timestamp_millis(NOON + minutes * MINUTE).unwrap().to_rfc3339();
    let at = |minutes| at(minutes).replace('+', "%2B");
    let path = format!("/v1/jobs?archived=true&kind=data_center_backup&since={}&until={}", at(1), at(3));
    assert_eq!(ids(&stand.get(&path).await.expect(200).json), [&all[2], &all[3]]);
    assert!(ids(&stand.get("/v1/jobs?archived=true&kind=sql_update").await.expect(200).json).is_empty());
    assert!(ids(&stand.get("/v1/jobs?archived=true&place=dead").await.expect(200).json).is_empty());
}

#[tokio::test]
async fn ac_199_a_key_of_one_tenant_sees_nothing_of_another_in_the_archive() {
    let (stand, options) = stand().await;
    let (own, other) = (archived(&stand, &options, "t-001").await, archived(&stand, &options, "t-002").await);
    let key = stand.key(KeyRole::Caller, Some("t-001")).await;
    let get = async |path: &str| stand.ask("GET", path).key(&key).send().await;
    assert_eq!(ids(&get("/v1/jobs?archived=true").await.expect(200).json), [own.as_str()]);
    get("/v1/jobs?archived=true&tenant=t-002").await.refused(404, "not_found");
    get(&format!("/v1/jobs/{own}")).await.expect(200);
    let hidden = get(&format!("/v1/jobs/{other}")).await.refused(404, "not_found");
    let none = get("/v1/jobs/00000000000000000001").await.refused(404, "not_found");
    assert_eq!(hidden.json["remedy"], none.json["remedy"], "it cannot tell which");
    let page = stand.get("/v1/jobs?archived=true&limit=1").await.expect(200).json;
    let next: String = url::form_urlencoded::byte_serialize(page["next"].as_str().unwrap().as_bytes()).collect();
    let rest = get(&format!("/v1/jobs?archived=true&cursor={next}")).await.expect(200).json;
    assert!(ids(&rest).iter().all(|id| *id == own), "another's cursor shows nothing of it");
}

#[tokio::test]
async fn what_makes_no_sense_for_an_archive_is_refused_by_field() {
    let (stand, _) = stand().await;
    let refused = async |query: &str| {
        let answer = stand.get(&format!("/v1/jobs?{query}")).await.refused(422, "invalid_argument");
        answer.json["field"].as_str().unwrap().to_owned()
    };
    assert_eq!(refused("archived=true&place=ready").await, "place");
    assert_eq!(refused("archived=true&cursor=..%2F..").await, "cursor");
    assert_eq!(refused("archived=true&since=2026-11-22T00:00:00Z&until=2026-11-21T00:00:00Z").await, "until");
    assert_eq!(refused("since=2026-11-22T00:00:00Z").await, "since");
    assert_eq!(refused("archived=true&since=yesterday").await, "since");
    assert_eq!(refused("archived=true&limit=100000").await, "limit");
    let without = Stand::new().await;
    let answer = without.get("/v1/jobs?archived=true").await.refused(422, "invalid_argument");
    assert!(answer.json["remedy"].as_str().unwrap().contains("archive.files"), "{answer:?}");
}

#[tokio::test]
async fn a_full_archive_keeps_the_jobs_and_says_so() {
    let (stand, options) = stand().await;
    std::fs::write(stand._folder.path().join("archive"), "in the way").unwrap();
    let id = stand.post("/v1/jobs", &backup("t-001")).await.expect(202).id().to_owned();
    stand.post(&format!("/v1/jobs/{id}/cancel"), &serde_json::json!({})).await.expect(200);
    upkeep::prune(&stand.store, &options).await.unwrap();
    assert_eq!(stand.job(&id).await.record.place, Place::Cancelled);
    let metrics = stand.get("/metrics").await.expect(200).text;
    assert!(metrics.contains("leasehold_archive_failing 1\n"), "{metrics}");
    assert!(metrics.contains("leasehold_archive_failures_total 1\n"), "{metrics}");
    let state = stand.store.archive_state().await.unwrap();
    assert!(state.last_error.contains("target_"), "{state:?}");
}
