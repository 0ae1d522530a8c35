//! The journal of earlier attempts, held against the code that runs now. Pure.
//!
//! Invariant: a call is answered by an entry only if it is the same call: same name, same place in the order, same verb.

use std::collections::{BTreeMap, HashSet};

use super::{Sort, Step, view::NO_ORDINAL};

/// The code is not the one that wrote the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeChanged {
    /// A step is at another place in the order.
    #[error("step `{name}` was call {was} of this job and is call {now} in this version")]
    Moved {
        /// The step.
        name: String,
        /// Where it was, from 1.
        was: u32,
        /// Where it is, from 1.
        now: u32,
    },
    /// Another step stands where this one stood.
    #[error("call {at} of this job was step `{was}` and is step `{now}` in this version")]
    Replaced {
        /// The place, from 1.
        at: u32,
        /// What was there.
        was: String,
        /// What is there.
        now: String,
    },
    /// A name is used by another verb.
    #[error("`{name}` was a {was:?} and is a {now:?} in this version")]
    OtherVerb {
        /// The name.
        name: String,
        /// What it was.
        was: Sort,
        /// What it is.
        now: Sort,
    },
    /// A step that was begun is not there any more.
    #[error("this version ends without step `{name}`, which was call {was} of this job")]
    Removed {
        /// The step.
        name: String,
        /// Where it was, from 1.
        was: u32,
    },
}

/// The name under which the undo of a step is written down.
#[must_use]
pub(crate) fn undo_name(step: &str) -> String {
    format!("undo {step}")
}

/// What earlier attempts left.
#[derive(Debug, Default)]
pub struct Journal {
    entries: BTreeMap<String, Step>,
    order: BTreeMap<u16, String>,
}

impl Journal {
    /// A journal of these entries.
    #[must_use]
    pub fn new(entries: Vec<Step>) -> Self {
        let order = entries
            .iter()
            .filter(|step| step.ordinal != NO_ORDINAL)
            .map(|step| (step.ordinal, step.name.clone()))
            .collect();
        Self { entries: entries.into_iter().map(|step| (step.name.clone(), step)).collect(), order }
    }

    /// The entry of this call, if an earlier attempt made it.
    ///
    /// # Errors
    /// [`CodeChanged`] when the call cannot be the one of that attempt.
    pub fn meet(&self, name: &str, ordinal: u16, sort: Sort) -> Result<Option<&Step>, CodeChanged> {
        let now = u32::from(ordinal) + 1;
        match self.entries.get(name) {
            Some(held) if held.ordinal != ordinal => {
                Err(CodeChanged::Moved { name: name.to_owned(), was: u32::from(held.ordinal) + 1, now })
            }
            Some(held) if held.sort != sort => {
                Err(CodeChanged::OtherVerb { name: name.to_owned(), was: held.sort, now: sort })
            }
            Some(held) => Ok(Some(held)),
            None => match self.order.get(&ordinal) {
                Some(was) => Err(CodeChanged::Replaced { at: now, was: was.clone(), now: name.to_owned() }),
                None => Ok(None),
            },
        }
    }

    /// What the job's end must not leave out: the first entry that was not met.
    ///
    /// # Errors
    /// [`CodeChanged::Removed`].
    pub fn all_met(&self, met: &HashSet<String>) -> Result<(), CodeChanged> {
        match self.order.iter().find(|(_, name)| !met.contains(*name)) {
            Some((at, name)) => Err(CodeChanged::Removed { name: name.clone(), was: u32::from(*at) + 1 }),
            None => Ok(()),
        }
    }

    /// An entry by its name alone.
    #[must_use]
    pub fn entry(&self, name: &str) -> Option<&Step> {
        self.entries.get(name)
    }

    /// Whether the undo of this step has ended.
    #[must_use]
    pub fn is_undone(&self, name: &str) -> bool {
        self.entries.get(&undo_name(name)).is_some_and(|undo| undo.done)
    }

    /// Steps whose undo has something to take back.
    pub fn undoable(&self) -> impl Iterator<Item = &str> {
        self.entries.values().filter(|step| step.undoable && !self.is_undone(&step.name)).map(|step| step.name.as_str())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::model::Effect;

    fn step(name: &str, ordinal: u16) -> Step {
        Step {
            name: name.to_owned(),
            sort: Sort::Step,
            effect: Effect::Idempotent,
            done: true,
            undoable: false,
            wait: None,
            ordinal,
            begun_at: 0,
            done_at: 0,
            fence: 1,
            result: Vec::new(),
        }
    }

    fn journal() -> Journal {
        Journal::new(vec![step("a", 0), step("b", 1), step("undo a", NO_ORDINAL)])
    }

    #[test]
    fn the_same_code_meets_its_own_entries_and_goes_on() {
        let journal = journal();
        assert!(journal.meet("a", 0, Sort::Step).unwrap().is_some());
        assert!(journal.meet("b", 1, Sort::Step).unwrap().is_some());
        assert!(journal.meet("c", 2, Sort::Step).unwrap().is_none());
        let met = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(journal.all_met(&met), Ok(()));
    }

    #[test]
    fn a_step_added_removed_renamed_or_moved_is_seen() {
        let journal = journal();
        let text = |changed: Result<Option<&Step>, CodeChanged>| changed.unwrap_err().to_string();
        assert_eq!(
            text(journal.meet("new", 0, Sort::Step)),
            "call 1 of this job was step `a` and is step `new` in this version"
        );
        assert_eq!(
            text(journal.meet("b", 0, Sort::Step)),
            "step `b` was call 2 of this job and is call 1 in this version"
        );
        assert!(matches!(journal.meet("a", 0, Sort::Sleep), Err(CodeChanged::OtherVerb { .. })));
        let removed = journal.all_met(&["a".to_owned()].into()).unwrap_err();
        assert_eq!(removed, CodeChanged::Removed { name: "b".to_owned(), was: 2 });
    }
}
