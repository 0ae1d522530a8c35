//! The API or Redis killed at every call that it makes for one request, with a client that asks again with the same
//! Idempotency-Key: exactly one job, one unit of the quota, and the job is done once.

use std::time::Instant;

use leasehold_engine::store::JobFilter;
use reqwest::Method;

use super::update::Run;
use super::{judge, table};
use crate::estate::center::SCRIPT;
use crate::estate::{CONFIG, Estate, Fault, PATIENCE, Point, Serves, TENANT, Watch, sql_update};

const KEY: [(&str, &str); 1] = [("idempotency-key", "order-4711")];

const FAULTS: [(&str, Fault); 5] = [
    ("API before", Fault::KilledBefore),
    ("API after", Fault::KilledAfter),
    ("reply", Fault::ReplyLost),
    ("Redis before", Fault::RedisKilledBefore),
    ("Redis after", Fault::RedisKilledAfter),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eng_03_a_crash_at_any_call_of_a_request_makes_one_job() {
    let mut cases = Vec::new();
    for point in calls_of_a_request().await {
        for (word, fault) in FAULTS {
            let plan = (point.clone(), fault);
            cases.push((format!("{point}, {word}"), async move { asked_again(plan).await }));
        }
    }
    table::all("API or Redis killed at a call of POST /v1/jobs, before and after; reply lost", cases).await;
}

/// What the API asks Redis for one request. Upkeep runs elsewhere, or its loops would be struck at instead, after the
/// answer; of what comes only now and then, such as a loop of the sender's, not both runs see the same.
async fn calls_of_a_request() -> Vec<Point> {
    let (one, other) = tokio::join!(calls_of_one_request(), calls_of_one_request());
    one.into_iter().filter(|point| other.contains(point)).collect()
}

async fn calls_of_one_request() -> Vec<Point> {
    let (estate, proxy) = Estate::start_proxied(CONFIG, Serves::Api).await;
    proxy.arm(Watch::Everything, None);
    let (status, answer) =
        estate.portal.send(Method::POST, "/v1/jobs", Some(&sql_update(TENANT, "dc-1", SCRIPT)), &KEY).await.unwrap();
    assert_eq!(status.as_u16(), 202, "{answer}");
    proxy.calls()
}

async fn asked_again(plan: (Point, Fault)) -> Run {
    let began = Instant::now();
    let (mut estate, proxy) = Estate::start_proxied(CONFIG, Serves::Api).await;
    let wish = sql_update(TENANT, "dc-1", SCRIPT);
    let kills = matches!(plan.1, Fault::KilledBefore | Fault::KilledAfter);
    proxy.arm(Watch::Everything, Some(plan));
    let first = estate.portal.send(Method::POST, "/v1/jobs", Some(&wish), &KEY).await;
    let struck = proxy.struck(PATIENCE).await;
    let told =
        first.ok().filter(|(status, _)| status.as_u16() == 202).map(|(_, job)| job["id"].as_str().unwrap().to_owned());
    // A call that the sender makes just then may be struck at once the answer is out: what was promised holds all the same.
    if kills && struck {
        estate.service.ended().await;
        estate.service_again(&proxy.url());
        proxy.aim(estate.service.pid());
        estate.service.ready().await;
    }
    let (status, job) = estate.portal.send(Method::POST, "/v1/jobs", Some(&wish), &KEY).await.unwrap();
    assert_eq!(status.as_u16(), 202, "{job}");
    let id = job["id"].as_str().unwrap().to_owned();
    assert!(told.is_none_or(|told| told == id), "another job than the one that was acknowledged");
    let store = estate.store().await;
    let page = store
        .jobs(
            &JobFilter { kind: Some("sql_update".into()), tenant: Some(TENANT.into()), ..JobFilter::default() },
            None,
            100,
        )
        .await
        .unwrap();
    let found: Vec<_> = page.jobs.iter().map(|job| job.id.to_string()).collect();
    assert_eq!(found, std::slice::from_ref(&id));
    assert_eq!(job["quota"]["used"], 1, "{job}");
    let mut worker = estate.worker("first", &estate.redis_url());
    let job = judge::ended(&estate, &id).await;
    worker.stop().await;
    judge::all_is_well(&estate, &id, &job).await;
    Run { attempts: job["attempt"].as_u64().unwrap(), took: began.elapsed(), calls: Vec::new(), struck }
}
