//! Starts the program in a folder of its own and waits for what it says. Whatever was started is killed on drop.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Nothing that is waited for takes longer, but for the demo.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder, a tenant's database, and the program's environment.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
}

/// A running program. Its two streams are read apart: which of two lines on different streams comes first is chance.
pub(crate) struct Program {
    child: Child,
    said: Receiver<(Stream, String)>,
    heard: Vec<(Stream, String)>,
    /// How many of `heard`'s lines were waited past, a stream each.
    past: [usize; 2],
}

/// Standard output and standard error.
type Stream = usize;

impl Lab {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("lh-cli-").tempdir().unwrap() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The program with these arguments: verification by the caller and no maintenance, so that the hour does not matter.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LEASEHOLD_") {
                command.env_remove(name);
            }
        }
        command.env("LEASEHOLD__VERIFY__MODE", "caller").env("LEASEHOLD__SQL__MAINTENANCE__WINDOW", "");
        command.args(arguments).arg("--data").arg(self.data()).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Program {
        Program::start(self.command(arguments))
    }

    /// `leasehold up` on a free port, ready; with the URL of its API.
    pub(crate) fn up(&self) -> (Program, String) {
        let mut program = self.start(&["up", "--listen", "127.0.0.1:0"]);
        let url = program.ready();
        (program, url)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a client command against `url` to its end.
    pub(crate) fn ask(&self, url: &str, arguments: &[&str]) -> Output {
        self.command(arguments).args(["--url", url]).output().unwrap()
    }

    /// The JSON that a client command prints; it must succeed.
    pub(crate) fn json(&self, url: &str, arguments: &[&str]) -> Value {
        let output = self.ask(url, &[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {}", text(&output)))
    }

    /// Writes the tenant `t-1` with one SQLite data center `dc` that has a table `counts (n)`, and one that is not there.
    pub(crate) fn tenant(&self, url: &str) -> PathBuf {
        let database = self.folder.path().join("dc.db");
        let db = rusqlite::Connection::open(&database).unwrap();
        db.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS counts (n INTEGER)").unwrap();
        let centers = [("dc", database.clone()), ("gone", self.folder.path().join("no/such.db"))];
        let centers =
            centers.map(|(id, path)| json!({ "id": id, "name": id, "database": format!("sqlite:{}", path.display()) }));
        let environment = json!({ "id": "production", "kind": "production", "data_centers": centers });
        let document = json!({ "name": "T", "formal": true, "lease_end": "2999-12-31", "environments": [environment] });
        let file = self.folder.path().join("tenant.json");
        std::fs::write(&file, document.to_string()).unwrap();
        self.json(url, &["tenant", "set", "t-1", "--file", file.to_str().unwrap()]);
        database
    }

    /// Asks for an update that inserts one row; the job's id.
    pub(crate) fn insert(&self, url: &str) -> String {
        let args = json!({ "data_center": "dc", "script": "INSERT INTO counts VALUES (1);" }).to_string();
        let job = self.json(url, &[&["enqueue", "sql_update", "--args", &args, "--confirmed"], WHO].concat());
        job["id"].as_str().unwrap().to_owned()
    }

    /// Asks until the job fits.
    pub(crate) fn job(&self, url: &str, id: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.json(url, &["job", "show", id]);
            if fits(&job) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "the job never came there: {job:#}");
        }
    }

    /// The process of the private Redis.
    pub(crate) fn redis_pid(&self) -> i32 {
        std::fs::read_to_string(self.data().join("redis/redis.pid")).unwrap().trim().parse().unwrap()
    }
}

/// Who asks for jobs in tests.
pub(crate) const WHO: &[&str] =
    &["--tenant", "t-1", "--user", "u1", "--role", "it_ops", "--role", "data_ops_specialist"];

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, said) = channel();
        listen(0, child.stdout.take().unwrap(), sender.clone());
        listen(1, child.stderr.take().unwrap(), sender);
        Self { child, said, heard: Vec::new(), past: [0; 2] }
    }

    /// Waits for a line with these words, on either stream, after the last that was waited for on that stream.
    pub(crate) fn hear(&mut self, words: &str) -> String {
        self.hear_within(PATIENCE, words)
    }

    /// The same with another patience.
    pub(crate) fn hear_within(&mut self, patience: Duration, words: &str) -> String {
        let until = Instant::now() + patience;
        let mut from = 0;
        loop {
            for at in from..self.heard.len() {
                let (stream, line) = &self.heard[at];
                if at >= self.past[*stream] && line.contains(words) {
                    self.past[*stream] = at + 1;
                    return line.clone();
                }
            }
            from = self.heard.len();
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(why @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("never said `{words}` ({why}); it said:\n{}", self.heard());
                }
            }
        }
    }

    /// Waits until it is ready; the URL of its API, when it has one.
    pub(crate) fn ready(&mut self) -> String {
        let line = self.hear(" ready");
        line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_default().to_owned()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        // The streams end with the process; then it can be waited for.
        while let Ok(line) = self.said.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            self.heard.push(line);
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end; it said:\n{}", self.heard());
        self.child.wait().unwrap()
    }

    /// Everything it has said so far.
    pub(crate) fn heard(&self) -> String {
        let lines: Vec<&str> = self.heard.iter().map(|(_, line)| line.as_str()).collect();
        lines.join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(stream: Stream, from: impl Read + Send + 'static, to: Sender<(Stream, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send((stream, line)).is_err() {
                break;
            }
        }
    });
}

/// Both streams of a command that ended.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A Redis with these settings, on a unix socket; killed on drop.
pub(crate) struct Redis {
    child: Child,
    socket: PathBuf,
}

impl Redis {
    pub(crate) fn start(folder: &Path, settings: &[&str]) -> Self {
        let socket = folder.join("redis.sock");
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder)
            .args(settings);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("redis-server is installed");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("ready to accept connections")), "redis-server did not start");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, socket }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }
}

impl Redis {
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
