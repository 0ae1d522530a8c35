//! The checks on this machine: data folder and programs.

use std::os::unix::fs::PermissionsExt as _;

use super::Findings;
use crate::config::Config;
use crate::roles::{ADMIN_KEY_FILE, find_program};

/// Less than this is too little to take a backup on.
const LEAST_FREE: u64 = 1 << 30;

/// Whether the data folder is there, ours alone, writable and has room.
pub(super) fn data_folder(config: &Config, findings: &mut Findings) {
    let folder = &config.store.data_dir;
    let name = "data folder";
    let facts = match std::fs::metadata(folder) {
        Ok(facts) if facts.is_dir() => facts,
        Ok(_) => return findings.wrong(name, format!("{} is no folder", folder.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return findings.warning(name, format!("{} is not there yet; `leasehold up` makes it", folder.display()));
        }
        Err(error) => return findings.wrong(name, format!("{}: {error}", folder.display())),
    };
    if let Err(error) = tempfile::NamedTempFile::new_in(folder) {
        return findings.wrong(name, format!("{} cannot be written: {error}", folder.display()));
    }
    let free = free_bytes(folder);
    let room = free.map_or_else(|| "room unknown".to_owned(), |free| format!("{} MiB free", free >> 20));
    let mode = facts.permissions().mode() & 0o777;
    let key = std::fs::metadata(folder.join(ADMIN_KEY_FILE)).map(|key| key.permissions().mode() & 0o077).unwrap_or(0);
    if key != 0 {
        findings.wrong(name, format!("others may read {}; chmod 600", folder.join(ADMIN_KEY_FILE).display()));
    } else if free.is_some_and(|free| free < LEAST_FREE) {
        findings.warning(name, format!("{}: only {room}; backups and Redis need more", folder.display()));
    } else if mode & 0o027 != 0 {
        findings.warning(name, format!("{} is open to others (mode {mode:o}); chmod 700", folder.display()));
    } else {
        findings.ok(name, format!("{}, {room}", folder.display()));
    }
}

/// Whether the programs are there that this machine may need.
pub(super) fn tools(config: &Config, findings: &mut Findings) {
    let redis = config.store.redis_server.to_string_lossy();
    let private = config.store.redis_url.is_empty();
    match find_program(&redis) {
        Some(path) => findings.ok("redis-server", path.display().to_string()),
        None if private => {
            findings.wrong("redis-server", format!("`{redis}` was not found; install it, or name a Redis with --redis"))
        }
        None => findings.ok("redis-server", "not installed here, not needed with store.redis_url"),
    }
    for program in ["pg_dump", "pg_restore"] {
        match find_program(program).or_else(|| in_postgres_folders(program)) {
            Some(path) => findings.ok(program, path.display().to_string()),
            None => findings
                .warning(program, "not found; needed where a worker backs up or restores PostgreSQL data centers"),
        }
    }
}

/// Debian keeps the versions beside each other, off the path.
fn in_postgres_folders(program: &str) -> Option<std::path::PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|version| version.path().join("bin").join(program)).find(|path| path.is_file())
}

fn free_bytes(folder: &std::path::Path) -> Option<u64> {
    let facts = nix::sys::statvfs::statvfs(folder).ok()?;
    #[expect(clippy::useless_conversion, reason = "the width of these numbers differs between systems")]
    Some(u64::from(facts.blocks_available()).saturating_mul(u64::from(facts.fragment_size())))
}
