//! The demo's own webhook receiver: verifies every signature by itself, from the standard's text, and keeps count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::error::Result;

/// Seconds by which a timestamp may be off.
const TOLERANCE: i64 = 300;

/// What came.
#[derive(Debug, Default)]
struct Seen {
    secret: Option<Vec<u8>>,
    ids: BTreeSet<String>,
    verified: u64,
    doubles: u64,
    refused: Vec<String>,
    jobs: BTreeMap<String, BTreeMap<u64, String>>,
}

/// What came, in numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) verified: u64,
    pub(super) doubles: u64,
    pub(super) refused: u64,
}

/// A receiver on a free port.
#[derive(Clone)]
pub(super) struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    came: Arc<Notify>,
}

impl Receiver {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = Self { address: listener.local_addr()?, seen: Arc::default(), came: Arc::default() };
        let router = Router::new().route("/hooks", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(receiver)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Sets the secret that `POST /v1/webhooks` answered with.
    pub(super) fn trust(&self, secret: &str) {
        self.seen().secret = STANDARD.decode(secret.trim_start_matches("whsec_")).ok();
    }

    pub(super) fn counts(&self) -> Counts {
        let seen = self.seen();
        Counts { verified: seen.verified, doubles: seen.doubles, refused: seen.refused.len() as u64 }
    }

    /// Why deliveries were refused.
    pub(super) fn refused(&self) -> Vec<String> {
        self.seen().refused.clone()
    }

    /// The verified events of a job, by seq.
    pub(super) fn events(&self, job: &str) -> BTreeMap<u64, String> {
        self.seen().jobs.get(job).cloned().unwrap_or_default()
    }

    /// Waits until the next delivery.
    pub(super) async fn next(&self) {
        self.came.notified().await;
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut seen = receiver.seen();
    let status = match verify(seen.secret.as_deref(), &headers, &body) {
        Err(why) => {
            seen.refused.push(why);
            StatusCode::UNAUTHORIZED
        }
        Ok(id) => {
            if seen.ids.insert(id) {
                seen.verified += 1;
                let event: Value = serde_json::from_slice(&body).unwrap_or_default();
                let job = event["data"]["job_id"].as_str().unwrap_or_default().to_owned();
                let word = event["type"].as_str().unwrap_or_default().to_owned();
                seen.jobs.entry(job).or_default().insert(event["data"]["seq"].as_u64().unwrap_or(0), word);
            } else {
                seen.doubles += 1;
            }
            StatusCode::NO_CONTENT
        }
    };
    drop(seen);
    receiver.came.notify_one();
    status
}

/// The id of a delivery whose signature is right: HMAC-SHA256 over `id.timestamp.body`, in base64, after `v1,`.
fn verify(secret: Option<&[u8]>, headers: &HeaderMap, body: &[u8]) -> std::result::Result<String, String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| format!("{name} is missing"))
    };
    let (id, timestamp, signatures) =
        (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    let secret = secret.ok_or("no secret yet")?;
    let seconds: i64 = timestamp.parse().map_err(|_| format!("`{timestamp}` is no timestamp"))?;
    if (chrono::Utc::now().timestamp() - seconds).abs() > TOLERANCE {
        return Err(format!("{id}: the timestamp {seconds} is off"));
    }
    let good = signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|signature| {
        let Ok(given) = STANDARD.decode(signature) else { return false };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return false };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        mac.verify_slice(&given).is_ok()
    });
    if good { Ok(id.to_owned()) } else { Err(format!("{id}: no signature fits")) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::webhooks::signature::{Secret, sign_with_all};

    fn headers(signature: &str, timestamp: i64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.to_string().parse().unwrap());
        headers.insert("webhook-signature", signature.parse().unwrap());
        headers
    }

    #[test]
    fn the_receiver_takes_what_is_signed_and_nothing_else() {
        let secret = Secret::generate().unwrap();
        let raw = STANDARD.decode(secret.reveal().trim_start_matches("whsec_")).unwrap();
        let now = chrono::Utc::now().timestamp();
        let signature = sign_with_all(&[&secret], "msg_1", now, b"{}");
        assert_eq!(verify(Some(&raw), &headers(&signature, now), b"{}").unwrap(), "msg_1");
        verify(Some(&raw), &headers(&signature, now), b"{ }").unwrap_err();
        verify(Some(&raw), &headers(&signature, now + 1), b"{}").unwrap_err();
        let old = sign_with_all(&[&secret], "msg_1", now - 400, b"{}");
        verify(Some(&raw), &headers(&old, now - 400), b"{}").unwrap_err();
        verify(Some(b"another"), &headers(&signature, now), b"{}").unwrap_err();
    }
}
