//! What the code refuses beyond what its types say, written into the OpenAPI document: bounds, words, forms.
//!
//! Guards that whoever makes a client or a request from the document is not refused for what the document allows. The words
//! come from the code's own lists, so that a new one is here at once.

use leasehold_engine::{Place, Priority, model::EventWord};
use leasehold_jobs::{
    policy::{KeyRole, Role},
    schema_of,
};
use serde_json::{Map, Value, json};

use super::schedules::PREVIEW;
use crate::config::Server;

const PRIORITIES: [Priority; 4] = [Priority::Critical, Priority::High, Priority::Normal, Priority::Low];

/// Words that a field of a name may have, wherever it stands.
struct Words {
    place: Value,
    priority: Value,
    role: Value,
    key_role: Value,
}

impl Words {
    fn of_the_code() -> Self {
        let places = (0..).map_while(Place::from_code).map(Place::as_str).collect();
        let priorities = PRIORITIES.iter().map(|priority: &Priority| json!(priority)).collect();
        Self { place: places, priority: priorities, role: words_of(&schema_of::<Role>()), key_role: key_roles() }
    }

    fn of(&self, schema: &str, field: &str) -> Option<&Value> {
        match (schema, field) {
            (_, "place") => Some(&self.place),
            (_, "priority") => Some(&self.priority),
            ("NewKey" | "KeyView" | "CreatedKey", "roles") => Some(&self.key_role),
            ("Actor" | "ActorView", "roles") => Some(&self.role),
            _ => None,
        }
    }
}

fn key_roles() -> Value {
    KeyRole::ALL.iter().map(|role| role.as_str()).collect()
}

/// The words of a schema that is an enum, whether it lists them or says each with its description.
fn words_of(schema: &Value) -> Value {
    let listed = schema["enum"].as_array().cloned().unwrap_or_default();
    let said = schema["oneOf"].as_array().into_iter().flatten();
    let said = said.flat_map(|one| one["enum"].as_array().cloned().unwrap_or_else(|| vec![one["const"].clone()]));
    listed.into_iter().chain(said.filter(|word| word.is_string())).collect()
}

/// Writes the bounds into the document.
pub(super) fn tighten(document: &mut Value, server: &Server) {
    let words = Words::of_the_code();
    for (name, schema) in document["components"]["schemas"].as_object_mut().into_iter().flatten() {
        fields(name, schema, &words);
        let parts = schema.get_mut("allOf").and_then(Value::as_array_mut);
        parts.into_iter().flatten().for_each(|part| fields(name, part, &words));
    }
    let items = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for operation in items.filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        parameters.into_iter().flatten().for_each(|given| parameter(given, &words, server));
        let bodies = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
        // A body may be left out; a body that says `null` is no document.
        bodies.into_iter().flat_map(Map::values_mut).for_each(|body| never_null(&mut body["schema"]));
    }
    document["webhooks"] = webhooks();
}

fn fields(schema: &str, of: &mut Value, words: &Words) {
    for (field, shape) in of.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(known) = words.of(schema, field) else { continue };
        never_null(shape);
        match shape["type"].as_str() {
            Some("string") => shape["enum"] = known.clone(),
            Some("array") => shape["items"]["enum"] = known.clone(),
            _ => {}
        }
    }
}

fn parameter(given: &mut Value, words: &Words, server: &Server) {
    let name = format!("{} {}", given["in"].as_str().unwrap_or_default(), given["name"].as_str().unwrap_or_default());
    let star_alone = given["description"].as_str().is_some_and(|text| text.starts_with("`*`"));
    let shape = &mut given["schema"];
    never_null(shape);
    let bounds = match name.as_str() {
        "query limit" => json!({ "minimum": 1, "maximum": server.max_page_size, "default": server.page_size }),
        "query count" => json!({ "minimum": 1, "maximum": PREVIEW.1, "default": PREVIEW.0 }),
        "query place" => json!({ "type": "string", "enum": words.place }),
        "header If-Match" | "header If-None-Match" if star_alone => json!({ "pattern": "^\\*$" }),
        "header If-Match" => json!({ "pattern": "^(\\*|\"[0-9]+\")$" }),
        "header Idempotency-Key" => json!({ "minLength": 1, "maxLength": 128 }),
        _ => return,
    };
    if let (Some(shape), Value::Object(bounds)) = (shape.as_object_mut(), bounds) {
        shape.extend(bounds);
    }
}

/// What may be left out is not the same as what may be `null`.
fn never_null(shape: &mut Value) {
    if let Some(types) = shape["type"].as_array_mut() {
        types.retain(|word| word != "null");
        if let [only] = &types[..] {
            shape["type"] = only.clone();
        }
    }
    if let Some(parts) = shape.get_mut("oneOf").and_then(Value::as_array_mut) {
        parts.retain(|part| part["type"] != "null");
        if let [only] = &parts[..] {
            *shape = only.clone();
        }
    }
    if shape["type"].is_null() {
        shape.as_object_mut().map(|shape| shape.remove("type"));
    }
}

/// What is sent to webhook endpoints: one for each event.
fn webhooks() -> Value {
    (1..).map_while(EventWord::from_code).map(|word| (format!("job.{}", word.as_str()), webhook(word))).collect()
}

fn webhook(word: EventWord) -> Value {
    let event = format!("job.{}", word.as_str());
    let header = |name: &str, what: &str| json!({ "name": name, "in": "header", "required": true, "description": what, "schema": { "type": "string" } });
    json!({ "post": {
        "operationId": format!("webhook_{}", word.as_str()), "tags": ["webhooks"],
        "summary": format!("Told to endpoints that hear `{event}`."),
        "description": "Standard Webhooks 1.0: at least once, in no certain order; `seq` says the order.",
        "parameters": [
            header("webhook-id", "The same in each attempt and replay: what was seen before is the same event."),
            header("webhook-timestamp", "Seconds since 1970 of this attempt."),
            header("webhook-signature", "One or more `v1,<base64>` with blanks between: HMAC-SHA256 of `id.timestamp.body`."),
        ],
        "requestBody": { "required": true, "content": { "application/json": { "schema": { "allOf": [
            { "$ref": "#/components/schemas/WebhookBody" }, { "properties": { "type": { "const": event } } }
        ] } } } },
        "responses": {
            "2XX": { "description": "Taken." },
            "410": { "description": "Nothing more is sent to this endpoint." },
            "default": { "description": "Tried again, as `webhooks.schedule_seconds` says." }
        },
        "security": []
    } })
}
