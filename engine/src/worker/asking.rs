//! Claims on their way: each is sent under one name until it is answered. Guards that a reply which comes late, or never,
//! leaves no job that runs nowhere (E10).

use std::time::{Duration, Instant};

use crate::model::UnixMs;

/// A claim without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) request: u64,
    pub(super) want: usize,
}

pub(super) struct Asking {
    /// Unlike that of any other process: what one of the same name was given is not for us.
    pub(super) name: String,
    last: u64,
    /// One for each shard.
    out: Vec<Option<Asked>>,
    /// The store's time, and when we heard it.
    heard: (UnixMs, Instant),
    patience: Duration,
    /// Nobody reads an answer after this.
    end: Option<Instant>,
}

impl Asking {
    /// An answer is waited for at most for `patience`.
    pub(super) fn new(worker: &str, shards: u16, now: UnixMs, patience: Duration) -> Self {
        let name = format!("{worker}.{:08x}", rand::random::<u32>());
        Self { name, last: 0, out: vec![None; shards.into()], heard: (now, Instant::now()), patience, end: None }
    }

    /// Nobody reads an answer that comes after `time` from now.
    pub(super) fn end_in(&mut self, time: Duration) {
        self.end = Some(Instant::now() + time);
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.iter().any(Option::is_some)
    }

    /// The claim that this shard has not answered.
    pub(super) fn under_way(&self, shard: u16) -> Option<Asked> {
        self.out[usize::from(shard)]
    }

    /// How many jobs may come of claims that are under way.
    pub(super) fn awaited(&self) -> usize {
        self.out.iter().flatten().map(|asked| asked.want).sum()
    }

    pub(super) fn ask(&mut self, shard: u16, want: usize) -> Asked {
        self.last += 1;
        let asked = Asked { request: self.last, want };
        self.out[usize::from(shard)] = Some(asked);
        asked
    }

    pub(super) fn answered(&mut self, shard: u16, now: UnixMs) {
        self.out[usize::from(shard)] = None;
        self.heard = (now, Instant::now());
    }

    /// Until when, by the store's clock, a claim that is sent now is waited for.
    pub(super) fn by(&self) -> UnixMs {
        let (then, heard) = self.heard;
        let left =
            self.end.map_or(self.patience, |end| end.saturating_duration_since(Instant::now()).min(self.patience));
        then + (heard.elapsed() + left).as_millis() as UnixMs
    }
}
