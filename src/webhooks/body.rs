//! Makes the JSON that a receiver gets from a change of a job.
//!
//! Thin and bounded: ids, status, seq and times, at most 20 kB by default. Only named fields of the job's documents are taken, so
//! that arguments, results and secrets cannot leak; who wants more follows `href` with a key of its own.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::endpoint::rfc3339;
use super::outbox::OutboxEntry;
use super::redact::truncate;

/// The largest body, in bytes, unless the configuration says otherwise.
pub const MOST: usize = 20_000;
const MOST_TEXT: usize = 2_000;
const MOST_LABELS: usize = 8_000;

/// Gives the business status of a kind for a place, whether a step was begun, and the event's note.
pub type StatusOf = fn(kind: &str, place: &str, begun: bool, note: &[u8]) -> String;

/// What a body is made with.
#[derive(Debug, Clone)]
pub struct BodyRules {
    /// The business status.
    pub status: StatusOf,
    /// Where callers reach the API, without a slash at the end; empty gives a path.
    pub public_url: String,
    /// A body that would be larger goes without labels and detail.
    pub max_bytes: usize,
}

/// What is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookBody)]
pub(crate) struct Body<'a> {
    /// The event, such as `job.succeeded`.
    r#type: String,
    /// When it happened, RFC 3339.
    timestamp: String,
    data: Data<'a>,
}

/// The job after the event.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookData)]
struct Data<'a> {
    job_id: &'a str,
    kind: &'a str,
    tenant: &'a str,
    /// Where the engine had it.
    place: &'a str,
    /// The business status of the kind.
    status: String,
    /// Rises by one with each event of the job: what is missing is still to come, or was dropped.
    seq: u32,
    /// The attempt it belongs to.
    attempt: u16,
    /// Why an attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorPart>,
    /// A reason, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// The caller's labels; empty when they are too long.
    #[schema(value_type = Object)]
    labels: Map<String, Value>,
    /// Where the job is shown.
    href: String,
}

/// Why an attempt failed.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookError)]
struct ErrorPart {
    /// Stable.
    code: String,
    #[serde(default)]
    message: String,
    /// Whether another attempt is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
}

/// How far a job says it is.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookProgress)]
struct Progress {
    /// 0 to 100.
    percent: u8,
    text: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    labels: Map<String, Value>,
    callback: Option<Callback>,
}

#[derive(Deserialize)]
struct Callback {
    endpoint: String,
}

/// `job.succeeded` for the event `succeeded`.
pub fn event_type(entry: &OutboxEntry) -> String {
    format!("job.{}", entry.event)
}

/// The callback endpoint that the job's meta document names: `{"callback":{"endpoint":"wh_cb_…"}}`.
pub fn callback_of(entry: &OutboxEntry) -> Option<String> {
    let meta: Meta = serde_json::from_slice(&entry.meta).ok()?;
    meta.callback.map(|callback| callback.endpoint)
}

/// The value of `callback` in a job's meta document.
pub fn callback_meta(endpoint: &str) -> Value {
    serde_json::json!({ "endpoint": endpoint })
}

/// The body, within the bound of the rules.
pub fn body(entry: &OutboxEntry, rules: &BodyRules) -> Bytes {
    let meta: Meta = serde_json::from_slice(&entry.meta).unwrap_or_default();
    let (error, detail, progress) = note(entry);
    let mut body = Body {
        r#type: event_type(entry),
        timestamp: rfc3339(entry.at),
        data: Data {
            job_id: &entry.job,
            kind: &entry.kind,
            tenant: &entry.tenant,
            place: &entry.place,
            status: (rules.status)(&entry.kind, &entry.place, entry.begun, &entry.note),
            seq: entry.seq,
            attempt: entry.attempt,
            error,
            detail,
            progress,
            labels: labels(meta.labels),
            href: format!("{}/v1/jobs/{}", rules.public_url, entry.job),
        },
    };
    let written = write(&body);
    if written.len() <= rules.max_bytes {
        return written;
    }
    body.data.labels = Map::new();
    body.data.detail = None;
    write(&body)
}

fn write(body: &Body<'_>) -> Bytes {
    #[expect(clippy::expect_used, reason = "strings, numbers and maps with text keys always have a JSON form")]
    Bytes::from(serde_json::to_vec(body).expect("strings, numbers and maps with text keys always have a JSON form"))
}

/// Labels are the caller's own words; a caller that abuses them gets none back.
fn labels(labels: Map<String, Value>) -> Map<String, Value> {
    let small = serde_json::to_string(&labels).is_ok_and(|text| text.len() <= MOST_LABELS);
    if small { labels } else { Map::new() }
}

/// A note is JSON (`{"code","message"|"detail","retryable"}` or `{"error":{…}}`), `percent text` of a progress, or text.
fn note(entry: &OutboxEntry) -> (Option<ErrorPart>, Option<String>, Option<Progress>) {
    let text = String::from_utf8_lossy(&entry.note);
    if entry.event == "progress" {
        return (None, None, progress(&text));
    }
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(&text) else {
        return (None, (!text.is_empty()).then(|| cut(&text)), None);
    };
    let detail = ["detail", "reason"].iter().find_map(|name| fields.get(*name)?.as_str()).map(cut);
    let error = fields.get("error").filter(|inner| inner.is_object()).cloned().unwrap_or(Value::Object(fields));
    let error = serde_json::from_value::<ErrorPart>(error).ok().map(|mut error| {
        error.message = cut(&error.message);
        error.code = cut(&error.code);
        error
    });
    (error, detail, None)
}

fn progress(text: &str) -> Option<Progress> {
    if let Ok(fields) = serde_json::from_str::<Map<String, Value>>(text) {
        let percent = u8::try_from(fields.get("percent")?.as_u64()?).ok()?;
        return Some(Progress {
            percent,
            text: fields.get("text").and_then(Value::as_str).map(cut).unwrap_or_default(),
        });
    }
    let (percent, text) = text.split_once(' ').unwrap_or((text, ""));
    Some(Progress { percent: percent.parse().ok()?, text: cut(text) })
}

/// Control characters take six bytes each in JSON, so they would break the bound.
fn cut(text: &str) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    truncate(&mut text, MOST_TEXT);
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn entry(event: &str, meta: &str, note: &str) -> OutboxEntry {
        OutboxEntry {
            entry: "1-1".into(),
            job: "0001".into(),
            kind: "sql_update".into(),
            tenant: "t-001".into(),
            event: event.into(),
            place: "dead".into(),
            begun: true,
            seq: 7,
            at: 1_795_316_400_000,
            attempt: 2,
            meta: Bytes::copy_from_slice(meta.as_bytes()),
            note: Bytes::copy_from_slice(note.as_bytes()),
        }
    }

    fn made(entry: &OutboxEntry) -> Value {
        let rules = BodyRules {
            status: |kind, place, _, _| format!("{kind}:{place}"),
            public_url: "https://lh".into(),
            max_bytes: MOST,
        };
        let bytes = body(entry, &rules);
        assert!(bytes.len() <= MOST, "{}", bytes.len());
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn a_failure_says_what_when_where_and_why() {
        let meta = r#"{"actor":{"user_id":"u1"},"labels":{"order":"42"},"args":{"password":"p"}}"#;
        let body = made(&entry("failed", meta, r#"{"code":"disk_full","message":"no space","retryable":false}"#));
        assert_eq!(
            body,
            serde_json::json!({"type":"job.failed","timestamp":"2026-11-22T03:00:00Z","data":{
                "job_id":"0001","kind":"sql_update","tenant":"t-001","place":"dead","status":"sql_update:dead","seq":7,
                "attempt":2,"error":{"code":"disk_full","message":"no space","retryable":false},
                "labels":{"order":"42"},"href":"https://lh/v1/jobs/0001"}})
        );
    }

    /// The document is what a receiver is written by.
    #[test]
    fn a_body_has_what_the_document_says_and_nothing_else() {
        let config = crate::config::Config::from_sources(None, []).unwrap();
        let api = crate::api::openapi::document(&config.server);
        let check = |schema: &str, part: &Value| {
            let schema = &api["components"]["schemas"][schema];
            for field in part.as_object().unwrap().keys() {
                assert!(schema["properties"][field].is_object(), "{field} is not described");
            }
            for field in schema["required"].as_array().unwrap() {
                assert!(part.get(field.as_str().unwrap()).is_some(), "{field} is missing");
            }
        };
        let note = r#"{"code":"disk_full","message":"no space","retryable":false,"detail":"d"}"#;
        for (event, note) in [("failed", note), ("progress", "40 half"), ("accepted", "")] {
            let body = made(&entry(event, "{}", note));
            check("WebhookBody", &body);
            check("WebhookData", &body["data"]);
            body["data"].get("error").into_iter().for_each(|error| check("WebhookError", error));
            body["data"].get("progress").into_iter().for_each(|progress| check("WebhookProgress", progress));
        }
    }

    #[test]
    fn only_named_fields_of_a_note_are_told() {
        let body = made(&entry("failed", "{}", r#"{"error":{"code":"x","secret":"s"},"detail":"d","token":"t"}"#));
        assert_eq!(body["data"]["error"], serde_json::json!({"code":"x","message":""}));
        assert_eq!(body["data"]["detail"], "d");
        assert!(!body.to_string().contains("secret") && !body.to_string().contains("token"));
    }

    #[test]
    fn progress_is_read_from_text_and_from_json() {
        for note in ["40 half of it", r#"{"percent":40,"text":"half of it"}"#] {
            let body = made(&entry("progress", "", note));
            assert_eq!(body["data"]["progress"], serde_json::json!({"percent":40,"text":"half of it"}));
        }
    }

    #[test]
    fn a_body_is_bounded_whatever_the_job_carries() {
        for long in ["\u{1}é", "\u{1}", "\"", "\\", "\n", "\u{2028}"].map(|unit| unit.repeat(30_000)) {
            let meta = serde_json::json!({"labels":{"a":long}}).to_string();
            let note = serde_json::json!({"code":long,"message":long,"detail":long}).to_string();
            made(&entry("failed", &meta, &note));
            made(&entry("failed", &meta, &long));
            made(&entry("progress", &meta, &format!("7 {long}")));
        }
    }

    #[test]
    fn broken_documents_still_give_a_body() {
        let body = made(&entry("cancelled", "not json", "by hand"));
        assert_eq!(body["data"]["detail"], "by hand");
        assert_eq!(body["data"]["labels"], serde_json::json!({}));
    }

    #[test]
    fn the_callback_is_found_in_the_meta_document() {
        let meta = serde_json::json!({"labels":{}, "callback": callback_meta("wh_cb_1")}).to_string();
        assert_eq!(callback_of(&entry("failed", &meta, "")).as_deref(), Some("wh_cb_1"));
        assert_eq!(callback_of(&entry("failed", "{}", "")), None);
    }
}
