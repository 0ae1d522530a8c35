//! The sections of the configuration that are not of the business. The names are the keys; units are in the names.
//!
//! Each key is explained once, in `config/leasehold.toml`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secret::MaskedUrl;

/// `server.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Server {
    pub listen: SocketAddr,
    pub body_limit_bytes: usize,
    pub request_timeout_seconds: u64,
    pub page_size: usize,
    pub max_page_size: usize,
    pub event_stream_ping_seconds: u64,
}

/// `store.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Store {
    pub redis_url: MaskedUrl,
    pub namespace: String,
    pub data_dir: PathBuf,
    pub shards: u16,
    pub response_timeout_ms: u64,
    pub resends: u32,
    pub redis_server: PathBuf,
    pub appendfsync: AppendFsync,
    pub max_memory_bytes: u64,
}

/// When the private Redis writes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppendFsync {
    /// Before each reply: nothing that was acknowledged is lost.
    Always,
    /// Once a second: up to two seconds may be lost.
    Everysec,
}

impl AppendFsync {
    /// The word in redis.conf.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
        }
    }
}

/// `worker.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Worker {
    pub slots: usize,
    pub queues: Vec<String>,
    pub lease_ms: u64,
    pub renew_ms: u64,
    pub poll_ms: u64,
    pub drain_timeout_seconds: u64,
}

/// `upkeep.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Upkeep {
    pub promote_ms: u64,
    pub rescue_ms: u64,
    pub prune_ms: u64,
    pub batch: usize,
}

/// `clock.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Clock {
    pub max_jump_seconds: u64,
}

/// `retention.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Retention {
    pub succeeded: Keep,
    pub cancelled: Keep,
    pub dead: Keep,
    /// Kinds that are kept otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, KeepKind>,
    pub events_per_job: usize,
    pub idempotency_seconds: u64,
    pub deliveries_seconds: u64,
}

/// What is kept of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct KeepKind {
    pub succeeded: Keep,
    pub cancelled: Keep,
    pub dead: Keep,
}

/// `archive.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Archive {
    pub files: String,
    pub gather_seconds: u64,
}

/// For how long and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Age at which it is forgotten.
    pub seconds: u64,
    /// How many are kept per shard at the most.
    pub count: u64,
}

/// `limits.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Limits {
    pub max_waiting_jobs: u64,
    pub max_args_bytes: usize,
    pub max_result_bytes: usize,
    pub max_journal_bytes: usize,
    pub max_labels: usize,
    pub max_labels_bytes: usize,
    /// Of queues, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub queues: BTreeMap<String, StartLimit>,
    /// Of kinds, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, StartLimit>,
    /// Of each limit key (the tenant) of a kind, by the kind's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, StartLimit>,
}

/// How many run at a time, and how many start in a period; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct StartLimit {
    pub max_running: u32,
    pub rate: u32,
    pub per_seconds: u64,
}

/// `retry.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Retry {
    pub max_attempts: u16,
    pub base_ms: u64,
    pub cap_ms: u64,
    pub jitter_percent: u8,
}

/// `webhooks.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Webhooks {
    pub allow: Vec<String>,
    pub http: bool,
    pub schedule_seconds: Vec<u64>,
    pub jitter_percent: u8,
    pub overload_wait_seconds: u64,
    pub retry_after_cap_seconds: u64,
    pub dns_timeout_seconds: u64,
    pub connect_timeout_seconds: u64,
    pub first_byte_timeout_seconds: u64,
    pub total_timeout_seconds: u64,
    pub answer_bytes: usize,
    pub endpoints_per_tenant: usize,
    pub endpoint_concurrency: usize,
    pub concurrency: usize,
    pub max_body_bytes: usize,
    pub disable_after_hours: u64,
}

/// `targets.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Targets {
    pub backups: String,
    pub mailbox_dir: PathBuf,
    pub connect_timeout_seconds: u64,
}

/// `log.*`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is explained in config/leasehold.toml")]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}
