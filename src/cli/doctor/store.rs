//! The checks on the store and on what it knows: Redis, workers, targets, webhooks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use leasehold_engine::store::Severity;
use leasehold_engine::{Place, Store};
use leasehold_jobs::{Tenant, policy::address};
use tokio::time::timeout;

use super::{Doctor, Findings, audit, stops};
use crate::cli::Out;
use crate::config::Config;
use crate::roles::catalogue;
use crate::webhooks::directory::Directory;
use crate::webhooks::endpoint;

/// Round trips that are timed.
const ROUNDS: usize = 21;
/// A slower Redis holds everything up.
const SLOW: Duration = Duration::from_millis(20);
/// Clocks further apart than this confuse people who read logs; only the store's decides.
const SKEW_MS: i64 = 2_000;
const PROBE: Duration = Duration::from_secs(10);

pub(super) async fn look(config: &Config, store: &Store, asked: &Doctor, out: &Out, findings: &mut Findings) {
    redis(store, findings).await;
    speed(store, findings).await;
    clock(store, findings).await;
    findings.ok("scripts", "loaded");
    workers(store, findings).await;
    stops::unserved(store, findings).await;
    stops::standing(store, findings).await;
    jobs(store, findings).await;
    archive(config, store, findings).await;
    if !asked.skip_targets {
        targets(config, store, findings).await;
    }
    webhooks(store, findings).await;
    if asked.audit {
        audit::audit(store, out, findings).await;
    }
}

async fn redis(store: &Store, findings: &mut Findings) {
    let found = match store.durability().await {
        Ok(found) => found,
        Err(error) => return findings.wrong("redis", error.to_string()),
    };
    let most = if found.max_memory == 0 { "no limit".to_owned() } else { format!("{} MiB", found.max_memory >> 20) };
    let aof = if found.aof { format!("fsync {}", found.fsync) } else { "none".to_owned() };
    let text =
        format!("{}; AOF {aof}; {}; memory {} MiB of {most}", found.version, found.eviction, found.used_memory >> 20);
    findings.ok("redis", text);
    if found.max_memory > 0 && found.used_memory > found.max_memory / 100 * 80 {
        findings.warning("redis memory", "more than 80 % is used; new jobs are refused at 90 %");
    }
    for complaint in found.complaints {
        let text = format!("{} ({})", complaint.text, complaint.code);
        match complaint.severity {
            Severity::DataLoss | Severity::Full => findings.wrong("durability", text),
            Severity::Warning => findings.warning("durability", text),
        }
    }
}

async fn speed(store: &Store, findings: &mut Findings) {
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut skew = 0;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        match store.now().await {
            Ok(now) => skew = now - Utc::now().timestamp_millis(),
            Err(error) => return findings.wrong("latency", error.to_string()),
        }
        rounds.push(begun.elapsed());
    }
    rounds.sort_unstable();
    let median = rounds[ROUNDS / 2];
    let text = format!("{:.2} ms a round trip (median of {ROUNDS})", median.as_secs_f64() * 1000.0);
    if median > SLOW {
        findings.warning("latency", text)
    } else {
        findings.ok("latency", text)
    }
    let text = format!("Redis' clock is {skew} ms off this machine's");
    if skew.abs() > SKEW_MS { findings.warning("clock", text + "; Redis' decides") } else { findings.ok("clock", text) }
}

async fn clock(store: &Store, findings: &mut Findings) {
    let name = "clock jump";
    match store.clock_jump().await {
        Err(error) => findings.wrong(name, error.to_string()),
        Ok(None) => findings.ok(name, "none, or it is accepted"),
        Ok(Some(jump)) => {
            let text = format!(
                "Redis' clock jumped by {} s, destructive jobs do not start: `leasehold clock accept` (clock_jumped)",
                (jump.to - jump.from) / 1000
            );
            findings.wrong(name, text);
        }
    }
}

async fn workers(store: &Store, findings: &mut Findings) {
    match store.workers().await {
        Err(error) => findings.wrong("workers", error.to_string()),
        Ok(alive) if alive.is_empty() => findings.warning("workers", "none is alive; accepted jobs wait for one"),
        Ok(alive) => findings.ok("workers", format!("{} alive", alive.len())),
    }
}

async fn jobs(store: &Store, findings: &mut Findings) {
    let counts = match store.counts().await {
        Ok(counts) => counts,
        Err(error) => return findings.wrong("jobs", error.to_string()),
    };
    let number = |place| counts.iter().filter(|count| count.place == place).map(|count| count.jobs).sum::<u64>();
    let live: u64 = counts.iter().filter(|count| !count.place.is_final()).map(|count| count.jobs).sum();
    findings.ok("jobs", format!("{live} live, {} of them running", number(Place::Running)));
    if number(Place::Unknown) > 0 {
        let text = format!(
            "{} wait for a person: `leasehold jobs --place unknown`, then `leasehold job resolve`",
            number(Place::Unknown)
        );
        findings.wrong("unknown jobs", text);
    }
    if number(Place::Dead) > 0 {
        findings.warning("dead jobs", format!("{}: `leasehold jobs --place dead`", number(Place::Dead)));
    }
}

async fn archive(config: &Config, store: &Store, findings: &mut Findings) {
    match store.archive_state().await {
        Err(error) => findings.wrong("archive", error.to_string()),
        Ok(state) if state.failing_since.is_some() => {
            findings.wrong("archive", format!("finished jobs stay in Redis: {}", state.last_error));
        }
        Ok(_) if config.archive.files.is_empty() => findings.ok("archive", "none; finished jobs are forgotten"),
        Ok(state) => findings.ok("archive", format!("{} finished jobs in {}", state.jobs, config.archive.files)),
    }
}

async fn targets(config: &Config, store: &Store, findings: &mut Findings) {
    let kinds = match catalogue(config, store) {
        Ok(kinds) => kinds,
        Err(error) => return findings.wrong("targets", error.to_string()),
    };
    let tenants = match store.documents("tenants").await {
        Ok(tenants) => tenants,
        Err(error) => return findings.wrong("tenants", error.to_string()),
    };
    if tenants.is_empty() {
        findings.ok("tenants", "none yet");
    }
    let known: Vec<Tenant> = tenants.iter().filter_map(|(id, held)| Tenant::parse(id, &held.bytes).ok()).collect();
    for (id, document) in tenants {
        let tenant = match Tenant::parse(&id, &document.bytes) {
            Ok(tenant) => tenant,
            Err(refusal) => {
                findings.wrong(format!("tenant {id}"), refusal.to_string());
                continue;
            }
        };
        if let Err(refusal) = address::check_places(&tenant, &known) {
            findings.wrong(format!("tenant {id}"), refusal.to_string());
        }
        for center in tenant.environments.iter().flat_map(|environment| &environment.data_centers) {
            let name = format!("{id}/{}", center.id);
            let database = match kinds.services().database(&tenant, &center.id) {
                Ok(database) => database,
                Err(error) => {
                    findings.wrong(name, error.to_string());
                    continue;
                }
            };
            match timeout(PROBE, database.probe()).await {
                Ok(Ok(probe)) => {
                    findings.ok(name, format!("{} {} at {}", probe.engine, probe.version, database.shown()))
                }
                Ok(Err(error)) => findings.wrong(name, format!("{}: {error}", database.shown())),
                Err(_) => {
                    findings.wrong(name, format!("{} does not answer within {} s", database.shown(), PROBE.as_secs()))
                }
            }
        }
    }
}

async fn webhooks(store: &Store, findings: &mut Findings) {
    match Directory::new(Arc::new(store.clone())).views(|_| true).await {
        Err(error) => findings.wrong("webhooks", error.to_string()),
        Ok(views) => {
            let good = views.iter().filter(|view| view.state == endpoint::State::Enabled).count();
            findings.ok("webhooks", format!("{good} of {} endpoints enabled", views.len()));
            for view in views.iter().filter(|view| view.state != endpoint::State::Enabled) {
                let reason = view.reason.clone().unwrap_or_else(|| format!("{:?}", view.state).to_lowercase());
                findings.warning(format!("webhook {}", view.id), format!("{}: {reason}", view.url));
            }
        }
    }
    match store.webhook_backlog().await {
        Ok(backlog) if backlog > 10_000 => findings.warning("webhook backlog", format!("{backlog} deliveries wait")),
        Ok(backlog) => findings.ok("webhook backlog", format!("{backlog} deliveries wait")),
        Err(error) => findings.wrong("webhook backlog", error.to_string()),
    }
}
