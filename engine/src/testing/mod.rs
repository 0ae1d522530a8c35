//! For tests: a private redis-server in a temporary folder, and a laboratory that refuses to end with loose jobs.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot begin should stop with a panic"
)]

mod actor;
pub mod bare;
mod lab;
mod puppet;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

pub use actor::{Actor, Ledger};
pub use lab::{Lab, NOON, unwatched_clock};
pub use puppet::Puppet;

/// A redis-server of this test alone: unix socket only, stopped when dropped.
pub struct RedisServer {
    child: Child,
    folder: tempfile::TempDir,
    durable: bool,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    #[must_use]
    pub fn start() -> Self {
        Self::launch(false)
    }

    /// Starts one that keeps everything (append-only file, fsync always), so that it can be killed and started again.
    #[must_use]
    pub fn start_durable() -> Self {
        Self::launch(true)
    }

    fn launch(durable: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("lh-redis-").tempdir().expect("a temporary folder");
        let child = spawn(folder.path(), durable);
        let server = Self { child, folder, durable };
        server.wait_until_ready();
        server
    }

    /// The unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("r.sock")
    }

    /// The URL for [`StoreOptions`](crate::StoreOptions).
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Kills it (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again in the same folder.
    pub fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.durable);
        self.wait_until_ready();
    }

    /// Stops it in the middle of whatever it does (SIGSTOP): it is there, and answers nothing.
    pub fn freeze(&self) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
    }

    /// Lets it go on; it answers what it was asked meanwhile.
    pub fn thaw(&self) {
        self.signal(nix::sys::signal::Signal::SIGCONT);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid().cast_signed());
        nix::sys::signal::kill(pid, signal).expect("a running redis-server");
    }

    /// Changes a setting while it runs.
    pub fn configure(&self, name: &str, value: &str) {
        let client = redis::Client::open(self.url()).expect("a good URL");
        let mut connection = client.get_connection().expect("a connection");
        redis::cmd("CONFIG").arg(&["SET", name, value]).exec(&mut connection).expect("a known setting");
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&self) {
        let client = redis::Client::open(self.url()).expect("a good URL");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let pong = client.get_connection().and_then(|mut c| redis::cmd("PING").query::<String>(&mut c));
            if pong.is_ok() {
                return;
            }
            assert!(Instant::now() < deadline, "redis-server did not come up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, durable: bool) -> Child {
    let _ = std::fs::remove_file(folder.join("r.sock"));
    let yes_no = if durable { "yes" } else { "no" };
    Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--unixsocket",
            "r.sock",
            "--save",
            "",
            "--appendonly",
            yes_no,
            "--appendfsync",
            "always",
        ])
        .args(["--maxmemory-policy", "noeviction", "--loglevel", "warning", "--dir"])
        .arg(folder)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (make setup)")
}
