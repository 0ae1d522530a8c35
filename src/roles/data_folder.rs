//! The data folder belongs to one process at a time. The lock is the kernel's, so that it ends with its holder however
//! that ends; the file's text only says who it is.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::error::BootError;

const LOCK_FILE: &str = "lock";

/// The data folder, held until this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    lock: File,
}

impl DataFolder {
    /// Makes the folder if need be (mode 0700) and takes it for this process.
    ///
    /// # Errors
    /// [`BootError::DataFolderInUse`] names the holder.
    pub fn occupy(folder: &Path, command: &str) -> Result<Self, BootError> {
        let unusable = |source| BootError::DataFolder { folder: folder.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let path = folder.canonicalize().map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join(LOCK_FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(BootError::DataFolderInUse { folder: path, holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let mut held = Self { path, lock };
        held.record(command, None).map_err(unusable)?;
        Ok(held)
    }

    /// The folder, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down who holds the folder, and at which address, for whoever is refused.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn record(&mut self, command: &str, address: Option<&str>) -> std::io::Result<()> {
        let since = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let text = json!({ "command": command, "pid": std::process::id(), "since": since, "address": address });
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(text.to_string().as_bytes())?;
        self.lock.flush()
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let _ = lock.read_to_string(&mut text);
    let Ok(Value::Object(held)) = serde_json::from_str(&text) else { return "another process".to_owned() };
    let word = |name: &str| {
        held.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).unwrap_or_default()
    };
    let address = match held.get("address").and_then(Value::as_str) {
        Some(address) => format!(", at {address}"),
        None => String::new(),
    };
    format!("`leasehold {}` (process {}, since {}{address})", word("command"), word("pid"), word("since"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = DataFolder::occupy(folder.path(), "up").unwrap();
        first.record("up", Some("http://127.0.0.1:1")).unwrap();
        let text = DataFolder::occupy(folder.path(), "up").unwrap_err().to_string();
        assert!(text.contains("`leasehold up`") && text.contains(&std::process::id().to_string()), "{text}");
        assert!(text.contains("http://127.0.0.1:1"), "{text}");
        drop(first);
        DataFolder::occupy(folder.path(), "up").unwrap();
    }
}
