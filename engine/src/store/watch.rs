//! What the store says by pub/sub: jobs are ready, jobs are to be cancelled, jobs changed. Only a hint: each loop also looks by itself.

use futures::StreamExt;
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::Store;
use crate::model::{JobId, UnixMs};

/// A hint from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Jobs became ready in this queue.
    Ready(String),
    /// A job was scheduled for this time, ms.
    Scheduled(UnixMs),
    /// Deliveries became due.
    Deliveries,
    /// A running job is to be cancelled.
    Cancel(JobId),
    /// These jobs changed.
    Jobs(Vec<JobId>),
    /// The connection was lost and is there again: anything may have been missed.
    Reconnected,
}

/// A subscription; dropped, it ends.
pub struct Changes {
    sender: broadcast::Sender<Change>,
    _end: DropGuard,
}

impl Changes {
    /// Listens from now on. A slow listener loses hints and is told `Lagged`; it should look by itself then.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }
}

impl Store {
    /// Subscribes to the hints of all shards; reconnects by itself. With `jobs` also to changes of jobs.
    #[must_use]
    pub fn changes(&self, jobs: bool) -> Changes {
        let (sender, _) = broadcast::channel(4096);
        let end = CancellationToken::new();
        let (store, out, stop) = (self.clone(), sender.clone(), end.clone());
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled(follow(store, jobs, out)).await;
        });
        Changes { sender, _end: end.drop_guard() }
    }
}

async fn follow(store: Store, jobs: bool, out: broadcast::Sender<Change>) {
    let words: &[&str] = if jobs { &["wake", "cancel", "changed"] } else { &["wake", "cancel"] };
    loop {
        if let Ok(mut pubsub) = store.client.get_async_pubsub().await {
            let channels: Vec<String> = (0..store.shards())
                .flat_map(|s| words.iter().map(move |w| (s, *w)))
                .map(|(s, w)| store.key(s, w))
                .collect();
            if pubsub.subscribe(&channels).await.is_ok() {
                let _ = out.send(Change::Reconnected);
                let mut messages = pubsub.on_message();
                while let Some(message) = messages.next().await {
                    let text: String = message.get_payload().unwrap_or_default();
                    if let Some(change) = read(message.get_channel_name(), &text) {
                        let _ = out.send(change);
                    }
                }
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn read(channel: &str, text: &str) -> Option<Change> {
    match channel.rsplit(':').next()? {
        "cancel" => text.parse().ok().map(Change::Cancel),
        "changed" => Some(Change::Jobs(text.split(' ').filter_map(|id| id.parse().ok()).collect())),
        _ => match text.strip_prefix('@') {
            Some(at) => at.parse().ok().map(Change::Scheduled),
            None if text == "!deliveries" => Some(Change::Deliveries),
            None => Some(Change::Ready(text.to_owned())),
        },
    }
}
