//! Webhook endpoints and callbacks through the API.

use bytes::Bytes;
use leasehold_engine::model::EventWord;
use leasehold_engine::store::{DeliveryOutcome, NewDelivery, Routed};
use leasehold_jobs::policy::KeyRole;
use serde_json::{Value, json};

use crate::stand::{Stand, backup};

#[tokio::test]
async fn an_endpoint_is_registered_shown_switched_rotated_and_removed() {
    let stand = Stand::new().await;
    let made = stand
        .post("/v1/webhooks", &json!({"url": "https://example.com/hooks", "events": ["job.succeeded"]}))
        .await
        .expect(201);
    let secret = made.json["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_"));
    let path = format!("/v1/webhooks/{}", made.id());
    let shown = stand.get(&path).await.expect(200);
    assert_eq!((&shown.json["state"], &shown.json["events"]), (&json!("enabled"), &json!(["job.succeeded"])));
    assert!(!stand.get("/v1/webhooks").await.expect(200).text.contains("whsec_"));
    let patch = |on: bool| stand.ask("PATCH", &path).key(&stand.admin).json(&json!({"enabled": on})).send();
    assert_eq!(patch(false).await.expect(200).json["state"], "disabled");
    assert_eq!(patch(true).await.expect(200).json["state"], "enabled");
    let rotated = stand.ask("POST", &format!("{path}/rotate")).key(&stand.admin).send().await.expect(200);
    assert_ne!(rotated.json["secret"], json!(secret));
    stand.ask("DELETE", &path).key(&stand.admin).send().await.expect(204);
    for (method, rest) in [("GET", ""), ("DELETE", ""), ("POST", "/rotate"), ("GET", "/deliveries")] {
        stand.ask(method, &format!("{path}{rest}")).key(&stand.admin).send().await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn an_address_inside_is_refused_when_it_is_registered() {
    let stand = Stand::new().await;
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://0x7f.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/",
        "https://[::ffff:127.0.0.1]/",
        "https://example.com:6379/",
        "https://u:p@example.com/",
        "file:///etc/passwd",
        "redis://127.0.0.1/",
        "",
        "https://example.com/#x",
    ] {
        let answer = stand.post("/v1/webhooks", &json!({"url": url})).await.refused(422, "invalid_argument");
        assert_eq!(answer.json["field"], "url", "{url}");
    }
    for bad in [json!({"url": "https://e.com", "events": ["Job.X"]}), json!({"url": "https://e.com", "tenant": "a/b"})]
    {
        stand.post("/v1/webhooks", &bad).await.refused(422, "invalid_argument");
    }
}

#[tokio::test]
async fn a_callback_makes_one_endpoint_a_key_and_its_job_is_told() {
    let stand =
        Stand::with(&[("LEASEHOLD__VERIFY__MODE", "caller"), ("LEASEHOLD__WEBHOOKS__ALLOW", "127.0.0.0/8")]).await;
    let own = stand.key(KeyRole::Caller, Some("t-001")).await;
    let mut ask = backup("t-001");
    ask["callback_url"] = json!("http://127.0.0.1:9/done");
    for key in [&own, &own, &stand.admin] {
        stand.ask("POST", "/v1/jobs").key(key).json(&ask).send().await.expect(202);
    }
    stand.post("/v1/jobs", &backup("t-002")).await.expect(202);
    let entries = stand.store.outbox_read(0, 100).await.unwrap();
    assert!(entries.iter().all(|e| e.tenant == "t-001"), "only jobs that ask for it are told");
    let endpoints: std::collections::BTreeSet<String> = entries
        .iter()
        .map(|e| serde_json::from_slice::<Value>(&e.meta).unwrap()["callback"]["endpoint"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(endpoints.len(), 2, "one for each key: {endpoints:?}");
    for endpoint in endpoints {
        assert!(stand.state.endpoints().endpoint(&endpoint).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_callback_is_shown_with_its_job_and_listed_for_its_key_and_for_all_tenants() {
    let stand =
        Stand::with(&[("LEASEHOLD__VERIFY__MODE", "caller"), ("LEASEHOLD__WEBHOOKS__ALLOW", "127.0.0.0/8")]).await;
    let own = stand.key(KeyRole::Admin, Some("t-001")).await;
    let other = stand.key(KeyRole::Admin, Some("t-001")).await;
    let mut ask = backup("t-001");
    ask["callback_url"] = json!("http://127.0.0.1:9/done");
    let job = stand.ask("POST", "/v1/jobs").key(&own).json(&ask).send().await.expect(202);
    let callback = job.json["callback"].as_str().expect("the job names it").to_owned();
    for key in [&own, &stand.admin] {
        let list = stand.ask("GET", "/v1/webhooks").key(key).send().await.expect(200);
        let row = &list.json["webhooks"][0];
        assert_eq!((&row["id"], &row["callback"], &row["url"]), (&json!(callback), &json!(true), &ask["callback_url"]));
    }
    let list = stand.ask("GET", "/v1/webhooks").key(&other).send().await.expect(200);
    assert_eq!(list.json["webhooks"], json!([]), "another key of the tenant sees nothing of it");
    let path = format!("/v1/webhooks/{callback}");
    stand.ask("GET", &path).key(&other).send().await.refused(404, "not_found");
    let off = stand.ask("PATCH", &path).key(&own).json(&json!({"enabled": false})).send().await.expect(200);
    assert_eq!(off.json["state"], "disabled");
}

#[tokio::test]
async fn a_webhook_that_would_never_hear_anything_is_refused() {
    let stand = Stand::new().await;
    let ask = |events: Value, tenant: &str| json!({"url": "https://example.com/", "events": events, "tenant": tenant});
    let no = stand.post("/v1/webhooks", &ask(json!(["job.suceeded"]), "t-001")).await.refused(422, "invalid_argument");
    assert_eq!((&no.json["field"], &no.json["remedy"]), (&json!("events"), &json!("did you mean `job.succeeded`?")));
    stand.post("/v1/webhooks", &ask(json!(["user.*"]), "t-001")).await.refused(422, "invalid_argument");
    let no = stand.post("/v1/webhooks", &ask(json!([]), "t-404")).await;
    assert_eq!(no.json["code"], "unknown_tenant", "{}", no.text);
    let described = stand.get("/openapi.json").await.expect(200).text;
    for word in (1..).map_while(EventWord::from_code) {
        stand.post("/v1/webhooks", &ask(json!([format!("job.{}", word.as_str())]), "t-001")).await.expect(201);
        assert!(described.contains(&format!("job.{}", word.as_str())), "{} is described", word.as_str());
    }
}

#[tokio::test]
async fn e7_the_deliveries_of_a_removed_endpoint_go_with_it() {
    let stand = Stand::new().await;
    let hook = stand.post("/v1/webhooks", &json!({"url": "https://example.com/"})).await.expect(201).id().to_owned();
    stand.held(stand.plain("t-001")).await;
    let entry = stand.store.outbox_read(0, 1).await.unwrap().remove(0).entry;
    let delivery = |n| NewDelivery { endpoint: hook.clone(), id: format!("msg_{n}"), body: Bytes::from_static(b"{}") };
    let routed = Routed { entry, deliveries: (0..500).map(delivery).collect() };
    stand.store.outbox_route(0, &[routed]).await.unwrap();
    stand.ask("DELETE", &format!("/v1/webhooks/{hook}")).key(&stand.admin).send().await.expect(204);
    assert_eq!(stand.store.webhook_backlog().await.unwrap(), 0);
    assert!(stand.store.delivery_list(0, &hook, None, 10).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn e7_a_tenant_has_a_bounded_number_of_endpoints() {
    let stand = Stand::with(&[("LEASEHOLD__WEBHOOKS__ENDPOINTS_PER_TENANT", "2")]).await;
    let ask = |tenant: Value| json!({"url": "https://example.com/", "tenant": tenant});
    for tenant in [json!("t-001"), json!("t-002"), json!(null)] {
        let first = stand.post("/v1/webhooks", &ask(tenant.clone())).await.expect(201);
        stand.post("/v1/webhooks", &ask(tenant.clone())).await.expect(201);
        let full = stand.post("/v1/webhooks", &ask(tenant.clone())).await.refused(409, "conflict");
        assert_eq!(full.json["limit"], "2 endpoints", "{}", full.text);
        let path = format!("/v1/webhooks/{}", first.id());
        stand.ask("DELETE", &path).key(&stand.admin).send().await.expect(204);
        stand.post("/v1/webhooks", &ask(tenant)).await.expect(201);
    }
}

/// A page that is asked for later begins where the one before ended, whatever came and went meanwhile.
#[tokio::test]
async fn pages_of_deliveries_repeat_nothing_while_new_ones_come() {
    let stand = Stand::new().await;
    let hook = stand.post("/v1/webhooks", &json!({"url": "https://example.com/"})).await.expect(201).id().to_owned();
    let route = async |n: u32| {
        stand.held(stand.plain("t-001")).await;
        let entry = stand.store.outbox_read(0, 1).await.unwrap().remove(0).entry;
        let body = Bytes::from_static(b"{}");
        let deliveries = vec![NewDelivery { endpoint: hook.clone(), id: format!("msg_{n}"), body }];
        stand.store.outbox_route(0, &[Routed { entry, deliveries }]).await.unwrap();
    };
    for n in 0..5 {
        route(n).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for n in 5..9 {
        let page = stand.get(&format!("/v1/webhooks/{hook}/deliveries?limit=2{cursor}")).await.expect(200).json;
        seen.extend(page["deliveries"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
        route(n).await;
    }
    assert_eq!(seen, ["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"]);
    for odd in ["0.7", "x.msg_1", "0", "-1.msg_1"] {
        let answer = stand.get(&format!("/v1/webhooks/{hook}/deliveries?cursor={odd}")).await;
        answer.refused(422, "invalid_argument");
    }
}

#[tokio::test]
async fn a_refused_job_leaves_no_callback_behind() {
    let stand = Stand::new().await;
    let mut ask = backup("t-001");
    ask["callback_url"] = json!("https://example.com/done");
    ask["args"]["name"] = json!("");
    stand.post("/v1/jobs", &ask).await.refused(422, "invalid_argument");
    assert!(stand.store.documents("webhook_callbacks").await.unwrap().is_empty());
}

#[tokio::test]
async fn deliveries_are_listed_by_page_and_sent_again() {
    let stand = Stand::new().await;
    let hook = stand.post("/v1/webhooks", &json!({"url": "https://example.com/"})).await.expect(201).id().to_owned();
    for n in 0..5 {
        stand.held(stand.plain("t-001")).await;
        let entry = stand.store.outbox_read(0, 1).await.unwrap().remove(0);
        let delivery = NewDelivery {
            endpoint: hook.clone(),
            id: format!("msg_{n}"),
            body: Bytes::from_static(b"{\"type\":\"job.accepted\"}"),
        };
        let routed = Routed { entry: entry.entry, deliveries: vec![delivery] };
        assert_eq!(stand.store.outbox_route(0, &[routed]).await.unwrap(), 1);
    }
    let claimed = stand.store.delivery_claim(0, &hook, 10, std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(claimed.len(), 5);
    for delivery in &claimed[..3] {
        stand
            .store
            .delivery_settle(0, &hook, &delivery.id, DeliveryOutcome::Exhausted, b"{\"status\":500}")
            .await
            .unwrap();
    }
    let path = format!("/v1/webhooks/{hook}");
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = stand.get(&format!("{path}/deliveries?limit=2{cursor}")).await.expect(200);
        seen.extend(page.json["deliveries"].as_array().unwrap().clone());
        let Some(next) = page.json["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(
        seen.iter().map(|d| d["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"]
    );
    assert_eq!((&seen[4]["state"], &seen[4]["log"][0]["status"]), (&json!("exhausted"), &json!(500)));
    let replay = |body: Value| stand.ask("POST", &format!("{path}/replay")).key(&stand.admin).json(&body).send();
    assert_eq!(replay(json!({"delivery": claimed[0].id})).await.expect(202).json["replayed"], 1);
    assert_eq!(replay(json!({"failed_since": "2026-11-22T00:00:00Z"})).await.expect(202).json["replayed"], 2);
    assert_eq!(replay(json!({"failed_since": "2026-11-22T00:00:00Z"})).await.expect(202).json["replayed"], 0);
    replay(json!({"delivery": "msg_404"})).await.refused(404, "not_found");
    replay(json!({})).await.refused(422, "invalid_argument");
    stand.get(&format!("{path}/deliveries?cursor=x")).await.refused(422, "invalid_argument");
}
