//! Runs BullMQ through `peers/bullmq.mjs`, one Node process a measurement, on a private server of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::measure::PerSecond;
use crate::server::Server;

const BATCH: &str = "500";
const CONCURRENCY: &str = "200";

/// What BullMQ does with a finished job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finished {
    /// Keeps its record, as Leasehold does.
    Keep,
    /// Removes it, the least that BullMQ can do.
    Remove,
}

/// BullMQ as installed in `bench/peers`.
pub(crate) struct BullMq {
    folder: PathBuf,
}

impl BullMq {
    /// Finds the installed package; `None` with the reason when it cannot be run here.
    pub(crate) fn find(peers: &Path) -> Result<Self, String> {
        if !peers.join("node_modules/bullmq").is_dir() {
            return Err(format!("BullMQ skipped: not installed in {} (npm ci there)", peers.display()));
        }
        Ok(Self { folder: peers.to_owned() })
    }

    /// Enqueues `count` jobs with `addBulk`.
    pub(crate) async fn fill(&self, server: &Server, count: usize) -> anyhow::Result<PerSecond> {
        let figures = self.run(server, &["fill", &count.to_string(), BATCH]).await?;
        number(&figures, "per_second")
    }

    /// Runs `count` no-op jobs that are already there.
    pub(crate) async fn drain(&self, server: &Server, count: usize, finished: Finished) -> anyhow::Result<PerSecond> {
        let finished = match finished {
            Finished::Keep => "keep",
            Finished::Remove => "remove",
        };
        let figures = self.run(server, &["drain", &count.to_string(), CONCURRENCY, finished]).await?;
        number(&figures, "per_second")
    }

    /// Enqueue to start on an idle queue: p50 and p99 in milliseconds.
    pub(crate) async fn idle(&self, server: &Server, count: usize) -> anyhow::Result<(f64, f64)> {
        let figures = self.run(server, &["idle", &count.to_string()]).await?;
        Ok((number(&figures, "p50_ms")?, number(&figures, "p99_ms")?))
    }

    async fn run(&self, server: &Server, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = Command::new("node")
            .arg("bullmq.mjs")
            .arg(server.socket())
            .args(arguments)
            .current_dir(&self.folder)
            .kill_on_drop(true)
            .output()
            .await
            .context("starting node")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "BullMQ {arguments:?} failed: {complaint}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("reading BullMQ's figures: {complaint}"))
    }
}

fn number(figures: &Value, name: &str) -> anyhow::Result<f64> {
    figures[name].as_f64().with_context(|| format!("BullMQ reported no {name}"))
}
