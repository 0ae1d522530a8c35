//! Job ids: 20 characters that sort by time of making and say their shard. Guards that a verb finds a job's shard alone.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use rand::RngExt;
use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 20;

/// A job's id: opaque to callers. 2 characters of shard, 9 of milliseconds, 9 of counter and chance (base 32).
///
/// Made by the caller's side of the engine, so that an enqueue that lost its reply can be sent again.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// The text is not an id that this engine made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a job id: 20 characters of 0-9 and a-z (without i, l, o, u) are expected")]
pub struct BadJobId(String);

/// Keeps ids of one process rising within a millisecond.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

impl JobId {
    /// A new id on a shard (below 1024), unlike any other.
    #[must_use]
    pub fn new(shard: u16) -> Self {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed) & 0x3fff;
        Self::of(shard, ms, (sequence << 31) | (rand::rng().random::<u64>() & 0x7fff_ffff))
    }

    /// An id that whoever makes it makes alike: of a shard, a time in ms, and 45 bits of a digest.
    pub(crate) fn of(shard: u16, ms: u64, tail: u64) -> Self {
        let mut text = [0_u8; LENGTH];
        write(&mut text[..2], u64::from(shard));
        write(&mut text[2..11], ms);
        write(&mut text[11..], tail);
        Self(text.iter().map(|b| char::from(*b)).collect())
    }

    /// The shard that holds the job.
    #[must_use]
    pub fn shard(&self) -> u16 {
        self.0.bytes().take(2).fold(0, |n, b| n * 32 + digit(b).unwrap_or(0))
    }

    /// When it was made, ms, by the clock of whoever made it.
    #[must_use]
    pub fn made_at(&self) -> super::UnixMs {
        self.0.bytes().skip(2).take(9).fold(0, |ms, b| ms * 32 + i64::from(digit(b).unwrap_or(0)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn write(into: &mut [u8], mut number: u64) {
    for slot in into.iter_mut().rev() {
        *slot = ALPHABET[(number & 31) as usize];
        number >>= 5;
    }
}

fn digit(b: u8) -> Option<u16> {
    ALPHABET.iter().position(|a| *a == b).and_then(|p| u16::try_from(p).ok())
}

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        let good = text.len() == LENGTH && text.bytes().all(|b| digit(b).is_some());
        if good { Ok(Self(text.to_owned())) } else { Err(BadJobId(text.chars().take(64).collect())) }
    }
}

impl TryFrom<String> for JobId {
    type Error = BadJobId;

    fn try_from(text: String) -> Result<Self, BadJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_its_shard_and_survives_text() {
        for shard in [0, 1, 31, 32, 1023] {
            let id = JobId::new(shard);
            assert_eq!(id.shard(), shard);
            assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        }
    }

    #[test]
    fn an_id_says_when_it_was_made() {
        let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let (before, id) = (now(), JobId::new(1023));
        assert!((before..=now()).contains(&id.made_at()), "{}", id.made_at());
    }

    #[test]
    fn ids_of_one_process_differ_and_rise() {
        let ids: Vec<_> = (0..5000).map(|_| JobId::new(0)).collect();
        assert!(ids.iter().collect::<std::collections::HashSet<_>>().len() == ids.len());
        assert!(ids[0] < ids[4999]);
    }

    #[test]
    fn a_text_of_another_shape_is_refused() {
        for text in ["", "abc", "../../etc/passwd12345", "00000000000000000000i", "0000000000000000000I"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
