//! Runs `pg_dump` and `pg_restore`.
//!
//! Invariant: a password goes by the environment, never on a command line; a child does not outlive its caller.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio_postgres::config::Host;

use super::connect::Server;
use crate::TargetError;

/// The program of the newest PostgreSQL here, or the one on PATH if there is no other.
///
/// The newest is taken because a `pg_dump` refuses a server newer than itself.
pub(super) fn find(tool: &str) -> Result<PathBuf, TargetError> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let path = version.path().join("bin").join(tool);
        path.is_file().then_some((number, path))
    });
    if let Some((_, path)) = installed.max() {
        return Ok(path);
    }
    let on_path = std::env::var_os("PATH");
    let places = on_path.iter().flat_map(std::env::split_paths);
    places
        .map(|place| place.join(tool))
        .find(|path| path.is_file())
        .ok_or_else(|| TargetError::ToolMissing { tool: tool.to_owned() })
}

/// A command that speaks to a database of the server.
pub(super) fn command(tool: &str) -> Result<Command, TargetError> {
    let mut command = Command::new(find(tool)?);
    command.stdin(Stdio::null()).kill_on_drop(true).env("LC_ALL", "C").env("PGCONNECT_TIMEOUT", "10");
    Ok(command)
}

/// Tells a command the server, the database and the password.
pub(super) fn connect(command: &mut Command, server: &Server, database: &str, application: &str) {
    let config = server.config();
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => {
            command.env("PGHOST", host);
        }
        #[cfg(unix)]
        Some(Host::Unix(folder)) => {
            command.env("PGHOST", folder);
        }
        None => {}
    }
    if let Some(port) = config.get_ports().first() {
        command.env("PGPORT", port.to_string());
    }
    command.env("PGUSER", config.get_user().unwrap_or_default());
    command.env("PGDATABASE", database).env("PGAPPNAME", application);
    if let Some(password) = config.get_password() {
        command.env("PGPASSWORD", String::from_utf8_lossy(password).into_owned());
    }
}

/// What a program that ended badly means.
pub(super) fn failed(tool: &str, status: std::process::ExitStatus, stderr: &str, file: &Path) -> TargetError {
    if stderr.contains("No space left on device") {
        return TargetError::no_space(file, None);
    }
    let lines: Vec<&str> = stderr.lines().collect();
    let end = lines[lines.len().saturating_sub(8)..].join("\n");
    TargetError::ToolFailed { tool: tool.to_owned(), status: status.to_string(), stderr: end }
}
