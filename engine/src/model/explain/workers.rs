//! Reasons that the workers give.

use super::{Reason, Seen, WorkerSaid};
use crate::model::Place;

fn serving(seen: &Seen) -> impl Iterator<Item = &WorkerSaid> {
    seen.workers.iter().filter(|worker| worker.queues.contains(&seen.job.record.queue))
}

fn knowing(seen: &Seen) -> impl Iterator<Item = &WorkerSaid> {
    serving(seen).filter(|worker| worker.kinds.is_empty() || worker.kinds.contains(&seen.job.record.kind))
}

/// Nobody serves its queue, or none of those who do knows its kind.
pub(super) fn missing(seen: &Seen) -> Option<Reason> {
    let record = &seen.job.record;
    if serving(seen).next().is_none() {
        return Some(Reason::new("no_live_worker", "no worker that lives serves its queue").about(&record.queue));
    }
    let text = "no worker that lives and serves its queue knows its kind; it is set aside until one does";
    knowing(seen).next().is_none().then(|| Reason::new("unknown_kind", text).about(&record.kind))
}

/// Nothing else stands before it: it is in line, or about to be.
pub(super) fn in_line(seen: &Seen) -> Reason {
    let queue = &seen.job.record.queue;
    if seen.job.record.place != Place::Ready {
        return Reason::new("going_on", "what held it is gone; it goes on in a moment");
    }
    let (running, slots) = knowing(seen).fold((0, 0), |(r, s), worker| (r + worker.running, s + worker.slots));
    match running >= slots {
        true => Reason::new("workers_busy", format!("all {slots} slots of the queue's workers are taken")).about(queue),
        false => Reason::new("waiting_for_a_worker", "it is in line and will be taken in a moment").about(queue),
    }
}
