//! What the sender needs of the store, as two small traits.
//!
//! The engine's store implements them (`store.rs`); tests put a store in memory behind them. Every verb may be sent
//! again after a lost reply and gives the same answer (E10).

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// Milliseconds since 1970 UTC, by the store's clock.
pub type UnixMs = i64;

/// The store could not do it now.
#[derive(Debug, thiserror::Error)]
#[error("the store did not answer")]
pub struct OutboxError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A change of a job that somebody wants to hear of.
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Its name in the outbox.
    pub entry: String,
    /// The job.
    pub job: String,
    /// Its kind.
    pub kind: String,
    /// Its tenant.
    pub tenant: String,
    /// What happened: `succeeded`, `retrying`, …
    pub event: String,
    /// The place of the job then.
    pub place: String,
    /// Whether it had begun a step by then.
    pub begun: bool,
    /// Rises by one with each change of the job.
    pub seq: u32,
    /// When.
    pub at: UnixMs,
    /// The attempt it belongs to.
    pub attempt: u16,
    /// The job's meta document.
    pub meta: Bytes,
    /// The event's note.
    pub note: Bytes,
}

/// A delivery to be made.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// To whom.
    pub endpoint: String,
    /// `webhook-id`.
    pub id: String,
    /// What is sent, byte for byte.
    pub body: Bytes,
}

/// An outbox entry and the deliveries that are made of it.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The entry's name in the outbox.
    pub entry: String,
    /// One for each endpoint that hears it.
    pub deliveries: Vec<NewDelivery>,
}

/// A delivery taken under a lease, for one attempt.
#[derive(Debug, Clone)]
pub struct DeliveryAttempt {
    /// To whom.
    pub endpoint: String,
    /// `webhook-id`.
    pub id: String,
    /// What is sent.
    pub body: Bytes,
    /// 1 is the first.
    pub attempt: u16,
    /// When the delivery was made.
    pub first_at: UnixMs,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver took it.
    Delivered,
    /// Again at this time.
    Retry {
        /// When.
        at: UnixMs,
    },
    /// Given up; a person may replay it.
    Exhausted,
}

/// The outbox and the queues of deliveries.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// How many shards there are.
    fn shards(&self) -> u16;
    /// The store's clock.
    async fn now(&self) -> Result<UnixMs, OutboxError>;
    /// The oldest entries of a shard.
    async fn outbox_read(&self, shard: u16, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError>;
    /// Turns entries into deliveries, each once however many senders there are.
    async fn outbox_route(&self, shard: u16, entries: Vec<Routed>) -> Result<(), OutboxError>;
    /// Endpoints with deliveries to come, soonest first.
    async fn deliveries_due(&self, shard: u16, limit: usize) -> Result<Vec<(String, UnixMs)>, OutboxError>;
    /// Takes due deliveries; they are due again after `lease` unless settled.
    async fn delivery_claim(
        &self,
        shard: u16,
        endpoint: &str,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<DeliveryAttempt>, OutboxError>;
    /// Ends an attempt; `false` when the delivery is forgotten.
    async fn delivery_settle(
        &self,
        shard: u16,
        endpoint: &str,
        id: &str,
        outcome: DeliveryOutcome,
        log: &[u8],
    ) -> Result<bool, OutboxError>;
    /// Resolves when something may be due sooner than the next look. A hint: it may be late, or never come.
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// A document and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Rises with each write; 1 is the first.
    pub version: u32,
    /// What was written.
    pub bytes: Bytes,
}

/// Small versioned documents.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Reads one.
    async fn document(&self, registry: &str, id: &str) -> Result<Option<Document>, OutboxError>;
    /// Reads all.
    async fn documents(&self, registry: &str) -> Result<BTreeMap<String, Document>, OutboxError>;
    /// Writes one if its version is `expected` (0: it must be new; `None`: whatever it is); `false` on a conflict.
    async fn put_document(
        &self,
        registry: &str,
        id: &str,
        bytes: &[u8],
        expected: Option<u32>,
    ) -> Result<bool, OutboxError>;
    /// Forgets one; whether it was there.
    async fn delete_document(&self, registry: &str, id: &str) -> Result<bool, OutboxError>;
    /// Makes every change of every job be told, or only those of jobs that ask for it.
    async fn set_listening(&self, on: bool) -> Result<(), OutboxError>;
}
