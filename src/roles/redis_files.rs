//! The files of the private Redis: its folder, its configuration, its socket, and what a dead process may have left.

use std::fs::{self, DirBuilder};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::error::BootError;
use super::redis_child::RedisOptions;

/// Bytes that the path of a unix socket may have everywhere (104 on macOS, 108 on Linux, each with its end mark).
const SOCKET_PATH_BYTES: usize = 100;
const SOCKET: &str = "redis.sock";
/// Names the socket when it does not lie in the folder.
const SOCKET_ELSEWHERE: &str = "socket";

/// The paths of one private Redis.
#[derive(Debug, Clone)]
pub(super) struct RedisFiles {
    pub(super) folder: PathBuf,
    pub(super) socket: PathBuf,
}

impl RedisFiles {
    /// Makes the folder (mode 0700) and chooses the socket's path.
    pub(super) fn prepare(data_folder: &Path) -> Result<Self, BootError> {
        let folder = data_folder.join("redis");
        let unusable = |source| BootError::DataFolder { folder: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(unusable)?;
        let near = folder.join(SOCKET);
        if near.as_os_str().len() <= SOCKET_PATH_BYTES {
            let _ = fs::remove_file(folder.join(SOCKET_ELSEWHERE));
            return Ok(Self { folder, socket: near });
        }
        let socket = match Self::recorded(&folder) {
            Some(socket) if is_ours_alone(&socket, &folder) => socket,
            _ => {
                let ours_alone = fs::Permissions::from_mode(0o700);
                let mut making = tempfile::Builder::new();
                let made = making.prefix("leasehold-").permissions(ours_alone).tempdir_in("/tmp").map_err(unusable)?;
                let socket = made.keep().join(SOCKET);
                fs::write(folder.join(SOCKET_ELSEWHERE), socket.as_os_str().as_encoded_bytes()).map_err(unusable)?;
                socket
            }
        };
        tracing::info!(socket = %socket.display(), "the path of the data folder is too long for a socket; it lies elsewhere");
        Ok(Self { folder, socket })
    }

    /// The files that a private Redis of this data folder would have; `None` when there never was one.
    pub(super) fn find(data_folder: &Path) -> Option<Self> {
        let folder = data_folder.canonicalize().ok()?.join("redis");
        let socket = Self::recorded(&folder).unwrap_or_else(|| folder.join(SOCKET));
        folder.is_dir().then_some(Self { folder, socket })
    }

    /// The path of a socket that lies elsewhere.
    fn recorded(folder: &Path) -> Option<PathBuf> {
        fs::read_to_string(folder.join(SOCKET_ELSEWHERE)).ok().map(PathBuf::from)
    }

    /// The store's URL for this Redis.
    pub(super) fn url(&self) -> String {
        let path = url::Url::from_file_path(&self.socket).map(|url| url.path().to_owned());
        format!("redis+unix://{}", path.unwrap_or_else(|()| self.socket.display().to_string()))
    }

    /// The process that the pid file names, if there is one.
    pub(super) fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok().filter(|pid| *pid > 1)
    }

    /// The process of the Redis that runs on these files, also when it hangs.
    pub(super) fn running(&self) -> Option<i32> {
        self.pid().filter(|pid| self.is_ours(*pid))
    }

    /// Whether the process lives and is the Redis of these files: its title or command line names them.
    fn is_ours(&self, pid: i32) -> bool {
        if kill(Pid::from_raw(pid), None).is_err() {
            return false;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok();
        let command = command.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).or_else(|| {
            let mut ps = std::process::Command::new("ps");
            let output = ps.args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        });
        let command = command.unwrap_or_default();
        [&self.socket, &self.config_file()].iter().any(|path| command.contains(&*path.to_string_lossy()))
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.folder.join("redis.pid")
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("redis.conf")
    }

    /// Writes the configuration: all on disk before it is acknowledged, nothing evicted, nothing on the network.
    pub(super) fn write_config(&self, options: &RedisOptions) -> Result<(), BootError> {
        let unusable = |source| BootError::DataFolder { folder: self.folder.clone(), source };
        let text = format!(
            "# Written by leasehold at each start; changes here are lost.\n\
             port 0\nunixsocket {}\nunixsocketperm 700\nprotected-mode yes\ndaemonize no\nlogfile \"\"\ndir {}\npidfile {}\n\
             appendonly yes\nappendfsync {}\nno-appendfsync-on-rewrite no\nsave \"\"\n\
             maxmemory {}\nmaxmemory-policy noeviction\ndatabases 1\ntimeout 0\n",
            quoted(&self.socket),
            quoted(&self.folder),
            quoted(&self.pid_file()),
            options.appendfsync,
            options.max_memory_bytes,
        );
        let mut file = fs::OpenOptions::new();
        let mut file =
            file.write(true).create(true).truncate(true).mode(0o600).open(self.config_file()).map_err(unusable)?;
        file.write_all(text.as_bytes()).map_err(unusable)
    }
}

/// Whether the socket's folder is a real one that nobody else may enter; someone could have put theirs in `/tmp`.
fn is_ours_alone(socket: &Path, folder: &Path) -> bool {
    let (Some(parent), Ok(mine)) = (socket.parent(), fs::metadata(folder)) else { return false };
    fs::symlink_metadata(parent)
        .is_ok_and(|there| there.is_dir() && there.uid() == mine.uid() && there.permissions().mode() & 0o077 == 0)
}

/// A path as Redis' configuration reads it.
fn quoted(path: &Path) -> String {
    let mut text = String::from("\"");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            0x20..=0x7e => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text.push('"');
    text
}

/// The program's file: as named when the name has a `/`, else the first in PATH.
#[must_use]
pub fn find_program(program: &str) -> Option<PathBuf> {
    let runs = |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(runs);
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(runs)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_characters_is_quoted_for_redis() {
        assert_eq!(quoted(Path::new("/a b/\"x\"\\数")), "\"/a b/\\\"x\\\"\\\\\\xe6\\x95\\xb0\"");
    }

    #[test]
    fn a_path_too_long_for_a_socket_has_it_elsewhere_and_finds_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(120));
        fs::create_dir(&long).unwrap();
        let files = RedisFiles::prepare(&long).unwrap();
        assert!(files.socket.as_os_str().len() <= SOCKET_PATH_BYTES);
        assert_eq!(RedisFiles::find(&long).unwrap().socket, files.socket);
        assert_eq!(RedisFiles::prepare(&long).unwrap().socket, files.socket);
        fs::remove_dir_all(files.socket.parent().unwrap()).unwrap();
    }
}
