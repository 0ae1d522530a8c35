//! A private redis-server for one measurement: fresh folder, unix socket, the settings `leasehold up` uses.
//!
//! No measurement sees keys, AOF or memory of the one before it: each starts its own server and stops it on drop.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use redis::aio::MultiplexedConnection;

/// When the append-only file is flushed to disk, in Redis's own words.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Fsync {
    /// Before each reply: what `leasehold up` runs with.
    Always,
    /// Once a second.
    Everysec,
    /// When the kernel likes to.
    No,
}

impl Fsync {
    /// The value of Redis's `appendfsync`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
            Self::No => "no",
        }
    }
}

/// A running redis-server; stopped, and its folder removed, on drop.
pub(crate) struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server with an append-only file and waits until it answers.
    pub(crate) async fn start(fsync: Fsync) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lh-bench-").tempdir()?;
        let child = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", fsync.as_str(), "--maxmemory-policy", "noeviction"])
            .args(["--auto-aof-rewrite-percentage", "0", "--dir", "."])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting redis-server (is it installed? `make bench` installs it)")?;
        let mut server = Self { child, folder };
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    async fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Ok(mut connection) = self.connect().await
                && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("redis-server ended at once: {status}");
            }
            if Instant::now() > deadline {
                bail!("redis-server did not answer within 10 s");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Where the server listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// The address in the form that redis clients take.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// A connection of the caller's own.
    pub(crate) async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection().await?)
    }

    /// One number from `INFO section`.
    pub(crate) async fn info(&self, section: &str, field: &str) -> anyhow::Result<f64> {
        let mut connection = self.connect().await?;
        let text: String = redis::cmd("INFO").arg(section).query_async(&mut connection).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("INFO {section} has no {field}"))?.trim().parse()?)
    }

    /// Seconds of CPU that Redis has used so far.
    pub(crate) async fn cpu(&self) -> anyhow::Result<f64> {
        Ok(self.info("cpu", "used_cpu_user").await? + self.info("cpu", "used_cpu_sys").await?)
    }

    /// Bytes that Redis holds for keys and itself.
    pub(crate) async fn used_memory(&self) -> anyhow::Result<f64> {
        self.info("memory", "used_memory").await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
