//! Copies that lost attempts left half-written: looked for when a worker starts, and again and again.

use std::sync::Arc;
use std::time::Duration;

use leasehold_jobs::Catalogue;
use tokio_util::sync::CancellationToken;

/// Soon enough for what a worker left whose lease had not run out yet when it came back.
const EVERY: Duration = Duration::from_secs(600);

pub(super) async fn sweep(catalogue: Arc<Catalogue>, stop: CancellationToken) {
    loop {
        match catalogue.services().backups().sweep_leftovers().await {
            Ok(0) => {}
            Ok(copies) => tracing::info!(copies, "removed what lost attempts left half-written"),
            Err(error) => tracing::warn!(code = %error.code, %error, "half-written copies could not be looked for"),
        }
        if tokio::time::timeout(EVERY, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}
