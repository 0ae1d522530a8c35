//! The store's clock, watched: a jump freezes destructive jobs in every shard until a person has looked (design 3.8).
//!
//! Invariant: a jump is written down before this process starts or promotes anything by the new time. A claim says up to when
//! the clock may be, if it did not jump; by a later time the store gives nothing, and the clock is looked at first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::{connect::Store, error::StoreError};
use crate::model::{
    Reading, UnixMs,
    gate::{ClockJump, Gate, Gates, Note},
};

/// Watches the store's clock for one process, against a clock of its own that only counts.
#[derive(Debug)]
pub struct ClockWatch {
    most_ms: u64,
    lease_ms: u64,
    last: Option<Reading>,
    /// Seen, and not yet written down.
    unsaid: Option<ClockJump>,
    pace: Pace,
    /// From when on live workers have renewed their leases by the new time, ms of the steady clock.
    calm_from: u64,
}

/// How a store's clock goes on from the last look at it. Clones share what is known.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The store's time less the steady one, ms: as they were at the last look after which all that it saw was written down.
    ahead_ms: Arc<AtomicI64>,
    most_ms: u64,
}

/// Before the first look.
const NOT_KNOWN: i64 = i64::MIN;

impl Pace {
    /// The latest time that the store's clock shows now unless it has jumped, ms; `None` before the first look.
    #[must_use]
    pub fn no_later(&self) -> Option<UnixMs> {
        let ahead = self.ahead_ms.load(Ordering::SeqCst);
        let passed = UnixMs::try_from(steady_ms()).unwrap_or(UnixMs::MAX);
        (ahead != NOT_KNOWN).then(|| passed.saturating_add(ahead).saturating_add_unsigned(self.most_ms))
    }

    fn note(&self, reading: &Reading) {
        self.ahead_ms.store(reading.store.saturating_sub_unsigned(reading.asked), Ordering::SeqCst);
    }
}

/// What a look at the clock said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The store's time, ms.
    pub now: UnixMs,
    /// Whether every live worker had the time to renew its leases since the last jump, so that a lease that has run out
    /// is that of a lost worker.
    pub is_calm: bool,
}

impl ClockWatch {
    /// A watch for jumps of more than `most_ms`; workers hold leases of `lease_ms`.
    #[must_use]
    pub fn new(most_ms: u64, lease_ms: u64) -> Self {
        let pace = Pace { ahead_ms: Arc::new(AtomicI64::new(NOT_KNOWN)), most_ms };
        Self { most_ms, lease_ms, last: None, unsaid: None, pace, calm_from: 0 }
    }

    /// What claims and promotions of this process go by.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// Looks at the store's clock. When it jumped since the last look, destructive jobs are frozen, and an alert is told.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; look again.
    pub async fn look(&mut self, store: &Store) -> Result<Glance, StoreError> {
        let asked = steady_ms();
        let now = store.now().await?;
        let reading = Reading { store: now, asked, answered: steady_ms() };
        match self.last.replace(reading) {
            Some(before) => self.compare(&before, &reading),
            None => self.ask_others(store, &reading).await?,
        }
        if let Some(jump) = &self.unsaid {
            self.say(store, jump).await?;
            self.unsaid = None;
        }
        self.pace.note(&reading);
        Ok(Glance { now, is_calm: reading.answered >= self.calm_from })
    }

    fn compare(&mut self, before: &Reading, now: &Reading) {
        if let Some(jump) = before.jump_to(now, self.most_ms) {
            self.calm_from = now.answered + self.lease_ms;
            self.unsaid = Some(jump);
        }
    }

    /// Writes a jump down. One that led to a time which somebody accepted a moment ago is the one that this person has looked
    /// at: others saw it before, and this process sees it late.
    async fn say(&self, store: &Store, jump: &ClockJump) -> Result<(), StoreError> {
        let (from, to, by_ms) = (jump.from, jump.to, jump.to - jump.from);
        let accepted = store.clock_accepted_at().await?;
        let is_known = |at: UnixMs| (at..at.saturating_add_unsigned(self.lease_ms)).contains(&jump.to);
        if accepted.is_some_and(is_known) {
            tracing::info!(from, to, by_ms, "the store's clock jumped, and that is accepted");
            return Ok(());
        }
        tracing::error!(
            code = "clock_jumped",
            from,
            to,
            by_ms,
            "the store's clock jumped: destructive jobs do not start until somebody runs `leasehold clock accept`"
        );
        store.clock_jumped(jump).await.map(drop)
    }

    /// A process that has just started did not see what others saw a moment ago.
    async fn ask_others(&mut self, store: &Store, now: &Reading) -> Result<(), StoreError> {
        let seen = store.clock_jump().await.inspect_err(|_| self.last = None)?;
        if seen.is_some_and(|jump| now.store.abs_diff(jump.at) < self.lease_ms) {
            self.calm_from = now.answered + self.lease_ms;
        }
        Ok(())
    }
}

impl Store {
    /// Says that the clock jumped: destructive jobs do not start from now on. Whether nobody had said so.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; send it again.
    pub async fn clock_jumped(&self, jump: &ClockJump) -> Result<bool, StoreError> {
        let document = Gate::Clock(jump.clone()).pack();
        let mut is_news = false;
        for shard in 0..self.shards {
            // Told once for all shards.
            let alert: &[u8] = if shard == 0 { &document } else { b"" };
            let mut cmd = self.begin(&self.scripts.clock_jumped, shard);
            cmd.arg(&document[..]).arg(alert);
            let word: String = self.query("clock_jumped", cmd).await?;
            match word.as_str() {
                "frozen" => is_news |= shard == 0,
                "stands" => {}
                _ => return Err(StoreError::UnknownAnswer { verb: "clock_jumped", answer: word }),
            }
        }
        Ok(is_news)
    }

    /// The jump that nobody has looked at yet.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn clock_jump(&self) -> Result<Option<ClockJump>, StoreError> {
        for shard in 0..self.shards {
            let standing = Gates::read(&self.gates_in(shard).await?);
            if let Some(jump) = standing.clock() {
                return Ok(Some(jump.clone()));
            }
        }
        Ok(None)
    }

    /// Somebody looked: destructive jobs start again, by the time that the clock shows now. What was accepted, if
    /// anything stood; it is told among the alerts.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; destructive jobs may start in some shards then: send it again.
    pub async fn accept_clock(&self, note: &Note) -> Result<Option<ClockJump>, StoreError> {
        let Some(jump) = self.clock_jump().await? else { return Ok(None) };
        let document = serde_json::json!({ "from": jump.from, "to": jump.to, "by": note.by, "why": note.why });
        self.alert("clock_accepted", &document.to_string()).await?;
        let mut cmd = redis::cmd("SET");
        cmd.arg(self.key(0, "clock_accepted")).arg(self.now().await?);
        let _: String = self.query("accept_clock", cmd).await?;
        self.gate_remove("clock").await?;
        Ok(Some(jump))
    }

    /// What the clock showed when somebody accepted it last.
    async fn clock_accepted_at(&self) -> Result<Option<UnixMs>, StoreError> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.key(0, "clock_accepted"));
        self.query("clock_accepted", cmd).await
    }
}

/// Milliseconds of a clock that nobody sets. It goes on while the machine sleeps, as the store's does.
fn steady_ms() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_BOOTTIME;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;
    let read = nix::time::clock_gettime(CLOCK).map(Duration::from).unwrap_or_default();
    u64::try_from(read.as_millis()).unwrap_or(u64::MAX)
}
