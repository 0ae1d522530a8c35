//! Turns the section `[webhooks]` of the configuration into the rules of this room.

use std::net::SocketAddr;
use std::time::Duration;

use super::address::{AddressPolicy, Network, NetworkError, own_addresses};
use super::body::BodyRules;
use super::client::Limits;
use super::dispatcher::DispatcherRules;
use super::endpoint_url::UrlRules;
use crate::config::Webhooks;

/// What URLs and addresses are allowed. `own_listeners` (the API, Redis) are refused even within `webhooks.allow`.
///
/// # Errors
/// When an entry of `webhooks.allow` is no network.
pub fn url_rules(config: &Webhooks, own_listeners: &[SocketAddr]) -> Result<UrlRules, NetworkError> {
    let networks = config.allow.iter().map(|text| text.parse()).collect::<Result<Vec<Network>, _>>()?;
    Ok(UrlRules {
        allow_http: config.http,
        ports: Vec::new(),
        addresses: AddressPolicy::new(&networks)
            .with_own_addresses(own_addresses())
            .with_own_listeners(own_listeners.iter().copied()),
        has_listed_networks: !networks.is_empty(),
    })
}

/// How long an exchange may take and how much is read.
pub fn limits(config: &Webhooks) -> Limits {
    Limits {
        dns: Duration::from_secs(config.dns_timeout_seconds),
        connect: Duration::from_secs(config.connect_timeout_seconds),
        first_byte: Duration::from_secs(config.first_byte_timeout_seconds),
        total: Duration::from_secs(config.total_timeout_seconds),
        answer_bytes: config.answer_bytes,
    }
}

/// How the dispatcher works. `body.max_bytes` is taken from the configuration.
pub fn dispatcher_rules(config: &Webhooks, body: BodyRules) -> DispatcherRules {
    let mut rules = DispatcherRules::new(BodyRules { max_bytes: config.max_body_bytes, ..body });
    rules.schedule.waits = config.schedule_seconds.iter().copied().map(Duration::from_secs).collect();
    rules.schedule.jitter_percent = config.jitter_percent;
    rules.schedule.overload_wait = Duration::from_secs(config.overload_wait_seconds);
    rules.schedule.retry_after_cap = Duration::from_secs(config.retry_after_cap_seconds);
    rules.health.disable_after = Duration::from_secs(config.disable_after_hours.saturating_mul(3600));
    rules.endpoint_concurrency = config.endpoint_concurrency;
    rules.concurrency = config.concurrency;
    rules
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::webhooks::schedule::Schedule;

    #[test]
    fn the_reference_configuration_is_the_schedule_and_the_limits_of_the_standard() {
        let text = include_str!("../../config/leasehold.toml");
        let config: Webhooks = toml::from_str::<toml::Table>(text).unwrap()["webhooks"].clone().try_into().unwrap();
        let body = BodyRules { status: |_, _, _| String::new(), public_url: String::new(), max_bytes: 0 };
        assert_eq!(dispatcher_rules(&config, body).schedule, Schedule::default());
        assert_eq!(limits(&config), Limits::default());
        let rules = url_rules(&config, &[]).unwrap();
        assert!(!rules.allow_http && !rules.has_listed_networks);
        let wrong = Webhooks { allow: vec!["10.1.2.3/8".into()], ..config };
        assert!(url_rules(&wrong, &[]).is_err());
    }
}
