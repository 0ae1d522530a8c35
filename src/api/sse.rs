//! The events of a job as a stream (server-sent events), resumed by `Last-Event-ID`.
//!
//! The store's history is the source, its hints only say when to look: nothing is lost between two looks. A stream ends
//! with the job, with the server, or with the reader; it holds one small buffer.

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
use leasehold_engine::{JobId, JobView, Place, store::Change};
use leasehold_jobs::policy::Permission;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast;
use utoipa::IntoParams;

use super::{auth::Caller, extract::Query, job_view, problem::Problem, state::ApiState};

/// Events that the engine drops at once when a history is full.
const DROPPED: usize = 50;

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
        description = "`event: job.<word>`, `id: <seq>`, `data: {type, seq, at, attempt, place, status, note?, progress?}`; `gap` where old events may be no longer kept."),
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
    let hints = state.changes();
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
    let watch = Watch { state, caller, id: view.record.id.clone(), hints, last, gap_told: false, percent: None, ping };
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
    hints: broadcast::Receiver<Change>,
    last: u32,
    gap_told: bool,
    percent: Option<(u8, String)>,
    ping: Duration,
}

enum Next {
    Look,
    Ping,
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
                let next = watch.wait().await;
                // The reader's key may have been revoked since; each batch and each ping asks.
                if !watch.caller.is_known_still(&watch.state).await {
                    return None;
                }
                match next {
                    Next::End => return None,
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
        let status = self.state.catalogue().status(view).id;
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
        for event in record.events.iter().filter(|event| event.seq > seen) {
            let mut shown = json!(job_view::event(event));
            if record.events.last() == Some(event) {
                shown["place"] = json!(record.place);
                shown["status"] = json!(status);
            }
            out.push(told(event.word.as_str(), event.seq, &shown));
            self.last = self.last.max(event.seq);
        }
        out.extend(self.progress(view, status));
        out
    }

    /// Progress is not kept in the history: only how far it is now is told.
    fn progress(&mut self, view: &JobView, status: &str) -> Option<Event> {
        let (percent, text) = (view.progress.percent, view.progress.text.clone());
        let told_before = self.percent.replace((percent, text.clone()));
        let fresh = told_before.map_or(percent > 0 || !text.is_empty(), |before| before != (percent, text.clone()));
        if !fresh || view.record.place != Place::Running {
            return None;
        }
        let seq = view.record.seq.max(self.last);
        let shown = json!({"type": "progress", "seq": seq, "attempt": view.record.attempt, "place": view.record.place,
            "status": status, "progress": {"percent": percent, "text": text}});
        self.last = seq;
        Some(told("progress", seq, &shown))
    }

    async fn wait(&mut self) -> Next {
        let ping = tokio::time::sleep(self.ping);
        tokio::pin!(ping);
        loop {
            let hint = tokio::select! {
                () = self.state.stop().cancelled() => return Next::End,
                () = &mut ping => return Next::Ping,
                hint = self.hints.recv() => hint,
            };
            match hint {
                Ok(Change::Jobs(ids)) if !ids.contains(&self.id) => {}
                Ok(Change::Jobs(_) | Change::Reconnected) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    return Next::Look;
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Closed) => return Next::End,
            }
        }
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
