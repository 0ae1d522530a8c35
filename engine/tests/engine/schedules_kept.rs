//! Schedules as they are kept: listed in pages, named as the store can keep them, bounded.

use std::collections::BTreeMap;

use leasehold_engine::{
    Store, StoreOptions,
    model::{ScheduleSpec, Timetable, gate::Note},
    store::{ClockWatch, SchedulePut},
    testing::{Lab, NOON},
    upkeep,
};
use tokio_util::sync::CancellationToken;

use crate::schedules::{Maker, hourly, put, spec};

#[tokio::test]
async fn a_clock_that_jumps_a_month_decides_on_no_slot_until_somebody_has_looked() {
    const HOUR: i64 = 3_600_000;
    let (lab, maker) = (Lab::new().await, Maker::default());
    let mut clock = ClockWatch::new(60_000, 15_000);
    put(&lab.store, &hourly("once")).await;
    let stop = CancellationToken::new();
    let mut fire = async || upkeep::fire_by(&lab.store, &maker, 1000, &mut clock, &stop).await.unwrap();
    assert_eq!(fire().await, 0);
    lab.at(30 * 24 * HOUR);
    assert_eq!((fire().await, fire().await), (0, 0));
    let held = async || lab.store.schedule("t-001", "hourly").await.unwrap().unwrap();
    assert_eq!((held().await.cursor, held().await.counts.missed), (NOON, 0));
    lab.at(1000);
    assert_eq!(fire().await, 0, "it is right again, and nobody has looked");
    lab.store.accept_clock(&Note::default()).await.unwrap();
    assert_eq!(fire().await, 0, "nothing is due");
    assert_eq!((held().await.next, held().await.counts.missed), (Some(NOON + HOUR), 0));
    lab.finish().await;
}

#[tokio::test]
async fn schedules_are_listed_by_tenant_and_name_in_pages_over_all_shards() {
    let lab = Lab::new().await;
    let mut options = StoreOptions::new(lab.redis.url());
    (options.namespace, options.shards) = ("wide:".to_owned(), 3);
    let store = Store::open(options).await.unwrap();
    let mut all = BTreeMap::new();
    for n in 0..12 {
        for name in ["backup", "report"] {
            let mut spec = spec(name, "0 2 * * *", "Europe/Berlin", "skip");
            spec.tenant = format!("t-{n:03}");
            put(&store, &spec).await;
            all.insert((spec.tenant.clone(), name.to_owned()), spec);
        }
    }
    let (mut seen, mut after) = (BTreeMap::new(), None::<(String, String)>);
    loop {
        let cursor = after.as_ref().map(|(tenant, name)| (tenant.as_str(), name.as_str()));
        let page = store.schedules(None, cursor, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.spec.tenant.clone(), last.spec.name.clone()));
        for schedule in page {
            let key = (schedule.spec.tenant.clone(), schedule.spec.name.clone());
            assert!(seen.insert(key, schedule.spec).is_none(), "met twice");
        }
    }
    assert_eq!(seen, all);
    assert_eq!((store.schedule_count().await.unwrap(), store.schedules_named("report").await.unwrap().len()), (24, 12));
    let one = store.schedules(Some("t-007"), None, 9).await.unwrap();
    assert_eq!(one.iter().map(|s| s.spec.name.as_str()).collect::<Vec<_>>(), ["backup", "report"]);
    assert_eq!(store.schedules(Some("t-00"), None, 9).await.unwrap().len(), 0);
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_name_that_cannot_be_kept_and_one_schedule_too_many_are_refused() {
    let lab = Lab::new().await;
    let table = Timetable::parse("0 2 * * *", "UTC").unwrap();
    for (tenant, name) in [("t-001", ""), ("t-001", "a\nb"), ("t\n1", "a"), ("", "a"), ("t-001", &"x".repeat(256))] {
        let spec = ScheduleSpec { tenant: tenant.to_owned(), name: name.to_owned(), ..hourly("once") };
        assert_eq!(lab.store.put_schedule(&spec, &table, None).await.unwrap_err().code(), "invalid_argument");
    }
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let mut pipe = redis::pipe();
    for n in 0..10_000 {
        pipe.cmd("ZADD").arg("{lh:0}:schedule_names").arg(0).arg(format!("t-002\n{n}")).ignore();
    }
    let () = pipe.query(&mut connection).unwrap();
    assert_eq!(lab.store.put_schedule(&hourly("once"), &table, None).await.unwrap(), SchedulePut::Full(10_000));
    lab.finish().await;
}
