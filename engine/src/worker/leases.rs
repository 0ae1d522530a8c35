//! What this worker holds, until when, and why a job was told to stop. Guards self-fencing (E9).

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::model::JobId;

/// Why a running job is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    Nothing = 0,
    Cancel = 1,
    Lost = 2,
    Abort = 3,
}

/// One lease.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) fence: u64,
    pub(crate) cancelled: CancellationToken,
    /// Made when a critical section or an undo asks for them; most jobs have neither.
    lost: OnceLock<CancellationToken>,
    stopped: OnceLock<CancellationToken>,
    /// Critical sections that the job is in.
    critical: AtomicUsize,
    why: AtomicU8,
    aborting: AtomicBool,
    settling: AtomicBool,
    valid_until: Mutex<Instant>,
}

impl Lease {
    pub(crate) fn new(fence: u64, valid_until: Instant) -> Self {
        Self {
            fence,
            cancelled: CancellationToken::new(),
            lost: OnceLock::new(),
            stopped: OnceLock::new(),
            critical: AtomicUsize::new(0),
            why: AtomicU8::new(0),
            aborting: AtomicBool::new(false),
            settling: AtomicBool::new(false),
            valid_until: Mutex::new(valid_until),
        }
    }

    pub(crate) fn why(&self) -> Why {
        match self.why.load(Ordering::SeqCst) {
            1 => Why::Cancel,
            2 => Why::Lost,
            3 => Why::Abort,
            _ => Why::Nothing,
        }
    }

    /// The first reason stays, except that a lost lease outdoes all.
    pub(crate) fn stop(&self, why: Why) {
        self.aborting.fetch_or(why == Why::Abort, Ordering::SeqCst);
        if why == Why::Lost {
            self.why.store(why as u8, Ordering::SeqCst);
        } else {
            let _ = self.why.compare_exchange(0, why as u8, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.cancelled.cancel();
        self.tell();
    }

    /// Passes the reason on to the tokens that are deaf to some.
    fn tell(&self) {
        let why = self.why();
        if let Some(token) = self.lost.get().filter(|_| why == Why::Lost) {
            token.cancel();
        }
        if let Some(token) = self.stopped.get().filter(|_| why == Why::Lost || self.is_aborting()) {
            token.cancel();
        }
    }

    /// The worker stops, whatever else the job was told.
    pub(crate) fn is_aborting(&self) -> bool {
        self.aborting.load(Ordering::SeqCst)
    }

    /// Told of a lost lease alone.
    pub(crate) fn lost(&self) -> &CancellationToken {
        let token = self.lost.get_or_init(CancellationToken::new);
        self.tell();
        token
    }

    /// Told of a lost lease and of an abort, not of a cancel.
    pub(crate) fn stopped(&self) -> &CancellationToken {
        let token = self.stopped.get_or_init(CancellationToken::new);
        self.tell();
        token
    }

    pub(crate) fn enter_critical(&self) {
        self.critical.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn leave_critical(&self) {
        self.critical.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether a cancel and an abort have to wait.
    pub(crate) fn is_critical(&self) -> bool {
        self.why() != Why::Lost && self.critical.load(Ordering::SeqCst) > 0
    }

    /// The attempt has ended and its settlement is on its way.
    pub(crate) fn settle(&self) {
        self.settling.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_settling(&self) -> bool {
        self.settling.load(Ordering::SeqCst)
    }

    pub(crate) fn renewed(&self, until: Instant) {
        *lock(&self.valid_until) = until;
    }

    /// Whether an effect may be begun: the lease lasts for longer than the margin that work stops ahead of its end.
    pub(crate) fn is_valid(&self) -> bool {
        self.why() != Why::Lost && Instant::now() + MARGIN < *lock(&self.valid_until)
    }

    fn has_run_out(&self) -> bool {
        Instant::now() + MARGIN >= *lock(&self.valid_until)
    }
}

/// Work stops this long before a lease ends.
const MARGIN: Duration = Duration::from_millis(500);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All leases of a worker.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: Mutex<HashMap<JobId, Arc<Lease>>>,
    emptied: Notify,
}

impl Leases {
    /// `None` when the id still runs here under an older fence: it must end first.
    pub(crate) fn hold(&self, id: &JobId, fence: u64, valid_until: Instant) -> Option<Arc<Lease>> {
        let mut held = lock(&self.held);
        if let Some(older) = held.get(id) {
            older.stop(Why::Lost);
            return None;
        }
        let lease = Arc::new(Lease::new(fence, valid_until));
        held.insert(id.clone(), lease.clone());
        Some(lease)
    }

    pub(crate) fn release(&self, id: &JobId) {
        let mut held = lock(&self.held);
        held.remove(id);
        if held.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.held).len()
    }

    pub(crate) fn all(&self) -> Vec<(JobId, Arc<Lease>)> {
        lock(&self.held).iter().map(|(id, lease)| (id.clone(), lease.clone())).collect()
    }

    pub(crate) fn cancel(&self, id: &JobId, why: Why) {
        if let Some(lease) = lock(&self.held).get(id) {
            lease.stop(why);
        }
    }

    pub(crate) fn cancel_all(&self, why: Why) {
        for (_, lease) in self.all() {
            lease.stop(why);
        }
    }

    /// Whether a job is in a critical section, whose end an abort waits for.
    pub(crate) fn any_critical(&self) -> bool {
        lock(&self.held).values().any(|lease| lease.is_critical())
    }

    /// Stops what can no longer be sure of its lease.
    pub(crate) fn stop_expired(&self) {
        for (id, lease) in self.all() {
            if lease.has_run_out() && lease.why() != Why::Lost {
                tracing::warn!(job = %id, "the lease could not be renewed in time: the job is stopped here");
                lease.stop(Why::Lost);
            }
        }
    }

    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}
