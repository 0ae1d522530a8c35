//! The real binary as a child process. It is killed when dropped; what it logged is shown when a test waits in vain.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a process may take to be ready or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `leasehold`.
pub struct Program {
    child: Child,
    pid: u32,
    stdout: Lines<BufReader<ChildStdout>>,
    is_ready: bool,
    log: PathBuf,
}

/// A command of the binary that inherits nothing of our surroundings that would change it.
fn leasehold() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEASEHOLD_")) {
        command.env_remove(variable);
    }
    command
}

impl Program {
    /// Starts it; its log lines go to `log`.
    pub fn spawn(args: &[&str], config: &Path, log: &Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = leasehold();
        command.args(args).arg("--config").arg(config).args(["--log-format", "human"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { pid: child.id().unwrap(), child, stdout, is_ready: false, log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for the line that says that it is ready.
    pub async fn ready(&mut self) -> String {
        match timeout(PATIENCE, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) if line.contains("ready") => {
                self.is_ready = true;
                line
            }
            other => panic!("not ready: {other:?}\n{}", self.logged()),
        }
    }

    /// Asks it to drain (SIGTERM), and waits for its end. One that is still starting is waited for: before it is ready
    /// there is nothing to drain, and the signal would simply end it.
    pub async fn stop(&mut self) {
        if !self.is_ready {
            self.ready().await;
        }
        self.terminate();
        let status = self.ended().await;
        assert!(status.success(), "it did not end well: {status}\n{}", self.logged());
    }

    /// Sends SIGINT.
    pub fn interrupt(&self) {
        let _ = kill(Pid::from_raw(i32::try_from(self.pid).unwrap()), Signal::SIGINT);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let _ = kill(Pid::from_raw(i32::try_from(self.pid).unwrap()), Signal::SIGTERM);
    }

    /// Waits until its log has these words.
    pub async fn says(&self, words: &str) {
        let said = async {
            while !self.logged().contains(words) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("it never said `{words}`\n{}", self.logged()));
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("it does not end\n{}", self.logged()))
            .unwrap()
    }

    /// What it logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
