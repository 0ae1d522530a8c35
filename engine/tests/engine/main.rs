//! The engine on a real Redis: verbs with the time passed in, workers with the clock running, and an audit after each test.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod approvals;
mod audit;
mod bounded;
mod changed_code;
mod children;
mod clock;
mod control;
mod critical;
mod deaths;
mod doubt;
mod enqueue;
mod example;
mod explained;
mod fairness;
mod family;
mod fences;
mod freezes;
mod full;
mod gates;
mod giving_way;
mod journal;
mod keeping;
mod late_replies;
mod left_behind;
mod limits;
mod listing;
mod locks;
mod lost_replies;
mod memory;
mod outages;
mod outbox;
mod places;
mod resources;
mod schedules;
mod schedules_kept;
mod schedules_killed;
mod schedules_stuck;
mod signals;
mod stalls;
mod steps;
mod told;
mod undo;
mod undo_fails;
mod undo_later;
mod upkeep;
mod workers;
mod workflows;

use leasehold_engine::store::{Claim, Claimed, Outcome, Settled, Settlement};
use leasehold_engine::{JobId, Place, Store, testing::Lab};

/// A claim as a worker would send it.
pub(crate) async fn claim(lab: &Lab, worker: &str, want: usize) -> Claimed {
    claim_in(&lab.store, worker, want).await
}

pub(crate) async fn claim_in(store: &Store, worker: &str, want: usize) -> Claimed {
    use std::sync::atomic::{AtomicU64, Ordering};
    static REQUEST: AtomicU64 = AtomicU64::new(1);
    let request = REQUEST.fetch_add(1, Ordering::Relaxed);
    store.claim(0, &claim_of(worker, request, want)).await.unwrap()
}

pub(crate) fn claim_of(worker: &str, request: u64, want: usize) -> Claim {
    Claim {
        worker: worker.to_owned(),
        request,
        want,
        lease_ms: 15_000,
        queues: vec!["default".to_owned()],
        kinds: Vec::new(),
        by: 0,
    }
}

/// Claims one job that must be there; its fence.
pub(crate) async fn claim_one(lab: &Lab, worker: &str) -> (JobId, u64) {
    let mut got = claim(lab, worker, 1).await;
    let job = got.jobs.pop().expect("a job");
    (job.id, job.fence)
}

pub(crate) fn ending(id: &JobId, fence: u64, outcome: Outcome) -> Settlement {
    Settlement {
        id: id.clone(),
        fence,
        outcome,
        wait_ms: 1000,
        result: b"\"well\"".to_vec(),
        error: Vec::new(),
        note: Vec::new(),
    }
}

pub(crate) async fn settle(lab: &Lab, id: &JobId, fence: u64, outcome: Outcome) -> Settled {
    lab.store.settle(id.shard(), &[ending(id, fence, outcome)]).await.unwrap()[0]
}

pub(crate) async fn expect_place(lab: &Lab, id: &JobId, place: Place) {
    assert_eq!(lab.place(id).await, place);
}
