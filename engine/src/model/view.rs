//! A job as people and callers look at it: record, steps, progress. Guards that a step is read as the scripts wrote it.

use serde::{Deserialize, Serialize};

use super::{ApprovalSpec, Effect, JobRecord, Sort, UnixMs};

/// Bytes of an entry of the journal before its result (or, while it waits, before `until` and the wait's document).
const ENTRY_BYTES: usize = 22;
/// The bit of the code byte that says that the step has an undo.
pub(crate) const WITH_UNDO: u8 = 128;
/// The ordinal of entries that have no place in the order: undos.
pub(crate) const NO_ORDINAL: u16 = u16::MAX;

/// An entry of a job's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name, unique in the job.
    pub name: String,
    /// Which verb wrote it.
    pub sort: Sort,
    /// Its effect class.
    pub effect: Effect,
    /// Whether its result is written.
    pub done: bool,
    /// Whether it has an undo.
    pub undoable: bool,
    /// What it waits for, while it waits.
    pub wait: Option<Wait>,
    /// Which call of the kind's code it was, from 0; `u16::MAX` for an undo.
    pub ordinal: u16,
    /// When it was first begun, ms.
    pub begun_at: UnixMs,
    /// When it ended, ms; 0 not yet.
    pub done_at: UnixMs,
    /// The fence under which it was last begun.
    pub fence: u64,
    /// Its result, as bytes; empty when not done.
    #[serde(skip)]
    pub result: Vec<u8>,
}

/// What a suspended job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// When it ends by itself, ms; 0 never.
    pub until: UnixMs,
    /// What would end it.
    #[serde(flatten)]
    pub awaited: Awaited,
}

/// What would end a wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "for")]
pub enum Awaited {
    /// Time alone.
    Time,
    /// A signal.
    Signal {
        /// The signal's name.
        signal: String,
    },
    /// People.
    Approval(ApprovalSpec),
    /// Child jobs; `children:<id>` says which are pending.
    Children {
        /// All of them, or any.
        all: bool,
        /// How many are waited for.
        many: usize,
    },
}

impl Step {
    /// Reads an entry of the journal: state, code, fence, times, ordinal, then what belongs to the state.
    #[must_use]
    pub fn parse(name: String, held: &[u8]) -> Option<Self> {
        let number = |from: usize, n: usize| {
            Some(held.get(from..from + n)?.iter().rev().fold(0_u64, |v, b| (v << 8) | u64::from(*b)))
        };
        let (state, code) = (number(0, 1)?, number(1, 1)? as u8);
        let rest = held.get(ENTRY_BYTES..)?;
        let waits = state == 2;
        Some(Self {
            name,
            sort: Sort::from_code((code & !WITH_UNDO) >> 2)?,
            effect: Effect::from_code(code & 3)?,
            done: state == 1,
            undoable: code & WITH_UNDO != 0,
            wait: if waits { Some(Wait::parse(rest)?) } else { None },
            fence: number(2, 6)?,
            begun_at: number(8, 6)? as UnixMs,
            done_at: number(14, 6)? as UnixMs,
            ordinal: number(20, 2)? as u16,
            result: if waits { Vec::new() } else { rest.to_vec() },
        })
    }
}

impl Wait {
    fn parse(held: &[u8]) -> Option<Self> {
        let (until, document) = held.split_at_checked(6)?;
        let until = until.iter().rev().fold(0_i64, |v, b| (v << 8) | i64::from(*b));
        let awaited = if document.is_empty() { Awaited::Time } else { serde_json::from_slice(document).ok()? };
        Some(Self { until, awaited })
    }
}

/// How far a job says it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// What it is doing.
    pub text: String,
    /// When that was last told to listeners, ms; 0 never, or it is not known any more.
    pub told_at: UnixMs,
}

/// A job with what lies beside its record.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The record.
    pub record: JobRecord,
    /// Steps, in the order in which they were begun.
    pub steps: Vec<Step>,
    /// Progress, if told.
    pub progress: Progress,
}

impl JobView {
    /// The approval of this name that is open, if there is one.
    #[must_use]
    pub fn open_approval(&self, name: &str) -> Option<&ApprovalSpec> {
        let step = self.steps.iter().find(|step| step.name == name)?;
        match &step.wait.as_ref()?.awaited {
            Awaited::Approval(spec) => Some(spec),
            _ => None,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn entry(state: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut held = vec![state, code];
        for number in [7_u64, 1000, 2000] {
            held.extend(&number.to_le_bytes()[..6]);
        }
        held.extend(3_u16.to_le_bytes());
        held.extend(rest);
        held
    }

    #[test]
    fn an_entry_is_read_by_its_state() {
        let done = Step::parse("a".to_owned(), &entry(1, 2 | WITH_UNDO, b"5")).unwrap();
        assert_eq!((done.done, done.undoable, done.ordinal, done.fence), (true, true, 3, 7));
        assert_eq!((done.sort, done.effect, &done.result[..]), (Sort::Step, Effect::Fenced, &b"5"[..]));
        let mut rest = 5000_u64.to_le_bytes()[..6].to_vec();
        let asleep = Step::parse("a".to_owned(), &entry(2, 1 << 2, &rest)).unwrap();
        assert_eq!((asleep.sort, asleep.wait.unwrap()), (Sort::Sleep, Wait { until: 5000, awaited: Awaited::Time }));
        rest.extend(br#"{"for":"signal","signal":"paid"}"#);
        let waits = Step::parse("a".to_owned(), &entry(2, 2 << 2, &rest)).unwrap().wait.unwrap();
        assert_eq!(waits.awaited, Awaited::Signal { signal: "paid".to_owned() });
    }

    #[test]
    fn a_cut_entry_is_none() {
        let whole = entry(1, 0, b"");
        assert!((0..whole.len()).all(|n| Step::parse("a".to_owned(), &whole[..n]).is_none()));
    }
}
