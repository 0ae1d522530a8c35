//! The catalogue as the engine's runner: what lies in a job that no caller made.

use std::time::Duration;

use leasehold_engine::{NewJob, Place, Retry};
use leasehold_jobs::Catalogue;
use leasehold_jobs::catalogue::Envelope;
use serde_json::json;

use crate::estate::{Estate, TENANT, error};

fn job(estate: &Estate, kind: &str, args: &str, meta: &str) -> NewJob {
    NewJob {
        queue: "sql".into(),
        meta: meta.to_owned().into(),
        retry: Retry::exponential(Duration::from_secs(1)),
        ..NewJob::new(estate.lab.store.new_id(TENANT), kind, TENANT, args.to_owned())
    }
}

const META: &str = r#"{"actor":{"user_id":"u1"},"planned_at":0}"#;

#[tokio::test]
async fn arguments_that_nobody_can_read_end_a_job_and_not_the_worker() {
    let mut estate = Estate::new().await;
    for (args, meta, code) in [
        ("not json", META, "arguments_unreadable"),
        (r#"{"data_center":"dc-1"}"#, META, "arguments_unreadable"),
        (r#"{"data_center":"dc-1","script":"SELECT 1"}"#, "[]", "meta_unreadable"),
        (r#"{"data_center":"dc-9","script":"SELECT 1"}"#, META, "unknown_data_center"),
    ] {
        let id = estate.lab.enqueue(job(&estate, "sql_update", args, meta)).await;
        let view = estate.run(&id).await;
        assert_eq!((view.record.place, &error(&view)["code"]), (Place::Dead, &json!(code)), "{args} {meta}");
    }
    estate.finish().await;
}

#[tokio::test]
async fn a_job_of_a_kind_that_this_version_does_not_know_waits_for_one_that_does() {
    let mut estate = Estate::new().await;
    let id = estate.lab.enqueue(job(&estate, "data_center_rename", "{}", META)).await;
    estate.start_worker().await;
    let view = estate.until(&id, |view| view.record.place == Place::Blocked).await;
    assert_eq!(view.record.attempt, 0, "it costs no attempt");
    estate.finish().await;
}

#[tokio::test]
async fn a_job_of_a_tenant_that_is_gone_ends_with_its_reason() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("sql_update", json!({"data_center": "dc-1", "script": "SELECT 1"})).await;
    estate.lab.store.delete_document("tenants", TENANT).await.unwrap();
    let view = estate.run(&id).await;
    assert_eq!((view.record.place, &error(&view)["code"]), (Place::Dead, &json!("unknown_tenant")));
    estate.finish().await;
}

#[test]
fn an_envelope_without_its_optional_parts_is_read() {
    assert!(Envelope::read(META.as_bytes()).is_ok());
    fn send<T: Send + Sync>() {}
    send::<Catalogue>();
}
