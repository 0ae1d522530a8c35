//! `up`, `api`, `worker`, `upkeep`, `demo`: the commands that run until a signal comes.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Failure, Global, Out, config};
use crate::config::{Config, queue_slip};
use crate::roles::{BootError, Parts, Service, ServiceOptions, Signals, init_log};
use crate::schedules::{self, FileSchedule};

/// More threads than this would only cost memory: jobs wait for databases, and SQLite has threads of its own.
const MOST_THREADS: usize = 8;

/// Run API, worker and upkeep in one process.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leasehold up\n  leasehold up --data /var/lib/leasehold --listen 0.0.0.0:7420\n  leasehold up --redis redis://10.0.0.5:6379\n\nSIGTERM or Ctrl-C drains: running jobs may end. A second one hands them back and stops, a third leaves at once.\nTwo of a kind within half a second count as one."
)]
pub(crate) struct Up {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    redis: Redis,
    /// Leave the worker to other processes (`leasehold worker`)
    #[arg(long)]
    no_worker: bool,
    #[command(flatten)]
    schedules: Schedules,
}

/// Run the API and the webhook sender.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leasehold api --redis redis://10.0.0.5:6379 --listen 0.0.0.0:7420")]
pub(crate) struct Api {
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    redis: Redis,
}

/// Run a worker.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leasehold worker --redis redis://10.0.0.5:6379 --slots 32\n  leasehold worker --data ./data      shares the private Redis of a running `leasehold up`"
)]
pub(crate) struct Worker {
    #[command(flatten)]
    redis: Redis,
    /// Name in heartbeats and logs; made up when left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Jobs at a time (worker.slots)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    slots: Option<u16>,
    /// Claim from this queue only; may be repeated (worker.queues)
    #[arg(long, value_name = "QUEUE")]
    queue: Vec<String>,
    /// End, leaving jobs to be rescued, when standard input ends: who started us is gone
    #[arg(long, hide = true)]
    lifeline: bool,
}

/// Run upkeep and the webhook sender.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  leasehold upkeep --redis redis://10.0.0.5:6379\n\nAny number may run; they share the work."
)]
pub(crate) struct Upkeep {
    #[command(flatten)]
    redis: Redis,
    #[command(flatten)]
    schedules: Schedules,
}

/// The sandbox estate and a scripted day.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leasehold demo\n  leasehold demo --keep --data ./sandbox\n\nExit status 0 only when everything was as expected."
)]
pub(crate) struct Demo {
    /// Leave it running, with its address and key printed
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct Listen {
    /// Address of the API (server.listen); port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct Redis {
    /// Redis to use: redis://…, rediss://… or redis+unix:///path (store.redis_url)
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Start although this Redis may lose accepted jobs (no AOF, or an evicting policy)
    #[arg(long)]
    accept_data_loss: bool,
}

#[derive(Debug, Args)]
struct Schedules {
    /// File of schedules, laid over those of the store (default: schedules.toml beside the file of --config, if it is there)
    #[arg(long, value_name = "FILE")]
    schedules: Option<PathBuf>,
}

/// What a command adds to the configuration.
#[derive(Default)]
struct Own {
    lifeline: bool,
    worker_name: Option<String>,
    schedules: Option<PathBuf>,
}

impl Up {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let parts = Parts { api: true, worker: !self.no_worker, upkeep: true, webhooks: true, folder: true };
        let own = Own { schedules: self.schedules.schedules, ..Own::default() };
        serve("up", parts, (global, out), Some(&self.listen), &self.redis, |_| own).await
    }
}

impl Api {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let parts = Parts { api: true, worker: false, upkeep: false, webhooks: true, folder: false };
        serve("api", parts, (global, out), Some(&self.listen), &self.redis, |_| Own::default()).await
    }
}

impl Worker {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let parts = Parts { api: false, worker: true, upkeep: false, webhooks: false, folder: false };
        if let Some(slip) = self.queue.iter().find_map(|queue| queue_slip(queue)) {
            return Err(Failure::Usage(format!("--queue: {slip}")));
        }
        serve("worker", parts, (global, out), None, &self.redis, |config| {
            if let Some(slots) = self.slots {
                config.worker.slots = usize::from(slots);
            }
            if !self.queue.is_empty() {
                config.worker.queues.clone_from(&self.queue);
            }
            Own { worker_name: self.name.clone(), lifeline: self.lifeline, ..Own::default() }
        })
        .await
    }
}

impl Upkeep {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let parts = Parts { api: false, worker: false, upkeep: true, webhooks: true, folder: false };
        let own = Own { schedules: self.schedules.schedules, ..Own::default() };
        serve("upkeep", parts, (global, out), None, &self.redis, |_| own).await
    }
}

impl Demo {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        crate::demo::run(global.data_dir.as_deref(), self.keep, out).await
    }
}

async fn serve(
    command: &'static str,
    parts: Parts,
    (global, out): (&Global, &Out),
    listen: Option<&Listen>,
    redis: &Redis,
    adjust: impl FnOnce(&mut Config) -> Own,
) -> Result<(), Failure> {
    let mut config = config::load(global)?;
    if let Some(address) = listen.and_then(|listen| listen.listen) {
        config.server.listen = address;
    }
    if let Some(url) = named(redis.redis.as_deref())? {
        config.store.redis_url = url.into();
    }
    let own = adjust(&mut config);
    let cut = lifeline(own.lifeline);
    let schedules = if parts.upkeep { schedules_of(own.schedules, global, &config)? } else { None };
    init_log(&config.log, global.log_format.as_deref()).map_err(|text| Failure::failed("configuration", text))?;
    let signals = Signals::take().map_err(|error| Failure::failed("signals", error.to_string()))?;
    let (accept_data_loss, worker_name) = (redis.accept_data_loss, own.worker_name);
    let options = ServiceOptions { command, parts, accept_data_loss, worker_name, schedules };
    let running = async {
        let service = tokio::select! {
            started = Service::start(config, options) => started.map_err(|error| refused(&error))?,
            // Not ready yet, so nothing runs that would have to be waited for; a private Redis ends with our pipe to it.
            () = signals.next() => return Ok(()),
        };
        out.show(&service.ready(), |_| service.ready_line());
        service.run(&signals).await;
        Ok(())
    };
    tokio::select! {
        ended = running => ended,
        () = cut => Err(Failure::failed("lifeline_cut", "whoever started this process is gone")),
    }
}

/// Waits until standard input ends, if that is to be watched.
async fn lifeline(is_watched: bool) {
    if !is_watched {
        return std::future::pending().await;
    }
    let (end, ended) = tokio::sync::oneshot::channel();
    // A thread of its own: a read of standard input cannot be cancelled.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = end.send(());
    });
    let _ = ended.await;
}

/// The Redis of `--redis`. An empty one is a variable that nobody has set: to go on without would start an empty private
/// Redis in silence, beside the one with the jobs.
pub(super) fn named(redis: Option<&str>) -> Result<Option<String>, Failure> {
    match redis.map(str::trim) {
        Some("") => {
            let text =
                "--redis is empty: name one (redis://…), or leave it out for the private Redis of the data folder";
            Err(Failure::Usage(text.to_owned()))
        }
        redis => Ok(redis.map(str::to_owned)),
    }
}

/// The schedules of the file that is named, or of the one beside the configuration.
fn schedules_of(
    named: Option<PathBuf>,
    global: &Global,
    config: &Config,
) -> Result<Option<Vec<FileSchedule>>, Failure> {
    let Some(path) = named.or_else(|| schedules_beside(global)) else { return Ok(None) };
    let read = schedules::load(&path, config.rules.calendar().name());
    read.map(Some).map_err(|error| Failure::failed("configuration", error.to_string()))
}

/// The file of schedules beside that of `--config`, if it is there.
pub(super) fn schedules_beside(global: &Global) -> Option<PathBuf> {
    Some(global.config.as_ref()?.with_file_name("schedules.toml")).filter(|path| path.is_file())
}

fn refused(error: &BootError) -> Failure {
    Failure::failed(error.code(), error.to_string())
}

/// Runs a server on a few threads.
pub(crate) fn on_all_cores(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed("runtime", format!("no runtime: {error}")))?;
    let done = runtime.block_on(work);
    // A thread that is stuck in a database call must not keep a finished program alive.
    runtime.shutdown_timeout(Duration::from_secs(2));
    done
}
