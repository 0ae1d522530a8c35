//! Benchmarks: our figures and the peers' in one run, on private servers, with rounds interleaved.
//!
//! Whatever slows this machine for a minute slows all of them, so the ratios say more than the figures.

mod bare;
mod bullmq;
mod measure;
mod ours;
mod program;
mod report;
mod server;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use bullmq::{BullMq, Finished};
use measure::{Latencies, Rounds};
use program::Program;
use report::{Report, Target};
use server::{Fsync, Server};

/// Measures Leasehold beside BullMQ and beside bare Lua scripts, and prints a table.
#[derive(Debug, Parser)]
struct Arguments {
    /// A fifth of the jobs and one round: to see that all of it works.
    #[arg(long)]
    quick: bool,
    /// When Redis writes its append-only file to disk, for all alike.
    #[arg(long, value_enum, default_value = "always")]
    fsync: Fsync,
    /// Jobs in a round.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// Rounds of each measure.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The program to measure.
    #[arg(long, default_value = "target/release/leasehold")]
    program: PathBuf,
    /// Where the peers are installed.
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// Fail when a target is missed.
    #[arg(long)]
    strict: bool,
}

/// Everything that was measured.
#[derive(Default)]
struct Figures {
    ours: Queue,
    bare: Queue,
    bullmq: Queue,
    bullmq_removing: Rounds,
    memory: Rounds,
    idle: [Rounds; 2],
    bullmq_idle: [Rounds; 2],
    planned: [Rounds; 2],
    beside_a_backlog: [Rounds; 2],
    finished_memory: Rounds,
}

/// Jobs in a second, in bulk and drained.
#[derive(Default)]
struct Queue {
    fill: Rounds,
    drain: Rounds,
    fill_cpu: Rounds,
    drain_cpu: Rounds,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.jobs = arguments.jobs.min(20_000);
        arguments.rounds = 1;
    }
    let peer = BullMq::find(&arguments.peers).inspect_err(|why| say(why)).ok();
    let mut figures = Figures::default();
    for round in 1..=arguments.rounds {
        say(&format!("round {round} of {}", arguments.rounds));
        run_round(&arguments, peer.as_ref(), &mut figures).await?;
    }
    let program = measure_program(&arguments).await?;
    let report = table(&arguments, &figures, program.as_ref());
    let about = format!("appendfsync {}, {} jobs, 200-byte payload", arguments.fsync.as_str(), arguments.jobs);
    write!(std::io::stdout(), "\n{about}, {} rounds\n\n{}", arguments.rounds, report.text())?;
    anyhow::ensure!(!arguments.strict || report.missed() == 0, "{} targets were missed", report.missed());
    Ok(())
}

/// Progress goes to standard error, the table to standard output.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {line}");
}

async fn run_round(arguments: &Arguments, peer: Option<&BullMq>, figures: &mut Figures) -> anyhow::Result<()> {
    let (fsync, jobs) = (arguments.fsync, arguments.jobs);
    let samples = if arguments.quick { 100 } else { 300 };

    let server = Server::start(fsync).await?;
    let bare = &mut figures.bare;
    bare.fill.push(metered(&server, jobs, &mut bare.fill_cpu, bare::fill(&server, jobs)).await?.per_second());
    bare.drain.push(metered(&server, jobs, &mut bare.drain_cpu, bare::drain(&server, jobs)).await?.per_second());

    let server = Server::start(fsync).await?;
    ours::fill(&server, 0, None).await?; // the scripts are no job's bytes
    let before = server.used_memory().await?;
    let ours = &mut figures.ours;
    let filled = metered(&server, jobs, &mut ours.fill_cpu, ours::fill(&server, jobs, None)).await;
    ours.fill.push(filled.context("our bulk enqueue")?.per_second());
    figures.memory.push((server.used_memory().await? - before) / jobs as f64);
    let drained = metered(&server, jobs, &mut ours.drain_cpu, ours::drain(&server, jobs)).await;
    ours.drain.push(drained.context("our drain")?.per_second());
    figures
        .finished_memory
        .push((server.used_memory().await? - before) / jobs as f64 - measure::payload().len() as f64);

    let server = Server::start(fsync).await?;
    let beside = ours::beside_a_backlog(&server, jobs).await.context("one job beside a backlog")?;
    figures.beside_a_backlog[0].push(beside.percentile(50.0));
    figures.beside_a_backlog[1].push(beside.percentile(100.0));

    let server = Server::start(fsync).await?;
    push_latencies(&mut figures.idle, &ours::idle(&server, samples).await.context("our idle queue")?);
    let planned = ours::planned(&server, samples, jobs).await.context("our planned starts")?;
    push_latencies(&mut figures.planned, &planned);

    if let Some(peer) = peer {
        let server = Server::start(fsync).await?;
        let bullmq = &mut figures.bullmq;
        bullmq.fill.push(metered(&server, jobs, &mut bullmq.fill_cpu, peer.fill(&server, jobs)).await?);
        let drained = metered(&server, jobs, &mut bullmq.drain_cpu, peer.drain(&server, jobs, Finished::Keep));
        bullmq.drain.push(drained.await?);
        let server = Server::start(fsync).await?;
        peer.fill(&server, jobs).await?;
        figures.bullmq_removing.push(peer.drain(&server, jobs, Finished::Remove).await?);
        let server = Server::start(fsync).await?;
        let (p50, p99) = peer.idle(&server, samples).await?;
        figures.bullmq_idle[0].push(p50);
        figures.bullmq_idle[1].push(p99);
    }
    Ok(())
}

/// Runs a measure, and adds what it cost Redis a job, in microseconds of CPU: other work on the machine hardly changes that.
async fn metered<T>(
    server: &Server,
    jobs: usize,
    cpu: &mut Rounds,
    measure: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let before = server.cpu().await?;
    let figure = measure.await?;
    cpu.push((server.cpu().await? - before) * 1e6 / jobs as f64);
    Ok(figure)
}

fn push_latencies(rounds: &mut [Rounds; 2], latencies: &Latencies) {
    rounds[0].push(latencies.percentile(50.0));
    rounds[1].push(latencies.percentile(99.0));
}

async fn measure_program(arguments: &Arguments) -> anyhow::Result<Option<Program>> {
    if !arguments.program.is_file() {
        say(&format!("{} is not there: `leasehold up` is not measured", arguments.program.display()));
        return Ok(None);
    }
    say("leasehold up, idle");
    let binary = arguments.program.canonicalize()?;
    let idle = Duration::from_secs(if arguments.quick { 5 } else { 20 });
    program::measure(&binary, idle).await.map(Some)
}

fn table(arguments: &Arguments, figures: &Figures, program: Option<&Program>) -> Report {
    let mut report = Report::default();
    queue_rows(&mut report, figures);
    report.rounds("memory: Redis bytes a waiting job", &figures.memory, "B", Target::AtMost(600.0));
    report.rounds("memory: a finished job, besides its payload", &figures.finished_memory, "B", Target::AtMost(400.0));
    let backlog = arguments.jobs;
    let [half, worst] = &figures.beside_a_backlog;
    report.rounds(&format!("one job beside another tenant's {backlog}: wait, p50"), half, "ms", Target::None);
    report.rounds(
        &format!("one job beside another tenant's {backlog}: wait, longest"),
        worst,
        "ms",
        Target::AtMost(1000.0),
    );
    report.rounds("idle queue: enqueue to start, p50", &figures.idle[0], "ms", Target::AtMost(2.0));
    report.rounds("idle queue: enqueue to start, p99", &figures.idle[1], "ms", Target::AtMost(10.0));
    report.rounds("  BullMQ, p50", &figures.bullmq_idle[0], "ms", Target::None);
    report.rounds("  BullMQ, p99", &figures.bullmq_idle[1], "ms", Target::None);
    let others = arguments.jobs;
    report.rounds(&format!("planned start, {others} others: late, p50"), &figures.planned[0], "ms", Target::None);
    report.rounds(
        &format!("planned start, {others} others: late, p99"),
        &figures.planned[1],
        "ms",
        Target::AtMost(50.0),
    );
    program_rows(&mut report, program);
    report
}

fn queue_rows(report: &mut Report, figures: &Figures) {
    let ratio = |ours: &Rounds, peer: &Rounds| Some(ours.median()? / peer.median()?);
    let best_drain = if figures.bullmq_removing.median() > figures.bullmq.drain.median() {
        &figures.bullmq_removing
    } else {
        &figures.bullmq.drain
    };
    report.rounds("drain: Leasehold, one worker process", &figures.ours.drain, "/s", Target::None);
    report.rounds("  bare Lua scripts", &figures.bare.drain, "/s", Target::None);
    report.rounds("  BullMQ, finished jobs kept", &figures.bullmq.drain, "/s", Target::None);
    report.rounds("  BullMQ, finished jobs removed", &figures.bullmq_removing, "/s", Target::None);
    let (against_bare, against_best) =
        (ratio(&figures.ours.drain, &figures.bare.drain), ratio(&figures.ours.drain, best_drain));
    report.once("  ours to the bare scripts", against_bare.map(|part| part * 100.0), "%", Target::AtLeast(35.0));
    report.once("  ours to BullMQ, the faster of the two", against_best, "x", Target::AtLeast(3.0));
    report.rounds("bulk enqueue: Leasehold", &figures.ours.fill, "/s", Target::None);
    report.rounds("  bare Lua scripts", &figures.bare.fill, "/s", Target::None);
    report.rounds("  BullMQ addBulk", &figures.bullmq.fill, "/s", Target::None);
    report.once("  ours to BullMQ", ratio(&figures.ours.fill, &figures.bullmq.fill), "x", Target::AtLeast(5.0));
    for (name, queue) in [("ours", &figures.ours), ("bare", &figures.bare), ("BullMQ", &figures.bullmq)] {
        report.rounds(&format!("Redis CPU a job, {name}: bulk enqueue"), &queue.fill_cpu, "us", Target::None);
        report.rounds(&format!("Redis CPU a job, {name}: drain"), &queue.drain_cpu, "us", Target::None);
    }
}

fn program_rows(report: &mut Report, program: Option<&Program>) {
    let of = |read: fn(&Program) -> Option<f64>| program.and_then(read);
    report.once("leasehold up: start to ready", of(|up| Some(up.ready_ms)), "ms", Target::AtMost(2000.0));
    report.once("leasehold up: idle, of a core, with Redis", of(|up| up.idle_percent), "%", Target::AtMost(1.0));
    report.once("leasehold up: resident", of(|up| up.resident_mb), "MB", Target::AtMost(60.0));
    report.once("leasehold up: resident with Redis", of(|up| up.resident_with_redis_mb), "MB", Target::None);
    report.once("release binary", of(|up| Some(up.binary_mb)), "MB", Target::AtMost(40.0));
}
