//! How a worker works.

use std::sync::Arc;

/// What a worker tells those who count.
pub trait Observer: Send + Sync + 'static {
    /// An attempt began, this long after its time.
    fn started(&self, kind: &str, queue: &str, lateness_ms: u64);
    /// An attempt ended in this way (done, retry, snooze, dead, cancelled, release, unknown, lost).
    fn ended(&self, kind: &str, outcome: &str, duration_ms: u64);
}

/// A worker's settings.
#[derive(Clone)]
pub struct WorkerOptions {
    /// Its name, unlike any other's; by default made of chance.
    pub name: String,
    /// Its queues; each claim begins with the next of them, so that none keeps back the others.
    pub queues: Vec<String>,
    /// Jobs at a time.
    pub slots: usize,
    /// How long a lease lasts without renewal, ms.
    pub lease_ms: u64,
    /// How often leases are renewed, ms.
    pub renew_ms: u64,
    /// How long a cancelled job may take to see its token before it is dropped, ms.
    pub cancel_grace_ms: u64,
    /// How long a job of a worker that stops may take to see its token before it is dropped and handed back, ms.
    pub abort_grace_ms: u64,
    /// Looks for work at least this often, should hints be lost, ms.
    pub poll_ms: u64,
    /// By how much the store's clock may differ from a steady one between two renewals, ms; more is a jump.
    pub max_jump_ms: u64,
    /// Largest result of a step or a job, bytes.
    pub max_result_bytes: usize,
    /// Results of all steps of a job, bytes; those below 256 do not count.
    pub max_journal_bytes: usize,
    /// Who counts.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for WorkerOptions {
    /// One queue `default`, 32 slots, leases of 15 s renewed every 5 s.
    fn default() -> Self {
        Self {
            name: format!("w-{:016x}", rand::random::<u64>()),
            queues: vec!["default".to_owned()],
            slots: 32,
            lease_ms: 15_000,
            renew_ms: 5_000,
            cancel_grace_ms: 10_000,
            abort_grace_ms: 2_000,
            poll_ms: 1_000,
            max_jump_ms: 60_000,
            max_result_bytes: 1 << 20,
            max_journal_bytes: 16 << 20,
            observer: None,
        }
    }
}
