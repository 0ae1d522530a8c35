//! How much room a folder's disk has left.

use std::path::Path;

/// Bytes that an ordinary user may still write beside `path`; `None` when the system does not say.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|place| {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        let facts = nix::sys::statvfs::statvfs(place).ok()?;
        Some(facts.blocks_available().saturating_mul(facts.fragment_size()))
    })
}
