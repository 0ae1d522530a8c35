//! The engine's store, as the outbox (with its hints) and the registry of the sender.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::store::{self, Change, Changes, Put, Store, StoreError};
use tokio::sync::{Mutex, broadcast};

use super::outbox::{
    DeliveryAttempt, DeliveryOutcome, Document, NewDelivery, Outbox, OutboxEntry, OutboxError, Registry, Routed, UnixMs,
};

/// A store and its hints.
pub struct StoreOutbox {
    store: Store,
    hints: Mutex<broadcast::Receiver<Change>>,
    _changes: Changes,
}

impl StoreOutbox {
    /// Subscribes to the store's hints. Must be called within a tokio runtime.
    pub fn new(store: Store) -> Self {
        let changes = store.changes(true);
        Self { hints: Mutex::new(changes.listen()), store, _changes: changes }
    }
}

impl From<StoreError> for OutboxError {
    fn from(error: StoreError) -> Self {
        Self(Box::new(error))
    }
}

impl From<store::OutboxEntry> for OutboxEntry {
    fn from(e: store::OutboxEntry) -> Self {
        Self {
            entry: e.entry,
            job: e.job.to_string(),
            kind: e.kind,
            tenant: e.tenant,
            event: e.event.as_str().to_owned(),
            place: e.place.as_str().to_owned(),
            begun: e.begun,
            seq: e.seq,
            at: e.at,
            attempt: e.attempt,
            meta: e.meta,
            note: e.note,
        }
    }
}

impl From<NewDelivery> for store::NewDelivery {
    fn from(d: NewDelivery) -> Self {
        Self { endpoint: d.endpoint, id: d.id, body: d.body }
    }
}

impl From<Routed> for store::Routed {
    fn from(r: Routed) -> Self {
        Self { entry: r.entry, deliveries: r.deliveries.into_iter().map(Into::into).collect() }
    }
}

impl From<store::DeliveryAttempt> for DeliveryAttempt {
    fn from(d: store::DeliveryAttempt) -> Self {
        Self { endpoint: d.endpoint, id: d.id, body: d.body, attempt: d.attempt, first_at: d.first_at }
    }
}

#[async_trait]
impl Outbox for StoreOutbox {
    fn shards(&self) -> u16 {
        self.store.shards()
    }

    async fn now(&self) -> Result<UnixMs, OutboxError> {
        Ok(self.store.now().await?)
    }

    async fn outbox_read(&self, shard: u16, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        Ok(self.store.outbox_read(shard, limit).await?.into_iter().map(Into::into).collect())
    }

    async fn outbox_route(&self, shard: u16, entries: Vec<Routed>) -> Result<(), OutboxError> {
        let entries: Vec<store::Routed> = entries.into_iter().map(Into::into).collect();
        self.store.outbox_route(shard, &entries).await?;
        Ok(())
    }

    async fn deliveries_due(&self, shard: u16, limit: usize) -> Result<Vec<(String, UnixMs)>, OutboxError> {
        Ok(self.store.deliveries_due(shard, limit).await?)
    }

    async fn delivery_claim(
        &self,
        shard: u16,
        endpoint: &str,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<DeliveryAttempt>, OutboxError> {
        let claimed = self.store.delivery_claim(shard, endpoint, limit, lease).await?;
        Ok(claimed.into_iter().map(Into::into).collect())
    }

    async fn delivery_settle(
        &self,
        shard: u16,
        endpoint: &str,
        id: &str,
        outcome: DeliveryOutcome,
        log: &[u8],
    ) -> Result<bool, OutboxError> {
        let outcome = match outcome {
            DeliveryOutcome::Delivered => store::DeliveryOutcome::Delivered,
            DeliveryOutcome::Retry { at } => store::DeliveryOutcome::Retry { at },
            DeliveryOutcome::Exhausted => store::DeliveryOutcome::Exhausted,
        };
        Ok(self.store.delivery_settle(shard, endpoint, id, outcome, log).await?)
    }

    async fn changed(&self) {
        let mut hints = self.hints.lock().await;
        // Other hints (ready, scheduled, cancel) are for workers. Lagging means that much has happened.
        while let Ok(Change::Ready(_) | Change::Scheduled(_) | Change::Cancel(_)) = hints.recv().await {}
    }
}

#[async_trait]
impl Registry for Store {
    async fn document(&self, registry: &str, id: &str) -> Result<Option<Document>, OutboxError> {
        let held = Store::document(self, registry, id).await?;
        Ok(held.map(|d| Document { version: d.version, bytes: d.bytes }))
    }

    async fn documents(&self, registry: &str) -> Result<BTreeMap<String, Document>, OutboxError> {
        let held = Store::documents(self, registry).await?;
        Ok(held.into_iter().map(|(id, d)| (id, Document { version: d.version, bytes: d.bytes })).collect())
    }

    async fn put_document(
        &self,
        registry: &str,
        id: &str,
        bytes: &[u8],
        expected: Option<u32>,
    ) -> Result<bool, OutboxError> {
        Ok(matches!(Store::put_document(self, registry, id, bytes, expected).await?, Put::Ok(_)))
    }

    async fn delete_document(&self, registry: &str, id: &str) -> Result<bool, OutboxError> {
        Ok(Store::delete_document(self, registry, id).await?)
    }

    async fn set_listening(&self, on: bool) -> Result<(), OutboxError> {
        Ok(Store::set_listening(self, on).await?)
    }
}
