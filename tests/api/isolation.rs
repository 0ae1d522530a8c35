//! Whose things are whose (ENG-12, AC-199): a tenant's key finds nothing of another tenant, on any route.

use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{Stand, backup, tenant_document};

/// Every route with a thing of t-001 in it, and a body that would do for its owner.
fn routes(job: &str, hook: &str, key: &str) -> Vec<(&'static str, String, Value, u16)> {
    let at = |rest: &str| format!("/v1/jobs/{job}{rest}");
    let hook_at = |rest: &str| format!("/v1/webhooks/{hook}{rest}");
    vec![
        ("POST", "/v1/jobs".into(), backup("t-001"), 404),
        ("GET", "/v1/jobs?tenant=t-001".into(), Value::Null, 404),
        ("GET", at(""), Value::Null, 404),
        ("PATCH", at(""), json!({}), 404),
        ("POST", at("/cancel"), json!({}), 404),
        ("POST", at("/revive"), json!({}), 404),
        ("POST", at("/resolve"), json!({"happened": true}), 404),
        ("POST", at("/signals/paid"), json!({}), 404),
        ("GET", at("/events"), Value::Null, 404),
        ("GET", at("/log"), Value::Null, 404),
        ("GET", at("/explain"), Value::Null, 404),
        ("GET", "/v1/queues".into(), Value::Null, 403),
        ("POST", "/v1/queues/default/pause".into(), json!({}), 403),
        ("POST", "/v1/queues/default/resume".into(), json!({}), 403),
        ("GET", "/v1/gates".into(), Value::Null, 403),
        ("POST", "/v1/kinds/sql_update/pause".into(), json!({}), 403),
        ("POST", "/v1/kinds/sql_update/resume".into(), json!({}), 403),
        ("POST", "/v1/tenants/t-001/pause".into(), json!({}), 404),
        ("POST", "/v1/tenants/t-001/resume".into(), json!({}), 404),
        ("POST", "/v1/tenants/t-002/pause".into(), json!({}), 403),
        ("POST", "/v1/clock/accept".into(), json!({}), 403),
        ("POST", "/v1/kill-switch".into(), json!({"scope": "all", "reason": "r"}), 403),
        ("PUT", "/v1/limits/queue/sql".into(), json!({"max_running": 1}), 403),
        ("GET", "/v1/freezes/year-end".into(), Value::Null, 403),
        ("GET", "/v1/windows".into(), Value::Null, 403),
        ("GET", "/v1/windows/nightly".into(), Value::Null, 403),
        ("GET", "/v1/schedules?tenant=t-001".into(), Value::Null, 404),
        ("GET", "/v1/schedules/nightly?tenant=t-001".into(), Value::Null, 404),
        ("DELETE", "/v1/schedules/nightly?tenant=t-001".into(), Value::Null, 404),
        ("GET", "/v1/schedules/nightly/preview?tenant=t-001".into(), Value::Null, 404),
        ("POST", "/v1/schedules/nightly/pause?tenant=t-001".into(), json!({}), 404),
        ("POST", "/v1/schedules/nightly/resume?tenant=t-001".into(), json!({}), 404),
        ("GET", "/v1/alerts".into(), Value::Null, 403),
        ("GET", "/v1/tenants/t-001".into(), Value::Null, 404),
        ("PUT", "/v1/tenants/t-001".into(), tenant_document("t-001"), 404),
        ("PUT", "/v1/tenants/t-002".into(), tenant_document("t-002"), 403),
        ("GET", "/v1/tenants/t-001/quotas".into(), Value::Null, 404),
        ("GET", "/v1/tenants/t-001/backups".into(), Value::Null, 404),
        ("POST", "/v1/webhooks".into(), json!({"url": "https://example.com/", "tenant": "t-001"}), 404),
        ("GET", hook_at(""), Value::Null, 404),
        ("PATCH", hook_at(""), json!({"enabled": false}), 404),
        ("DELETE", hook_at(""), Value::Null, 404),
        ("POST", hook_at("/rotate"), Value::Null, 404),
        ("GET", hook_at("/deliveries"), Value::Null, 404),
        ("POST", hook_at("/replay"), json!({"failed_since": "2026-01-01T00:00:00Z"}), 404),
        ("POST", "/v1/keys".into(), json!({"name": "x", "roles": ["admin"], "tenant": "t-001"}), 404),
        ("DELETE", format!("/v1/keys/{key}"), Value::Null, 404),
        ("GET", "/metrics".into(), Value::Null, 403),
    ]
}

#[tokio::test]
async fn ac_199_every_route_denies_a_foreign_tenants_key_as_if_the_thing_were_not_there() {
    let stand = Stand::new().await;
    // The strongest key that a tenant can have: what refuses it is the tenant, never the role.
    let foreign = stand.key(KeyRole::Admin, Some("t-002")).await;
    let job = stand.post("/v1/jobs", &backup("t-001")).await.expect(202).id().to_owned();
    let hook = stand.post("/v1/webhooks", &json!({"url": "https://example.com/", "tenant": "t-001"})).await.expect(201);
    let key = stand.post("/v1/keys", &json!({"name": "one", "roles": ["caller"], "tenant": "t-001"})).await.expect(201);
    let before = stand.job(&job).await.record.seq;
    for (method, path, body, status) in routes(&job, hook.id(), key.id()) {
        let denied = stand.ask(method, &path).key(&foreign).json(&body).send().await;
        assert_eq!(denied.status, status, "{method} {path}: {}", denied.text);
        if status == 404 {
            // The same words as for a thing that does not exist at all, but for its name.
            let absent =
                path.replace(&job, "0000000000000000000z").replace(hook.id(), "wh_0").replace(key.id(), "key_0");
            let answer = stand.ask(method, &absent).key(&foreign).json(&body).send().await;
            assert_eq!((answer.status, answer.code()), (denied.status, denied.code()), "{method} {path}");
        }
    }
    assert_eq!(stand.job(&job).await.record.seq, before, "nothing was changed");
    let covered: std::collections::BTreeSet<_> = routes("{id}", "{id}", "{id}")
        .into_iter()
        .map(|(_, path, ..)| {
            path.split('?')
                .next()
                .unwrap()
                .replace("t-001", "{id}")
                .replace("t-002", "{id}")
                .replace("/default/", "/{name}/")
                .replace("/signals/paid", "/signals/{name}")
                .replace("/sql_update/", "/{kind}/")
                .replace("/queue/sql", "/{of}/{name}")
                .replace("year-end", "{id}")
                .replace("nightly", "{name}")
        })
        .collect();
    let no_tenants_thing = ["/v1/kinds", "/v1/tenants", "/livez", "/readyz", "/openapi.json", "/docs", "/"];
    for path in leasehold::api::routes::paths() {
        assert!(covered.contains(path) || no_tenants_thing.contains(&path), "{path} is in no row of this test");
    }
}

#[tokio::test]
async fn ac_199_lists_show_a_tenant_its_own() {
    let stand = Stand::new().await;
    let own = stand.key(KeyRole::Admin, Some("t-002")).await;
    for tenant in ["t-001", "t-002"] {
        stand.post("/v1/jobs", &backup(tenant)).await.expect(202);
        stand.post("/v1/webhooks", &json!({"url": "https://example.com/", "tenant": tenant})).await.expect(201);
        stand.post("/v1/keys", &json!({"name": tenant, "roles": ["caller"], "tenant": tenant})).await.expect(201);
    }
    stand.post("/v1/webhooks", &json!({"url": "https://example.com/all"})).await.expect(201);
    let list = |path: &'static str| stand.ask("GET", path).key(&own).send();
    for (path, field, count) in [
        ("/v1/jobs", "jobs", 1),
        ("/v1/webhooks", "webhooks", 1),
        ("/v1/tenants", "tenants", 1),
        ("/v1/keys", "keys", 2),
    ] {
        let answer = list(path).await.expect(200);
        assert_eq!(answer.json[field].as_array().unwrap().len(), count, "{}", answer.text);
        assert!(!answer.text.contains("t-001"), "{}", answer.text);
    }
    stand.ask("POST", "/v1/jobs").key(&own).json(&backup("t-002")).send().await.expect(202);
    let bound = stand
        .ask("POST", "/v1/keys")
        .key(&own)
        .json(&json!({"name": "x", "roles": ["admin"]}))
        .send()
        .await
        .expect(201);
    assert_eq!(bound.json["tenant"], "t-002", "a bound key makes bound keys");
}

#[tokio::test]
async fn a_data_center_of_another_tenant_does_not_exist() {
    let stand = Stand::new().await;
    let mut document = tenant_document("t-003");
    document["environments"][0]["data_centers"][0]["id"] = json!("dc-secret");
    stand.put("/v1/tenants/t-003", &document).await.expect(201);
    let own = stand.key(KeyRole::Caller, Some("t-001")).await;
    for name in ["dc-secret", "dc-nowhere"] {
        let mut ask = backup("t-001");
        ask["args"]["data_center"] = json!(name);
        let answer =
            stand.ask("POST", "/v1/jobs").key(&own).json(&ask).send().await.refused(404, "unknown_data_center");
        assert_eq!(answer.json["detail"], format!("tenant `t-001` has no data center `{name}`"));
    }
}
