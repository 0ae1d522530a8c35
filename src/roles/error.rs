//! Why the program did not start; each reason has a stable code and says what to do.

use std::path::PathBuf;

use leasehold_engine::{StartError, StoreError};

/// Why the program did not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The data folder cannot be made, read or written.
    #[error("the data folder {} cannot be used: {source}", folder.display())]
    DataFolder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process holds the data folder.
    #[error("the data folder {} is in use by {holder}; stop that, or give another folder with --data", folder.display())]
    DataFolderInUse {
        /// The folder.
        folder: PathBuf,
        /// Who.
        holder: String,
    },
    /// There is no program to run a private Redis with.
    #[error(
        "`{program}` was not found: install it (Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis), \
         name it in store.redis_server, or use a running Redis with --redis URL"
    )]
    RedisNotFound {
        /// The program.
        program: String,
    },
    /// The private Redis does not come up.
    #[error("the private redis-server does not come up: {why}")]
    RedisFailed {
        /// What it said.
        why: String,
    },
    /// There is no Redis to join.
    #[error(
        "no Redis: give one with --redis URL (or store.redis_url), or start `leasehold up` on the data folder {} first, \
         whose private Redis this process would then share",
        folder.display()
    )]
    NoRedis {
        /// Where a private one was looked for.
        folder: PathBuf,
    },
    /// There is a private Redis, and it says nothing.
    #[error(
        "the private Redis of the data folder {} is there (process {process}), but does not answer; the `leasehold up` that \
         started it restarts it within a minute: try again, or look at that process and its disk",
        folder.display()
    )]
    RedisSilent {
        /// Whose it is.
        folder: PathBuf,
        /// Its process.
        process: i32,
    },
    /// Redis would lose accepted jobs.
    #[error("this Redis would lose accepted jobs:\n  {}\nMend it, or go on with --accept-data-loss.", complaints.join("\n  "))]
    WouldLoseJobs {
        /// What is wrong with it.
        complaints: Vec<String>,
    },
    /// The address is taken.
    #[error("{address} is in use by another process; stop that, or give another address with --listen")]
    AddressInUse {
        /// The address.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("the store at {url}: {source}")]
    Store {
        /// Where, without its password.
        url: String,
        /// Why.
        source: StoreError,
    },
    /// A kind is not made as the engine wants it.
    #[error(transparent)]
    Kinds(StartError),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl BootError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DataFolder { .. } => "data_folder_unusable",
            Self::DataFolderInUse { .. } => "data_folder_in_use",
            Self::RedisNotFound { .. } => "redis_not_found",
            Self::RedisFailed { .. } => "redis_failed",
            Self::NoRedis { .. } => "no_redis",
            Self::RedisSilent { .. } => "redis_silent",
            Self::WouldLoseJobs { .. } => "redis_would_lose_jobs",
            Self::AddressInUse { .. } => "address_in_use",
            Self::Listen { .. } => "cannot_listen",
            Self::Store { source, .. } => source.code(),
            Self::Kinds(error) => error.code(),
            Self::Other(_) => "boot_failed",
        }
    }
}
