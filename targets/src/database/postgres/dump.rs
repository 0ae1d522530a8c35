//! Backups by `pg_dump`, and their proof by reading them through.
//!
//! Invariant: a backup that `verify` accepts was decompressed from its first row to its last.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

use super::super::content::{expect_sha256, sync};
use super::super::{BackupFacts, BackupPlan, OnProgress, Progress};
use super::connect::Server;
use super::{content, tools};
use crate::TargetError;

/// Dumps the database to `plan.dest`.
pub(super) async fn backup(
    server: &Server,
    plan: &BackupPlan,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<BackupFacts, TargetError> {
    if plan.dest.exists() {
        return Err(TargetError::BadName {
            name: plan.dest.display().to_string(),
            why: "it exists already".to_owned(),
        });
    }
    let done = dump(server, plan, progress, cancel).await;
    if done.is_err() {
        // It is a temporary file of ours; the caller's folder is swept if this fails.
        let _ = std::fs::remove_file(&plan.dest);
    }
    done
}

async fn dump(
    server: &Server,
    plan: &BackupPlan,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<BackupFacts, TargetError> {
    let total = content::table_count(server).await?;
    let application = format!("leasehold/{}", plan.job);
    let mut command = tools::command("pg_dump")?;
    command.args(["-Fc", "-Z6", "--lock-wait-timeout=30s", "--no-password", "--verbose", "--file"]).arg(&plan.dest);
    tools::connect(&mut command, server, server.name(), &application);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| TargetError::io("run pg_dump for", &plan.dest, error))?;
    let watched = Watch { tool: "pg_dump", mark: "dumping contents of table", text: "dumping tables", total };
    watched.end_of(&mut child, &plan.dest, progress, cancel).await?;
    let dest = plan.dest.clone();
    blocking(move || sync(&dest)).await?;
    verify(&plan.dest, None).await
}

/// A program whose complaints tell how far it is.
pub(super) struct Watch<'w> {
    pub(super) tool: &'w str,
    pub(super) mark: &'w str,
    pub(super) text: &'w str,
    pub(super) total: u64,
}

impl Watch<'_> {
    /// Waits for the end of a child; a cancel kills it.
    pub(super) async fn end_of(
        &self,
        child: &mut Child,
        file: &Path,
        progress: &OnProgress,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let mut complaints = String::new();
        let mut done = 0;
        let stderr = child.stderr.take();
        let read = async {
            let Some(stderr) = stderr else { return };
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains(self.mark) {
                    done += 1;
                    progress(Progress { done, total: Some(self.total), text: self.text.to_owned() });
                }
                if complaints.len() > 16 * 1024 {
                    complaints.clear();
                }
                complaints.push_str(&line);
                complaints.push('\n');
            }
        };
        tokio::select! {
            () = read => {}
            () = cancel.cancelled() => {
                // It is killed and waited for; if it had ended already, that is as good.
                let _ = child.kill().await;
                return Err(TargetError::Cancelled { doing: format!("run {}", self.tool) });
            }
        }
        let status = child.wait().await.map_err(|error| TargetError::io("wait for the reader of", file, error))?;
        if status.success() { Ok(()) } else { Err(tools::failed(self.tool, status, &complaints, file)) }
    }
}

/// Reads a dump through: its list, then every row of it.
pub(super) async fn verify(backup: &Path, sha256: Option<&str>) -> Result<BackupFacts, TargetError> {
    let (path, expected) = (backup.to_owned(), sha256.map(str::to_owned));
    let (bytes, sha256) = blocking(move || expect_sha256(&path, expected.as_deref())).await?;
    let damaged = |why: String| TargetError::Corrupt { what: backup.display().to_string(), why };
    let mut list = tools::command("pg_restore")?;
    list.arg("--list").arg(backup);
    let listed = list.output().await.map_err(|error| TargetError::io("run pg_restore for", backup, error))?;
    if !listed.status.success() {
        return Err(damaged(String::from_utf8_lossy(&listed.stderr).trim().to_owned()));
    }
    if !listed.stdout.starts_with(b";") {
        return Err(damaged("its list of contents is empty".to_owned()));
    }
    let tables = read_through(backup).await?;
    Ok(BackupFacts { engine: "postgres".to_owned(), bytes, sha256, tables })
}

/// Turns the dump into SQL and counts the rows in it.
async fn read_through(backup: &Path) -> Result<BTreeMap<String, u64>, TargetError> {
    let mut command = tools::command("pg_restore")?;
    command.args(["--file", "-"]).arg(backup).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| TargetError::io("run pg_restore for", backup, error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let count = async {
        let mut tables = BTreeMap::new();
        let Some(stdout) = stdout else { return Ok(tables) };
        let mut reader = BufReader::with_capacity(128 * 1024, stdout);
        let (mut line, mut table): (Vec<u8>, Option<String>) = (Vec::new(), None);
        while reader.read_until(b'\n', &mut line).await? > 0 {
            match &table {
                Some(_) if line == b"\\.\n" => table = None,
                Some(name) => *tables.entry(name.clone()).or_insert(0) += 1,
                None => {
                    if let Some(name) = copied_table(&line) {
                        tables.entry(name.clone()).or_insert(0);
                        table = Some(name);
                    }
                }
            }
            line.clear();
        }
        Ok::<_, std::io::Error>(tables)
    };
    let complain = async {
        let mut complaints = String::new();
        if let Some(mut stderr) = stderr {
            // Unreadable complaints are no complaints: the exit status decides.
            let _ = stderr.read_to_string(&mut complaints).await;
        }
        complaints
    };
    let (tables, complaints) = tokio::join!(count, complain);
    let status = child.wait().await.map_err(|error| TargetError::io("wait for the reader of", backup, error))?;
    if !status.success() {
        return Err(TargetError::Corrupt { what: backup.display().to_string(), why: complaints.trim().to_owned() });
    }
    let mut tables = tables.map_err(|error| TargetError::io("read", backup, error))?;
    tables.retain(|name, _| !name.starts_with("leasehold."));
    Ok(tables)
}

/// The table of a line `COPY schema.table (…) FROM stdin;`.
fn copied_table(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("COPY ")?.strip_suffix(" FROM stdin;\n")?;
    let mut quoted = false;
    let end = rest.find(|letter| {
        quoted ^= letter == '"';
        letter == ' ' && !quoted
    });
    Some(end.map_or(rest, |end| &rest[..end]).to_owned())
}

/// Does blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TargetError> + Send + 'static,
) -> Result<T, TargetError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(TargetError::Cancelled { doing: "read a file".to_owned() }),
    }
}
