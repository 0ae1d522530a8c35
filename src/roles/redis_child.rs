//! The private Redis: a child process on a unix socket, kept alive as long as we live, and not a moment longer.
//!
//! It is started by a few lines of shell that hold the other end of a pipe of ours. When we end, however we end, the
//! pipe ends, and the shell ends Redis. Should the shell be killed too, the next start finds what is left and stops it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::error::BootError;
use super::redis_files::{RedisFiles, find_program};
use super::redis_pulse::{Pulse, ask};

/// `$0` is redis-server, `$1` its configuration. Ends with Redis' status; ends Redis when standard input ends.
const GUARD: &str = r#"
exec 3<&0
"$0" "$1" </dev/null 3<&- 2>&1 &
redis=$!
( read -r _ <&3; kill "$redis" ) >/dev/null 2>&1 &
guard=$!
wait "$redis"
status=$?
kill "$guard" 2>/dev/null
exit "$status"
"#;

/// How long Redis may take to load its file before we give up waiting.
const LOAD: Duration = Duration::from_secs(120);
/// How long Redis may take to stop.
const STOP: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// After this long the next death is a new story.
const STABLE: Duration = Duration::from_secs(30);

/// How to run the private Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `store.redis_server`
    pub program: String,
    /// The data folder.
    pub data_folder: PathBuf,
    /// `store.appendfsync`
    pub appendfsync: String,
    /// `store.max_memory_bytes`
    pub max_memory_bytes: u64,
}

/// A private Redis that is restarted when it dies or hangs.
#[derive(Debug)]
pub struct RedisChild {
    url: String,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
}

impl RedisChild {
    /// Starts Redis and waits until it answers.
    ///
    /// # Errors
    /// [`BootError::RedisNotFound`], [`BootError::RedisFailed`] with its last words.
    pub async fn start(options: RedisOptions) -> Result<Self, BootError> {
        Self::start_with(options, Pulse::CALM).await
    }

    async fn start_with(options: RedisOptions, pulse: Pulse) -> Result<Self, BootError> {
        let program = find_program(&options.program)
            .ok_or_else(|| BootError::RedisNotFound { program: options.program.clone() })?;
        let files = RedisFiles::prepare(&options.data_folder)?;
        files.write_config(&options)?;
        let launcher = Launcher { program, files, pulse };
        let running = launcher.launch().await?;
        let stop = CancellationToken::new();
        let url = launcher.files.url();
        let keeper = tokio::spawn(keep(launcher, running, stop.clone()));
        Ok(Self { url, stop, keeper })
    }

    /// The store's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops Redis and waits for its end.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.keeper.await;
    }
}

struct Launcher {
    program: PathBuf,
    files: RedisFiles,
    pulse: Pulse,
}

struct Running {
    shell: Child,
    /// Our end of the pipe. Not left in `shell`, whose `wait` would close it.
    lifeline: Option<ChildStdin>,
    words: LastWords,
    since: Instant,
}

/// Waits for the end of Redis, and starts it again, until told to stop.
async fn keep(launcher: Launcher, mut running: Running, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            status = running.shell.wait() => {
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                tracing::error!(code = "redis_died", %status, last = %running.words.text(), "the private Redis ended; starting it again");
            }
            () = launcher.pulse.stops(&launcher.files) => {
                tracing::error!(code = "redis_hangs", "the private Redis does not answer; killing it and starting it again");
                launcher.kill();
                if stop.run_until_cancelled(running.shell.wait()).await.is_none() {
                    return launcher.end(running).await;
                }
            }
            () = stop.cancelled() => return launcher.end(running).await,
        }
        if running.since.elapsed() > STABLE {
            pause = FIRST_PAUSE;
        }
        running = loop {
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match launcher.launch().await {
                Ok(running) => break running,
                Err(error) => {
                    tracing::error!(code = error.code(), %error, "the private Redis does not start; trying again")
                }
            }
        };
        tracing::warn!("the private Redis runs again");
    }
}

impl Launcher {
    async fn launch(&self) -> Result<Running, BootError> {
        self.clear_orphan().await?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARD).arg(&self.program).arg(self.files.config_file());
        // A group of its own: an interrupt from the terminal is for us, who stop Redis last.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let failed = |why: String| BootError::RedisFailed { why };
        let mut shell = command.spawn().map_err(|error| failed(format!("sh cannot be started: {error}")))?;
        let words = LastWords::default();
        if let Some(stdout) = shell.stdout.take() {
            tokio::spawn(words.clone().listen(stdout));
        }
        let lifeline = shell.stdin.take();
        let mut running = Running { shell, lifeline, words, since: Instant::now() };
        tokio::select! {
            answered = self.answers() => match answered {
                true => Ok(running),
                false => Err(failed(format!("it does not answer within {} s: {}", LOAD.as_secs(), running.words.text()))),
            },
            status = running.shell.wait() => {
                running.words.finished().await;
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                Err(failed(format!("it ended with {status}: {}", running.words.text())))
            }
        }
    }

    /// Waits until Redis answers, its file loaded.
    async fn answers(&self) -> bool {
        let begun = Instant::now();
        let mut told = false;
        while begun.elapsed() < LOAD {
            if timeout(Duration::from_secs(1), ask(&self.files, "PING"))
                .await
                .is_ok_and(|a| a.is_some_and(|a| a.starts_with("+PONG")))
            {
                return true;
            }
            if !told && begun.elapsed() > Duration::from_secs(1) {
                told = true;
                tracing::info!("waiting for the private Redis to load its file");
            }
            sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Closes the pipe, which ends Redis, and waits; kills it if it does not end.
    async fn end(&self, mut running: Running) {
        drop(running.lifeline.take());
        if timeout(STOP, running.shell.wait()).await.is_err() {
            tracing::error!(code = "redis_hangs", "the private Redis does not stop; killing it");
            self.kill();
            let _ = running.shell.wait().await;
        }
    }

    /// What was acknowledged is on the disk: a Redis that does not end may be killed.
    fn kill(&self) {
        if let Some(pid) = self.files.running() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Stops a Redis that an earlier process of ours left behind: two on one file would destroy it.
    async fn clear_orphan(&self) -> Result<(), BootError> {
        let Some(pid) = self.files.running() else { return Ok(()) };
        tracing::warn!(pid, "a Redis of an earlier process is still there; stopping it");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let begun = Instant::now();
        let mut is_killed = false;
        while self.files.running() == Some(pid) {
            if begun.elapsed() > STOP && !is_killed {
                is_killed = true;
                tracing::error!(code = "redis_hangs", pid, "it does not stop; killing it");
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            if begun.elapsed() > STOP * 2 {
                let why = format!("process {pid}, a Redis of an earlier process, cannot be killed");
                return Err(BootError::RedisFailed { why });
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// The last lines that Redis wrote, for when it fails.
#[derive(Debug, Clone, Default)]
struct LastWords {
    lines: Arc<Mutex<VecDeque<String>>>,
    end: CancellationToken,
}

impl LastWords {
    async fn listen(self, stdout: tokio::process::ChildStdout) {
        let _ended = self.end.clone().drop_guard();
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::debug!(target: "leasehold::redis", "{line}");
            if let Ok(mut kept) = self.lines.lock() {
                if kept.len() == 3 {
                    kept.pop_front();
                }
                kept.push_back(line.chars().take(200).collect());
            }
        }
    }

    async fn finished(&self) {
        let _ = timeout(Duration::from_secs(1), self.end.cancelled()).await;
    }

    fn text(&self) -> String {
        self.lines.lock().map(|kept| kept.iter().cloned().collect::<Vec<_>>().join(" | ")).unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// However slow the machine: a Redis that is taken for hung in vain is only started once more.
    #[tokio::test]
    async fn a_private_redis_that_hangs_is_killed_and_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let options = RedisOptions {
            program: "redis-server".to_owned(),
            data_folder: folder.path().canonicalize().unwrap(),
            appendfsync: "always".to_owned(),
            max_memory_bytes: 64 << 20,
        };
        let pulse = Pulse { every: Duration::from_millis(10), answer: Duration::from_secs(1), misses: 2 };
        let redis = RedisChild::start_with(options, pulse).await.unwrap();
        let files = RedisFiles::find(folder.path()).unwrap();
        let first = files.running().unwrap();
        kill(Pid::from_raw(first), Signal::SIGSTOP).unwrap();
        let again = async {
            while files.running().is_none_or(|pid| pid == first) || ask(&files, "PING").await.is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), again).await.unwrap();
        assert!(kill(Pid::from_raw(first), None).is_err(), "the one that hung is gone");
        redis.stop().await;
    }
}
