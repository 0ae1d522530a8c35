//! The checksum of a database's content, and of files.
//!
//! Invariant: equal schema and equal rows give an equal checksum, in whatever order the rows lie on the disk.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::TargetError;

/// Collects schema and rows. Rows of a table are added up as hashes, so that their order does not count.
#[derive(Default)]
pub(super) struct Content {
    whole: Sha256,
}

impl Content {
    /// Adds a piece of schema; the order of pieces counts.
    pub(super) fn schema(&mut self, piece: &str) {
        self.whole.update([b's']);
        self.whole.update((piece.len() as u64).to_be_bytes());
        self.whole.update(piece.as_bytes());
    }

    /// Adds a table with all its rows.
    pub(super) fn table(&mut self, name: &str, rows: &Rows) {
        self.schema(name);
        self.whole.update(rows.count.to_be_bytes());
        for lane in rows.sum {
            self.whole.update(lane.to_be_bytes());
        }
    }

    /// The checksum, in hex.
    pub(super) fn finish(self) -> String {
        hex::encode(self.whole.finalize())
    }
}

/// The rows of one table.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) count: u64,
    sum: [u64; 4],
}

impl Rows {
    /// Adds one row, given as unambiguous bytes.
    pub(super) fn add(&mut self, row: &[u8]) {
        self.count += 1;
        let hash = Sha256::digest(row);
        for (lane, piece) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(piece);
            *lane = lane.wrapping_add(u64::from_be_bytes(bytes));
        }
    }
}

/// Size and SHA-256 of a file. It blocks.
pub(crate) fn file_sha256(path: &Path) -> Result<(u64, String), TargetError> {
    let mut file = std::fs::File::open(path).map_err(|error| TargetError::io("open", path, error))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(|error| TargetError::io("read", path, error))? {
            0 => return Ok((bytes, hex::encode(hash.finalize()))),
            count => {
                bytes += count as u64;
                hash.update(&buffer[..count]);
            }
        }
    }
}

/// Refuses a file whose SHA-256 is not the expected one. It blocks.
pub(super) fn expect_sha256(path: &Path, expected: Option<&str>) -> Result<(u64, String), TargetError> {
    let (bytes, sha256) = file_sha256(path)?;
    match expected {
        Some(expected) if !expected.eq_ignore_ascii_case(&sha256) => Err(TargetError::Corrupt {
            what: path.display().to_string(),
            why: format!("its SHA-256 is {sha256}, not {expected}"),
        }),
        _ => Ok((bytes, sha256)),
    }
}

/// Makes a file and its name durable. It blocks.
pub(crate) fn sync(path: &Path) -> Result<(), TargetError> {
    let file = std::fs::File::open(path).map_err(|error| TargetError::io("open", path, error))?;
    file.sync_all().map_err(|error| TargetError::io("flush", path, error))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = std::fs::File::open(folder).map_err(|error| TargetError::io("open", folder, error))?;
    opened.sync_all().map_err(|error| TargetError::io("flush", folder, error))
}
