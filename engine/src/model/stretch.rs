//! How long a job had a worker at a time, read from its history. Pure.
//!
//! Guards that a job which was suspended is not measured by its last stretch alone.

use super::{Event, EventWord};

/// The longest time, ms, for which one of a job's attempts ran until it ended or was suspended; `None` when it never ran. A
/// history of which the oldest events are gone says what it still knows, and how long a lost worker ran nobody knows.
#[must_use]
pub(crate) fn longest_stretch(history: &[Event]) -> Option<u64> {
    let (mut begun, mut longest) = (None, None);
    for event in history {
        match event.word {
            EventWord::Started => begun = Some(event.at),
            EventWord::Rescued => begun = None,
            word if is_end(word) => {
                longest = longest.max(begun.take().map(|at| event.at.saturating_sub(at).max(0).unsigned_abs()))
            }
            _ => {}
        }
    }
    longest
}

/// Whether a running job is in another place after it.
const fn is_end(word: EventWord) -> bool {
    use EventWord::{Blocked, Cancelled, Failed, Released, Retrying, Scheduled, Succeeded, Unknown, Waiting};
    matches!(word, Blocked | Cancelled | Failed | Released | Retrying | Scheduled | Succeeded | Unknown | Waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventWord::{Accepted, Progress, Rescued, Scheduled, Signalled, Started, Succeeded, Waiting};

    fn longest(history: &[(EventWord, i64)]) -> Option<u64> {
        let event =
            |(word, at): &(EventWord, i64)| Event { word: *word, at: *at, seq: 1, attempt: 1, note: String::new() };
        longest_stretch(&history.iter().map(event).collect::<Vec<_>>())
    }

    #[test]
    fn the_longest_stretch_counts_and_not_what_lies_between_two() {
        let history = [(Accepted, 0), (Scheduled, 0), (Started, 10), (Progress, 50), (Waiting, 110), (Signalled, 9000)];
        assert_eq!(longest(&history), Some(100));
        let whole = [&history[..], &[(Started, 9001), (Scheduled, 9006), (Started, 9900), (Succeeded, 9902)]].concat();
        assert_eq!(longest(&whole), Some(100));
    }

    #[test]
    fn what_never_ran_took_no_time_and_a_lost_workers_time_is_not_known() {
        assert_eq!(longest(&[(Accepted, 0), (Scheduled, 0)]), None);
        assert_eq!(longest(&[(Started, 0), (Rescued, 15_000), (Started, 15_001), (Succeeded, 15_004)]), Some(3));
    }
}
