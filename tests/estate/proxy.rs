//! A proxy between one process and Redis that breaks things at a chosen call: the process, the reply, or Redis.
//!
//! It reads requests and replies just enough to name each call (`step_begin execute`, `settle`, …), to count those that
//! concern one job, and to strike before a call is passed on or after Redis has answered it.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use leasehold_engine::testing::RedisServer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::resp;

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
#[derive(Debug, Clone)]
pub enum Watch {
    /// None.
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
}

struct State {
    watch: Watch,
    plan: Option<(Point, Fault)>,
    pid: u32,
    verbs: HashMap<Vec<u8>, String>,
    counts: HashMap<String, u32>,
    calls: Vec<Point>,
    struck: bool,
    passed: bool,
}

/// A command whose reply is still to come.
struct Sent {
    verb: String,
    script: Option<Vec<u8>>,
    strike: Option<Fault>,
    frozen: bool,
}

enum Verdict {
    Pass(Sent),
    Strike(Fault),
}

impl Proxy {
    /// Listens on `socket` for a process that is to reach `redis`.
    pub fn start(socket: PathBuf, redis: Arc<Mutex<RedisServer>>) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let state = State {
            watch: Watch::Nothing,
            plan: None,
            pid: 0,
            verbs: HashMap::new(),
            counts: HashMap::new(),
            calls: Vec::new(),
            struck: false,
            passed: false,
        };
        let upstream = redis.lock().unwrap().socket();
        let inner = Arc::new(Inner {
            upstream,
            redis,
            state: Mutex::new(state),
            struck: Notify::new(),
            thaw: Notify::new(),
            passed: Notify::new(),
        });
        let serving = inner.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(serving.clone(), client));
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

    /// Lets a stopped process go on, and waits until its held call was answered.
    pub async fn thaw(&self, patience: Duration) -> bool {
        signal(self.inner.state().pid, Signal::SIGCONT);
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
        timeout(patience, wait).await.is_ok()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Inner {
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

impl State {
    /// Names a command, counts it, and says whether it is the one to strike at.
    fn hear(&mut self, words: &[&[u8]]) -> Verdict {
        let names = self.names(words);
        let verb = names[0].clone();
        let script = is_word(words, 0, "SCRIPT").then(|| words.get(2).map(|text| text.to_vec())).flatten();
        let hit = if self.concerns(&verb, words) { self.count(&names) } else { None };
        match hit {
            Some(fault) if !fault.is_after() && fault != Fault::Frozen => Verdict::Strike(fault),
            Some(Fault::Frozen) => Verdict::Pass(Sent { verb, script, strike: None, frozen: true }),
            strike => Verdict::Pass(Sent { verb, script, strike, frozen: false }),
        }
    }

    /// A reply may show that a call concerned the job, such as a claim that got it.
    fn hear_reply(&mut self, sent: &Sent, reply: &[u8]) -> Option<Fault> {
        if let Some(text) = &sent.script {
            self.verbs.insert(resp::bulk(reply).to_vec(), verb_of(text));
        }
        let Watch::Job(job) = &self.watch else { return None };
        let told = KNOWN_BY_REPLY.contains(&sent.verb.as_str()) && contains(reply, job.as_bytes());
        if told { self.count(&[format!("{}, which got it", sent.verb)]).filter(|fault| fault.is_after()) } else { None }
    }

    fn concerns(&self, verb: &str, words: &[&[u8]]) -> bool {
        match &self.watch {
            Watch::Nothing => false,
            Watch::Everything => !NOISE.contains(&verb),
            // A worker that starts when the job is ready gets it by its first claim.
            // Of the deliveries nothing but their ids is told when they are settled.
            Watch::Job(job) => {
                ["claim", "delivery_settle"].contains(&verb)
                    || is_word(words, 0, "EVALSHA") && words.iter().any(|word| contains(word, job.as_bytes()))
            }
        }
    }

    fn count(&mut self, names: &[String]) -> Option<Fault> {
        let mut hit = None;
        for name in names {
            let count = self.counts.entry(name.clone()).or_default();
            *count += 1;
            let point = Point { name: name.clone(), nth: *count };
            if let Some((planned, fault)) = &self.plan
                && *planned == point
            {
                hit = Some(*fault);
            }
            self.calls.push(point);
        }
        if hit.is_some() {
            self.plan = None;
        }
        hit
    }

    /// The verb; for a step with its name, for progress also what it says of statements.
    fn names(&self, words: &[&[u8]]) -> Vec<String> {
        let word = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default();
        if !is_word(words, 0, "EVALSHA") {
            return vec![format!("{} {}", word(0).to_lowercase(), tail(&word(1)))];
        }
        let verb = words.get(1).and_then(|sha| self.verbs.get(*sha)).cloned().unwrap_or_else(|| "script".to_owned());
        match verb.as_str() {
            "step_begin" | "step_end" => vec![format!("{verb} {}", word(7))],
            "progress" => {
                // Its log lines say which statements have ended: `statement 3 (line 3): ok, …`.
                let lines = (11..words.len()).map(word).filter_map(|line| Some(line.split_once(" (")?.0.to_owned()));
                [verb.clone()].into_iter().chain(lines.map(|statement| format!("{statement} ended"))).collect()
            }
            _ => vec![verb],
        }
    }
}

/// Verbs whose reply says which jobs they concern.
const KNOWN_BY_REPLY: [&str; 3] = ["claim", "rescue", "delivery_claim"];
/// What loops send all the time.
const NOISE: [&str; 8] =
    ["promote", "rescue", "prune", "renew", "heartbeat", "delivery_claim", "delivery_settle", "outbox_route"];

/// A key without its prefix and without ids.
fn tail(key: &str) -> String {
    let rest = key.split_once('}').map_or(key, |(_, rest)| rest);
    rest.split(':').filter(|part| !part.is_empty() && part.len() < 16).take(2).collect::<Vec<_>>().join(":")
}

fn is_word(words: &[&[u8]], at: usize, word: &str) -> bool {
    words.get(at).is_some_and(|given| given.eq_ignore_ascii_case(word.as_bytes()))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The verb of a script's text: the file that it ends with.
fn verb_of(text: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/src/store/scripts");
    let mut found = (0, "script".to_owned());
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        let own = std::fs::read(file.path()).unwrap();
        if text.ends_with(&own) && own.len() > found.0 {
            found = (own.len(), file.path().file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    found.1
}

fn signal(pid: u32, signal: Signal) {
    assert!(pid > 1, "the proxy was not told whom to strike");
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

type Pending = Arc<Mutex<VecDeque<Sent>>>;

/// One connection, until either side or a fault ends it.
async fn serve(inner: Arc<Inner>, client: UnixStream) {
    let Ok(server) = UnixStream::connect(&inner.upstream).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (pending, raw) = (Pending::default(), Arc::new(AtomicBool::new(false)));
    tokio::select! {
        () = requests(&inner, from_client, to_server, &pending, &raw) => {}
        () = replies(&inner, from_server, to_client, &pending, &raw) => {}
    }
}

async fn requests(
    inner: &Arc<Inner>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pending: &Pending,
    raw: &AtomicBool,
) {
    let mut held = Vec::new();
    while from.read_buf(&mut held).await.is_ok_and(|read| read > 0) {
        while let Some(len) = resp::frame_len(&held) {
            let frame: Vec<u8> = held.drain(..len).collect();
            let words = resp::words(&frame);
            if words.first().is_some_and(|word| word.to_ascii_uppercase().ends_with(b"SUBSCRIBE")) {
                raw.store(true, Ordering::SeqCst);
            }
            let verdict = inner.state().hear(&words);
            match verdict {
                Verdict::Strike(fault) => return inner.strike(fault).await,
                Verdict::Pass(sent) => {
                    if sent.frozen {
                        inner.strike(Fault::Frozen).await;
                        inner.thaw.notified().await;
                    }
                    pending.lock().unwrap().push_back(sent);
                }
            }
            if to.write_all(&frame).await.is_err() {
                return;
            }
        }
    }
}

async fn replies(
    inner: &Arc<Inner>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pending: &Pending,
    raw: &AtomicBool,
) {
    let mut held = Vec::new();
    while from.read_buf(&mut held).await.is_ok_and(|read| read > 0) {
        if raw.load(Ordering::SeqCst) {
            if to.write_all(&std::mem::take(&mut held)).await.is_err() {
                return;
            }
            continue;
        }
        while let Some(len) = resp::frame_len(&held) {
            let frame: Vec<u8> = held.drain(..len).collect();
            let sent = if frame[0] == b'>' { None } else { pending.lock().unwrap().pop_front() };
            if let Some(sent) = &sent {
                let by_reply = inner.state().hear_reply(sent, &frame);
                if let Some(fault) = sent.strike.or(by_reply) {
                    return inner.strike(fault).await;
                }
            }
            if to.write_all(&frame).await.is_err() {
                return;
            }
            if sent.is_some_and(|sent| sent.frozen) {
                inner.state().passed = true;
                inner.passed.notify_waiters();
            }
        }
    }
}
