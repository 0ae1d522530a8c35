//! What is kept of finished jobs, and where the others go, as the configuration wants it.

use std::path::Path;
use std::sync::Arc;

use leasehold_engine::Place;
use leasehold_engine::upkeep::{Archive, Retention, UpkeepOptions};

use super::error::BootError;
use crate::archive::Shelf;
use crate::config::{Config, Keep};

/// The archive; `None` when the configuration names none.
///
/// # Errors
/// [`BootError::Other`] for an address that cannot be used.
pub(super) fn shelf(config: &Config) -> Result<Option<Shelf>, BootError> {
    let Some(path) = config.archive.files.strip_prefix("file:") else { return Ok(None) };
    let failed = |error: &dyn std::fmt::Display| BootError::Other(format!("archive.files: {error}"));
    let folder = std::path::absolute(&config.store.data_dir).map_err(|error| failed(&error))?;
    let url = format!("file:{}", folder.join(Path::new(path)).display());
    Shelf::open(&url, folder.join("scratch")).map(Some).map_err(|error| failed(&error))
}

/// How upkeep runs.
pub(super) fn upkeep_options(config: &Config, shelf: Option<Shelf>) -> UpkeepOptions {
    let kept = |keep: Keep| Retention { max_age_ms: keep.seconds * 1000, max_count: keep.count };
    let general = &config.retention;
    let kinds = general.kinds.iter().flat_map(|(kind, keep)| {
        let of = move |place| (kind.clone(), place);
        [
            (of(Place::Succeeded), kept(keep.succeeded)),
            (of(Place::Cancelled), kept(keep.cancelled)),
            (of(Place::Dead), kept(keep.dead)),
        ]
    });
    UpkeepOptions {
        promote_ms: config.upkeep.promote_ms,
        rescue_ms: config.upkeep.rescue_ms,
        lease_ms: config.worker.lease_ms,
        max_jump_ms: config.clock.max_jump_seconds.saturating_mul(1000),
        prune_ms: config.upkeep.prune_ms,
        succeeded: kept(general.succeeded),
        cancelled: kept(general.cancelled),
        dead: kept(general.dead),
        kinds: kinds.collect(),
        archive: shelf.map(|shelf| Arc::new(shelf) as Arc<dyn Archive>),
        gather_ms: config.archive.gather_seconds * 1000,
        ..UpkeepOptions::default()
    }
}
