//! SIGTERM and SIGINT: the first asks to drain, the second to abort.

use std::sync::Arc;

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

async fn forward(stream: &mut Signal, came: &Notify) {
    while stream.recv().await.is_some() {
        came.notify_one();
    }
}
