//! Whether the store has room for what running jobs write. Guards that a backlog which was taken in does not fill Redis by
//! being worked off: what waits goes on waiting, what runs comes to its end.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Store, StoreError};

/// Above this share of Redis' memory, in percent, nothing is claimed. Jobs are refused from 90 on; between the two, those
/// that wait are worked off.
const CLAIMS_PERCENT: u64 = 95;

/// What is known of it; looked at with each renewal of leases.
#[derive(Debug, Default)]
pub(super) struct Room {
    none: AtomicBool,
}

impl Room {
    pub(super) fn is_left(&self) -> bool {
        !self.none.load(Ordering::Relaxed)
    }

    pub(super) async fn look(&self, store: &Store) {
        match store.memory().await {
            Ok(memory) => self.note(!memory.is_above(CLAIMS_PERCENT)),
            Err(error) => tracing::warn!(code = error.code(), %error, "the store's memory was not looked at"),
        }
    }

    /// Redis refused a claim for want of memory before a look could see it.
    pub(super) fn note_refusal(&self, error: &StoreError) {
        if error.is_out_of_memory() {
            self.note(false);
        }
    }

    fn note(&self, is_left: bool) {
        let before = !self.none.swap(!is_left, Ordering::Relaxed);
        match (before, is_left) {
            (true, false) => tracing::error!(code = "redis_full", "Redis has no room: nothing is claimed until it has"),
            (false, true) => tracing::info!("Redis has room again: jobs are claimed"),
            _ => {}
        }
    }
}
