//! The store's clock, watched by all tasks of a worker together. Guards that no claim goes by a time that nobody has looked at.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::options::WorkerOptions;
use crate::{
    model::UnixMs,
    store::{ClockWatch, Pace, Store, StoreError},
};

/// One watch for a worker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watch {
    clock: Arc<Mutex<ClockWatch>>,
    pace: Pace,
}

impl Watch {
    /// A watch that has looked once, so that the first claim has a time to go by.
    pub(crate) async fn begin(store: &Store, options: &WorkerOptions) -> Result<Self, StoreError> {
        let mut clock = ClockWatch::new(options.max_jump_ms, options.lease_ms);
        clock.look(store).await?;
        Ok(Self { pace: clock.pace(), clock: Arc::new(Mutex::new(clock)) })
    }

    /// Up to when the store's clock may be, ms; for a claim.
    pub(crate) fn no_later(&self) -> UnixMs {
        self.pace.no_later().unwrap_or(0)
    }

    /// Looks at the clock. When it is back, a jump is written down.
    pub(crate) async fn look(&self, store: &Store) -> Result<(), StoreError> {
        self.clock.lock().await.look(store).await.map(drop)
    }

    /// The same, but does not wait while another task looks.
    pub(crate) async fn look_too(&self, store: &Store) -> Result<(), StoreError> {
        match self.clock.try_lock() {
            Ok(mut clock) => clock.look(store).await.map(drop),
            Err(_) => Ok(()),
        }
    }
}
