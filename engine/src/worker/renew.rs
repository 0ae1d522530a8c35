//! Leases are renewed on a task of their own, whatever handlers do. Guards E9: what cannot be renewed is stopped in time, on
//! a task that never waits for the store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    leases::{Lease, Leases, Why},
    options::WorkerOptions,
    room::Room,
    watch::Watch,
};
use crate::{
    model::JobId,
    store::{Renewed, Store},
};

pub(crate) struct Renewal {
    pub(crate) store: Store,
    pub(crate) lanes: Vec<Arc<Leases>>,
    pub(crate) options: Arc<WorkerOptions>,
    pub(crate) kinds: Vec<String>,
    /// Hints may have been missed: the store is asked at once what became of the leases.
    pub(crate) ask: Arc<Notify>,
    pub(crate) watch: Watch,
    pub(crate) room: Arc<Room>,
}

/// Leases in one call.
const BATCH: usize = 500;
/// How long a worker that ends waits until the store has struck it off.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How often it is looked whether a lease ends; shorter than the margin by which work stops ahead of it.
const GUARD: Duration = Duration::from_millis(200);

/// Stops what can no longer be sure of its lease. Apart from the renewal: where the store hangs, that waits for each of its
/// answers, and by then a lease may have been over for long.
pub(crate) async fn guard(lanes: Vec<Arc<Leases>>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        lanes.iter().for_each(|lane| lane.stop_expired());
        let _ = tokio::time::timeout(GUARD, stop.cancelled()).await;
    }
}

impl Renewal {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let every = Duration::from_millis(self.options.renew_ms);
        let watch = Duration::from_millis((self.options.renew_ms / 5).clamp(50, 500));
        let mut next = Instant::now();
        while !stop.is_cancelled() {
            if Instant::now() >= next {
                next = Instant::now() + every;
                if let Some(false) = stop.run_until_cancelled(self.round()).await {
                    next = Instant::now() + watch;
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.ask.notified() => next = Instant::now(),
                () = tokio::time::sleep(watch.min(next.saturating_duration_since(Instant::now()))) => {}
            }
        }
        let last_word = self.store.heartbeat(&self.options.name, None, 0);
        let _ = tokio::time::timeout(LAST_WORD, last_word).await;
    }

    /// Whether all leases were renewed.
    async fn round(&self) -> bool {
        let good = self.renew_all().await;
        if let Err(error) = self.watch.look_too(&self.store).await {
            tracing::warn!(code = error.code(), %error, "the store's clock was not looked at");
        }
        self.room.look(&self.store).await;
        self.say_alive().await;
        good
    }

    async fn renew_all(&self) -> bool {
        let mut good = true;
        let held: Vec<_> = self.lanes.iter().flat_map(|lane| lane.all()).collect();
        for shard in 0..self.store.shards() {
            let mine: Vec<_> = held.iter().filter(|(id, _)| id.shard() == shard).collect();
            for batch in mine.chunks(BATCH) {
                good &= self.renew(shard, batch).await;
            }
        }
        good
    }

    async fn renew(&self, shard: u16, batch: &[&(JobId, Arc<Lease>)]) -> bool {
        let asked_at = Instant::now();
        let pairs: Vec<_> = batch.iter().map(|(id, lease)| (id.clone(), lease.fence)).collect();
        let answers = match self.store.renew(shard, &pairs, self.options.lease_ms).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(code = error.code(), %error, leases = batch.len(), "leases could not be renewed");
                return false;
            }
        };
        let until = asked_at + Duration::from_millis(self.options.lease_ms);
        for ((id, lease), answer) in batch.iter().zip(answers) {
            match answer {
                Renewed::Held => lease.renewed(until),
                Renewed::CancelRequested => {
                    lease.renewed(until);
                    lease.stop(Why::Cancel);
                }
                Renewed::Lost => self.lost(id, lease),
            }
        }
        true
    }

    /// A lease that is settled at this very moment is not lost.
    fn lost(&self, id: &JobId, lease: &Arc<Lease>) {
        let still_held =
            self.lanes.iter().flat_map(|lane| lane.all()).any(|(held, l)| held == *id && Arc::ptr_eq(&l, lease));
        if still_held && lease.why() != Why::Lost && !lease.is_settling() {
            tracing::warn!(job = %id, fence = lease.fence, "the lease is lost: another may hold the job");
            lease.stop(Why::Lost);
        }
    }

    async fn say_alive(&self) {
        let document = serde_json::json!({
            "queues": self.options.queues, "slots": self.options.slots, "running": self.lanes.iter().map(|lane| lane.len()).sum::<usize>(), "kinds": self.kinds,
            "version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(),
        });
        let ttl = self.options.renew_ms * 3 + 1000;
        if let Err(error) = self.store.heartbeat(&self.options.name, Some(&document.to_string()), ttl).await {
            tracing::warn!(code = error.code(), %error, "the heartbeat was not kept");
        }
    }
}
