//! The verbs of gates: pause, kill switch, limit, freeze. A gate stands in every shard, and each claim reads it, so that
//! from the answer of a verb on no claim passes it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::{
    Place,
    gate::{Gate, Gates, MAX_GATES, Note, Scope, Stops},
};

/// What came of a change of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateSet {
    /// It stands (or stood already).
    Set,
    /// Too many gates stand: [`MAX_GATES`].
    Full,
    /// Others kept changing the same gate; try again.
    Changed,
}

/// For what must not be refused because others stand: kinds are few, so that this stays bounded too.
const NO_CAP: usize = u32::MAX as usize;
/// Rounds of reading, deciding and writing before [`GateSet::Changed`] is said.
const ROUNDS: usize = 20;

enum Expected<'a> {
    Any,
    This(&'a [u8]),
}

impl Expected<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Any => b"*",
            Self::This(bytes) => bytes,
        }
    }
}

impl Store {
    /// All fields of the gates, of all shards together.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn gates(&self) -> Result<BTreeMap<String, Bytes>, StoreError> {
        let mut all = BTreeMap::new();
        for shard in 0..self.shards {
            all.extend(self.gates_in(shard).await?);
        }
        Ok(all)
    }

    pub(crate) async fn gates_in(&self, shard: u16) -> Result<BTreeMap<String, Bytes>, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.key(shard, "gates"));
        self.query("gates", cmd).await
    }

    /// All that stands, read.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn standing(&self) -> Result<Gates, StoreError> {
        Ok(Gates::read(&self.gates().await?))
    }

    /// Writes a field of the gates in every shard, whatever is there.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; it may stand in some shards then: send it again.
    pub async fn gate_set(&self, field: &str, value: &[u8]) -> Result<GateSet, StoreError> {
        let mut answer = GateSet::Set;
        for shard in 0..self.shards {
            match self.set_in(shard, field, value, &Expected::Any, MAX_GATES).await? {
                GateSet::Set => {}
                other => answer = other,
            }
        }
        Ok(answer)
    }

    /// Takes a field of the gates away in every shard; whether it stood in one.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; it may be gone in some shards then: send it again.
    pub async fn gate_remove(&self, field: &str) -> Result<bool, StoreError> {
        let mut stood = false;
        for shard in 0..self.shards {
            stood |= self.remove_in(shard, field, &Expected::Any).await? == Some(true);
        }
        Ok(stood)
    }

    /// Puts a limit or a freeze there, instead of an earlier one of its name.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn put_gate(&self, gate: &Gate) -> Result<GateSet, StoreError> {
        self.gate_set(&gate.field(), &gate.pack()).await
    }

    /// Stops claims within a scope until resumed; what runs goes on. A kill switch there stays.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn pause(&self, scope: &Scope, note: &Note) -> Result<GateSet, StoreError> {
        self.change_stops(scope, MAX_GATES, |stops| stops.pause = Some(note.clone())).await
    }

    /// Lets claims within a scope go on, unless a kill switch stands there.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn resume(&self, scope: &Scope) -> Result<GateSet, StoreError> {
        self.change_stops(scope, MAX_GATES, |stops| stops.pause = None).await
    }

    /// The kill switch: nothing within the scope is started from the answer on, until it is taken back. However many gates
    /// there are, this one is not refused.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn kill(&self, scope: &Scope, note: &Note) -> Result<GateSet, StoreError> {
        self.change_stops(scope, NO_CAP, |stops| stops.kill = Some(note.clone())).await
    }

    /// Takes a kill switch back. A pause there stays.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn unkill(&self, scope: &Scope) -> Result<GateSet, StoreError> {
        self.change_stops(scope, MAX_GATES, |stops| stops.kill = None).await
    }

    async fn change_stops(
        &self,
        scope: &Scope,
        most: usize,
        change: impl Fn(&mut Stops),
    ) -> Result<GateSet, StoreError> {
        let mut answer = GateSet::Set;
        for shard in 0..self.shards {
            match self.change_stops_in(shard, &scope.field(), most, &change).await? {
                GateSet::Set => {}
                other => answer = other,
            }
        }
        Ok(answer)
    }

    async fn change_stops_in(
        &self,
        shard: u16,
        field: &str,
        most: usize,
        change: impl Fn(&mut Stops),
    ) -> Result<GateSet, StoreError> {
        for _ in 0..ROUNDS {
            let mut cmd = redis::cmd("HGET");
            cmd.arg(self.key(shard, "gates")).arg(field);
            let held: Option<Bytes> = self.query("gates", cmd).await?;
            let mut stops = held.as_ref().map(|held| Stops::parse(held)).unwrap_or_default();
            change(&mut stops);
            let expected = Expected::This(held.as_deref().unwrap_or_default());
            if stops.is_empty() {
                if held.is_none() || self.remove_in(shard, field, &expected).await?.is_some() {
                    return Ok(GateSet::Set);
                }
                continue;
            }
            match self.set_in(shard, field, &stops.pack(), &expected, most).await? {
                GateSet::Changed => {}
                answer => return Ok(answer),
            }
        }
        Ok(GateSet::Changed)
    }

    async fn set_in(
        &self,
        shard: u16,
        field: &str,
        value: &[u8],
        expected: &Expected<'_>,
        most: usize,
    ) -> Result<GateSet, StoreError> {
        let mut cmd = self.begin(&self.scripts.gate_set, shard);
        cmd.arg(field).arg(value).arg(expected.bytes()).arg(most);
        let word: String = self.query("gate_set", cmd).await?;
        match word.as_str() {
            "set" => Ok(GateSet::Set),
            "full" => Ok(GateSet::Full),
            "changed" => Ok(GateSet::Changed),
            _ => Err(StoreError::UnknownAnswer { verb: "gate_set", answer: word }),
        }
    }

    /// Whether it stood; `None` when another value stands there.
    async fn remove_in(&self, shard: u16, field: &str, expected: &Expected<'_>) -> Result<Option<bool>, StoreError> {
        let mut cmd = self.begin(&self.scripts.gate_remove, shard);
        cmd.arg(field).arg(expected.bytes());
        let word: String = self.query("gate_remove", cmd).await?;
        match word.as_str() {
            "removed" => Ok(Some(true)),
            "absent" => Ok(Some(false)),
            "changed" => Ok(None),
            _ => Err(StoreError::UnknownAnswer { verb: "gate_remove", answer: word }),
        }
    }

    /// How many jobs are blocked, by what holds them: `kind_paused`, `frozen`, `limit`, `unknown_kind`, `clock_jumped`, and
    /// `other` (resources, limits by key, changed code). Asks for nothing but the lengths of the gates' lines.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn blocked_by_hold(&self) -> Result<BTreeMap<&'static str, u64>, StoreError> {
        let words =
            [("k", "kind_paused"), ("f", "frozen"), ("l", "limit"), ("p", "unknown_kind"), ("clock", "clock_jumped")];
        let mut sums: BTreeMap<&'static str, u64> = words.iter().map(|(_, word)| (*word, 0)).collect();
        for shard in 0..self.shards {
            let fields: Vec<String> = self.gates_in(shard).await?.into_keys().collect();
            let word = |field: &str| {
                let sort = field.split(' ').next().unwrap_or_default();
                words.iter().find(|(letter, _)| *letter == sort).map(|(_, word)| *word)
            };
            let lines: Vec<_> = fields.iter().filter_map(|field| Some((field, word(field)?))).collect();
            if lines.is_empty() {
                continue;
            }
            let mut pipe = redis::pipe();
            for (field, _) in &lines {
                pipe.cmd("ZCARD").arg(self.key(shard, &format!("waiters:{field}")));
            }
            let lengths: Vec<u64> = self.pipe("gates", &pipe).await?;
            for ((_, word), many) in lines.iter().zip(lengths) {
                *sums.entry(word).or_default() += many;
            }
        }
        let counts = self.counts().await?;
        let blocked: u64 = counts.iter().filter(|count| count.place == Place::Blocked).map(|count| count.jobs).sum();
        sums.insert("other", blocked.saturating_sub(sums.values().sum()));
        Ok(sums)
    }
}
