//! Folders as targets: their addresses, and files that appear whole or not at all.
//!
//! Invariant: what is being written has a name that starts with `.part-`, in the folder of its final name.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::TargetError;

/// How the names of unfinished files start.
pub(crate) const PART: &str = ".part-";

/// The folder of `file:DIR`.
pub(crate) fn of_address(url: &str, what: &str) -> Result<PathBuf, TargetError> {
    match url.trim().split_once(':') {
        Some(("file", rest)) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.is_empty() || path.contains('\0') {
                return Err(TargetError::BadUrl {
                    url: url.to_owned(),
                    why: "file: needs the path of a folder".to_owned(),
                });
            }
            Ok(PathBuf::from(path))
        }
        Some((scheme, _)) => Err(TargetError::NoDriver {
            scheme: scheme.to_owned(),
            why: format!("{what} go to file:DIR; others are not built yet"),
        }),
        None => Err(TargetError::BadUrl { url: url.to_owned(), why: "a scheme such as file: is missing".to_owned() }),
    }
}

/// Copies `source` into `dest` in full, or leaves `dest` as it was. It blocks.
///
/// The order is: write under a temporary name, flush, rename, flush the folder.
pub(crate) fn write_whole(
    dest: &Path,
    mut source: impl Read,
    needed: Option<u64>,
) -> Result<(u64, String), TargetError> {
    let folder = dest.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| TargetError::io("make the folder", folder, error))?;
    if let (Some(needed), Some(free)) = (needed, crate::space::free_bytes(folder))
        && needed > free
    {
        return Err(TargetError::NoSpace { what: dest.display().to_string(), needed: Some(needed), free: Some(free) });
    }
    let part = folder.join(format!("{PART}{}", random_name()?));
    let written = fill(&part, &mut source, needed).and_then(|facts| {
        std::fs::rename(&part, dest).map_err(|error| TargetError::io("rename to", dest, error))?;
        flush_folder(folder)?;
        Ok(facts)
    });
    if written.is_err() {
        // A leftover is invisible under its name, and swept later.
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn fill(part: &Path, source: &mut impl Read, needed: Option<u64>) -> Result<(u64, String), TargetError> {
    let failed = |doing, error: std::io::Error| match TargetError::io(doing, part, error) {
        TargetError::NoSpace { what, free, .. } => TargetError::NoSpace { what, needed, free },
        other => other,
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(part).map_err(|error| failed("create", error))?;
    // Says that somebody writes here, whatever the clock makes of its age. Where locks do not work, the age must do.
    let _ = file.try_lock();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0;
    loop {
        match source.read(&mut buffer).map_err(|error| failed("read what goes to", error))? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                file.write_all(&buffer[..count]).map_err(|error| failed("write", error))?;
                bytes += count as u64;
            }
        }
    }
    file.sync_all().map_err(|error| failed("flush", error))?;
    Ok((bytes, hex::encode(hash.finalize())))
}

/// Whether a file is what a broken write left behind: nobody writes to it, nor has since `older_than`. It blocks.
pub(crate) fn is_leftover(path: &Path, older_than: Duration) -> bool {
    let is_part = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PART));
    let Some(file) = is_part.then(|| std::fs::File::open(path).ok()).flatten() else { return false };
    let age = file.metadata().and_then(|facts| facts.modified()).ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age >= older_than) && !matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}

/// Makes the names in a folder durable. It blocks.
pub(crate) fn flush_folder(folder: &Path) -> Result<(), TargetError> {
    let opened = std::fs::File::open(folder).map_err(|error| TargetError::io("open", folder, error))?;
    opened.sync_all().map_err(|error| TargetError::io("flush", folder, error))
}

/// A name that nobody else uses.
pub(crate) fn random_name() -> Result<String, TargetError> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(|error| TargetError::Unreachable {
        target: "the system's random numbers".to_owned(),
        doing: "name a file".to_owned(),
        source: error.to_string().into(),
    })?;
    Ok(hex::encode(random))
}

/// Does blocking work on a thread for it; a panic there goes on here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TargetError> + Send + 'static,
) -> Result<T, TargetError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(TargetError::Cancelled { doing: "work on files".to_owned() }),
        },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test may panic")]
    use super::*;

    /// Gives its bytes out, and looks each time whether the file that they go to would be swept.
    struct Watching<'a> {
        folder: &'a Path,
        left: usize,
        seen: Vec<bool>,
    }

    impl Read for Watching<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let parts = std::fs::read_dir(self.folder)?.filter_map(Result::ok).map(|entry| entry.path());
            self.seen.extend(parts.map(|part| is_leftover(&part, Duration::ZERO)));
            let many = self.left.min(buffer.len()).min(10);
            self.left -= many;
            Ok(many)
        }
    }

    #[test]
    fn what_is_being_written_is_no_leftover_however_old_the_clock_makes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut source = Watching { folder: folder.path(), left: 20, seen: Vec::new() };
        write_whole(&folder.path().join("copy"), &mut source, None).expect("a copy");
        assert_eq!(source.seen, [false, false, false]);
        let part = folder.path().join(".part-lost");
        std::fs::write(&part, b"half").expect("a file");
        assert!(is_leftover(&part, Duration::ZERO) && !is_leftover(&part, Duration::from_secs(3600)));
        assert!(!is_leftover(&folder.path().join("copy"), Duration::ZERO), "it is whole");
    }
}
