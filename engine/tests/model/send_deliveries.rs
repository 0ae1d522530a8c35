//! Sends the verbs of the outbox and of deliveries, and gives their answers as text.

use std::time::Duration;

use bytes::Bytes;
use leasehold_engine::store::{DeliveryOutcome, NewDelivery, OutboxEntry, Routed};

use crate::{
    deliveries::Said,
    model::Model,
    send::{Far, text},
    verbs::{Arrival, ENDPOINTS, Parcel, Verb},
};

/// What is sent of a delivery: it says whose it is, so that a mix-up is seen.
pub(crate) fn body_of(parcel: &Parcel) -> String {
    format!("{parcel:?}")
}

impl Far {
    pub(crate) async fn outbox_read(&self, most: usize) -> Result<Vec<OutboxEntry>, String> {
        self.store.outbox_read(self.shard, most).await.map_err(|error| format!("error: {error:?}"))
    }

    pub(crate) async fn deliver(&self, verb: &Verb, model: &Model) -> String {
        let store = &self.store;
        match verb {
            Verb::Listen(on) => text(store.set_listening(*on).await),
            Verb::OutboxRoute { sender } => {
                let routed: Vec<Routed> = model.outbox.read[*sender].iter().map(|entry| entry.routed()).collect();
                text(store.outbox_route(self.shard, &routed).await)
            }
            Verb::DeliveryClaim { to, most, lease_ms } => {
                let lease = Duration::from_millis(*lease_ms as u64);
                let taken = store.delivery_claim(self.shard, ENDPOINTS[*to].0, *most, lease).await;
                text(
                    taken.map(|all| all.into_iter().map(|d| (d.id, d.body, d.attempt, d.first_at)).collect::<Vec<_>>()),
                )
            }
            Verb::DeliverySettle { parcel, how } => {
                self.settle_delivery(parcel, &model.outbox.said(*parcel, *how, model.now)).await
            }
            Verb::DeliverySettleAgain { parcel } => match model.outbox.said_first(*parcel) {
                Some(said) => self.settle_delivery(parcel, said).await,
                None => String::new(),
            },
            Verb::DeliveryReplay { parcel } => {
                text(store.delivery_replay(self.shard, ENDPOINTS[parcel.to].0, &parcel.id()).await)
            }
            Verb::DeliveriesForget { to, most } => {
                text(store.deliveries_forget(self.shard, ENDPOINTS[*to].0, *most).await)
            }
            _ => String::new(),
        }
    }
}

impl Far {
    async fn settle_delivery(&self, parcel: &Parcel, said: &Said) -> String {
        let outcome = match said.how {
            Arrival::Delivered => DeliveryOutcome::Delivered,
            Arrival::Retry { ms } => DeliveryOutcome::Retry { at: said.at + ms },
            Arrival::Exhausted => DeliveryOutcome::Exhausted,
        };
        let (to, id, log) = (ENDPOINTS[parcel.to].0, parcel.id(), said.line());
        text(self.store.delivery_settle(self.shard, to, &id, outcome, log.as_bytes()).await)
    }
}

/// A delivery as a sender makes it.
pub(crate) fn new_delivery(parcel: &Parcel) -> NewDelivery {
    NewDelivery { endpoint: ENDPOINTS[parcel.to].0.to_owned(), id: parcel.id(), body: Bytes::from(body_of(parcel)) }
}
