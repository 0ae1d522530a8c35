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
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::error::BootError;
use super::redis_files::{RedisFiles, find_program};

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

/// A private Redis that is restarted when it dies.
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
        let program = find_program(&options.program)
            .ok_or_else(|| BootError::RedisNotFound { program: options.program.clone() })?;
        let files = RedisFiles::prepare(&options.data_folder)?;
        files.write_config(&options)?;
        let launcher = Launcher { program, files };
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
            if let Some(pid) = self.files.pid() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = running.shell.wait().await;
        }
    }

    /// Stops a Redis that an earlier process of ours left behind: two on one file would destroy it.
    async fn clear_orphan(&self) -> Result<(), BootError> {
        let Some(pid) = self.files.pid().filter(|pid| is_our_redis(*pid, &self.files)) else { return Ok(()) };
        tracing::warn!(pid, "a Redis of an earlier process is still there; stopping it");
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let begun = Instant::now();
        while is_our_redis(pid, &self.files) {
            if begun.elapsed() > STOP {
                let why = format!("process {pid}, a Redis of an earlier process, does not stop; kill it");
                return Err(BootError::RedisFailed { why });
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Whether the process lives and is the Redis of these files: its title or command line names them.
fn is_our_redis(pid: i32, files: &RedisFiles) -> bool {
    if kill(Pid::from_raw(pid), None).is_err() {
        return false;
    }
    let command =
        std::fs::read(format!("/proc/{pid}/cmdline")).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let command = command.or_else(|| {
        let output =
            std::process::Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    });
    let command = command.unwrap_or_default();
    [&files.socket, &files.config_file()].iter().any(|path| command.contains(&*path.to_string_lossy()))
}

/// One command on a connection of its own, and the first line of the answer.
async fn ask(files: &RedisFiles, command: &str) -> Option<String> {
    let mut stream = UnixStream::connect(&files.socket).await.ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await.ok()?;
    Some(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// Whether a Redis answers on the socket of these files.
pub(super) async fn is_alive(files: &RedisFiles) -> bool {
    timeout(Duration::from_secs(2), ask(files, "PING")).await.ok().flatten().is_some()
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
