//! A webhook receiver that believes only what the official library verifies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A receiver on a free port.
pub struct Receiver {
    pub url: String,
    shelf: Arc<Shelf>,
    serving: JoinHandle<()>,
}

struct Shelf {
    secrets: Mutex<Vec<String>>,
    arrived: watch::Sender<Vec<Arrival>>,
    refused: Mutex<Vec<String>>,
}

/// A delivery that was verified.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub id: String,
    pub body: Value,
}

impl Arrival {
    pub fn word(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    pub fn seq(&self) -> u64 {
        self.body["data"]["seq"].as_u64().unwrap_or_default()
    }

    fn job(&self) -> &str {
        self.body["data"]["job_id"].as_str().unwrap_or_default()
    }
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let shelf = Arc::new(Shelf {
            secrets: Mutex::default(),
            arrived: watch::Sender::new(Vec::new()),
            refused: Mutex::default(),
        });
        let router = Router::new().route("/hook", axum::routing::post(take)).with_state(shelf.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shelf, serving }
    }

    /// Believes whoever knows this secret.
    pub fn trust(&self, secret: &str) {
        self.shelf.secrets.lock().unwrap().push(secret.to_owned());
    }

    /// Waits until a delivery about the job fits; what arrived of the job so far, by seq. Deliveries come at least
    /// once: a repetition must have the id and the body of the first.
    pub async fn wait(
        &self,
        job: &str,
        patience: Duration,
        fits: impl Fn(&BTreeMap<u64, Arrival>) -> bool,
    ) -> Result<BTreeMap<u64, Arrival>, String> {
        let mut arrived = self.shelf.arrived.subscribe();
        let of_job = |all: &Vec<Arrival>| {
            let mut found: BTreeMap<u64, Arrival> = BTreeMap::new();
            for one in all.iter().filter(|one| one.job() == job) {
                let first = found.entry(one.seq()).or_insert_with(|| one.clone());
                assert_eq!((&first.id, &first.body), (&one.id, &one.body), "two webhooks with one seq");
            }
            found
        };
        let waited = tokio::time::timeout(patience, arrived.wait_for(|all| fits(&of_job(all)))).await.is_ok();
        let found = of_job(&self.shelf.arrived.borrow());
        let refused = self.shelf.refused.lock().unwrap().clone();
        match waited {
            true if refused.is_empty() => Ok(found),
            _ => {
                let words: Vec<_> = found.values().map(|one| format!("{} {}", one.seq(), one.word())).collect();
                Err(format!("webhooks of {job}: {words:?}; not verified: {refused:?}"))
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(shelf): State<Arc<Shelf>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let secrets = shelf.secrets.lock().unwrap().clone();
    let verified = secrets.iter().any(|secret| Webhook::new(secret).is_ok_and(|w| w.verify(&body, &headers).is_ok()));
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    match serde_json::from_slice(&body) {
        Ok(body) if verified => {
            shelf.arrived.send_modify(|all| all.push(Arrival { id, body }));
            StatusCode::NO_CONTENT
        }
        _ => {
            shelf.refused.lock().unwrap().push(format!("{headers:?}"));
            StatusCode::UNAUTHORIZED
        }
    }
}
