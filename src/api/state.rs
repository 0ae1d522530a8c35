//! What every route works with. Cheap to clone: one pointer and the stop signal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use leasehold_engine::{
    Store, StoreError, UnixMs,
    store::{Changes, Memory},
};
use leasehold_jobs::{
    Catalogue,
    policy::{ErrorCode, Rules},
};
use tokio_util::sync::CancellationToken;

use super::{hub::Hub, problem::Problem};
use crate::{
    archive::Shelf,
    config::Config,
    meters::Meters,
    webhooks::{directory::Directory, endpoint_url::UrlRules},
};

/// Above this share of Redis' memory, in percent, jobs are refused: running ones still have to write (E7).
const MEMORY_PERCENT: u64 = 90;
/// For how long open streams believe that a key is still known.
const KEY_LOOK: Duration = Duration::from_secs(2);
/// For how long an answer about the memory is believed.
const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// The state of the API.
#[derive(Clone)]
pub struct ApiState {
    shared: Arc<Shared>,
    shelf: Option<Shelf>,
    accepts_losses: bool,
    closing: CancellationToken,
    stop: CancellationToken,
}

struct Shared {
    store: Store,
    catalogue: Arc<Catalogue>,
    config: Arc<Config>,
    meters: Arc<Meters>,
    url_rules: UrlRules,
    endpoints: Directory,
    hub: Arc<Hub>,
    /// The hub hears hints for as long as this is held.
    _changes: Changes,
    memory: Mutex<Option<(Instant, Memory)>>,
    used_keys: Mutex<HashMap<String, UnixMs>>,
    known_keys: Mutex<HashMap<String, Instant>>,
}

impl ApiState {
    /// Puts together what the API needs. `url_rules` say where webhooks may go, as the sender's do.
    #[must_use]
    pub fn new(
        store: Store,
        catalogue: Arc<Catalogue>,
        config: Arc<Config>,
        meters: Arc<Meters>,
        url_rules: UrlRules,
    ) -> Self {
        let changes = store.changes(true);
        // Callers wait: they hear that the store is away before their request is too old.
        let store = store.with_patience(Duration::from_secs(config.server.request_timeout_seconds.div_ceil(3)));
        let endpoints = Directory::new(Arc::new(store.clone()));
        let (memory, used_keys, known_keys) = Default::default();
        let (hub, _changes) = (Hub::over(changes.listen()), changes);
        let shared = Shared {
            store,
            catalogue,
            config,
            meters,
            url_rules,
            endpoints,
            hub,
            _changes,
            memory,
            used_keys,
            known_keys,
        };
        let (closing, stop) = Default::default();
        Self { shared: Arc::new(shared), shelf: None, accepts_losses: false, closing, stop }
    }

    /// The same state with an archive of finished jobs.
    #[must_use]
    pub fn with_shelf(mut self, shelf: Option<Shelf>) -> Self {
        self.shelf = shelf;
        self
    }

    /// The same state of a program that was told to go on with a Redis that may lose jobs.
    #[must_use]
    pub fn accepting_losses(mut self, accepts: bool) -> Self {
        self.accepts_losses = accepts;
        self
    }

    /// Whether a Redis that may lose jobs was accepted.
    #[must_use]
    pub fn accepts_losses(&self) -> bool {
        self.accepts_losses
    }

    /// The same state, whose event streams end when `stop` is cancelled.
    #[must_use]
    pub fn stopping_with(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// The same state, which takes no new jobs once `closing` is cancelled: who drains can still be asked about jobs.
    #[must_use]
    pub fn closing_with(mut self, closing: CancellationToken) -> Self {
        self.closing = closing;
        self
    }

    /// Refuses when the program drains or stops (503).
    ///
    /// # Errors
    /// `shutting_down`.
    pub fn check_open(&self) -> Result<(), Problem> {
        if !self.closing.is_cancelled() && !self.stop.is_cancelled() {
            return Ok(());
        }
        let remedy = "send the same request again, with the same Idempotency-Key if it enqueues";
        Err(Problem::new(ErrorCode::ShuttingDown, "the program is stopping").remedy(remedy))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The kinds.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.shared.catalogue
    }

    /// The rules of the business.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        self.shared.catalogue.rules()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The counters of this process.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    /// Where webhooks may go.
    #[must_use]
    pub fn url_rules(&self) -> &UrlRules {
        &self.shared.url_rules
    }

    /// The book of webhook endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &Directory {
        &self.shared.endpoints
    }

    /// The archive of finished jobs, if there is one.
    #[must_use]
    pub fn shelf(&self) -> Option<&Shelf> {
        self.shelf.as_ref()
    }

    /// Cancelled when the server stops.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tells streams of news of their jobs.
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// Refuses when Redis' memory is nearly used up (429, E7). Looks at most once a second.
    ///
    /// # Errors
    /// `too_many_jobs`; or the store cannot be reached.
    pub async fn memory_left(&self) -> Result<(), Problem> {
        let known = *self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match known {
            Some((at, memory)) if at.elapsed() < MEMORY_LOOK => memory,
            _ => self.look_at_memory().await?,
        };
        match memory.is_above(MEMORY_PERCENT) {
            false => Ok(()),
            true => Err(self.no_room(memory).await?),
        }
    }

    async fn look_at_memory(&self) -> Result<Memory, StoreError> {
        let found = self.store().memory().await?;
        *self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found));
        Ok(found)
    }

    /// Says what fills the memory: who reads that jobs wait, and sees none, looks in the wrong place.
    async fn no_room(&self, memory: Memory) -> Result<Problem, StoreError> {
        let counts = self.store().counts().await?;
        let number = |ended: bool| -> u64 {
            counts.iter().filter(|count| count.place.is_final() == ended).map(|count| count.jobs).sum()
        };
        let (used, max) = (memory.used >> 20, memory.max >> 20);
        let detail = format!(
            "the store's memory is nearly used up: {used} of {max} MiB, by {} jobs that wait or run and {} that have ended",
            number(false),
            number(true)
        );
        let remedy = "send the same request again later: jobs that wait are worked off, and ended ones are put away early; \
                      if it stays so, give Redis more memory (store.max_memory_bytes)";
        Ok(Problem::new(ErrorCode::TooManyJobs, detail)
            .limit(format!("{MEMORY_PERCENT} % of its memory"))
            .remedy(remedy))
    }

    /// Whether a key was found in the store a moment ago, by whichever stream.
    pub(super) fn is_known_lately(&self, key: &str) -> bool {
        let known = self.shared.known_keys.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).is_some_and(|at| at.elapsed() < KEY_LOOK)
    }

    /// Keeps in mind that a key was found in the store, or that it was not.
    pub(super) fn note_known(&self, key: &str, known: bool) {
        let mut keys = self.shared.known_keys.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            true => keys.insert(key.to_owned(), Instant::now()),
            false => keys.remove(key),
        };
    }

    /// Whether the use of a key is worth writing down: at most once a minute a process.
    pub(super) fn note_use(&self, key: &str, now: UnixMs) -> bool {
        let mut used = self.shared.used_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let news = used.get(key).is_none_or(|last| now - last >= 60_000);
        if news {
            used.insert(key.to_owned(), now);
        }
        news
    }
}
