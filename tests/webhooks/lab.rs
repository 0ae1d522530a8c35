//! A store in memory with a clock of its own, real local receivers, and a dispatcher between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use leasehold::webhooks::address::{AddressPolicy, Network};
use leasehold::webhooks::attempt::AttemptLog;
use leasehold::webhooks::body::{BodyRules, callback_meta};
use leasehold::webhooks::client::{Limits, Resolver, Sender, SystemResolver};
use leasehold::webhooks::directory::{Directory, NewCallback, NewEndpoint};
use leasehold::webhooks::dispatcher::{Clock, Dispatcher, DispatcherRules};
use leasehold::webhooks::endpoint_url::UrlRules;
use leasehold::webhooks::outbox::{
    DeliveryAttempt, DeliveryOutcome, Document, Outbox, OutboxEntry, OutboxError, Registry, Routed, UnixMs,
};
use leasehold::webhooks::signature::Secret;
use tokio::sync::{Notify, Semaphore};

/// How a receiver's port is bound in every test.
pub const LOCAL: &str = "127.0.0.1:0";

/// A delivery as the store in memory keeps it.
#[derive(Debug, Clone)]
pub struct Kept {
    pub body: Bytes,
    pub attempt: u16,
    pub first_at: UnixMs,
    /// When it is due; `None` once it has ended.
    pub due: Option<UnixMs>,
    pub outcome: Option<DeliveryOutcome>,
    pub log: Vec<AttemptLog>,
}

#[derive(Default)]
struct Shelves {
    outbox: BTreeMap<String, OutboxEntry>,
    deliveries: BTreeMap<(String, String), Kept>,
    documents: BTreeMap<(String, String), Document>,
    listening: bool,
}

/// The store in memory.
pub struct Memory {
    shelves: Mutex<Shelves>,
    now: AtomicI64,
    written: Notify,
    settled: Notify,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        let now = AtomicI64::new(chrono::Utc::now().timestamp_millis());
        Arc::new(Self { shelves: Mutex::default(), now, written: Notify::new(), settled: Notify::new() })
    }

    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn time(&self) -> UnixMs {
        self.now.load(Ordering::SeqCst)
    }

    pub fn is_listening(&self) -> bool {
        self.shelves.lock().unwrap().listening
    }

    pub fn outbox_len(&self) -> usize {
        self.shelves.lock().unwrap().outbox.len()
    }

    /// All deliveries, with their endpoint and id.
    pub fn deliveries(&self) -> Vec<(String, String, Kept)> {
        let shelves = self.shelves.lock().unwrap();
        shelves.deliveries.iter().map(|((e, i), kept)| (e.clone(), i.clone(), kept.clone())).collect()
    }

    /// The one delivery there is.
    pub fn only(&self) -> Kept {
        let all = self.deliveries();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].2.clone()
    }

    /// Waits until so many deliveries have ended.
    pub async fn ended(&self, n: usize) {
        let ended = async {
            while self.deliveries().iter().filter(|(_, _, kept)| kept.outcome.is_some()).count() < n {
                self.settled.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the deliveries end");
    }

    /// A person sends a delivery again.
    pub fn replay(&self, endpoint: &str, id: &str) {
        let now = self.time();
        let mut shelves = self.shelves.lock().unwrap();
        let kept = shelves.deliveries.get_mut(&(endpoint.into(), id.into())).unwrap();
        (kept.attempt, kept.due, kept.outcome) = (0, Some(now), None);
    }

    /// A job changes.
    pub fn change(&self, job: &str, seq: u32, event: &str, meta: &serde_json::Value) {
        let entry = format!("{seq:06}-{job}-{event}");
        let entry = OutboxEntry {
            entry: entry.clone(),
            job: job.into(),
            kind: "sql_update".into(),
            tenant: "t-001".into(),
            event: event.into(),
            place: event.into(),
            begun: false,
            seq,
            at: self.time(),
            attempt: 1,
            meta: Bytes::from(meta.to_string()),
            note: Bytes::new(),
        };
        self.shelves.lock().unwrap().outbox.insert(entry.entry.clone(), entry);
        self.written.notify_one();
    }
}

#[async_trait]
impl Outbox for Memory {
    fn shards(&self) -> u16 {
        1
    }

    async fn now(&self) -> Result<UnixMs, OutboxError> {
        Ok(self.time())
    }

    async fn outbox_read(&self, _: u16, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        Ok(self.shelves.lock().unwrap().outbox.values().take(limit).cloned().collect())
    }

    async fn outbox_route(&self, _: u16, entries: Vec<Routed>) -> Result<(), OutboxError> {
        let now = self.time();
        let mut shelves = self.shelves.lock().unwrap();
        for Routed { entry, deliveries } in entries {
            if shelves.outbox.remove(&entry).is_none() {
                continue;
            }
            for d in deliveries {
                let kept = Kept { body: d.body, attempt: 0, first_at: now, due: Some(now), outcome: None, log: vec![] };
                shelves.deliveries.insert((d.endpoint, d.id), kept);
            }
        }
        Ok(())
    }

    async fn deliveries_due(&self, _: u16, limit: usize) -> Result<Vec<(String, UnixMs)>, OutboxError> {
        let mut soonest: BTreeMap<String, UnixMs> = BTreeMap::new();
        for ((endpoint, _), kept) in &self.shelves.lock().unwrap().deliveries {
            if let Some(due) = kept.due {
                soonest.entry(endpoint.clone()).and_modify(|at| *at = due.min(*at)).or_insert(due);
            }
        }
        let mut all: Vec<(String, UnixMs)> = soonest.into_iter().collect();
        all.sort_by_key(|(_, due)| *due);
        all.truncate(limit);
        Ok(all)
    }

    async fn delivery_claim(
        &self,
        _: u16,
        endpoint: &str,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<DeliveryAttempt>, OutboxError> {
        let now = self.time();
        let mut shelves = self.shelves.lock().unwrap();
        let due =
            shelves.deliveries.iter_mut().filter(|((e, _), kept)| e == endpoint && kept.due.is_some_and(|d| d <= now));
        let claim = |((e, id), kept): ((&String, &String), &mut Kept)| {
            kept.attempt += 1;
            kept.due = Some(now + i64::try_from(lease.as_millis()).unwrap());
            let (endpoint, id, body) = (e.clone(), id.clone(), kept.body.clone());
            DeliveryAttempt { endpoint, id, body, attempt: kept.attempt, first_at: kept.first_at }
        };
        Ok(due.take(limit).map(|((e, id), kept)| claim(((e, id), kept))).collect())
    }

    async fn delivery_settle(
        &self,
        _: u16,
        endpoint: &str,
        id: &str,
        outcome: DeliveryOutcome,
        log: &[u8],
    ) -> Result<bool, OutboxError> {
        let mut shelves = self.shelves.lock().unwrap();
        let Some(kept) = shelves.deliveries.get_mut(&(endpoint.into(), id.into())) else { return Ok(false) };
        kept.log.push(serde_json::from_slice(log).unwrap());
        kept.outcome = Some(outcome);
        kept.due = match outcome {
            DeliveryOutcome::Retry { at } => Some(at),
            _ => None,
        };
        self.settled.notify_one();
        Ok(true)
    }

    async fn changed(&self) {
        self.written.notified().await;
    }
}

#[async_trait]
impl Registry for Memory {
    async fn document(&self, registry: &str, id: &str) -> Result<Option<Document>, OutboxError> {
        Ok(self.shelves.lock().unwrap().documents.get(&(registry.into(), id.into())).cloned())
    }

    async fn documents(&self, registry: &str) -> Result<BTreeMap<String, Document>, OutboxError> {
        let shelves = self.shelves.lock().unwrap();
        let of = shelves.documents.iter().filter(|((r, _), _)| r == registry);
        Ok(of.map(|((_, id), document)| (id.clone(), document.clone())).collect())
    }

    async fn put_document(
        &self,
        registry: &str,
        id: &str,
        bytes: &[u8],
        expected: Option<u32>,
    ) -> Result<bool, OutboxError> {
        let mut shelves = self.shelves.lock().unwrap();
        let key = (registry.to_owned(), id.to_owned());
        let held = shelves.documents.get(&key).map_or(0, |d| d.version);
        if expected.is_some_and(|version| version != held) {
            return Ok(false);
        }
        shelves.documents.insert(key, Document { version: held + 1, bytes: Bytes::copy_from_slice(bytes) });
        Ok(true)
    }

    async fn delete_document(&self, registry: &str, id: &str) -> Result<bool, OutboxError> {
        Ok(self.shelves.lock().unwrap().documents.remove(&(registry.into(), id.into())).is_some())
    }

    async fn set_listening(&self, on: bool) -> Result<(), OutboxError> {
        self.shelves.lock().unwrap().listening = on;
        Ok(())
    }
}

/// The machine's clock, set wrong by some milliseconds.
pub struct WrongBy(pub i64);

impl Clock for WrongBy {
    fn now_ms(&self) -> UnixMs {
        chrono::Utc::now().timestamp_millis() + self.0
    }
}

/// A resolver that gives these answers one after the other, the last one for ever.
pub struct Answers {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Answers {
    pub fn new(answers: &[&[&str]]) -> Arc<Self> {
        let read = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(read).collect(), asked: AtomicUsize::new(0) })
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolver for Answers {
    async fn lookup(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        let n = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[n.min(self.answers.len() - 1)].clone())
    }
}

/// A request as a receiver saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A real HTTP server on a free local port.
pub struct Receiver {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    arrived: Arc<Semaphore>,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Answers each request by `react`; `None` never answers.
    pub async fn reacting(react: impl Fn(usize) -> Option<Response<Body>> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind(LOCAL).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let arrived = Arc::new(Semaphore::new(0));
        let (book, bell, react) = (Arc::clone(&seen), Arc::clone(&arrived), Arc::new(react));
        let app = axum::Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let (book, bell, react) = (Arc::clone(&book), Arc::clone(&bell), Arc::clone(&react));
            async move {
                let n = {
                    let mut book = book.lock().unwrap();
                    book.push(Seen { headers, body });
                    book.len() - 1
                };
                bell.add_permits(1);
                match react(n) {
                    Some(response) => response,
                    None => std::future::pending().await,
                }
            }
        });
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, arrived, server }
    }

    pub async fn fine() -> Self {
        Self::reacting(|_| Some(status(200))).await
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until so many more requests have arrived.
    pub async fn arrivals(&self, n: u32) {
        let wait = self.arrived.acquire_many(n);
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the deliveries arrive").unwrap().forget();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn status(code: u16) -> Response<Body> {
    Response::builder().status(code).body(Body::empty()).unwrap()
}

pub fn status_with(code: u16, name: &str, value: &str) -> Response<Body> {
    Response::builder().status(code).header(name, value).body(Body::empty()).unwrap()
}

/// Short limits, so that a receiver that hangs is cut while the test waits for it. Only for such: a stall of the machine
/// would cut one that works, too.
pub fn quick_limits() -> Limits {
    let ms = Duration::from_millis;
    Limits { dns: ms(300), first_byte: ms(2000), total: ms(4000), ..Limits::default() }
}

/// For a receiver that hangs and is to go on hanging, however slow the machine is.
pub fn endless_limits() -> Limits {
    let hour = Duration::from_hours(1);
    Limits { dns: hour, connect: hour, first_byte: hour, total: hour, ..Limits::default() }
}

/// An address that answers to no dial, and is nobody else's for as long as the socket lives.
pub fn nobody() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(LOCAL.parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Everything is refused but what is listed here.
pub fn url_rules(allow: &[&str]) -> UrlRules {
    let networks: Vec<Network> = allow.iter().map(|text| text.parse().unwrap()).collect();
    UrlRules {
        addresses: AddressPolicy::new(&networks),
        has_listed_networks: !networks.is_empty(),
        ..UrlRules::default()
    }
}

pub fn sender(rules: UrlRules, limits: Limits, resolver: Arc<dyn Resolver>) -> Sender {
    Sender::new(rules, limits, resolver, Vec::new()).unwrap()
}

pub fn dispatcher_rules() -> DispatcherRules {
    let mut rules = DispatcherRules::new(BodyRules {
        status: |_, place, _, _| format!("status of {place}"),
        public_url: "https://leasehold.example".into(),
        max_bytes: leasehold::webhooks::body::MOST,
    });
    rules.schedule.jitter_percent = 0;
    rules
}

/// A store, a book and a dispatcher that may speak to 127.0.0.0/8.
pub struct Lab {
    pub memory: Arc<Memory>,
    pub directory: Directory,
    pub dispatcher: Dispatcher,
    pub rules: UrlRules,
}

impl Lab {
    pub fn new() -> Self {
        Self::with(dispatcher_rules(), Limits::default(), 0)
    }

    /// With other rules and limits, and the machine's clock wrong by some milliseconds.
    pub fn with(rules: DispatcherRules, limits: Limits, wrong_by: i64) -> Self {
        let memory = Memory::new();
        Self::on(memory, rules, limits, wrong_by)
    }

    /// Another sender process on the same store.
    pub fn on(memory: Arc<Memory>, rules: DispatcherRules, limits: Limits, wrong_by: i64) -> Self {
        let url_rules = url_rules(&["127.0.0.0/8"]);
        let directory = Directory::new(memory.clone());
        let sender = sender(url_rules.clone(), limits, Arc::new(SystemResolver));
        let clock = Arc::new(WrongBy(wrong_by));
        let dispatcher = Dispatcher::new(memory.clone(), directory.clone(), sender, clock, rules);
        Self { memory, directory, dispatcher, rules: url_rules }
    }

    /// Registers an endpoint for all events; its id and secret.
    pub async fn register(&self, url: &str) -> (String, Secret) {
        let new = NewEndpoint { url: url.into(), events: vec![], tenant: None, owner: "key-1".into() };
        let (view, secret) = self.directory.register(new, &self.rules, self.memory.time()).await.unwrap();
        (view.id, secret)
    }

    /// The meta document of a job with a callback URL.
    pub async fn callback(&self, url: &str, secret: &Secret) -> serde_json::Value {
        let ask = NewCallback { key: "key-1", url, secret, tenant: "t-001" };
        let id = self.directory.callback(ask, &self.rules, self.memory.time()).await.unwrap();
        serde_json::json!({ "callback": callback_meta(&id) })
    }

    /// Routes and sends what is due, and waits until each attempt has ended.
    pub async fn round(&self) {
        self.dispatcher.tick().await.unwrap();
        self.dispatcher.idle().await;
    }

    pub fn succeed(&self, job: &str) {
        self.memory.change(job, 3, "succeeded", &serde_json::json!({}));
    }
}
