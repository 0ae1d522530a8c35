//! The workers of the demo: processes of their own, so that one can be killed the hard way.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Duration, timeout};

use super::error::{DemoError, Result};

/// How long a worker may take to be ready.
const READY: Duration = Duration::from_secs(15);

/// Worker processes.
pub(super) struct Crew {
    folder: PathBuf,
    config: PathBuf,
    alive: Vec<Hand>,
}

/// A worker process.
struct Hand {
    name: String,
    child: Child,
    /// Our end of a pipe: however we end, it ends, and the worker with it. Not left in `child`, whose `wait` would close it.
    _lifeline: Option<ChildStdin>,
}

impl Crew {
    pub(super) fn new(folder: &Path, config: &Path) -> Self {
        Self { folder: folder.to_owned(), config: config.to_owned(), alive: Vec::new() }
    }

    /// Starts a worker and waits until it is ready.
    pub(super) async fn hire(&mut self, name: &str) -> Result<()> {
        let log = std::fs::File::create(self.folder.join(format!("{name}.log")))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["worker", "--name", name, "--lifeline", "--log-format", "human", "--config"]);
        command.arg(&self.config);
        command.arg("--data").arg(&self.folder);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("LEASEHOLD_") {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| DemoError::new("the worker has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        match timeout(READY, lines.next_line()).await {
            Ok(Ok(Some(line))) if line.contains("ready") => {}
            _ => {
                return Err(DemoError::new(format!(
                    "worker {name} did not get ready; see {name}.log in the data folder"
                )));
            }
        }
        let lifeline = child.stdin.take();
        self.alive.push(Hand { name: name.to_owned(), child, _lifeline: lifeline });
        Ok(())
    }

    /// Kills a worker with SIGKILL, and waits until it is gone.
    pub(super) async fn kill(&mut self, name: &str) -> Result<u32> {
        let at = self.alive.iter().position(|hand| hand.name == name);
        let mut hand = self.alive.remove(at.ok_or_else(|| DemoError::new(format!("no worker {name}")))?);
        let pid = hand.child.id().unwrap_or(0);
        hand.child.kill().await?;
        Ok(pid)
    }

    /// Asks all to drain, and waits.
    pub(super) async fn dismiss(&mut self) {
        for hand in &self.alive {
            if let Some(pid) = hand.child.id().and_then(|pid| i32::try_from(pid).ok()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
            }
        }
        for mut hand in self.alive.drain(..) {
            if timeout(Duration::from_secs(15), hand.child.wait()).await.is_err() {
                let _ = hand.child.kill().await;
            }
        }
    }
}
