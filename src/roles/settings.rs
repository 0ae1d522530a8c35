//! What the configuration makes of the kinds and of a worker.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leasehold_engine::Store;
use leasehold_engine::worker::WorkerOptions;
use leasehold_jobs::catalogue::Limits;
use leasehold_jobs::{Catalogue, Services, ServicesOptions};
use leasehold_targets::Secrets;

use super::error::BootError;
use crate::config::Config;
use crate::meters::Meters;

/// The kinds and what they reach.
///
/// # Errors
/// A target of the configuration cannot be opened.
pub(crate) fn catalogue(config: &Config, store: &Store) -> Result<Catalogue, BootError> {
    let failed = |what: &str, error: &dyn std::error::Error| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        BootError::Other(format!("{what}: {error}{cause}"))
    };
    let folder = std::path::absolute(&config.store.data_dir).map_err(|e| failed("the data folder", &e))?;
    let in_folder = |path: &Path| folder.join(path);
    let backups = match config.targets.backups.strip_prefix("file:") {
        Some(path) => format!("file:{}", in_folder(Path::new(path)).display()),
        None => config.targets.backups.clone(),
    };
    let options = ServicesOptions {
        backups,
        notices: format!("file:{}", in_folder(&config.targets.mailbox_dir).display()),
        secrets: Secrets::new(config.secret_values()),
        scratch: in_folder(Path::new("scratch")),
        max_live: config.limits.max_waiting_jobs,
    };
    let services = Services::open(store.clone(), Arc::new(config.rules.clone()), options);
    let services = services.map_err(|error| failed("the targets of the configuration", &error))?;
    let limits = Limits {
        idempotency_ttl: Duration::from_secs(config.retention.idempotency_seconds),
        max_labels: config.limits.max_labels,
        max_labels_bytes: config.limits.max_labels_bytes,
    };
    Ok(Catalogue::new(Arc::new(services), limits))
}

/// How a worker of this process works.
pub(super) fn worker_options(
    config: &Config,
    catalogue: &Catalogue,
    name: Option<String>,
    meters: Arc<Meters>,
) -> WorkerOptions {
    let defaults = WorkerOptions::default();
    let all = config.worker.queues.is_empty();
    WorkerOptions {
        name: name.unwrap_or(defaults.name),
        queues: if all { catalogue.queues() } else { config.worker.queues.clone() },
        slots: config.worker.slots,
        lease_ms: config.worker.lease_ms,
        renew_ms: config.worker.renew_ms,
        poll_ms: config.worker.poll_ms,
        max_jump_ms: config.clock.max_jump_seconds.saturating_mul(1000),
        max_result_bytes: config.limits.max_result_bytes,
        max_journal_bytes: config.limits.max_journal_bytes,
        observer: Some(meters),
        ..WorkerOptions::default()
    }
}
