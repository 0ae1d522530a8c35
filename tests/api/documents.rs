//! The OpenAPI document agrees with the routes, and the pages load nothing from elsewhere.

use std::collections::BTreeSet;

use leasehold_engine::model::EventWord;
use serde_json::{Value, json};

use crate::stand::Stand;

#[tokio::test]
async fn the_document_is_openapi_3_1_and_lists_exactly_the_routes() {
    let stand = Stand::new().await;
    let api = stand.ask("GET", "/openapi.json").send().await.expect(200).json;
    assert_eq!(api["openapi"], "3.1.0");
    assert_eq!(api["security"], serde_json::json!([{"key": []}]));
    let documented: BTreeSet<_> = api["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(documented, leasehold::api::routes::paths().into_iter().collect());
    for (path, item) in api["paths"].as_object().unwrap() {
        let allowed = stand.ask("BREW", path).send().await.expect(405).header("allow").to_owned();
        let allowed: BTreeSet<_> = allowed.split(',').map(str::to_lowercase).filter(|m| m != "head").collect();
        let documented: BTreeSet<_> = item.as_object().unwrap().keys().cloned().collect();
        assert_eq!(documented, allowed, "{path}");
    }
}

#[tokio::test]
async fn every_operation_is_named_once_and_says_what_else_may_come() {
    let stand = Stand::new().await;
    let api = stand.ask("GET", "/openapi.json").send().await.expect(200).json;
    let mut names = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}");
            assert!(operation["responses"]["default"]["content"]["application/problem+json"].is_object(), "{at}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap_or_default().is_empty(), "{at} {status}");
            }
            let inside: BTreeSet<_> = path.split('{').skip(1).map(|p| p.split('}').next().unwrap()).collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let named: BTreeSet<_> =
                parameters.iter().filter(|p| p["in"] == "path").map(|p| p["name"].as_str().unwrap()).collect();
            assert_eq!(inside, named, "{at}");
            let open = operation["security"] == serde_json::json!([]);
            assert_eq!(open, stand.ask(&method.to_uppercase(), path).send().await.status != 401, "{at}");
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let stand = Stand::new().await;
    let api = stand.ask("GET", "/openapi.json").send().await.expect(200).json;
    let mut references = Vec::new();
    gather(&api, &mut references);
    assert!(references.len() > 30);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(api.pointer(pointer).is_some(), "{reference}");
    }
    for (schema, field) in [("Reason", "actor"), ("ExplainedReason", "until"), ("Job", "place"), ("Problem", "code")] {
        let found = &api["components"]["schemas"][schema]["properties"][field];
        assert!(found.is_object(), "{schema}.{field}: two types share a name");
    }
    for field in ["name", "formal", "lease_end", "environments"] {
        assert!(api["components"]["schemas"]["Tenant"]["properties"][field].is_object(), "{field}");
    }
}

/// What the document allows is not refused for its form, and what it forbids is refused.
#[tokio::test]
async fn the_document_is_as_strict_as_the_code() {
    let stand = Stand::new().await;
    let api = stand.ask("GET", "/openapi.json").send().await.expect(200).json;
    let parameter = |path: &str, method: &str, name: &str| {
        let all = api["paths"][path][method]["parameters"].as_array().unwrap();
        all.iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("{path} {name}"))["schema"].clone()
    };
    for path in ["/v1/jobs", "/v1/jobs/{id}/log", "/v1/schedules", "/v1/webhooks/{id}/deliveries", "/v1/alerts"] {
        let limit = parameter(path, "get", "limit");
        assert_eq!((&limit["type"], &limit["minimum"], &limit["maximum"]), (&json!("integer"), &json!(1), &json!(500)));
    }
    stand.get("/v1/jobs?limit=500").await.expect(200);
    stand.get("/v1/jobs?limit=501").await.refused(422, "invalid_argument");
    let places = parameter("/v1/jobs", "get", "place")["enum"].clone();
    assert_eq!(places.as_array().unwrap().len(), 9);
    for place in places.as_array().unwrap() {
        stand.get(&format!("/v1/jobs?place={}", place.as_str().unwrap())).await.expect(200);
    }
    let schemas = &api["components"]["schemas"];
    for schema in ["Job", "WebhookData"] {
        assert_eq!(schemas[schema]["properties"]["place"]["enum"], places, "{schema}");
    }
    let priority = &schemas["JobRequest"]["properties"]["priority"];
    assert_eq!(
        (&priority["type"], &priority["enum"]),
        (&json!("string"), &json!(["critical", "high", "normal", "low"]))
    );
    let roles = |schema: &str| schemas[schema]["properties"]["roles"]["items"]["enum"].as_array().unwrap().len();
    assert_eq!((roles("NewKey"), roles("KeyView")), (4, 4));
    assert!(roles("Actor") > 10 && roles("Actor") == roles("ActorView"));
    for (path, allowed) in [("/v1/tenants/{id}", "\"7\""), ("/v1/freezes/{id}", "*")] {
        let pattern = parameter(path, "put", "If-Match")["pattern"].as_str().unwrap().to_owned();
        assert!(pattern.contains("\\*") && pattern.contains("[0-9]") == (allowed != "*"), "{path} {pattern}");
    }
    let body = &api["paths"]["/v1/jobs/{id}/cancel"]["post"]["requestBody"];
    assert_eq!(body["content"]["application/json"]["schema"], json!({"$ref": "#/components/schemas/Reason"}));
    assert_ne!(body["required"], json!(true), "it may be left out");
}

#[tokio::test]
async fn the_document_describes_each_webhook() {
    let stand = Stand::new().await;
    let api = stand.ask("GET", "/openapi.json").send().await.expect(200).json;
    let words = (1..).map_while(EventWord::from_code).map(|word| format!("job.{}", word.as_str()));
    let told: BTreeSet<_> = api["webhooks"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(told, words.collect());
    for (event, item) in api["webhooks"].as_object().unwrap() {
        let schema = &item["post"]["requestBody"]["content"]["application/json"]["schema"]["allOf"];
        assert_eq!(schema[0], json!({"$ref": "#/components/schemas/WebhookBody"}));
        assert_eq!(schema[1]["properties"]["type"]["const"], json!(event));
    }
}

fn gather(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|inner| gather(inner, into));
        }
        Value::Array(values) => values.iter().for_each(|inner| gather(inner, into)),
        _ => {}
    }
}

#[tokio::test]
async fn pages_run_their_own_script_alone_and_load_nothing_from_elsewhere() {
    let stand = Stand::new().await;
    for path in ["/docs", "/"] {
        let page = stand.ask("GET", path).send().await.expect(200);
        assert!(page.header("content-type").starts_with("text/html"));
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
        for elsewhere in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!page.text.contains(elsewhere), "{path} has {elsewhere}");
        }
    }
}
