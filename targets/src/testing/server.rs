//! A PostgreSQL server of a test's own, on a unix socket in a temporary folder.
//!
//! Invariant: the server ends with the process that started it, even if that is killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::Secrets;
use crate::database::DatabaseUrl;

/// A running server. It is stopped, and its folder removed, when the last holder drops it.
pub struct TestServer {
    folder: tempfile::TempDir,
    server: Option<std::thread::JoinHandle<()>>,
    count: AtomicU32,
}

/// The one server of this test process.
static SHARED: Mutex<Weak<TestServer>> = Mutex::new(Weak::new());

impl TestServer {
    /// The server of this process, started if there is none; `None` where PostgreSQL is not installed.
    pub fn shared() -> Option<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// Starts a server of one's own; `None` where PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let bin = bin()?;
        let folder = tempfile::Builder::new().prefix("leasehold-pg-").tempdir().ok()?;
        let path = folder.path();
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(path).status();
            if !owned.is_ok_and(|status| status.success()) {
                return None;
            }
        }
        let data = path.join("data");
        let mut initdb = as_user(&bin.join("initdb"), path);
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut server = as_user(&bin.join("postgres"), path);
        server.arg("-D").arg(&data).arg("-k").arg(path);
        server.args([
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=200",
            "-c",
            "logging_collector=off",
        ]);
        server.args(["-c", "shared_buffers=32MB", "-c", "autovacuum=off", "-c", "deadlock_timeout=100ms"]);
        server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The kernel tells a child of the death of the thread that started it: that thread stays with the server.
        let server = std::thread::spawn(move || {
            let _ = server.status();
        });
        let started = Self { folder, server: Some(server), count: AtomicU32::new(0) };
        started.wait_until_ready(&bin).then_some(started)
    }

    fn wait_until_ready(&self, bin: &Path) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            let mut ask = Command::new(bin.join("pg_isready"));
            ask.arg("-q").arg("-h").arg(self.folder.path());
            if ask.status().is_ok_and(|status| status.success()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// The address of a database of this server, which need not exist yet.
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{folder}/{database}")
    }

    /// Makes an empty database with a name that no other test of this process has, and gives its address.
    ///
    /// # Panics
    /// When the server does not do it.
    pub async fn database(&self) -> DatabaseUrl {
        let name = format!("t{}_{}", std::process::id(), self.count.fetch_add(1, Ordering::Relaxed));
        let url = DatabaseUrl::parse(&self.url(&name), &Secrets::default());
        let made = async {
            let url = url?;
            crate::database::open(&url)?.create().await?;
            Ok::<_, crate::TargetError>(url)
        };
        match made.await {
            Ok(url) => url,
            Err(error) => panic!("the test server does not make a database: {error}"),
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // An immediate stop: nothing in it is worth a checkpoint.
        let pid = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
        if let Some(pid) = pid.ok().as_deref().and_then(|pid| pid.lines().next()) {
            let _ = Command::new("kill").args(["-QUIT", pid]).status();
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// The programs of the newest PostgreSQL here.
fn bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path().join("bin"))))
        .filter(|(_, bin)| bin.join("postgres").is_file())
        .max();
    if let Some((_, bin)) = newest {
        return Some(bin);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|place| place.join("initdb").is_file() && place.join("postgres").is_file())
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command as a user who may run PostgreSQL: root may not. It dies with us.
fn as_user(program: &Path, folder: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=QUIT"]).arg(program);
        command
    } else if Path::new("/usr/bin/setpriv").is_file() {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=QUIT").arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder).env("LC_ALL", "C");
    command
}
