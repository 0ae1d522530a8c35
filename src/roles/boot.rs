//! Opens the store: the private Redis or the one that is named, waited for, and checked for what it would lose.

use std::path::Path;
use std::time::{Duration, Instant};

use leasehold_engine::store::Severity;
use leasehold_engine::{Store, StoreError, StoreOptions};

use super::data_folder::DataFolder;
use super::error::BootError;
use super::redis_child::{RedisChild, RedisOptions};
use super::redis_files::RedisFiles;
use super::redis_pulse::is_alive;
use crate::config::Config;

/// How long a Redis that is named may take to answer; it may be starting at the same time as we.
const REDIS_COMES: Duration = Duration::from_secs(30);

/// An open store and what it stands on.
pub struct Opened {
    /// The store.
    pub store: Store,
    redis: Option<RedisChild>,
}

impl Opened {
    /// Stops the private Redis, if there is one.
    pub async fn close(self) {
        drop(self.store);
        if let Some(redis) = self.redis {
            redis.stop().await;
        }
    }
}

/// Opens the store that the configuration names; else, for the holder of the data folder, a private Redis of its own;
/// else the private Redis of whoever holds it.
///
/// # Errors
/// [`BootError`]: no Redis, or one that would lose accepted jobs (unless `accept_data_loss`).
pub async fn open_store(
    config: &Config,
    held: Option<&DataFolder>,
    accept_data_loss: bool,
) -> Result<Opened, BootError> {
    let mut redis = None;
    let url = if !config.store.redis_url.is_empty() {
        config.store.redis_url.expose().to_owned()
    } else if let Some(folder) = held {
        let child = RedisChild::start(redis_options(config, folder)).await?;
        let url = child.url().to_owned();
        redis = Some(child);
        url
    } else {
        private_redis_url(&config.store.data_dir).await?
    };
    let opened = async {
        let store = connect(config, &url).await?;
        check(&store, accept_data_loss, &shown(config, &url)).await?;
        Ok(store)
    };
    match opened.await {
        Ok(store) => Ok(Opened { store, redis }),
        Err(error) => {
            if let Some(redis) = redis {
                redis.stop().await;
            }
            Err(error)
        }
    }
}

fn redis_options(config: &Config, folder: &DataFolder) -> RedisOptions {
    RedisOptions {
        program: config.store.redis_server.to_string_lossy().into_owned(),
        data_folder: folder.path().to_owned(),
        appendfsync: config.store.appendfsync.as_str().to_owned(),
        max_memory_bytes: config.store.max_memory_bytes,
    }
}

/// The URL of the private Redis that another process runs on this data folder.
///
/// # Errors
/// [`BootError::NoRedis`] when there is none, [`BootError::RedisSilent`] when it does not answer.
pub async fn private_redis_url(data_folder: &Path) -> Result<String, BootError> {
    let none = || BootError::NoRedis { folder: data_folder.to_owned() };
    let files = RedisFiles::find(data_folder).ok_or_else(none)?;
    match files.running() {
        _ if is_alive(&files).await => Ok(files.url()),
        Some(process) => Err(BootError::RedisSilent { folder: data_folder.to_owned(), process }),
        None => Err(none()),
    }
}

/// Opens the store as it is: without waiting, without refusing one that loses jobs, without starting anything.
///
/// # Errors
/// [`BootError`] when there is none.
pub async fn look_at_store(config: &Config) -> Result<Store, BootError> {
    let url = match config.store.redis_url.is_empty() {
        true => private_redis_url(&config.store.data_dir).await?,
        false => config.store.redis_url.expose().to_owned(),
    };
    let opened = Store::open(options(config, &url)).await;
    opened.map_err(|source| BootError::Store { url: shown(config, &url), source })
}

/// Connects, and waits for a Redis that is only just starting.
async fn connect(config: &Config, url: &str) -> Result<Store, BootError> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        let error = match Store::open(options(config, url)).await {
            Ok(store) => return Ok(store),
            Err(error) => error,
        };
        if !may_pass(&error) || begun.elapsed() > REDIS_COMES {
            return Err(BootError::Store { url: shown(config, url), source: error });
        }
        if !told {
            told = true;
            tracing::warn!(url = shown(config, url), %error, "waiting for Redis, at most {} s", REDIS_COMES.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn options(config: &Config, url: &str) -> StoreOptions {
    StoreOptions {
        namespace: config.store.namespace.clone(),
        shards: config.store.shards,
        response_timeout: Duration::from_millis(config.store.response_timeout_ms),
        resends: config.store.resends,
        ..StoreOptions::new(url)
    }
}

fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Unreachable(_))
}

/// The URL without its password.
fn shown(config: &Config, url: &str) -> String {
    if config.store.redis_url.is_empty() { url.to_owned() } else { config.store.redis_url.to_string() }
}

/// Refuses a Redis that would lose accepted jobs.
async fn check(store: &Store, accept_data_loss: bool, url: &str) -> Result<(), BootError> {
    let durability = store.durability().await.map_err(|source| BootError::Store { url: url.to_owned(), source })?;
    let mut losses = Vec::new();
    for complaint in &durability.complaints {
        match complaint.severity {
            Severity::DataLoss => losses.push(format!("{} ({})", complaint.text, complaint.code)),
            Severity::Full | Severity::Warning => tracing::warn!(code = complaint.code, "{}", complaint.text),
        }
    }
    if losses.is_empty() {
        return Ok(());
    }
    if !accept_data_loss {
        return Err(BootError::WouldLoseJobs { complaints: losses });
    }
    for loss in losses {
        tracing::warn!(code = "accepted_data_loss", "going on although jobs may be lost: {loss}");
    }
    Ok(())
}
