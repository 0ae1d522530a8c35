//! The webhook sender as the configuration wants it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leasehold_engine::Place;
use leasehold_engine::{Store, StoreError};
use leasehold_jobs::policy::status::{self, Seen};
use tokio_util::sync::CancellationToken;

use super::error::BootError;
use crate::config::Config;
use crate::webhooks::address::{AddressPolicy, Network, own_addresses};
use crate::webhooks::body::BodyRules;
use crate::webhooks::client::{Limits, Sender, SystemResolver};
use crate::webhooks::directory::Directory;
use crate::webhooks::dispatcher::{Dispatcher, DispatcherRules, SystemClock};
use crate::webhooks::endpoint::HealthRules;
use crate::webhooks::endpoint_url::UrlRules;
use crate::webhooks::schedule::Schedule;
use crate::webhooks::store::StoreOutbox;

/// Where webhooks may go; never to our own API or Redis.
pub(super) fn url_rules(config: &Config, listens: Option<SocketAddr>) -> Result<UrlRules, BootError> {
    let wrong = |error: &dyn std::fmt::Display| BootError::Other(format!("webhooks.allow: {error}"));
    let networks = config.webhooks.allow.iter().map(|text| text.parse::<Network>().map_err(|e| wrong(&e)));
    let networks = networks.collect::<Result<Vec<_>, _>>()?;
    let listeners = listens.into_iter().chain(redis_address(config));
    Ok(UrlRules {
        allow_http: config.webhooks.http,
        addresses: AddressPolicy::new(&networks).with_own_addresses(own_addresses()).with_own_listeners(listeners),
        has_listed_networks: !networks.is_empty(),
        ..UrlRules::default()
    })
}

fn redis_address(config: &Config) -> Option<SocketAddr> {
    let url = url::Url::parse(config.store.redis_url.expose()).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).replace("localhost", "127.0.0.1");
    Some(SocketAddr::new(host.parse().ok()?, url.port().unwrap_or(6379)))
}

/// The sender, not yet started.
pub(super) fn dispatcher(
    config: &Config,
    store: &Store,
    rules: UrlRules,
    listens: Option<SocketAddr>,
) -> Result<Dispatcher, BootError> {
    let knobs = &config.webhooks;
    let seconds = Duration::from_secs;
    let limits = Limits {
        dns: seconds(knobs.dns_timeout_seconds),
        connect: seconds(knobs.connect_timeout_seconds),
        first_byte: seconds(knobs.first_byte_timeout_seconds),
        total: seconds(knobs.total_timeout_seconds),
        answer_bytes: knobs.answer_bytes,
    };
    let sender = Sender::new(rules, limits, Arc::new(SystemResolver), Vec::new());
    let sender = sender.map_err(|error| BootError::Other(format!("TLS for webhooks: {error}")))?;
    let outbox = Arc::new(StoreOutbox::new(store.clone()));
    let public_url = listens.filter(|a| !a.ip().is_unspecified()).map(|a| format!("http://{a}")).unwrap_or_default();
    let rules = DispatcherRules {
        schedule: Schedule {
            waits: knobs.schedule_seconds.iter().map(|s| seconds(*s)).collect(),
            jitter_percent: knobs.jitter_percent,
            overload_wait: seconds(knobs.overload_wait_seconds),
            retry_after_cap: seconds(knobs.retry_after_cap_seconds),
        },
        health: HealthRules {
            disable_after: Duration::from_hours(knobs.disable_after_hours),
            ..HealthRules::default()
        },
        endpoint_concurrency: knobs.endpoint_concurrency,
        concurrency: knobs.concurrency,
        // Changes are told at once by hints; this is the net below them.
        poll: Duration::from_millis(500),
        ..DispatcherRules::new(BodyRules { status: business_status, public_url, max_bytes: knobs.max_body_bytes })
    };
    Ok(Dispatcher::new(outbox, Directory::new(Arc::new(store.clone())), sender, Arc::new(SystemClock), rules))
}

/// Callbacks that no job has asked for in this time are forgotten.
const CALLBACK_DAYS: i64 = 400;

/// Forgets old callback endpoints once a day, so that they do not grow without end (E7).
pub(super) async fn forget_callbacks(store: Store, stop: CancellationToken) {
    let directory = Directory::new(Arc::new(store));
    let days = |n: i64| chrono::TimeDelta::days(n);
    loop {
        let before = (chrono::Utc::now() - days(CALLBACK_DAYS)).timestamp_millis();
        match directory.prune_callbacks(before).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "callback endpoints forgotten"),
            Err(error) => tracing::warn!(%error, "callback endpoints could not be looked at"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_hours(24))).await.is_none() {
            return;
        }
    }
}

/// Raises an alert for deliveries that were dropped because too many waited for their receiver (E7).
pub(super) async fn tell_dropped(store: Store, stop: CancellationToken) {
    loop {
        for shard in 0..store.shards() {
            if let Err(error) = alert_dropped(&store, shard).await {
                tracing::warn!(code = error.code(), "dropped webhooks could not be counted");
            }
        }
        // Rarely: alerts are few, and one receiver that is away for a week must not drive out all others.
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_hours(1))).await.is_none() {
            return;
        }
    }
}

async fn alert_dropped(store: &Store, shard: u16) -> Result<(), StoreError> {
    for (endpoint, deliveries) in store.deliveries_dropped(shard).await? {
        tracing::error!(endpoint, deliveries, "webhooks were dropped: too many waited for their receiver");
        let about = serde_json::json!({ "endpoint": endpoint, "deliveries": deliveries });
        store.alert("webhooks_dropped", &about.to_string()).await?;
    }
    Ok(())
}

/// The business status of a kind, as the API shows it.
fn business_status(kind: &str, place: &str, begun: bool, note: &[u8]) -> String {
    let Ok(place) = place.parse::<Place>() else { return place.to_owned() };
    let result = serde_json::from_slice(note).ok();
    let seen = Seen { place, begun, result: result.as_ref() };
    status::of(kind, seen).id.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_has_begun_is_not_told_as_pending_while_it_waits_for_the_next_attempt() {
        for (kind, waits, goes_on) in [
            ("sql_update", "pending_execution", "executing"),
            ("data_center_restore", "pending", "restoring"),
            ("data_center_backup", "pending", "running"),
        ] {
            assert_eq!(business_status(kind, "scheduled", false, b""), waits);
            assert_eq!(business_status(kind, "scheduled", true, b""), goes_on);
        }
    }
}
