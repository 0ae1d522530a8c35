//! Files in a directory of this machine.
//!
//! Invariant: a name never leads out of the directory, not even through a symbolic link of the last part.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::{FileFacts, Files, Stored};
use crate::TargetError;
use crate::folder::{blocking, flush_folder, is_leftover, write_whole};

/// A directory that keeps files.
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, name: &str) -> Result<PathBuf, TargetError> {
        check_name(name)?;
        let path = self.root.join(name);
        let leads_out = path
            .ancestors()
            .take_while(|part| *part != self.root)
            .any(|part| part.symlink_metadata().is_ok_and(|facts| facts.file_type().is_symlink()));
        if leads_out {
            return Err(TargetError::BadName {
                name: name.to_owned(),
                why: "it goes through a symbolic link".to_owned(),
            });
        }
        Ok(path)
    }

    /// The deepest folder that holds all names with this prefix; `None` when no name can have it.
    fn folder_of(&self, prefix: &str) -> Option<PathBuf> {
        match prefix.rsplit_once('/') {
            Some((folder, _)) => self.path(folder).ok(),
            None => Some(self.root.clone()),
        }
    }
}

/// Names are relative, of ordinary parts, and hidden files are ours.
fn check_name(name: &str) -> Result<(), TargetError> {
    let why = match name {
        "" => "it is empty",
        _ if name.len() > 1024 => "it is longer than 1024 bytes",
        _ if name.contains(['\0', '\\', '\n', '\r']) => "it has a character that paths cannot have",
        _ if name.split('/').any(|part| part.is_empty() || part.starts_with('.')) => {
            "a part of it is empty or starts with a dot"
        }
        _ if name.split('/').any(|part| part.len() > 255) => "a part of it is longer than 255 bytes",
        _ => return Ok(()),
    };
    Err(TargetError::BadName { name: name.chars().take(120).collect(), why: why.to_owned() })
}

#[async_trait]
impl Files for Directory {
    fn shown(&self) -> String {
        format!("file:{}", self.root.display())
    }

    async fn put(&self, name: &str, source: &Path) -> Result<Stored, TargetError> {
        let (dest, source) = (self.path(name)?, source.to_owned());
        blocking(move || {
            let file = std::fs::File::open(&source).map_err(|error| TargetError::io("open", &source, error))?;
            let needed = file.metadata().map_err(|error| TargetError::io("look at", &source, error))?.len();
            let (bytes, sha256) = write_whole(&dest, file, Some(needed))?;
            Ok(Stored { bytes, sha256 })
        })
        .await
    }

    async fn put_bytes(&self, name: &str, content: &[u8]) -> Result<Stored, TargetError> {
        let (dest, content) = (self.path(name)?, content.to_owned());
        blocking(move || {
            let (bytes, sha256) = write_whole(&dest, &content[..], Some(content.len() as u64))?;
            Ok(Stored { bytes, sha256 })
        })
        .await
    }

    async fn get(&self, name: &str, dest: &Path) -> Result<Stored, TargetError> {
        let (source, dest) = (self.path(name)?, dest.to_owned());
        blocking(move || {
            if dest.exists() {
                return Err(TargetError::BadName {
                    name: dest.display().to_string(),
                    why: "it exists already".to_owned(),
                });
            }
            let file = std::fs::File::open(&source).map_err(|error| TargetError::io("open", &source, error))?;
            let needed = file.metadata().map_err(|error| TargetError::io("look at", &source, error))?.len();
            let (bytes, sha256) = write_whole(&dest, file, Some(needed))?;
            Ok(Stored { bytes, sha256 })
        })
        .await
    }

    async fn local_path(&self, name: &str) -> Result<Option<PathBuf>, TargetError> {
        let path = self.path(name)?;
        blocking(move || match path.is_file() {
            true => Ok(Some(path)),
            false => Err(TargetError::NotFound { what: path.display().to_string() }),
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<FileFacts>, TargetError> {
        let (root, prefix) = (self.root.clone(), prefix.to_owned());
        let Some(folder) = self.folder_of(&prefix) else { return Ok(Vec::new()) };
        blocking(move || {
            let mut found = Vec::new();
            walk(&folder, &mut |path| {
                if let Some(facts) = facts(&root, path)?.filter(|facts| facts.name.starts_with(&prefix)) {
                    found.push(facts);
                }
                Ok(())
            })?;
            found.retain(|facts| check_name(&facts.name).is_ok());
            found.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(found)
        })
        .await
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, TargetError> {
        let Some(folder) = self.folder_of(folder) else { return Ok(Vec::new()) };
        blocking(move || {
            let mut names = Vec::new();
            for entry in entries(&folder)? {
                let is_folder = entry.file_type().map_err(|error| TargetError::io("list", &folder, error))?.is_dir();
                names.extend(entry.file_name().into_string().ok().filter(|name| is_folder && check_name(name).is_ok()));
            }
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn stat(&self, name: &str) -> Result<Option<FileFacts>, TargetError> {
        let (root, path) = (self.root.clone(), self.path(name)?);
        blocking(move || facts(&root, &path)).await
    }

    async fn delete(&self, name: &str) -> Result<bool, TargetError> {
        let path = self.path(name)?;
        blocking(move || match std::fs::remove_file(&path) {
            Ok(()) => flush_folder(path.parent().unwrap_or(Path::new("."))).map(|()| true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(TargetError::io("remove", path, error)),
        })
        .await
    }

    async fn sweep(&self, older_than: Duration) -> Result<u64, TargetError> {
        let root = self.root.clone();
        blocking(move || {
            let mut count = 0;
            walk(&root, &mut |path| {
                if is_leftover(path, older_than) {
                    match std::fs::remove_file(path) {
                        Ok(()) => count += 1,
                        // Others sweep here, too.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        Err(error) => return Err(TargetError::io("remove", path, error)),
                    }
                }
                Ok(())
            })?;
            Ok(count)
        })
        .await
    }
}

/// Visits all files under a folder; links are not followed.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path) -> Result<(), TargetError>) -> Result<(), TargetError> {
    for entry in entries(folder)? {
        let kind = entry.file_type().map_err(|error| TargetError::io("list", folder, error))?;
        if kind.is_dir() {
            walk(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&entry.path())?;
        }
    }
    Ok(())
}

/// What lies in a folder; nothing when there is none.
fn entries(folder: &Path) -> Result<Vec<std::fs::DirEntry>, TargetError> {
    let failed = |error| TargetError::io("list", folder, error);
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

fn facts(root: &Path, path: &Path) -> Result<Option<FileFacts>, TargetError> {
    let facts = match path.symlink_metadata() {
        Ok(facts) if facts.is_file() => facts,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(TargetError::io("look at", path, error)),
    };
    let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else { return Ok(None) };
    let since = facts.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    let modified_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Ok(Some(FileFacts { name: name.to_owned(), bytes: facts.len(), modified_ms }))
}
