//! Effect classes: what may be done again after a worker was lost. Guards that nobody forgets recovery.

use serde::{Deserialize, Serialize};

/// What a step does to the world; it chooses the recovery after a lost worker.
///
/// `Once` steps are begun by [`Ctx::once`](crate::Ctx::once) alone, which takes the `verify` they need:
/// every other verb refuses the class.
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

/// Which of the context's verbs wrote an entry of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// `step`, `sealed_step`, `once`, `step_with_undo`.
    Step,
    /// `sleep`, `sleep_until`.
    Sleep,
    /// `wait_signal`.
    Signal,
    /// `approval`.
    Approval,
    /// `spawn_child`.
    Spawn,
    /// `wait_all`, `wait_any`.
    Children,
    /// `critical`.
    Critical,
    /// The undo of a step.
    Undo,
}

impl Sort {
    const ALL: [Self; 8] = [
        Self::Step,
        Self::Sleep,
        Self::Signal,
        Self::Approval,
        Self::Spawn,
        Self::Children,
        Self::Critical,
        Self::Undo,
    ];

    /// The number that scripts and records use.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The sort of a number read from the store.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for code in 0..4 {
            assert_eq!(Effect::from_code(code).map(Effect::code), Some(code));
        }
        for code in 0..8 {
            assert_eq!(Sort::from_code(code).map(Sort::code), Some(code));
        }
        assert_eq!((Effect::from_code(4), Sort::from_code(8)), (None, None));
    }
}
