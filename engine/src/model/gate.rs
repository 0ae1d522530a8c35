//! Gates: what stands before a claim. Pauses, kill switches, limits and freezes, as fields of the shard's hash `gates`.
//!
//! Invariant: whatever is in a field stops jobs; text that cannot be read is shown as a stop without a reason, never
//! left out. Scripts read the packed front of a limit or a freeze and never the JSON behind it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{UnixMs, gate_bytes as wire};

pub use super::{gate_bytes::FOREVER, standing::Gates};

/// Gates of a store at the most: each claim reads them all.
pub const MAX_GATES: usize = 500;
/// Starts that a rate may count at the most: each is remembered for its period.
pub const MAX_RATE: u32 = 10_000;

/// What a pause or a kill switch stops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    All,
    /// A queue.
    Queue(String),
    /// A kind.
    Kind(String),
    /// A tenant.
    Tenant(String),
}

impl Scope {
    /// Its field in `gates`.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Queue(name) => format!("q {name}"),
            Self::Kind(name) => format!("k {name}"),
            Self::Tenant(name) => format!("t {name}"),
        }
    }

    /// `all`, `queue`, `kind` or `tenant`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queue(_) => "queue",
            Self::Kind(_) => "kind",
            Self::Tenant(_) => "tenant",
        }
    }

    /// The name; `*` for everything.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::All => "*",
            Self::Queue(name) | Self::Kind(name) | Self::Tenant(name) => name,
        }
    }

    fn of(field: &str) -> Option<Self> {
        match field.split_once(' ') {
            None if field == "*" => Some(Self::All),
            Some(("q", name)) => Some(Self::Queue(name.to_owned())),
            Some(("k", name)) => Some(Self::Kind(name.to_owned())),
            Some(("t", name)) => Some(Self::Tenant(name.to_owned())),
            _ => None,
        }
    }
}

/// Who put a gate there, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Note {
    /// For people; may be empty.
    #[serde(default)]
    pub why: String,
    /// Who: a person, a key, `config`.
    #[serde(default)]
    pub by: String,
    /// When, ms.
    #[serde(default)]
    pub at: UnixMs,
}

/// What one field of a [`Scope`] says. A pause and a kill switch stand side by side: taking one away leaves the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stops {
    /// Paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Note>,
    /// The kill switch is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Note>,
}

impl Stops {
    /// Reads a field; what cannot be read is a pause whose reason is the text.
    #[must_use]
    pub fn parse(value: &[u8]) -> Self {
        let read = serde_json::from_slice::<Self>(value).ok().filter(|stops| !stops.is_empty());
        read.unwrap_or_else(|| {
            let why = String::from_utf8_lossy(value).into_owned();
            Self { pause: Some(Note { why, ..Note::default() }), kill: None }
        })
    }

    /// The field's value.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether nothing is stopped, so that the field can go.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pause.is_none() && self.kill.is_none()
    }
}

/// What a limit counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitScope {
    /// Jobs of a queue.
    Queue(String),
    /// Jobs of a kind.
    Kind(String),
    /// Jobs of a kind that have the same limit key, each key by itself.
    Key(String),
}

impl LimitScope {
    /// Its field in `gates`.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::Queue(name) => format!("l q {name}"),
            Self::Kind(name) => format!("l k {name}"),
            Self::Key(name) => format!("l x {name}"),
        }
    }

    /// `queue`, `kind` or `key`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Queue(_) => "queue",
            Self::Kind(_) => "kind",
            Self::Key(_) => "key",
        }
    }

    /// The queue or the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Kind(name) | Self::Key(name) => name,
        }
    }

    /// The scope with this word.
    #[must_use]
    pub fn of(word: &str, name: &str) -> Option<Self> {
        match word {
            "queue" => Some(Self::Queue(name.to_owned())),
            "kind" => Some(Self::Kind(name.to_owned())),
            "key" => Some(Self::Key(name.to_owned())),
            _ => None,
        }
    }
}

/// So many starts in any stretch of time of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Starts, at most [`MAX_RATE`].
    pub count: u32,
    /// The length, ms.
    pub period_ms: u64,
}

/// How many may run at a time, and how many may start in a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What is counted.
    pub scope: LimitScope,
    /// Running at a time.
    pub max_running: Option<u32>,
    /// Starts in a period.
    pub rate: Option<Rate>,
    /// Who and why.
    pub note: Note,
}

/// Which jobs a freeze is about; what is left out is any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// That need this resource, shared or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Reach {
    /// Whether it is about a job like this.
    #[must_use]
    pub fn fits<'a>(&self, kind: &str, tenant: &str, mut resources: impl Iterator<Item = &'a str>) -> bool {
        self.kind.as_deref().is_none_or(|k| k == kind)
            && self.tenant.as_deref().is_none_or(|t| t == tenant)
            && self.resource.as_deref().is_none_or(|r| resources.any(|mine| mine == r))
    }
}

/// Nothing that it is about starts from `from` to `until`, nor what would not be done before `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Its id; `<window>#<n>` when a window made it.
    pub id: String,
    /// Which jobs.
    pub reach: Reach,
    /// Its first instant, ms.
    pub from: UnixMs,
    /// The first instant after it, ms; [`FOREVER`] when that is not known.
    pub until: UnixMs,
    /// Why, for people.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Who put it there.
    pub note: Note,
}

impl Freeze {
    /// Its field in `gates`, and the hold of the jobs that it stops.
    #[must_use]
    pub fn field(&self) -> String {
        format!("f {}", self.id)
    }

    /// The window that made it.
    #[must_use]
    pub fn window(&self) -> Option<&str> {
        Some(self.id.split_once('#')?.0)
    }

    /// When it ends, if that is known.
    #[must_use]
    pub fn ends(&self) -> Option<UnixMs> {
        (self.until < FOREVER).then_some(self.until)
    }

    /// Whether a job that takes `takes_ms` may not start at `at`.
    #[must_use]
    pub fn stops(&self, at: UnixMs, takes_ms: UnixMs) -> bool {
        self.from.saturating_sub(takes_ms) <= at && at < self.until
    }
}

/// The store's clock jumped: destructive jobs wait until a person has looked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockJump {
    /// What the clock said before, ms.
    pub from: UnixMs,
    /// What it said after, ms.
    pub to: UnixMs,
    /// When it was seen, ms.
    pub at: UnixMs,
}

/// One gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Paused by a person.
    Pause(Scope, Note),
    /// The emergency stop.
    KillSwitch(Scope, Note),
    /// A concurrency or rate limit.
    Limit(Limit),
    /// A freeze, or the closed time of a window.
    Freeze(Freeze),
    /// The clock jumped.
    Clock(ClockJump),
}

impl Gate {
    /// The gates that a field holds; `None` for a field that is no gate, or cannot be read.
    #[must_use]
    pub fn parse(field: &str, value: &Bytes) -> Option<Vec<Self>> {
        if let Some(scope) = Scope::of(field) {
            let Stops { pause, kill } = Stops::parse(value);
            let kill = kill.map(|note| Self::KillSwitch(scope.clone(), note));
            return Some(kill.into_iter().chain(pause.map(|note| Self::Pause(scope, note))).collect());
        }
        let one = match field.split_once(' ') {
            None if field == "clock" => Self::Clock(serde_json::from_slice(value).unwrap_or_default()),
            Some(("l", counted)) => {
                let (letter, name) = counted.split_once(' ')?;
                let word = [("q", "queue"), ("k", "kind"), ("x", "key")].into_iter().find(|(l, _)| *l == letter)?.1;
                Self::Limit(wire::read_limit(LimitScope::of(word, name)?, value)?)
            }
            Some(("f", id)) => Self::Freeze(wire::read_freeze(id, value)?),
            _ => return None,
        };
        Some(vec![one])
    }

    /// Its field in `gates`.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::Pause(scope, _) | Self::KillSwitch(scope, _) => scope.field(),
            Self::Limit(limit) => limit.scope.field(),
            Self::Freeze(freeze) => freeze.field(),
            Self::Clock(_) => "clock".to_owned(),
        }
    }

    /// The value of its field, when it is alone there.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        match self {
            Self::Pause(_, note) => Stops { pause: Some(note.clone()), kill: None }.pack(),
            Self::KillSwitch(_, note) => Stops { pause: None, kill: Some(note.clone()) }.pack(),
            Self::Limit(limit) => wire::pack_limit(limit),
            Self::Freeze(freeze) => wire::pack_freeze(freeze),
            Self::Clock(jump) => serde_json::to_vec(jump).unwrap_or_default(),
        }
    }
}
