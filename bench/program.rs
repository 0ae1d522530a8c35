//! The program as a user starts it: `leasehold up` in an empty folder. How fast it is ready, what it costs when idle.
//!
//! Processor time and memory count the program and the private Redis that it starts, as the machine's owner would.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What was measured of the program.
#[derive(Debug)]
pub(crate) struct Program {
    /// From the start of the process to `/readyz` answering 200, in ms.
    pub(crate) ready_ms: f64,
    /// Percent of one core while idle; `None` where /proc is missing.
    pub(crate) idle_percent: Option<f64>,
    /// Resident megabytes of the program alone; `None` where /proc is missing.
    pub(crate) resident_mb: Option<f64>,
    /// Resident megabytes of the program and its Redis.
    pub(crate) resident_with_redis_mb: Option<f64>,
    /// Size of the binary in megabytes.
    pub(crate) binary_mb: f64,
}

/// Starts `binary up`, watches it idle for `idle`, and stops it.
pub(crate) async fn measure(binary: &Path, idle: Duration) -> anyhow::Result<Program> {
    let binary_mb = fs::metadata(binary)?.len() as f64 / 1e6;
    let folder = tempfile::Builder::new().prefix("lh-bench-up-").tempdir()?;
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
    let started = Instant::now();
    let child = Command::new(binary)
        .args(["up", "--listen", &address, "--data"])
        .arg(folder.path().join("data"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("log"))?)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    let mut up = Up(child);
    if let Err(error) = up.wait_until_ready(&address).await {
        bail!("{error}\n{}", fs::read_to_string(folder.path().join("log")).unwrap_or_default());
    }
    let ready_ms = started.elapsed().as_secs_f64() * 1000.0;
    tokio::time::sleep(Duration::from_secs(2)).await; // what it does once after the start is not idling
    let before = up.processes();
    tokio::time::sleep(idle).await;
    let after = up.processes();
    let ticks = |all: &[Process]| all.iter().map(|process| process.ticks).sum::<u64>();
    let megabytes = |all: &[Process]| all.iter().map(|process| process.resident_kb).sum::<u64>() as f64 / 1000.0;
    let spent = ticks(&after).saturating_sub(ticks(&before)) as f64 / TICKS_PER_SECOND;
    let seen = !after.is_empty();
    Ok(Program {
        ready_ms,
        idle_percent: seen.then_some(spent / idle.as_secs_f64() * 100.0),
        resident_mb: seen.then(|| megabytes(&after[..1])),
        resident_with_redis_mb: seen.then(|| megabytes(&after)),
        binary_mb,
    })
}

/// Linux has counted processor time in hundredths of a second on every platform for decades (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// What /proc says of a process.
struct Process {
    ticks: u64,
    resident_kb: u64,
}

/// The running program: asked to stop on drop, so that it stops its Redis too.
struct Up(Child);

impl Up {
    async fn wait_until_ready(&mut self, address: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if ready(address).await.unwrap_or(false) {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("`leasehold up` ended: {status}");
            }
            if Instant::now() > deadline {
                bail!("`leasehold up` was not ready within 30 s");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The program first, then the processes that it started; empty where there is no /proc.
    fn processes(&self) -> Vec<Process> {
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let all_threads =
            fs::read_dir(format!("/proc/{own}/task")).into_iter().flatten().flatten().filter_map(|thread| {
                let list = fs::read_to_string(thread.path().join("children")).ok()?;
                Some(list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>())
            });
        let mut ids: Vec<u32> = all_threads.flatten().collect();
        ids.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        ids.sort_unstable();
        ids.dedup();
        std::iter::once(own).chain(ids).filter_map(read_process).collect()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while asked.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_process(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may hold spaces, so the fields are counted behind its closing bracket: utime and stime are 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(Process { ticks, resident_kb: resident.split_whitespace().next()?.parse().ok()? })
}

/// Whether `/readyz` answers 200.
async fn ready(address: &str) -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.split(|byte| *byte == b'\r').next().is_some_and(|line| line.ends_with(b" 200 OK")))
}
