//! Who waits for news of which job: a hint of the store wakes the streams of that job alone.
//!
//! Guards that a stream which nothing happens to costs nothing, however much happens to other jobs, and that a hint which
//! comes between a look and the wait after it is not lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use leasehold_engine::{JobId, store::Change};
use tokio::sync::{broadcast, watch};

/// The bells of the jobs that somebody waits for.
#[derive(Default)]
pub(super) struct Hub {
    bells: Mutex<HashMap<JobId, watch::Sender<()>>>,
}

/// Hears of one job, from its making on; dropped, it is forgotten.
pub(super) struct Ear {
    hub: Arc<Hub>,
    id: JobId,
    bell: Option<watch::Receiver<()>>,
}

impl Hub {
    /// Passes the hints on until there are none any more.
    pub(super) fn over(hints: broadcast::Receiver<Change>) -> Arc<Self> {
        let hub = Arc::new(Self::default());
        tokio::spawn(Arc::clone(&hub).pass_on(hints));
        hub
    }

    /// Listens for news of this job.
    pub(super) fn listen(self: &Arc<Self>, id: &JobId) -> Ear {
        let mut bells = self.lock();
        let bell = bells.entry(id.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Ear { hub: Arc::clone(self), id: id.clone(), bell: Some(bell) }
    }

    async fn pass_on(self: Arc<Self>, mut hints: broadcast::Receiver<Change>) {
        loop {
            match hints.recv().await {
                Ok(Change::Jobs(ids)) => self.ring(&ids),
                // Anything may have been missed.
                Ok(Change::Reconnected) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.lock().values().for_each(|bell| bell.send_replace(()));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Closed) => return self.lock().clear(),
            }
        }
    }

    fn ring(&self, ids: &[JobId]) {
        let bells = self.lock();
        ids.iter().filter_map(|id| bells.get(id)).for_each(|bell| bell.send_replace(()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<()>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear {
    /// Waits for news since the last time; `false` when none will come.
    pub(super) async fn hear(&mut self) -> bool {
        match &mut self.bell {
            Some(bell) => bell.changed().await.is_ok(),
            None => false,
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut bells = self.hub.lock();
        self.bell = None;
        if bells.get(&self.id).is_some_and(|bell| bell.receiver_count() == 0) {
            bells.remove(&self.id);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn ids(many: u16) -> Vec<JobId> {
        (0..many).map(|_| JobId::new(0)).collect()
    }

    #[tokio::test]
    async fn a_hint_wakes_those_who_wait_for_its_job_and_nobody_else() {
        let (hub, ids) = (Arc::new(Hub::default()), ids(3));
        let mut ears = [&ids[0], &ids[0], &ids[1]].map(|id| hub.listen(id));
        hub.ring(&[ids[0].clone(), ids[2].clone()]);
        let heard: Vec<_> = ears.iter_mut().map(|ear| ear.hear().now_or_never()).collect();
        assert_eq!(heard, [Some(true), Some(true), None]);
        assert_eq!(ears[0].hear().now_or_never(), None, "once");
    }

    #[tokio::test]
    async fn whatever_may_have_been_missed_wakes_everybody() {
        let (sender, hints) = broadcast::channel(2);
        let (hub, ids) = (Hub::over(hints), ids(2));
        let mut ears = [&ids[0], &ids[1]].map(|id| hub.listen(id));
        sender.send(Change::Reconnected).unwrap();
        for ear in &mut ears {
            assert!(ear.hear().await, "the connection was lost meanwhile");
        }
        for _ in 0..9 {
            sender.send(Change::Jobs(Vec::new())).unwrap();
        }
        for ear in &mut ears {
            assert!(ear.hear().await, "too many hints came to pass on");
        }
        drop(sender);
        assert!(!ears[0].hear().await, "no more will come");
    }

    #[test]
    fn nothing_is_kept_for_those_who_went() {
        let (hub, ids) = (Arc::new(Hub::default()), ids(1));
        let (first, second) = (hub.listen(&ids[0]), hub.listen(&ids[0]));
        drop(first);
        assert_eq!(hub.lock().len(), 1);
        drop(second);
        assert_eq!(hub.lock().len(), 0);
    }
}
