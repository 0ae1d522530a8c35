//! SIGTERM and SIGINT: the first asks to drain, the second to abort, the third to leave at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// The signals that end the program, from when this was made.
#[derive(Debug, Clone)]
pub struct Signals {
    came: Arc<Notify>,
}

impl Signals {
    /// Takes the signals over from the system's default, which would kill us.
    ///
    /// # Errors
    /// The system refused.
    pub fn take() -> std::io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let came = Arc::new(Notify::new());
        for mut stream in [term, int] {
            let came = came.clone();
            tokio::spawn(async move { forward(&mut stream, &came).await });
        }
        Ok(Self { came })
    }

    /// Waits for the next signal. One that came while nobody waited is not lost.
    pub async fn next(&self) {
        self.came.notified().await;
    }
}

/// One that follows its like so closely is its echo: `timeout`, and supervisors that tell both a process and its group,
/// send two and mean one.
const ECHO: Duration = Duration::from_millis(500);

async fn forward(stream: &mut Signal, came: &Notify) {
    let mut last = None;
    while stream.recv().await.is_some() {
        if is_meant(&mut last, Instant::now()) {
            came.notify_one();
        }
    }
}

/// Whether a signal at `now` is no echo of the last one that was meant.
fn is_meant(last: &mut Option<Instant>, now: Instant) -> bool {
    let is_meant = last.is_none_or(|last| now.duration_since(last) > ECHO);
    if is_meant {
        *last = Some(now);
    }
    is_meant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_right_after_its_like_is_its_echo() {
        let (begin, mut last) = (Instant::now(), None);
        let mut at = |ms| is_meant(&mut last, begin + Duration::from_millis(ms));
        assert!(at(0));
        assert!(!at(2) && !at(400), "the second of `timeout`");
        assert!(at(501), "a person who asks again, however often before");
        assert!(!at(600) && at(1100));
    }
}
