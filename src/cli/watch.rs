//! Follows a job's events until its end. The stream is only the fast way: whenever it breaks off, the job itself is
//! asked, and the stream is taken up again behind the last event.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tokio::time::timeout;

use super::client::Client;
use super::enqueue::job_path;
use super::out::text;
use super::{Failure, Out};

/// A stream pings; one that is silent for so long may be cut off without our being told.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two looks at a job, and at first between two attempts to reach an API that is away.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long the API may be away.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Patience {
    /// While the end is waited for: how long the API may be away, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

/// Follows the job and shows each event; returns the job at its end. An API that is away for less than `patience`, as
/// when it restarts, is no end: the job goes on without it.
pub(crate) async fn until_final(client: &Client, id: &str, patience: Patience, out: &Out) -> Result<Value, Failure> {
    let mut after: Option<String> = None;
    let (mut away_since, mut pause) = (None, PAUSE);
    loop {
        match look(client, id, &mut after, out).await {
            Ok(job) if is_over(&job) => return Ok(job),
            Ok(_) => (away_since, pause) = (None, PAUSE),
            Err(failure) if failure.is_passing() => {
                let seconds = patience.patience;
                let since: Instant = *away_since.get_or_insert_with(|| {
                    out.aside(format_args!("the API is away; asking again for {seconds} s ({failure})"));
                    Instant::now()
                });
                if since.elapsed() >= Duration::from_secs(seconds) {
                    return Err(Failure::EndNotKnown { job: id.to_owned(), seconds, last: Box::new(failure) });
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(pause).await;
    }
}

/// Follows the stream behind event `after` for as long as it goes on; then the job as it is.
async fn look(client: &Client, id: &str, after: &mut Option<String>, out: &Out) -> Result<Value, Failure> {
    let mut stream = client.events(&format!("{}/events", job_path(id)), after.as_deref()).await?;
    let mut frames = Frames::default();
    while let Ok(Ok(Some(chunk))) = timeout(SILENCE, stream.chunk()).await {
        let mut ended = false;
        for frame in frames.push(&chunk) {
            *after = frame.id.clone().or(after.take());
            show(&frame, out);
            ended |= is_over(&frame.value());
        }
        if ended {
            break;
        }
    }
    client.get(&job_path(id)).await
}

/// Whether a job will not go on by itself.
pub(crate) fn is_over(job: &Value) -> bool {
    ["succeeded", "cancelled", "dead", "unknown"].contains(&text(job, "place").as_str())
}

/// Success for a job that succeeded, else the status of a failure whose text was shown already.
pub(crate) fn verdict(job: &Value) -> Result<(), Failure> {
    if text(job, "place") == "succeeded" { Ok(()) } else { Err(Failure::Shown) }
}

/// The last lines about a job.
pub(crate) fn ending(job: &Value) -> String {
    let mut lines = format!("{} {} ({})", text(job, "id"), text(job, "place"), text(job, "status"));
    let error = text(job, "error.message");
    if !error.is_empty() {
        lines.push_str(&format!("\n{}: {error}", text(job, "error.code")));
    }
    if let Some(result) = job.get("result").filter(|r| !r.is_null()) {
        lines.push_str(&format!("\n{result:#}"));
    }
    lines
}

fn show(frame: &Frame, out: &Out) {
    let value = frame.value();
    if value.is_null() {
        return;
    }
    if out.is_json() {
        return out.aside(value);
    }
    let word = text(&value, "type");
    let at = text(&value, "at");
    let progress = match value.get("progress") {
        Some(p) if p.is_object() => format!(" {:>3} % {}", text(p, "percent"), text(p, "text")),
        _ => String::new(),
    };
    let note = match value.get("note") {
        None | Some(Value::Null) => String::new(),
        Some(_) => format!(" {}", text(&value, "note")),
    };
    out.line(
        format!("{at}  {:<10} {:<9}{progress}{note}", word.trim_start_matches("job."), text(&value, "place"))
            .trim_end(),
    );
}

/// One event of a stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Frame {
    id: Option<String>,
    event: Option<String>,
    body: String,
}

impl Frame {
    fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Cuts a `text/event-stream` into events, wherever the network cut it.
#[derive(Debug, Default)]
struct Frames {
    rest: Vec<u8>,
    open: Frame,
}

impl Frames {
    fn push(&mut self, chunk: &[u8]) -> Vec<Frame> {
        self.rest.extend_from_slice(chunk);
        let mut done = Vec::new();
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let frame = std::mem::take(&mut self.open);
                    done.extend(Some(frame).filter(|frame| *frame != Frame::default()));
                }
                "id" => self.open.id = Some(value.to_owned()),
                "event" => self.open.event = Some(value.to_owned()),
                "data" if self.open.body.is_empty() => self.open.body = value.to_owned(),
                "data" => self.open.body.push_str(&format!("\n{value}")),
                _ => {}
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_events_wherever_the_network_cut_it() {
        let stream = b": ping\n\nid: 4\nevent: progress\ndata: {\"percent\":\ndata: 5}\r\n\r\nid: 5\ndata: x\n\n";
        for cut in 0..stream.len() {
            let mut frames = Frames::default();
            let mut all = frames.push(&stream[..cut]);
            all.extend(frames.push(&stream[cut..]));
            assert_eq!(all.len(), 2, "cut at {cut}");
            assert_eq!(all[0].value(), serde_json::json!({"percent": 5}));
            assert_eq!((all[1].id.as_deref(), all[1].body.as_str()), (Some("5"), "x"));
        }
    }
}
