//! The parts of the program that one process runs, started in order and stopped in the reverse one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leasehold_engine::Store;
use leasehold_engine::upkeep::Upkeep;
use leasehold_engine::worker::{Runner, StartError, Worker};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::boot::{Opened, open_store};
use super::data_folder::DataFolder;
use super::error::BootError;
use super::keeping::{shelf, upkeep_options};
use super::settings::{catalogue, worker_options};
use super::signals::Signals;
use super::{admin_key, leftovers, sender, start_limits};
use crate::api::serve::serve;
use crate::api::state::ApiState;
use crate::config::Config;
use crate::meters::Meters;
use crate::schedules::{self, FileSchedule, SlotMaker};
use crate::webhooks::dispatcher::DispatcherHandle;

/// How long all but the running jobs may take to stop; with these it is less than a supervisor's patience (45 s in
/// docker-compose.yml).
const REST: Duration = Duration::from_secs(8);
/// How long a stop may take after the second signal, but for critical sections.
const HURRY: Duration = Duration::from_secs(5);

/// What a process runs.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each part is there or not, and all combinations are good")]
pub struct Parts {
    /// The API.
    pub api: bool,
    /// A worker.
    pub worker: bool,
    /// Promote, rescue, prune.
    pub upkeep: bool,
    /// The webhook sender.
    pub webhooks: bool,
    /// The data folder, and a private Redis unless one is named.
    pub folder: bool,
}

impl Parts {
    fn names(self) -> Vec<&'static str> {
        let names = [(self.api, "api"), (self.worker, "worker"), (self.upkeep, "upkeep"), (self.webhooks, "webhooks")];
        names.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect()
    }
}

/// How a process runs its parts.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// The command, for whoever finds the data folder in use.
    pub command: &'static str,
    /// What to run.
    pub parts: Parts,
    /// Go on with a Redis that would lose jobs.
    pub accept_data_loss: bool,
    /// The worker's name; made of chance when left out.
    pub worker_name: Option<String>,
    /// The schedules of a file, if there is one; laid over the store's when upkeep starts.
    pub schedules: Option<Vec<FileSchedule>>,
}

/// Running parts.
pub struct Service {
    config: Arc<Config>,
    parts: Parts,
    opened: Opened,
    folder: Option<DataFolder>,
    address: Option<SocketAddr>,
    /// Cancelled when the program drains: no new jobs.
    closing: CancellationToken,
    stop: CancellationToken,
    api: Option<JoinHandle<anyhow::Result<()>>>,
    webhooks: Option<DispatcherHandle>,
    upkeep: Option<Upkeep>,
    worker: Option<Worker>,
}

impl Service {
    /// Starts everything; on return it is ready.
    ///
    /// # Errors
    /// [`BootError`]; what was started is stopped again.
    pub async fn start(config: Config, options: ServiceOptions) -> Result<Self, BootError> {
        let parts = options.parts;
        let mut folder =
            if parts.folder { Some(DataFolder::occupy(&config.store.data_dir, options.command)?) } else { None };
        let listener = if parts.api { Some(listen(config.server.listen).await?) } else { None };
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let opened = open_store(&config, folder.as_ref(), options.accept_data_loss).await?;
        if let (Some(folder), Some(address)) = (&mut folder, address) {
            let noted = folder.record(options.command, Some(&format!("http://{address}")));
            noted.map_err(|source| BootError::DataFolder { folder: folder.path().to_owned(), source })?;
        }
        let (closing, stop, config) = (CancellationToken::new(), CancellationToken::new(), Arc::new(config));
        let mut service = Self {
            config,
            parts,
            opened,
            folder,
            address,
            closing,
            stop,
            api: None,
            webhooks: None,
            upkeep: None,
            worker: None,
        };
        match service.start_parts(listener, &options).await {
            Ok(()) => Ok(service),
            Err(error) => {
                service.stop(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    async fn start_parts(&mut self, listener: Option<TcpListener>, options: &ServiceOptions) -> Result<(), BootError> {
        let (config, store) = (self.config.clone(), self.opened.store.clone());
        let meters = Arc::new(Meters::default());
        let catalogue = Arc::new(catalogue(&config, &store)?);
        let url_rules = sender::url_rules(&config, self.address)?;
        let shelf = shelf(&config)?;
        match &self.folder {
            Some(folder) => admin_key::ensure(&store, folder.path()).await?,
            None if self.parts.api => admin_key::ensure_any(&store, &config.store.data_dir).await?,
            None => {}
        }
        if self.parts.webhooks {
            self.webhooks = Some(sender::dispatcher(&config, &store, url_rules.clone(), self.address)?.start());
        }
        if self.parts.upkeep {
            let failed = |source| BootError::Store { url: "the limits of the configuration".to_owned(), source };
            start_limits::apply(&store, &config.limits).await.map_err(failed)?;
            let failed = |source| BootError::Store { url: "schedules of a file".to_owned(), source };
            match &options.schedules {
                Some(file) => schedules::apply(&store, file).await.map_err(failed)?,
                None => schedules::warn_of_orphans(&store).await.map_err(failed)?,
            }
            let (maker, most) = (SlotMaker::new(store.clone(), catalogue.clone()), config.limits.max_waiting_jobs);
            let upkeep = Upkeep::start(&store, upkeep_options(&config, shelf.clone()));
            let upkeep = upkeep.with_schedules(&store, Arc::new(maker), config.upkeep.promote_ms, most);
            self.upkeep = Some(upkeep.with_herald(&store, catalogue.clone(), config.upkeep.rescue_ms));
            tokio::spawn(sender::forget_callbacks(store.clone(), self.stop.clone()));
            tokio::spawn(sender::tell_dropped(store.clone(), self.stop.clone()));
        }
        if self.parts.worker {
            let worker = worker_options(&config, &catalogue, options.worker_name.clone(), meters.clone());
            let runner: Arc<dyn Runner> = catalogue.clone();
            let failed = |error| match error {
                StartError::Store(source) => {
                    BootError::Store { url: "a connection of the worker's own".to_owned(), source }
                }
                other => BootError::Kinds(other),
            };
            self.worker = Some(Worker::start(&store, runner, worker).await.map_err(failed)?);
            tokio::spawn(leftovers::sweep(catalogue.clone(), self.stop.clone()));
        }
        if let Some(listener) = listener {
            let state = ApiState::new(store, catalogue, config, meters, url_rules).with_shelf(shelf);
            let state = state.accepting_losses(options.accept_data_loss).closing_with(self.closing.clone());
            self.api = Some(tokio::spawn(serve(state, listener, self.stop.clone())));
        }
        Ok(())
    }

    /// Where the API listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The data folder, if this process holds it.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(DataFolder::path)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.opened.store
    }

    /// One line for people and for whoever waits for it.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let place = self.address.map(|address| format!(" on http://{address}")).unwrap_or_default();
        let folder = self.folder().map(|folder| format!("; data in {}", folder.display())).unwrap_or_default();
        format!("leasehold {} ready{place} ({}{folder})", env!("CARGO_PKG_VERSION"), self.parts.names().join(", "))
    }

    /// The same for programs. `listening` is `null` where there is no API.
    #[must_use]
    pub fn ready(&self) -> Value {
        json!({
            "listening": self.address.map(|address| format!("http://{address}")),
            "parts": self.parts.names(),
            "data": self.folder(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Runs until a signal comes; then drains, or aborts on a second one. Everything is stopped on return, unless that took
    /// longer than it may: then it is cut off as by a crash, which loses nothing.
    pub async fn run(self, signals: &Signals) {
        signals.next().await;
        self.closing.cancel();
        let patience = Duration::from_secs(self.config.worker.drain_timeout_seconds);
        let is_critical = self.worker.as_ref().map(Worker::critical);
        let is_critical = || is_critical.as_ref().is_some_and(|is_critical| is_critical());
        let hurry = CancellationToken::new();
        let ending = self.wind_down(patience, hurry.clone());
        tokio::pin!(ending);
        tokio::select! {
            () = &mut ending => return,
            () = signals.next() => tracing::warn!("a second signal: stopping at once; a third one leaves"),
            () = sleep(patience + REST) => tracing::warn!(code = "stop_hangs", "it does not come to an end by itself"),
        }
        hurry.cancel();
        loop {
            tokio::select! {
                () = &mut ending => return,
                () = signals.next() => break,
                () = sleep(HURRY) => if !is_critical() { break },
            }
        }
        tracing::error!(
            code = "stop_cut",
            "not everything could be stopped in time; jobs that ran are rescued by others"
        );
    }

    async fn wind_down(mut self, patience: Duration, hurry: CancellationToken) {
        if let Some(mut worker) = self.worker.take() {
            let running = worker.running();
            tracing::info!(
                running,
                "stopping: waiting for {running} running job{}, at most {} s; a second signal hands them back at once",
                if running == 1 { "" } else { "s" },
                patience.as_secs()
            );
            if hurry.run_until_cancelled(worker.drain(patience)).await.is_none() {
                tracing::warn!(running = worker.running(), "handing the running jobs back");
                worker.abort().await;
                worker.drain(Duration::ZERO).await;
            }
        } else {
            tracing::info!("stopping");
        }
        self.stop(Duration::ZERO).await;
        tracing::info!("stopped");
    }

    /// Stops everything: what runs may take `patience`, then it is handed back. The API is last but what it stands on: who
    /// waits for a job that drains may ask, and cancel it.
    pub async fn stop(mut self, patience: Duration) {
        self.closing.cancel();
        if let Some(mut worker) = self.worker.take() {
            worker.drain(patience).await;
        }
        self.stop.cancel();
        if let Some(api) = self.api.take() {
            let _ = api.await;
        }
        if let Some(webhooks) = self.webhooks.take() {
            webhooks.stop().await;
        }
        if let Some(mut upkeep) = self.upkeep.take() {
            upkeep.stop().await;
        }
        self.opened.close().await;
        drop(self.folder);
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => BootError::AddressInUse { address: address.to_string() },
        _ => BootError::Listen { address: address.to_string(), source },
    })
}
