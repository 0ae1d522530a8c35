//! Turns outbox entries into deliveries: one for each endpoint that hears the event, and one for the job's callback.
//!
//! The endpoints are read after the entries, so an endpoint that was registered before a change hears of it. The
//! script behind `outbox_route` lets one sender win, so an entry is routed once however many senders there are.
//! Nothing is left out, progress neither: `seq` rises by one, so that a receiver sees a loss. An endpoint that was given
//! up hears on: the attempt withholds what it would get, and a person who enables it can replay that.

use super::body::{self, BodyRules};
use super::directory::{Directory, DirectoryError};
use super::endpoint::Endpoint;
use super::outbox::{NewDelivery, Outbox, OutboxEntry, Routed};
use super::signature::delivery_id;

/// Routes up to `batch` entries of a shard; how many there were.
pub async fn route(
    outbox: &dyn Outbox,
    directory: &Directory,
    rules: &BodyRules,
    shard: u16,
    batch: usize,
) -> Result<usize, DirectoryError> {
    let entries = outbox.outbox_read(shard, batch).await?;
    if entries.is_empty() {
        return Ok(0);
    }
    let endpoints = directory.endpoints().await?;
    let routed =
        |entry: &OutboxEntry| Routed { entry: entry.entry.clone(), deliveries: deliveries(entry, &endpoints, rules) };
    outbox.outbox_route(shard, entries.iter().map(routed).collect()).await?;
    Ok(entries.len())
}

fn deliveries(entry: &OutboxEntry, listeners: &[Endpoint], rules: &BodyRules) -> Vec<NewDelivery> {
    let event = body::event_type(entry);
    let heard = listeners.iter().filter(|endpoint| endpoint.hears(&event, &entry.tenant)).map(|e| e.id.clone());
    let receivers: Vec<String> = heard.chain(body::callback_of(entry)).collect();
    if receivers.is_empty() {
        return Vec::new();
    }
    let body = body::body(entry, rules);
    let delivery = |endpoint: String| NewDelivery {
        id: delivery_id(&endpoint, &entry.job, entry.seq, &entry.event),
        body: body.clone(),
        endpoint,
    };
    receivers.into_iter().map(delivery).collect()
}
