//! A proxy between one process and Redis that breaks things at a chosen call: the process, the reply, or Redis.
//!
//! It reads requests and replies just enough to name each call (`step_begin execute`, `settle`, …), to count those that
//! concern one job, and to strike before a call is passed on or after Redis has answered it.

mod calls;
mod clock;
mod wire;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use leasehold_engine::testing::RedisServer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use calls::State;

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed (SIGKILL) before the call reaches Redis.
    KilledBefore,
    /// The process is killed after Redis did the call and before the reply arrives.
    KilledAfter,
    /// The connection is cut after Redis did the call and before the reply arrives (E10).
    ReplyLost,
    /// Redis is killed (SIGKILL) before the call reaches it, and started again.
    RedisKilledBefore,
    /// Redis is killed after it did the call and before the reply arrives, and started again.
    RedisKilledAfter,
    /// The process is stopped (SIGSTOP) before the call reaches Redis; [`Proxy::thaw`] lets both go on.
    Frozen,
}

impl Fault {
    const fn is_after(self) -> bool {
        matches!(self, Self::KilledAfter | Self::ReplyLost | Self::RedisKilledAfter)
    }
}

/// The n-th call of a name, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub name: String,
    pub nth: u32,
}

impl Point {
    pub fn new(name: &str, nth: u32) -> Self {
        Self { name: name.to_owned(), nth }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.nth {
            1 => write!(f, "{}", self.name),
            nth => write!(f, "{} #{nth}", self.name),
        }
    }
}

/// Which calls are counted.
#[derive(Debug, Clone, Default)]
pub enum Watch {
    /// None.
    #[default]
    Nothing,
    /// Those that concern a job.
    Job(String),
    /// Every script and every read, for as long as the proxy is told to.
    Everything,
}

/// A proxy on a unix socket of its own.
pub struct Proxy {
    socket: PathBuf,
    inner: Arc<Inner>,
    accepting: JoinHandle<()>,
}

struct Inner {
    upstream: PathBuf,
    redis: Arc<Mutex<RedisServer>>,
    state: Mutex<State>,
    struck: Notify,
    thaw: Notify,
    passed: Notify,
    ahead_ms: AtomicI64,
}

impl Proxy {
    /// Listens on `socket` for a process that is to reach `redis`.
    pub fn start(socket: PathBuf, redis: Arc<Mutex<RedisServer>>) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let upstream = redis.lock().unwrap().socket();
        let inner = Arc::new(Inner {
            upstream,
            redis,
            state: Mutex::default(),
            struck: Notify::new(),
            thaw: Notify::new(),
            passed: Notify::new(),
            ahead_ms: AtomicI64::new(0),
        });
        let serving = inner.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(wire::serve(serving.clone(), client));
            }
        });
        Self { socket, inner, accepting }
    }

    /// The URL for the process.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    /// Counts calls from now on, and strikes at `plan`.
    pub fn arm(&self, watch: Watch, plan: Option<(Point, Fault)>) {
        let mut state = self.inner.state();
        (state.watch, state.plan, state.struck, state.passed) = (watch, plan, false, false);
        state.counts.clear();
        state.calls.clear();
    }

    /// Whom to kill or stop.
    pub fn aim(&self, pid: u32) {
        self.inner.state().pid = pid;
    }

    /// From now on the store's clock is so much ahead, for the process behind it.
    pub fn jump(&self, ms: i64) {
        self.inner.ahead_ms.store(ms, Ordering::SeqCst);
    }

    /// The calls that were counted, in order.
    pub fn calls(&self) -> Vec<Point> {
        self.inner.state().calls.clone()
    }

    /// Waits until it has struck; `false` when that does not happen in time.
    pub async fn struck(&self, patience: Duration) -> bool {
        let wait = async {
            loop {
                let told = self.inner.struck.notified();
                if self.inner.state().struck {
                    return;
                }
                told.await;
            }
        };
        timeout(patience, wait).await.is_ok()
    }

    /// Strikes no more, unless it has begun to; whether it has.
    pub fn call_off(&self) -> bool {
        self.inner.state().plan.take().is_none()
    }

    /// Passes on the held call of a stopped process, waits until it was answered, and lets the process go on. In this order: one
    /// that wakes leaves a connection over which nothing has come for so long, and the call with it.
    pub async fn thaw(&self, patience: Duration) -> bool {
        self.inner.thaw.notify_one();
        let wait = async {
            loop {
                let told = self.inner.passed.notified();
                if self.inner.state().passed {
                    return;
                }
                told.await;
            }
        };
        let is_answered = timeout(patience, wait).await.is_ok();
        signal(self.inner.state().pid, Signal::SIGCONT);
        is_answered
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Inner {
    fn ahead(&self) -> i64 {
        self.ahead_ms.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// On a task of its own: what strikes may end the connection that it was asked for on.
    async fn strike(self: &Arc<Self>, fault: Fault) {
        let striking = self.clone();
        tokio::spawn(async move { striking.do_strike(fault).await }).await.unwrap();
    }

    async fn do_strike(&self, fault: Fault) {
        let pid = self.state().pid;
        match fault {
            Fault::KilledBefore | Fault::KilledAfter => signal(pid, Signal::SIGKILL),
            Fault::Frozen => signal(pid, Signal::SIGSTOP),
            Fault::ReplyLost => {}
            Fault::RedisKilledBefore | Fault::RedisKilledAfter => {
                let redis = self.redis.clone();
                let restart = move || {
                    let mut redis = redis.lock().unwrap();
                    redis.kill();
                    redis.restart();
                };
                tokio::task::spawn_blocking(restart).await.unwrap();
            }
        }
        self.state().struck = true;
        self.struck.notify_waiters();
    }
}

fn signal(pid: u32, signal: Signal) {
    assert!(pid > 1, "the proxy was not told whom to strike");
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}
