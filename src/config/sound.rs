//! What types cannot say about a configuration: ranges, and values that must fit each other.

use leasehold_engine::model::gate::MAX_RATE;

use tracing_subscriber::EnvFilter;

use super::Config;
use crate::api::extract::nearest;

/// A longer lease would be taken for one from before the clock went back (engine, `rescue`).
const LONGEST_LEASE_MS: u64 = 3_600_000;

/// Calls `complain(key, what)` for everything that is not sound.
pub(super) fn check(config: &Config, mut complain: impl FnMut(&str, String)) {
    at_least_one(config, &mut complain);
    percentages(config, &mut complain);
    pairs(config, &mut complain);
    words(config, &mut complain);
    start_limits(config, &mut complain);
}

/// A limit that limits nothing is a slip, and a rate has a count and a period.
fn start_limits(config: &Config, complain: &mut impl FnMut(&str, String)) {
    const LONGEST_SECONDS: u64 = 31 * 86_400;
    let limits = &config.limits;
    for (sort, named) in [("queues", &limits.queues), ("kinds", &limits.kinds), ("keys", &limits.keys)] {
        for (name, limit) in named {
            let at = |field: &str| format!("limits.{sort}.{name}.{field}");
            if limit.max_running == 0 && limit.rate == 0 {
                complain(&at("max_running"), "must be at least 1, or `rate` must be: this limits nothing".into());
            }
            if (limit.rate > 0) != (limit.per_seconds > 0) {
                complain(&at("per_seconds"), "goes together with `rate`: starts, and the seconds for them".into());
            }
            if limit.rate > MAX_RATE {
                complain(&at("rate"), format!("must be at most {MAX_RATE}: each start is remembered"));
            }
            if limit.per_seconds > LONGEST_SECONDS {
                complain(&at("per_seconds"), format!("must be at most {LONGEST_SECONDS} (31 days)"));
            }
        }
    }
}

fn at_least_one(config: &Config, complain: &mut impl FnMut(&str, String)) {
    let Config { server, store, worker, upkeep, clock, limits, retry, webhooks, .. } = config;
    let values = [
        ("server.body_limit_bytes", server.body_limit_bytes as u64),
        ("server.request_timeout_seconds", server.request_timeout_seconds),
        ("server.page_size", server.page_size as u64),
        ("server.event_stream_ping_seconds", server.event_stream_ping_seconds),
        ("store.shards", u64::from(store.shards)),
        ("store.response_timeout_ms", store.response_timeout_ms),
        ("worker.slots", worker.slots as u64),
        ("worker.poll_ms", worker.poll_ms),
        ("worker.renew_ms", worker.renew_ms),
        ("upkeep.promote_ms", upkeep.promote_ms),
        ("upkeep.rescue_ms", upkeep.rescue_ms),
        ("upkeep.prune_ms", upkeep.prune_ms),
        ("upkeep.batch", upkeep.batch as u64),
        ("clock.max_jump_seconds", clock.max_jump_seconds),
        ("limits.max_waiting_jobs", limits.max_waiting_jobs),
        ("limits.max_args_bytes", limits.max_args_bytes as u64),
        ("retry.max_attempts", u64::from(retry.max_attempts)),
        ("webhooks.schedule_seconds", webhooks.schedule_seconds.len() as u64),
        ("webhooks.endpoints_per_tenant", webhooks.endpoints_per_tenant as u64),
        ("webhooks.endpoint_concurrency", webhooks.endpoint_concurrency as u64),
        ("webhooks.concurrency", webhooks.concurrency as u64),
        ("webhooks.total_timeout_seconds", webhooks.total_timeout_seconds),
        ("verify.code_ttl_seconds", config.rules.verify.code_ttl_seconds),
        ("verify.max_attempts", u64::from(config.rules.verify.max_attempts)),
    ];
    for (key, _) in values.into_iter().filter(|(_, value)| *value == 0) {
        complain(key, "must be at least 1".into());
    }
}

fn percentages(config: &Config, complain: &mut impl FnMut(&str, String)) {
    let values = [
        ("retry.jitter_percent", config.retry.jitter_percent),
        ("webhooks.jitter_percent", config.webhooks.jitter_percent),
    ];
    for (key, value) in values.into_iter().filter(|(_, value)| *value > 100) {
        complain(key, format!("is a percentage: {value} is more than 100"));
    }
}

fn pairs(config: &Config, complain: &mut impl FnMut(&str, String)) {
    let Config { server, worker, retry, rules, .. } = config;
    if server.page_size > server.max_page_size {
        complain("server.page_size", format!("must not exceed server.max_page_size ({})", server.max_page_size));
    }
    if worker.renew_ms.saturating_mul(2) > worker.lease_ms {
        let half = worker.lease_ms / 2;
        complain(
            "worker.renew_ms",
            format!("must be at most half of worker.lease_ms ({half}), or one loss ends a lease"),
        );
    }
    if worker.lease_ms > LONGEST_LEASE_MS {
        complain(
            "worker.lease_ms",
            format!("must be at most {LONGEST_LEASE_MS} (an hour): so late are lost workers noticed"),
        );
    }
    if retry.base_ms > retry.cap_ms {
        complain("retry.base_ms", format!("must not exceed retry.cap_ms ({})", retry.cap_ms));
    }
    let expiry = &rules.expiry;
    if expiry.restrict_ops_from_day < expiry.block_business_from_day {
        let first = expiry.block_business_from_day;
        complain(
            "expiry.restrict_ops_from_day",
            format!("must not be before expiry.block_business_from_day ({first})"),
        );
    }
    if expiry.destroy_after_days < expiry.restrict_ops_from_day {
        let first = expiry.restrict_ops_from_day;
        complain("expiry.destroy_after_days", format!("must not be before expiry.restrict_ops_from_day ({first})"));
    }
}

fn words(config: &Config, complain: &mut impl FnMut(&str, String)) {
    if let Some(what) = filter_slip(&config.log.level) {
        complain("log.level", what);
    }
    for queue in &config.worker.queues {
        if let Some(what) = queue_slip(queue) {
            complain("worker.queues", what);
        }
    }
    for network in &config.webhooks.allow {
        if let Err(what) = network_syntax(network) {
            complain("webhooks.allow", what);
        }
    }
    let url = config.store.redis_url.expose();
    if !url.is_empty() && !["redis://", "rediss://", "redis+unix://", "unix://"].iter().any(|s| url.starts_with(s)) {
        complain("store.redis_url", "must start with redis://, rediss:// or redis+unix://".into());
    }
    if !["file:", "s3://"].iter().any(|scheme| config.targets.backups.starts_with(scheme)) {
        complain("targets.backups", format!("`{}` must start with file: or s3://", config.targets.backups));
    }
    let archive = &config.archive.files;
    if !archive.is_empty() && archive.strip_prefix("file:").is_none_or(str::is_empty) {
        complain("archive.files", format!("`{archive}` must be file: and a folder, or empty for no archive"));
    }
}

/// What is wrong with a filter of log lines. The filter itself takes `a=,,` and means everything by it.
fn filter_slip(level: &str) -> Option<String> {
    let is_empty = |part: &str| part.trim().is_empty() || part.trim().ends_with('=');
    if !level.is_empty() && !level.contains('{') && level.split(',').any(is_empty) {
        return Some(format!(
            "`{level}` has an empty part; write a level (info), or parts such as leasehold=debug,info"
        ));
    }
    EnvFilter::try_new(level).err().map(|error| format!("`{level}`: {error}"))
}

/// What is wrong with the name of a queue: a worker of one that does not exist would wait for ever.
pub(crate) fn queue_slip(name: &str) -> Option<String> {
    let known = leasehold_jobs::queue_names();
    if known.contains(&name) {
        return None;
    }
    let near = nearest(name, known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
    Some(format!("there is no queue `{name}`, but: {}{}", known.join(", "), near.unwrap_or_default()))
}

/// Refuses what is not an address with an optional prefix length.
fn network_syntax(text: &str) -> Result<(), String> {
    let wrong = || format!("`{text}` is not a network such as 10.1.0.0/16 or fd00::/8");
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    match length {
        Some(length) if length > bits => Err(wrong()),
        _ => Ok(()),
    }
}
