//! The outermost layer: request ids, the time limit, the access log, and problems written out.
//!
//! Guards that no answer leaves in another form: whatever is not 2xx is problem+json with the request's id, also what
//! the router or an extractor refused by itself. Nothing of a request but method, route and id is logged.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use leasehold_jobs::policy::ErrorCode;
use tracing::Instrument;

use super::{problem::Problem, state::ApiState};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whether the body of a request is still awaited: who is late then is the caller.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<AtomicBool>);

impl Awaited {
    /// From now on the caller is waited for, or no longer.
    pub(super) fn set(&self, awaited: bool) {
        self.0.store(awaited, Ordering::Relaxed);
    }

    /// The request took longer than it may.
    fn late(&self, limit: Duration) -> Response {
        let seconds = limit.as_secs();
        if self.0.load(Ordering::Relaxed) {
            let slow = Problem::new(ErrorCode::BodyTooSlow, format!("the body did not arrive within {seconds} s"))
                .limit(format!("{seconds} s"))
                .remedy("send it again, faster: nothing was done");
            // The rest of the body may still be on its way, and is nobody's request.
            return ([(header::CONNECTION, "close")], slow).into_response();
        }
        Problem::new(ErrorCode::RequestTimeout, format!("the request was not answered within {seconds} s"))
            .remedy(
                "whether anything changed is not known: send it again, with the same Idempotency-Key if it enqueues",
            )
            .into_response()
    }
}

/// Wraps every request.
pub(super) async fn wrap(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", id, %method, route);
    let began = Instant::now();
    let limit = Duration::from_secs(state.config().server.request_timeout_seconds);
    let awaited = Awaited::default();
    request.extensions_mut().insert(awaited.clone());
    // A handler that panics is answered like any other failure; the panic hook has logged where it was.
    let run = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone());
    let response = match tokio::time::timeout(limit, run).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(_) => awaited.late(limit),
    };
    let mut response = as_problem(response, &id);
    let status = response.status().as_u16();
    state.meters().answered(method.as_str(), &route, status);
    let ms = began.elapsed().as_millis() as u64;
    span.in_scope(|| match status {
        500.. => tracing::warn!(status, ms, "answered"),
        _ => tracing::debug!(status, ms, "answered"),
    });
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("?")));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The caller's id, if it is short and plain; else a new one.
fn request_id(request: &Request) -> String {
    let plain = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let given = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok()).filter(plain);
    given.map_or_else(|| format!("req_{:016x}", rand_u64()), str::to_owned)
}

fn rand_u64() -> u64 {
    let mut bytes = [0; 8];
    // An id that is not random still names a request; it is no secret.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn as_problem(mut response: Response, id: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return keep_headers(&response, problem.write(id));
    }
    let status = response.status();
    let already = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/problem+json");
    // Which methods a route knows is said outside of this layer, by `name_methods`.
    let later = status == StatusCode::METHOD_NOT_ALLOWED;
    if already || later || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::new(ErrorCode::NotFound, "there is no such route").remedy("see /docs"),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ErrorCode::PayloadTooLarge, "the request is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(ErrorCode::UnsupportedMediaType, "send application/json"),
        s if s.is_client_error() => Problem::new(ErrorCode::InvalidArgument, "the request cannot be read"),
        _ => Problem::new(ErrorCode::Internal, "something went wrong here; the log names this request's id"),
    };
    keep_headers(&response, problem.write(id))
}

/// Says which methods a route knows. The router puts `Allow` on the answer only outside of its layers.
pub(super) async fn name_methods(response: Response) -> Response {
    if response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let header = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
    let allowed = header(header::ALLOW).replace(',', ", ");
    let problem = Problem::new(ErrorCode::MethodNotAllowed, format!("this route knows {allowed}"));
    let written = problem.write(header(REQUEST_ID));
    keep_headers(&response, written)
}

/// What the router said beside the body, such as `Allow`, stays.
fn keep_headers(from: &Response, mut into: Response) -> Response {
    for (name, value) in from.headers() {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) && !into.headers().contains_key(name) {
            into.headers_mut().insert(name.clone(), value.clone());
        }
    }
    into
}
