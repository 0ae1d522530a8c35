//! One archived job as one line of JSON. Guards that what is written reads back as the same job, and that lines of an
//! older version stay readable: a field that is missing has its empty value.
//!
//! Times are in ms since 1970 UTC. Documents of callers (arguments, result, …) stand in the line as they are when they are
//! JSON, else as `{"$base64": "…"}`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use leasehold_engine::{
    Effect, JobId, JobView, Place, Priority, Resource, Retry, Step, UnixMs,
    model::{BadRecord, Event, EventWord, JobRecord, Progress, Sort},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An archived job.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    /// Version of the form.
    v: u8,
    pub(super) id: JobId,
    pub(super) kind: String,
    pub(super) tenant: String,
    pub(super) queue: String,
    pub(super) place: Place,
    priority: Priority,
    attempt: u16,
    retry: Retry,
    created_at: UnixMs,
    run_at: UnixMs,
    started_at: UnixMs,
    pub(super) finished_at: UnixMs,
    fence: u64,
    seq: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Touched>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<JobId>,
    #[serde(default)]
    cancel_requested: bool,
    #[serde(default)]
    undone: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meta: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
    #[serde(default)]
    events: Vec<Happened>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Done>,
    #[serde(default)]
    percent: u8,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    progress: String,
}

#[derive(Serialize, Deserialize)]
struct Touched {
    name: String,
    #[serde(default)]
    shared: bool,
}

#[derive(Serialize, Deserialize)]
struct Happened {
    seq: u32,
    #[serde(rename = "type")]
    word: EventWord,
    at: UnixMs,
    #[serde(default)]
    attempt: u16,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

#[derive(Serialize, Deserialize)]
struct Done {
    name: String,
    #[serde(default = "step")]
    sort: Sort,
    effect: Effect,
    done: bool,
    #[serde(default)]
    undoable: bool,
    #[serde(default)]
    ordinal: u16,
    begun_at: UnixMs,
    done_at: UnixMs,
    fence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

const fn step() -> Sort {
    Sort::Step
}

/// What stands for bytes that are no JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opaque {
    #[serde(rename = "$base64")]
    base64: String,
}

impl Line {
    pub(super) fn of(view: &JobView) -> serde_json::Result<Self> {
        let r = &view.record;
        let event =
            |e: &Event| Happened { seq: e.seq, word: e.word, at: e.at, attempt: e.attempt, note: e.note.clone() };
        Ok(Self {
            v: 1,
            id: r.id.clone(),
            kind: r.kind.clone(),
            tenant: r.tenant.clone(),
            queue: r.queue.clone(),
            place: r.place,
            priority: r.priority,
            attempt: r.attempt,
            retry: r.retry,
            created_at: r.created_at,
            run_at: r.run_at,
            started_at: r.started_at,
            finished_at: r.finished_at,
            fence: r.fence,
            seq: r.seq,
            resources: r.resources.iter().map(|t| Touched { name: t.name.clone(), shared: t.shared }).collect(),
            key: r.key.clone(),
            parent: r.parent.clone(),
            cancel_requested: r.cancel_requested,
            undone: r.undoing,
            meta: document(&r.meta)?,
            args: document(&r.args)?,
            result: document(&r.result)?,
            error: document(&r.error)?,
            events: r.events.iter().map(event).collect(),
            steps: view.steps.iter().map(Done::of).collect::<Result<_, _>>()?,
            percent: view.progress.percent,
            progress: view.progress.text.clone(),
        })
    }

    pub(super) fn into_view(self) -> Result<JobView, BadRecord> {
        let event = |e: Happened| Event { seq: e.seq, word: e.word, at: e.at, attempt: e.attempt, note: e.note };
        let mut record = JobRecord::empty(self.id)?;
        record.place = self.place;
        record.priority = self.priority;
        record.cancel_requested = self.cancel_requested;
        record.has_journal = !self.steps.is_empty();
        record.undoing = self.undone;
        record.attempt = self.attempt;
        record.retry = self.retry;
        record.created_at = self.created_at;
        record.run_at = self.run_at;
        record.started_at = self.started_at;
        record.finished_at = self.finished_at;
        record.fence = self.fence;
        record.seq = self.seq;
        record.kind = self.kind;
        record.tenant = self.tenant;
        record.queue = self.queue;
        record.resources = self.resources.into_iter().map(|t| Resource { name: t.name, shared: t.shared }).collect();
        record.key = self.key;
        record.parent = self.parent;
        record.meta = content(self.meta);
        record.args = content(self.args);
        record.result = content(self.result);
        record.error = content(self.error);
        record.events = self.events.into_iter().map(event).collect();
        let progress = Progress { percent: self.percent, text: self.progress, told_at: 0 };
        Ok(JobView { record, steps: self.steps.into_iter().map(Done::into_step).collect(), progress })
    }
}

impl Done {
    fn of(step: &Step) -> serde_json::Result<Self> {
        Ok(Self {
            name: step.name.clone(),
            sort: step.sort,
            undoable: step.undoable,
            ordinal: step.ordinal,
            effect: step.effect,
            done: step.done,
            begun_at: step.begun_at,
            done_at: step.done_at,
            fence: step.fence,
            result: document(&step.result)?,
        })
    }

    fn into_step(self) -> Step {
        Step {
            name: self.name,
            sort: self.sort,
            undoable: self.undoable,
            wait: None,
            ordinal: self.ordinal,
            effect: self.effect,
            done: self.done,
            begun_at: self.begun_at,
            done_at: self.done_at,
            fence: self.fence,
            result: content(self.result).to_vec(),
        }
    }
}

/// Bytes as they stand in a line. A line break in JSON can only be white space, so that a blank says the same.
fn document(bytes: &[u8]) -> serde_json::Result<Option<Box<RawValue>>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let as_text = std::str::from_utf8(bytes).ok().filter(|text| serde_json::from_str::<Opaque>(text).is_err());
    let json = as_text.and_then(|text| RawValue::from_string(text.replace(['\n', '\r'], " ")).ok());
    match json {
        // `null` would read back as nothing at all.
        Some(json) if json.get() != "null" => Ok(Some(json)),
        _ => serde_json::value::to_raw_value(&Opaque { base64: BASE64_STANDARD.encode(bytes) }).map(Some),
    }
}

fn content(document: Option<Box<RawValue>>) -> Bytes {
    let Some(json) = document else { return Bytes::new() };
    let opaque = serde_json::from_str::<Opaque>(json.get()).ok().and_then(|o| BASE64_STANDARD.decode(o.base64).ok());
    opaque.map_or_else(|| Bytes::from(json.get().to_owned()), Bytes::from)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn there_and_back(bytes: &[u8]) -> Bytes {
        let line = document(bytes).unwrap().map(|json| serde_json::to_string(&json).unwrap());
        assert!(line.as_ref().is_none_or(|text| !text.contains('\n')), "{line:?}");
        content(line.map(|text| serde_json::from_str(&text).unwrap()))
    }

    #[test]
    fn documents_read_back_byte_for_byte() {
        let plain: [&[u8]; 12] = [
            b"",
            b"{}",
            b"null",
            b" null ",
            b"{\"b\":1.0,\"a\":12345678901234567890123,\"a\":2}",
            b"\"\\n\"",
            b"not json",
            b"\xff\xfe\x00",
            b"{\"$base64\":\"AAAA\"}",
            b"{ \"$base64\" : \"AAAA\" , \"x\" : 1 }",
            b"[1,2",
            b"\n",
        ];
        for bytes in plain {
            assert_eq!(there_and_back(bytes), bytes, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(there_and_back(b"{\n \"a\":\r\n1}"), &b"{  \"a\":  1}"[..], "a line break becomes a blank");
    }

    #[test]
    fn a_line_of_the_first_version_without_what_may_be_missing_is_read() {
        let text = r#"{"v":1,"id":"00000000000000000001","kind":"k","tenant":"t","queue":"q","place":"succeeded",
            "priority":"normal","attempt":1,"retry":{"base_ms":1,"cap_ms":1,"jitter_percent":0,"max_attempts":3},
            "created_at":1,"run_at":1,"started_at":2,"finished_at":3,"fence":9,"seq":4}"#;
        let view = serde_json::from_str::<Line>(text).unwrap().into_view().unwrap();
        assert_eq!((view.record.kind.as_str(), view.record.finished_at, view.record.args.len()), ("k", 3, 0));
    }
}
