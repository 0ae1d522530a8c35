//! What a running job says (progress, log lines), gathered and sent at most every 200 ms.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::Said;

/// Lines gathered between two sendings at most; more are dropped and counted.
const LINES: usize = 500;
/// Longest line, bytes.
const LINE_BYTES: usize = 2000;

#[derive(Debug, Default)]
pub(crate) struct Mouth {
    said: Mutex<Said>,
}

impl Mouth {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self, percent: u8, text: String) {
        self.lock().progress = Some((percent.min(100), cut(text)));
    }

    pub(crate) fn line(&self, line: String) {
        let mut said = self.lock();
        if said.lines.len() < LINES {
            said.lines.push(cut(line));
        }
    }

    pub(crate) fn take(&self) -> Option<Said> {
        let mut said = self.lock();
        let nothing = said.progress.is_none() && said.lines.is_empty();
        if nothing { None } else { Some(std::mem::take(&mut *said)) }
    }

    /// What could not be sent is said with the next, before what came meanwhile; what is newer stands.
    pub(crate) fn put_back(&self, unsent: Said) {
        let mut said = self.lock();
        said.progress = said.progress.take().or(unsent.progress);
        let newer = std::mem::replace(&mut said.lines, unsent.lines);
        said.lines.extend(newer);
        said.lines.truncate(LINES);
    }
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(LINE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.replace('\n', " ⏎ ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_is_said_before_what_came_meanwhile() {
        let mouth = Mouth::default();
        mouth.progress(10, "old".to_owned());
        mouth.line("first".to_owned());
        let unsent = mouth.take().unwrap();
        mouth.line("second".to_owned());
        mouth.put_back(unsent);
        let said = mouth.take().unwrap();
        assert_eq!(
            (said.progress, said.lines),
            (Some((10, "old".to_owned())), vec!["first".to_owned(), "second".to_owned()])
        );
    }
}
