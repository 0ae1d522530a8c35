//! What every route works with. Cheap to clone: one pointer and the stop signal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use leasehold_engine::{
    Store, StoreError, UnixMs,
    store::{Change, Changes},
};
use leasehold_jobs::{
    Catalogue,
    policy::{ErrorCode, Rules},
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::{
    archive::Shelf,
    config::Config,
    meters::Meters,
    webhooks::{directory::Directory, endpoint_url::UrlRules, store::StoreOutbox},
};

/// Above this share of Redis' memory, in percent, jobs are refused: running ones still have to write (E7).
const MEMORY_PERCENT: u64 = 90;
/// For how long an answer about the memory is believed.
const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// The state of the API.
#[derive(Clone)]
pub struct ApiState {
    shared: Arc<Shared>,
    shelf: Option<Shelf>,
    accepts_losses: bool,
    stop: CancellationToken,
}

struct Shared {
    store: Store,
    catalogue: Arc<Catalogue>,
    config: Arc<Config>,
    meters: Arc<Meters>,
    url_rules: UrlRules,
    endpoints: Directory,
    changes: Changes,
    memory: Mutex<Option<(Instant, bool)>>,
    used_keys: Mutex<HashMap<String, UnixMs>>,
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
        let endpoints = Directory::new(Arc::new(StoreOutbox::new(store.clone())));
        let (memory, used_keys) = Default::default();
        let shared = Shared { store, catalogue, config, meters, url_rules, endpoints, changes, memory, used_keys };
        Self { shared: Arc::new(shared), shelf: None, accepts_losses: false, stop: CancellationToken::new() }
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

    /// Hints that jobs changed.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.listen()
    }

    /// Refuses when Redis' memory is nearly used up (429, E7). Looks at most once a second.
    ///
    /// # Errors
    /// `too_many_jobs`; or the store cannot be reached.
    pub async fn memory_left(&self) -> Result<(), Problem> {
        let known = *self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let full = match known {
            Some((at, full)) if at.elapsed() < MEMORY_LOOK => full,
            _ => self.look_at_memory().await?,
        };
        match full {
            false => Ok(()),
            true => Err(Problem::new(ErrorCode::TooManyJobs, "the store's memory is nearly used up")
                .limit(format!("{MEMORY_PERCENT} % of its memory"))
                .remedy("wait until jobs have finished, then send the same request again")),
        }
    }

    async fn look_at_memory(&self) -> Result<bool, StoreError> {
        let found = self.store().durability().await?;
        let full = found.max_memory > 0 && found.used_memory > found.max_memory / 100 * MEMORY_PERCENT;
        *self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), full));
        Ok(full)
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
