//! Upkeep and the webhook sender killed at the calls that they make for a job: it is rescued all the same, and each
//! change is told, at least once and in an order that can be checked (AC-194).

use std::time::Instant;

use super::update::Run;
use super::{judge, table};
use crate::estate::center::SCRIPT;
use crate::estate::{Estate, Fault, PATIENCE, Point, Serves, TENANT, Watch, sql_update, with_short_leases};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_194_a_sender_killed_at_any_call_tells_every_change() {
    let before = ["outbox_route", "delivery_settle"].into_iter().flat_map(|verb| (1..=3).map(move |n| (verb, n)));
    let before = before.map(|(verb, n)| (Point::new(verb, n), Fault::KilledBefore));
    let after = ["outbox_route", "delivery_claim, which got it", "delivery_settle"];
    let after = after.into_iter().flat_map(|verb| (1..=2).map(move |n| (Point::new(verb, n), Fault::KilledAfter)));
    let lost = ["outbox_route", "delivery_claim, which got it", "delivery_settle"];
    let lost = lost.into_iter().map(|verb| (Point::new(verb, 1), Fault::ReplyLost));
    let cases =
        before.chain(after).chain(lost).map(|plan| (format!("{}: {:?}", plan.0, plan.1), service_struck(plan, None)));
    table::all("webhook sender struck", cases.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_an_upkeep_killed_while_it_rescues_loses_nothing() {
    let faults = [Fault::KilledAfter, Fault::ReplyLost, Fault::RedisKilledAfter];
    let cases = faults.map(|fault| {
        let worker_dies = (Point::new("step_begin execute", 1), Fault::KilledAfter);
        (
            format!("rescue: {fault:?}"),
            service_struck((Point::new("rescue, which got it", 1), fault), Some(worker_dies)),
        )
    });
    table::all("upkeep struck while it rescues", cases.into()).await;
}

/// An update while the process of API, upkeep and sender is struck at `plan` and started again; its first worker may die too.
async fn service_struck(plan: (Point, Fault), worker_dies: Option<(Point, Fault)>) -> Run {
    let began = Instant::now();
    let (mut estate, proxy) = Estate::start_proxied(&with_short_leases(), Serves::All).await;
    let id = estate.portal.ask(&sql_update(TENANT, "dc-1", SCRIPT)).await;
    let kills = matches!(plan.1, Fault::KilledBefore | Fault::KilledAfter);
    proxy.arm(Watch::Job(id.clone()), Some(plan));
    let behind = estate.proxy();
    behind.arm(Watch::Job(id.clone()), worker_dies.clone());
    let mut worker = estate.worker("first", &behind.url());
    behind.aim(worker.pid());
    if worker_dies.is_some() {
        assert!(!worker.ended().await.success());
        worker = estate.worker("second", &estate.redis_url());
    }
    let struck = proxy.struck(PATIENCE).await;
    if struck && kills {
        estate.service.ended().await;
        estate.service_again(&proxy.url());
        proxy.aim(estate.service.pid());
        estate.service.ready().await;
    }
    let job = judge::ended(&estate, &id).await;
    worker.stop().await;
    judge::all_is_well(&estate, &id, &job).await;
    Run { attempts: job["attempt"].as_u64().unwrap(), took: began.elapsed(), calls: Vec::new(), struck }
}
