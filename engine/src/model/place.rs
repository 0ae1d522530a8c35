//! Places and the one pure function that says what a job becomes. The scripts make it true; README prints its chart.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a job is; exactly one at every moment (E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Place {
    /// Not yet due: planned, retry delay or durable sleep.
    Scheduled = 0,
    /// Due, but something stands before it (a resource, a limit, a freeze, a pause); the reason is recorded.
    Blocked = 1,
    /// May run now.
    Ready = 2,
    /// Under a lease with a fence.
    Running = 3,
    /// Suspended without a worker: for a signal, an approval, child jobs.
    Waiting = 4,
    /// Final: done.
    Succeeded = 5,
    /// Final: cancelled.
    Cancelled = 6,
    /// Final: failed for good.
    Dead = 7,
    /// A worker vanished inside an effect that may not be repeated.
    Unknown = 8,
}

/// What moves a job from place to place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its time has come and its resource is free.
    Due,
    /// Its time has come, and a resource that it needs is held.
    DueButHeld,
    /// What stood before it is gone.
    Freed,
    /// A claim found that it may not start now: a pause, a limit, a freeze, a kind that nobody knows.
    SetAside,
    /// It was due by a clock that was wrong: its planned time is still to come.
    PutBack,
    /// A worker took it.
    Claim,
    /// Settled: done.
    Done,
    /// Settled: try again later, or sleep.
    Postpone,
    /// Settled: failed for good.
    Fail,
    /// Settled: failed for good, but steps that have an undo are done: it runs once more, to undo them.
    FailAndUndo,
    /// Settled: waits for a signal, an approval, child jobs.
    Suspend,
    /// What it waited for has come, or its deadline.
    Wake,
    /// Its code is not the one that wrote its journal.
    Park,
    /// Handed back unfinished (drain, abort).
    Release,
    /// Cancelled by a person, or settled as cancelled.
    Cancel,
    /// Cancelled, but steps that have an undo are done, or a `Once` step is open: it runs once more, to undo them, or to find
    /// out whether that one happened.
    CancelAndUndo,
    /// Its lease ran out and it may try again.
    Rescue,
    /// Its lease ran out and no attempt is left.
    Exhaust,
    /// Nobody can tell whether a `Once` step happened.
    Doubt,
    /// Sent back to work by a person.
    Revive,
    /// A person said what became of the open step.
    Resolve,
    /// The same of a job that was to be cancelled.
    ResolveAndCancel,
}

/// Every cause, in the order of a job's life.
pub const CAUSES: [Cause; 22] = [
    Cause::Due,
    Cause::DueButHeld,
    Cause::Freed,
    Cause::Claim,
    Cause::SetAside,
    Cause::PutBack,
    Cause::Done,
    Cause::Postpone,
    Cause::Suspend,
    Cause::Wake,
    Cause::Park,
    Cause::Release,
    Cause::Fail,
    Cause::FailAndUndo,
    Cause::Cancel,
    Cause::CancelAndUndo,
    Cause::Rescue,
    Cause::Exhaust,
    Cause::Doubt,
    Cause::Revive,
    Cause::Resolve,
    Cause::ResolveAndCancel,
];

/// What a job in `place` becomes by `cause`; `None` where that cannot happen.
#[must_use]
pub const fn next(place: Place, cause: Cause) -> Option<Place> {
    use Place::{Blocked, Cancelled, Dead, Ready, Running, Scheduled, Succeeded, Unknown, Waiting};
    Some(match (place, cause) {
        (Scheduled, Cause::Due) | (Blocked, Cause::Freed) | (Waiting, Cause::Wake) => Ready,
        (Scheduled, Cause::DueButHeld) | (Ready, Cause::SetAside) | (Running, Cause::Park) => Blocked,
        (Ready, Cause::Claim) => Running,
        (Blocked | Ready, Cause::PutBack) => Scheduled,
        (Running, Cause::Done) => Succeeded,
        (Running, Cause::Postpone) => Scheduled,
        (Running, Cause::Suspend) => Waiting,
        (Running, Cause::Release | Cause::Rescue | Cause::FailAndUndo) => Ready,
        (Running, Cause::Fail | Cause::Exhaust) => Dead,
        (Running, Cause::Doubt) => Unknown,
        (Scheduled | Blocked | Ready | Running | Waiting, Cause::Cancel) | (Unknown, Cause::ResolveAndCancel) => {
            Cancelled
        }
        (Scheduled | Blocked | Running | Waiting, Cause::CancelAndUndo) => Ready,
        (Dead | Cancelled, Cause::Revive) | (Unknown, Cause::Resolve) => Ready,
        _ => return None,
    })
}

/// The life of a job as text: one line a place, with what leads out of it. README holds this text.
#[must_use]
pub fn chart() -> String {
    let mut text = String::new();
    for place in Place::ALL {
        let ways: Vec<_> =
            CAUSES.iter().filter_map(|cause| Some(format!("{} → {}", word(*cause), next(place, *cause)?))).collect();
        text.push_str(&format!(
            "{:<10} {}\n",
            place.as_str(),
            if ways.is_empty() { "(final)".to_owned() } else { ways.join(" · ") }
        ));
    }
    text
}

fn word(cause: Cause) -> String {
    let name = format!("{cause:?}");
    let mut text = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            text.push(' ');
        }
        text.extend(c.to_lowercase());
    }
    text
}

impl Place {
    /// All places, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Ready,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Cancelled,
        Self::Dead,
        Self::Unknown,
    ];

    /// The word that scripts, metrics, logs and the API share.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the job will not move again by itself: succeeded, cancelled or dead.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled | Self::Dead)
    }

    /// The place of a number read from a record.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// The word names no place.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no place; one of scheduled, blocked, ready, running, waiting, succeeded, cancelled, dead, unknown is expected"
)]
pub struct BadPlace(String);

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        Self::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| BadPlace(text.to_owned()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_places_are_left_by_revive_alone() {
        for place in Place::ALL.into_iter().filter(|p| p.is_final()) {
            for cause in CAUSES {
                assert!(next(place, cause).is_none() || cause == Cause::Revive, "{place} {cause:?}");
            }
        }
    }

    #[test]
    fn every_place_that_is_not_final_can_be_left() {
        for place in Place::ALL.into_iter().filter(|p| !p.is_final()) {
            assert!(CAUSES.iter().any(|c| next(place, *c).is_some()), "{place}");
        }
    }

    #[test]
    fn the_readme_shows_the_chart_of_next() {
        let readme = include_str!("../../../README.md");
        for line in chart().lines() {
            assert!(readme.contains(line), "README lacks the line `{line}`; the chart is\n{}", chart());
        }
    }
}
