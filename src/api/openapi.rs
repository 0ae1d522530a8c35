//! The OpenAPI 3.1 document, made from the code: handlers say their paths, types their schemas.
//!
//! What is the same for all is added here: the problem as the answer to everything else, the key, unique names.

use leasehold_jobs::{Tenant, policy::ErrorCode, schema_of};
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{
    alerts, bounds, changes, clock, deliveries, docs, enqueue, explain, gates, health, jobs, keys, kinds, metrics,
    problem, queues, schedule_pause, schedules, signals, sse, tenants, webhooks,
};
use crate::{config::Server, webhooks::body::Body};

#[derive(OpenApi)]
#[openapi(
    info(title = "Leasehold", description = "Durable operations for leased environments."),
    paths(
        enqueue::enqueue, jobs::list, jobs::show, jobs::log, changes::edit, changes::cancel, changes::revive, changes::resolve, signals::signal,
        sse::events, explain::explain, kinds::list, queues::list, queues::pause, queues::resume,
        gates::list_gates, gates::stops::pause_kind, gates::stops::resume_kind, gates::stops::pause_tenant, gates::stops::resume_tenant,
        clock::accept_clock, gates::stops::kill, gates::stops::unkill, gates::limits::put_limit, gates::limits::remove_limit,
        gates::freezes::show_freeze, gates::freezes::put_freeze, gates::freezes::remove_freeze,
        gates::windows::list_windows, gates::windows::show_window, gates::windows::put_window, gates::windows::remove_window,
        schedules::list, schedules::show, schedules::write, schedules::remove, schedules::preview, schedule_pause::pause_schedule,
        schedule_pause::resume_schedule, alerts::list,
        tenants::list, tenants::show, tenants::write, tenants::quotas, tenants::backups,
        webhooks::list, webhooks::create, webhooks::show, webhooks::switch, webhooks::remove, webhooks::rotate,
        deliveries::list, deliveries::replay, keys::list, keys::create, keys::revoke,
        metrics::metrics, health::livez, health::readyz, docs::openapi, docs::page, docs::front
    ),
    components(schemas(problem::ProblemParts, Body<'static>)),
    tags(
        (name = "jobs", description = "Operations that are asked for, followed and changed."),
        (name = "kinds", description = "What may be asked for."),
        (name = "queues", description = "Where jobs wait."),
        (name = "gates", description = "What stands before jobs: pauses, kill switch, limits, freezes, windows."),
        (name = "schedules", description = "What runs again and again."),
        (name = "tenants", description = "Who leases what."),
        (name = "webhooks", description = "Who is told of changes."),
        (name = "keys", description = "Who may ask."),
        (name = "operations", description = "For those who run the program.")
    )
)]
struct Document;

/// The document of a server with this configuration.
#[must_use]
pub fn document(server: &Server) -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({ "key": {
        "type": "http", "scheme": "bearer", "description": "An API key, `lh_…`. `leasehold key create` makes one." } });
    document["security"] = json!([{ "key": [] }]);
    document["x-problems"] = problems();
    add_schema(&mut document, "Tenant", schema_of::<Tenant>());
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for operation in item.values_mut().filter(|operation| operation.get("responses").is_some()) {
            finish(operation);
        }
    }
    bounds::tighten(&mut document, server);
    document
}

fn finish(operation: &mut Value) {
    let problem = json!({ "description": "A problem; `code` says which.", "content": {
        "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    operation["responses"]["default"] = problem;
    let summary = operation["summary"].clone();
    for response in operation["responses"].as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        // OpenAPI wants one; where the handler says no more than its summary, that is it.
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = summary.clone();
        }
    }
    let tag = operation["tags"][0].as_str().unwrap_or_default().to_owned();
    let name = operation["operationId"].as_str().unwrap_or_default().to_owned();
    operation["operationId"] = json!(format!("{tag}_{name}"));
    if operation["security"] == json!([{}]) || operation["security"] == json!([]) {
        operation["security"] = json!([]);
    }
}

/// The codes, for the page and for those who make clients.
fn problems() -> Value {
    ErrorCode::ALL
        .iter()
        .map(|code| json!({ "code": code.as_str(), "status": code.status(), "title": code.title() }))
        .collect()
}

/// Puts a JSON Schema among the components; its own definitions become components beside it.
fn add_schema(document: &mut Value, name: &str, schema: Value) {
    let text = schema.to_string().replace("\"#/$defs/", &format!("\"#/components/schemas/{name}."));
    let Ok(mut schema) = serde_json::from_str::<Value>(&text) else { return };
    let Some(fields) = schema.as_object_mut() else { return };
    fields.remove("$schema");
    let inner = fields.remove("$defs");
    let schemas = &mut document["components"]["schemas"];
    if let Some(Value::Object(inner)) = inner {
        for (part, part_schema) in inner {
            schemas[format!("{name}.{part}")] = part_schema;
        }
    }
    schemas[name] = schema;
}
