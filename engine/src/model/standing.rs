//! All gates that stand in a store, read from its hash. Guards that what cannot be read is shown, not left out.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::gate::{ClockJump, Freeze, Gate, Limit, Note, Scope};

/// All that stands, and how long kinds take.
#[derive(Debug, Clone, Default)]
pub struct Gates {
    /// The gates, in the order of their fields.
    pub all: Vec<Gate>,
    /// 95 of 100 attempts of a kind took at most so many ms.
    pub takes_ms: BTreeMap<String, u64>,
    /// Kinds of which jobs are parked, since no worker that looked knew them.
    pub parked: Vec<String>,
    /// Fields that cannot be read by this version.
    pub unreadable: Vec<String>,
}

impl Gates {
    /// Reads the hash.
    #[must_use]
    pub fn read(fields: &BTreeMap<String, Bytes>) -> Self {
        let mut gates = Self::default();
        for (field, value) in fields {
            if let Some(kind) = field.strip_prefix("d ") {
                let text = String::from_utf8_lossy(value);
                gates.takes_ms.extend(text.parse().ok().map(|ms| (kind.to_owned(), ms)));
            } else if let Some(kind) = field.strip_prefix("p ") {
                gates.parked.push(kind.to_owned());
            } else {
                match Gate::parse(field, value) {
                    Some(found) => gates.all.extend(found),
                    None => gates.unreadable.push(field.clone()),
                }
            }
        }
        gates
    }

    /// What stops a scope, weightiest first.
    pub fn stops<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Gate> {
        self.all.iter().filter(move |g| matches!(g, Gate::Pause(s, _) | Gate::KillSwitch(s, _) if s == scope))
    }

    /// The pauses with their notes.
    pub fn pauses(&self) -> impl Iterator<Item = (&Scope, &Note)> {
        self.all.iter().filter_map(|g| if let Gate::Pause(scope, note) = g { Some((scope, note)) } else { None })
    }

    /// The kill switches that are on.
    pub fn kill_switches(&self) -> impl Iterator<Item = (&Scope, &Note)> {
        self.all.iter().filter_map(|g| if let Gate::KillSwitch(scope, note) = g { Some((scope, note)) } else { None })
    }

    /// The limits.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.all.iter().filter_map(|g| if let Gate::Limit(limit) = g { Some(limit) } else { None })
    }

    /// The freezes, those of windows too.
    pub fn freezes(&self) -> impl Iterator<Item = &Freeze> {
        self.all.iter().filter_map(|g| if let Gate::Freeze(freeze) = g { Some(freeze) } else { None })
    }

    /// The jump of the clock that nobody has looked at yet.
    #[must_use]
    pub fn clock(&self) -> Option<&ClockJump> {
        self.all.iter().find_map(|g| if let Gate::Clock(jump) = g { Some(jump) } else { None })
    }
}
