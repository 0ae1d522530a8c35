//! The hot fields at the front of a record, read without the rest: for looks at many jobs whose arguments may be large.

use super::{
    Place, UnixMs,
    record::{FLAG_JOURNAL, HOT_BYTES},
};

/// What a look at many jobs needs of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hot {
    pub(crate) place: Place,
    pub(crate) run_at: UnixMs,
    pub(crate) started_at: UnixMs,
    pub(crate) finished_at: UnixMs,
    pub(crate) seq: u32,
    /// It has a journal.
    pub(crate) has_journal: bool,
    /// The seq of its last start, when nothing was written down since; else 0.
    pub(crate) started_seq: u32,
}

impl Hot {
    /// Reads the front of a record; `None` when there is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HOT_BYTES)?;
        let number = |at: usize, n: usize| bytes[at..at + n].iter().rev().fold(0_u64, |v, b| (v << 8) | u64::from(*b));
        Some(Self {
            place: Place::from_code(bytes[23])?,
            run_at: number(12, 6) as UnixMs,
            started_at: number(40, 6) as UnixMs,
            finished_at: number(46, 6) as UnixMs,
            seq: number(32, 4) as u32,
            has_journal: number(1, 2) & u64::from(FLAG_JOURNAL) != 0,
            started_seq: number(36, 4) as u32,
        })
    }

    /// Whether it can have run in several stretches: a job that did not was started right after it was taken in and planned.
    pub(crate) fn may_have_been_suspended(&self) -> bool {
        self.has_journal && !(1..=3).contains(&self.started_seq)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{JobId, JobRecord, NewJob, record};

    #[test]
    fn the_front_of_a_record_says_what_the_whole_record_says() {
        let job = NewJob::new(JobId::new(0), "noop", "t", &b"{}"[..]);
        let mut bytes = record::pack(&job);
        // Every byte of the hot fields another, the version and the place good ones.
        for (n, byte) in bytes.iter_mut().enumerate().take(HOT_BYTES).skip(6) {
            *byte = n as u8;
        }
        bytes[23] = Place::Dead as u8;
        let whole = JobRecord::parse(job.id, &Bytes::from(bytes.clone())).unwrap();
        let hot = Hot::read(&bytes).unwrap();
        let JobRecord { place, run_at, started_at, finished_at, seq, has_journal, .. } = whole;
        let expected = Hot { place, run_at, started_at, finished_at, seq, has_journal, started_seq: 0x2726_2524 };
        assert_eq!(hot, expected);
        assert_eq!(Hot::read(&bytes[..HOT_BYTES - 1]), None);
        assert_eq!(Hot::read(b""), None);
    }
}
