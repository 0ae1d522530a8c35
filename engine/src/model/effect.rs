//! Effect classes: what may be done again after a worker was lost. Guards that nobody forgets recovery.

use serde::{Deserialize, Serialize};

/// What a step does to the world; it chooses the recovery after a lost worker.
///
/// `Once` steps are begun by [`Ctx::once`](crate::Ctx::once) alone, which takes the `verify` they need:
/// a kind with a `Once` step and no `verify` does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Changes nothing: run again.
    ReadOnly,
    /// Doing it twice is doing it once: run again.
    Idempotent,
    /// Run again with the new fence; the target refuses the old one.
    Fenced,
    /// Must not be repeated: ask `verify`; when it cannot tell, the job becomes unknown.
    Once,
}

impl Effect {
    /// The number that scripts and records use.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ReadOnly => 0,
            Self::Idempotent => 1,
            Self::Fenced => 2,
            Self::Once => 3,
        }
    }

    /// The class of a number read from the store.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::ReadOnly,
            1 => Self::Idempotent,
            2 => Self::Fenced,
            3 => Self::Once,
            _ => return None,
        })
    }
}
