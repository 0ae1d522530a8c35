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
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(LINE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.replace('\n', " ⏎ ")
}
