//! The command line: one file per noun. Guards the exit status that scripts hold on to: 0 done, 1 failed, 2 usage,
//! 3 refused by a rule, 4 accepted but its end is not known.
//!
//! The servers (`up`, `api`, `worker`, `upkeep`) and `doctor` open the store; every other command speaks HTTP to a
//! running API, so that it obeys the same keys and rules as any caller.

pub(crate) mod client;
mod clock;
mod config;
mod doctor;
mod enqueue;
mod failure;
mod freeze;
mod gate;
mod job;
mod jobs;
mod key;
mod openapi;
pub(crate) mod out;
pub mod problem;
mod queue;
mod schedule;
mod schedule_preview;
mod schedule_set;
mod serve;
mod signal;
mod tenant;
pub(crate) mod time;
mod watch;
mod webhook;

use std::ffi::OsString;
use std::future::Future;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use failure::Failure;
pub(crate) use out::{Out, Table};

/// Durable operations for leased environments.
#[derive(Debug, Parser)]
#[command(name = "leasehold", version, about, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  leasehold up                                  API, worker and upkeep, with a private Redis in ./data
  leasehold tenant set t-001 --file t-001.json
  leasehold enqueue data_center_backup --tenant t-001 --user u1 --role it_ops \\
      --args '{\"data_center\":\"dc-1\",\"name\":\"before the audit\"}' --wait
  leasehold job watch ID
  leasehold doctor

Exit status: 0 done, 1 failed, 2 usage, 3 refused by a rule, 4 the job was accepted, but its end could not be learnt.
Environment: LEASEHOLD_URL, LEASEHOLD_KEY, LEASEHOLD_CONFIG, LEASEHOLD_DATA, and LEASEHOLD__SECTION__KEY for every
key of the configuration (`leasehold config show`).";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Configuration file, laid over the built-in reference [env: LEASEHOLD_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder (default: store.data_dir, ./data) [env: LEASEHOLD_DATA]
    #[arg(long = "data", global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the API for client commands (default: http://127.0.0.1:7420) [env: LEASEHOLD_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Form of log lines: auto, human or json
    #[arg(long, global = true, value_name = "FORM", value_parser = ["auto", "human", "json"])]
    pub(crate) log_format: Option<String>,
}

impl Global {
    /// With what the variables say where the command line is silent. An empty variable says nothing: that is how
    /// scripts, unit files and compose files take one away, and clap would refuse it.
    fn with_variables(mut self) -> Self {
        let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        self.config = self.config.or_else(|| said("LEASEHOLD_CONFIG").map(PathBuf::from));
        self.data_dir = self.data_dir.or_else(|| said("LEASEHOLD_DATA").map(PathBuf::from));
        self.url = self.url.or_else(|| said("LEASEHOLD_URL").map(|url| url.to_string_lossy().into_owned()));
        self
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run API, worker and upkeep in one process, with a private Redis unless --redis is given
    Up(serve::Up),
    /// Run the API and the webhook sender
    Api(serve::Api),
    /// Run a worker
    Worker(serve::Worker),
    /// Run upkeep (promote, rescue, prune) and the webhook sender
    Upkeep(serve::Upkeep),
    /// A scripted day of real jobs on a sandbox estate, then a summary
    Demo(serve::Demo),
    /// Ask for a job
    Enqueue(Box<enqueue::Enqueue>),
    /// Look at one job or change it
    #[command(subcommand)]
    Job(job::Job),
    /// List jobs
    Jobs(jobs::Jobs),
    /// List, pause and resume queues
    #[command(subcommand)]
    Queue(queue::Queue),
    /// List, pause and resume kinds
    #[command(subcommand)]
    Kind(gate::Kind),
    /// List all that stands before jobs: pauses, kill switches, limits, freezes
    Gates(gate::Gates),
    /// Look at a jump of the store's clock, and accept it
    #[command(subcommand)]
    Clock(clock::Clock),
    /// The emergency stop: start nothing more, or nothing of a kind
    #[command(subcommand)]
    KillSwitch(gate::KillSwitch),
    /// List, set and remove limits: jobs at a time, starts in a period
    #[command(subcommand)]
    Limit(gate::Limit),
    /// List, set and remove freezes: nothing starts from a time until another
    #[command(subcommand)]
    Freeze(freeze::Freeze),
    /// List, set and remove windows: when jobs may start, or may not, again and again
    #[command(subcommand)]
    Window(freeze::Window),
    /// List, write, pause and remove schedules; look ahead
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// List, show, write, pause and resume tenants
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(key::Key),
    /// List, add and remove webhook endpoints; look at deliveries and replay them
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// What is wrong with this set-up: Redis, data folder, targets, tools, webhooks, workers
    Doctor(doctor::Doctor),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the OpenAPI 3.1 description of the API
    Openapi(openapi::Openapi),
}

/// Runs the command of the process' arguments.
#[must_use]
pub fn main() -> ExitCode {
    // The first provider wins; a second call would only say that there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    run(std::env::args_os())
}

fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own status: 0 for --help and --version, 2 for a wrong command line.
            let status = u8::try_from(error.exit_code()).unwrap_or(2);
            let is_lost = error.print().is_err_and(|error| error.kind() != ErrorKind::BrokenPipe);
            return ExitCode::from(if is_lost { status.max(1) } else { status });
        }
    };
    let out = Out::new(cli.global.json);
    let status = match dispatch(&cli.global.with_variables(), &out, cli.command) {
        Ok(()) => 0,
        Err(failure) => {
            failure.report(&out);
            failure.status()
        }
    };
    match out.loss() {
        Some(loss) => {
            out.aside(&loss);
            ExitCode::from(status.max(loss.status()))
        }
        None => ExitCode::from(status),
    }
}

fn dispatch(global: &Global, out: &Out, command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(args) => serve::on_all_cores(args.run(global, out)),
        Command::Api(args) => serve::on_all_cores(args.run(global, out)),
        Command::Worker(args) => serve::on_all_cores(args.run(global, out)),
        Command::Upkeep(args) => serve::on_all_cores(args.run(global, out)),
        Command::Demo(args) => serve::on_all_cores(args.run(global, out)),
        Command::Enqueue(args) => on_one_core(args.run(global, out)),
        Command::Job(args) => on_one_core(args.run(global, out)),
        Command::Jobs(args) => on_one_core(args.run(global, out)),
        Command::Queue(args) => on_one_core(args.run(global, out)),
        Command::Kind(args) => on_one_core(args.run(global, out)),
        Command::Clock(args) => on_one_core(args.run(global, out)),
        Command::Gates(args) => on_one_core(args.run(global, out)),
        Command::KillSwitch(args) => on_one_core(args.run(global, out)),
        Command::Limit(args) => on_one_core(args.run(global, out)),
        Command::Freeze(args) => on_one_core(args.run(global, out)),
        Command::Window(args) => on_one_core(args.run(global, out)),
        Command::Schedule(args) => on_one_core(args.run(global, out)),
        Command::Tenant(args) => on_one_core(args.run(global, out)),
        Command::Key(args) => on_one_core(args.run(global, out)),
        Command::Webhook(args) => on_one_core(args.run(global, out)),
        Command::Doctor(args) => on_one_core(args.run(global, out)),
        Command::Config(args) => args.run(global, out),
        Command::Openapi(args) => args.run(out),
    }
}

/// Runs a client command, which only waits for answers.
fn on_one_core(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::failed("runtime", format!("no runtime: {error}")))?.block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
