//! The events of a job as a stream (server-sent events), resumed by `Last-Event-ID`.
//!
//! The store's history is the source, its hints only say when to look: nothing is lost between two looks. A stream ends
//! with the job, with the server, with the reader, or some seconds after the reader's key was revoked; it holds one small
//! buffer.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::Stream;
use leasehold_engine::{
    JobId, JobView, Place,
    model::{Event as Happened, EventWord, Progress},
};
use leasehold_jobs::policy::{
    Permission,
    status::{self, Seen},
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::{auth::Caller, extract::Query, hub::Ear, job_view, problem::Problem, state::ApiState, times::rfc3339};

/// Events that the engine drops at once when a history is full.
const DROPPED: usize = 50;
/// How often a stream on which nothing happens asks whether its key was revoked.
const KEY_LOOK: Duration = Duration::from_secs(3);

/// Where to go on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// The last seq that was seen; `Last-Event-ID` comes before it.
    after: Option<u32>,
}

/// Streams the events of a job until it ends.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path), After, ("Last-Event-ID" = Option<String>, Header, description = "The last seq that was seen.")),
    responses((status = 200, content_type = "text/event-stream", body = String,
        description = "`event: job.<word>`, `id: <seq>`, `data: {type, seq, at, attempt, place?, status?, note?, progress?}`; `place` and `status` are those after the event, and come with the newest one and with each whose word says the place; `gap` where old events may be no longer kept."),
        (status = 204, description = "The job has ended, and everything was seen.")))]
pub(super) async fn events(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Query(query): Query<After>,
) -> Result<Response, Problem> {
    caller.check(Permission::ReadJobs)?;
    // Listens before it looks, so that no change falls in between.
    let job: JobId = id.parse().map_err(|_| Problem::not_found("job", &id))?;
    let ear = state.hub().listen(&job);
    let view = caller.job(&state, &id).await?;
    let last = match headers.get("last-event-id") {
        Some(given) => {
            let seq = given.to_str().ok().and_then(|text| text.trim().parse().ok());
            seq.ok_or_else(|| Problem::invalid("Last-Event-ID", "it is not the id of an event"))?
        }
        None => query.after.unwrap_or(0),
    };
    if ended(&view) && view.record.events.iter().all(|event| event.seq <= last) {
        // 204 is what tells an EventSource not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let ping = Duration::from_secs(state.config().server.event_stream_ping_seconds.max(1));
    let ping_at = Instant::now() + ping;
    let watch = Watch { state, caller, id: job, ear, last, gap_told: false, told: None, ping, ping_at };
    let mut response = Sse::new(watch.stream(view)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn ended(view: &JobView) -> bool {
    view.record.place.is_final()
}

struct Watch {
    state: ApiState,
    caller: Caller,
    id: JobId,
    ear: Ear,
    last: u32,
    gap_told: bool,
    told: Option<(u8, String)>,
    ping: Duration,
    ping_at: Instant,
}

enum Next {
    Look,
    Ping,
    AskForKey,
    End,
}

impl Watch {
    fn stream(self, first: JobView) -> impl Stream<Item = Result<Event, Infallible>> {
        let start = vec![Event::default().retry(Duration::from_secs(2))];
        futures::stream::unfold((Some(self), Some(first), start), |(watch, view, start)| async move {
            let mut watch = watch?;
            let mut batch = start;
            let mut view = view;
            loop {
                if let Some(seen) = view.take() {
                    batch.extend(watch.news(&seen));
                    if ended(&seen) {
                        return Some((batch, (None, None, Vec::new())));
                    }
                }
                if !batch.is_empty() {
                    return Some((batch, (Some(watch), None, Vec::new())));
                }
                // The reader's key may have been revoked since; who is told something has a key that was looked up for it.
                match watch.wait().await {
                    Next::End => return None,
                    Next::AskForKey if watch.caller.was_known_lately(&watch.state).await => continue,
                    Next::AskForKey => return None,
                    Next::Look | Next::Ping if !watch.caller.is_known_still(&watch.state).await => return None,
                    Next::Ping => batch.push(Event::default().comment("still here")),
                    Next::Look => {}
                }
                // A store that is away for a moment is no reason to end: the next hint or ping looks again.
                view = watch.state.store().job(&watch.id).await.ok().flatten();
            }
        })
        .flat_map_batches()
    }

    /// What the reader has not seen.
    fn news(&mut self, view: &JobView) -> Vec<Event> {
        let record = &view.record;
        let mut out = Vec::new();
        // The engine keeps the acceptance and the newest events, and drops old ones fifty at a time; which numbers were
        // progress, and so never kept, nobody knows. A gap that is told in vain only makes the reader look at the job.
        let oldest_kept = record.events.get(1).map_or(0, |event| event.seq);
        let trimmed = record.events.len() > DROPPED && oldest_kept as usize > DROPPED && oldest_kept > self.last + 1;
        if trimmed && !self.gap_told {
            self.gap_told = true;
            out.push(Event::default().event("gap").data("{\"detail\":\"older events may be no longer kept\"}"));
        }
        let seen = self.last;
        for (at, event) in record.events.iter().enumerate().filter(|(_, event)| event.seq > seen) {
            let mut shown = json!(job_view::event(event));
            if let Some((place, status)) = self.left_at(view, at, event) {
                shown["place"] = json!(place);
                shown["status"] = json!(status);
            }
            out.push(told(event.word.as_str(), event.seq, &shown));
            self.last = self.last.max(event.seq);
        }
        out.extend(self.progress(view));
        out
    }

    /// Place and status of the job after an event, the newest or one whose word says it.
    fn left_at(&self, view: &JobView, at: usize, event: &Happened) -> Option<(Place, &'static str)> {
        let record = &view.record;
        let next = record.events.get(at + 1);
        let place = match (next, event.word) {
            (None, _) => return Some((record.place, self.state.catalogue().status(view).id)),
            (Some(next), EventWord::Accepted) if next.seq > 2 => return None,
            (Some(next), EventWord::Accepted) if next.word == EventWord::Scheduled => Place::Scheduled,
            (Some(_), EventWord::Accepted) => Place::Ready,
            (Some(_), word) => word.leads_to()?,
        };
        let begun = view.steps.iter().any(|step| step.begun_at <= event.at);
        Some((place, status::of(&record.kind, Seen { place, begun, result: None }).id))
    }

    /// Progress is not kept in the history: only how far it is now is told.
    fn progress(&mut self, view: &JobView) -> Option<Event> {
        let Progress { percent, text, told_at } = view.progress.clone();
        let told_before = self.told.replace((percent, text.clone()));
        let fresh = told_before.map_or(percent > 0 || !text.is_empty(), |before| before != (percent, text.clone()));
        if !fresh || view.record.place != Place::Running {
            return None;
        }
        let seq = view.record.seq.max(self.last);
        let status = self.state.catalogue().status(view).id;
        let shown = json!({"type": "progress", "seq": seq, "at": rfc3339(told_at), "attempt": view.record.attempt,
            "place": view.record.place, "status": status, "progress": {"percent": percent, "text": text}});
        self.last = seq;
        Some(told("progress", seq, &shown))
    }

    async fn wait(&mut self) -> Next {
        let key_look = tokio::time::sleep(KEY_LOOK);
        let next = tokio::select! {
            () = self.state.stop().cancelled() => Next::End,
            news = self.ear.hear() => if news { Next::Look } else { Next::End },
            () = tokio::time::sleep_until(self.ping_at) => Next::Ping,
            () = key_look => return Next::AskForKey,
        };
        self.ping_at = Instant::now() + self.ping;
        next
    }
}

fn told(word: &str, seq: u32, shown: &serde_json::Value) -> Event {
    Event::default().event(format!("job.{word}")).id(seq.to_string()).data(shown.to_string())
}

/// Batches one after the other.
trait FlatMapBatches: Stream<Item = Vec<Event>> + Sized {
    fn flat_map_batches(self) -> impl Stream<Item = Result<Event, Infallible>> {
        use futures::StreamExt;
        self.flat_map(|batch| futures::stream::iter(batch.into_iter().map(Ok)))
    }
}

impl<S: Stream<Item = Vec<Event>>> FlatMapBatches for S {}
