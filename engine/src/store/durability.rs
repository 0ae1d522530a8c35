//! What the Redis behind the store promises. Guards that nobody runs Leasehold on a Redis that would lose jobs without saying so.

use std::collections::BTreeMap;

use super::{connect::Store, error::StoreError};

/// How bad a complaint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Accepted jobs may be lost: refuse to start unless told otherwise.
    DataLoss,
    /// Nothing new can be written; nothing is lost, and what runs comes to its end.
    Full,
    /// Works, but should be mended.
    Warning,
}

/// Something that is wrong with the Redis behind the store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Complaint {
    /// How bad.
    pub severity: Severity,
    /// Stable code.
    pub code: &'static str,
    /// What is so, what it means, what to do.
    pub text: String,
}

/// What was found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Durability {
    /// Redis version.
    pub version: String,
    /// appendonly.
    pub aof: bool,
    /// appendfsync.
    pub fsync: String,
    /// maxmemory-policy.
    pub eviction: String,
    /// used_memory, bytes.
    pub used_memory: u64,
    /// maxmemory, bytes; 0 is none.
    pub max_memory: u64,
    /// What is wrong, worst first.
    pub complaints: Vec<Complaint>,
}

/// How much of Redis' memory is used, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// used_memory
    pub used: u64,
    /// maxmemory; 0 is none.
    pub max: u64,
}

impl Memory {
    /// Whether more than so many percent are used; never without a limit.
    #[must_use]
    pub const fn is_above(self, percent: u64) -> bool {
        self.max > 0 && self.used > self.max / 100 * percent
    }
}

impl Store {
    /// How much of its memory Redis uses.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn memory(&self) -> Result<Memory, StoreError> {
        let mut cmd = redis::cmd("INFO");
        cmd.arg("memory");
        let text: String = self.query("memory", cmd).await?;
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        Ok(Memory { used: number("used_memory"), max: number("maxmemory") })
    }

    /// Looks at persistence, eviction and version.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn durability(&self) -> Result<Durability, StoreError> {
        let text: String = self.query("durability", redis::cmd("INFO")).await?;
        let facts: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once(':')).collect();
        let fact = |name: &str| facts.get(name).copied().unwrap_or_default().trim();
        let mut settings = redis::cmd("CONFIG");
        settings.arg("GET").arg("append*");
        let settings: BTreeMap<String, String> = self.query("durability", settings).await.unwrap_or_default();
        let mut found = Durability {
            version: fact("redis_version").to_owned(),
            aof: fact("aof_enabled") == "1",
            fsync: settings.get("appendfsync").cloned().unwrap_or_else(|| "unknown".to_owned()),
            eviction: fact("maxmemory_policy").to_owned(),
            used_memory: fact("used_memory").parse().unwrap_or(0),
            max_memory: fact("maxmemory").parse().unwrap_or(0),
            complaints: Vec::new(),
        };
        found.complaints = complaints(&found, fact("evicted_keys"), fact("aof_last_write_status"));
        Ok(found)
    }
}

fn complaints(found: &Durability, evicted: &str, last_write: &str) -> Vec<Complaint> {
    let mut all = Vec::new();
    let mut say = |severity, code, text: String| all.push(Complaint { severity, code, text });
    if !found.aof {
        say(
            Severity::DataLoss,
            "redis_without_aof",
            "Redis keeps no append-only file: accepted jobs are lost when it stops. Set `appendonly yes`.".to_owned(),
        );
    }
    if found.eviction != "noeviction" {
        say(
            Severity::DataLoss,
            "redis_evicts",
            format!(
                "Redis may evict jobs when memory is short (maxmemory-policy {}). Set `maxmemory-policy noeviction`.",
                found.eviction
            ),
        );
    }
    if !matches!(evicted, "" | "0") {
        say(
            Severity::DataLoss,
            "redis_evicted",
            format!("Redis has already evicted {evicted} keys; jobs may be missing."),
        );
    }
    if !matches!(last_write, "" | "ok") {
        say(
            Severity::DataLoss,
            "redis_write_failed",
            "Redis could not write its append-only file; look at its disk.".to_owned(),
        );
    }
    if found.max_memory > 0 && found.used_memory >= found.max_memory {
        let (used, most) = (found.used_memory >> 20, found.max_memory >> 20);
        let text = format!(
            "Redis refuses writes: {used} MiB of {most} are used (maxmemory). What runs comes to its end, and finished jobs \
             are put away early; nothing new begins. Raise maxmemory, or cancel what waits."
        );
        say(Severity::Full, "redis_full", text);
    }
    if found.aof && found.fsync != "always" {
        say(
            Severity::Warning,
            "redis_fsync",
            format!(
                "appendfsync is {}: up to two seconds of accepted jobs may be lost when Redis is killed. Set `appendfsync always`.",
                found.fsync
            ),
        );
    }
    let major: u32 = found.version.split('.').next().and_then(|v| v.parse().ok()).unwrap_or(0);
    if major < 7 {
        say(
            Severity::Warning,
            "redis_old",
            format!("Redis {} is older than 7.0, the oldest that is tested.", found.version),
        );
    }
    all
}
