//! Folders as targets: their addresses, and files that appear whole or not at all.
//!
//! Invariant: what is being written has a name that starts with `.part-`, in the folder of its final name.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

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
