//! What a target can answer instead of doing what was asked; every kind of failure has a stable code.
//!
//! Invariant: no text here holds a password; `is_transient` is true only where trying again can help.

use std::path::PathBuf;

/// Why a target did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The address of a target cannot be read.
    #[error("the target address {url} cannot be used: {why}")]
    BadUrl {
        /// The address, without its secrets.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// An address refers to a secret that the configuration does not have.
    #[error("the secret {name} is not configured")]
    MissingSecret {
        /// The name in `${secret:NAME}`.
        name: String,
    },
    /// This build cannot speak to such a target.
    #[error("this build has no driver for {scheme} targets: {why}")]
    NoDriver {
        /// The scheme of the address.
        scheme: String,
        /// What to use instead.
        why: String,
    },
    /// The target does not answer, or the connection broke.
    #[error("{target} cannot be reached while trying to {doing}")]
    Unreachable {
        /// The target, without its secrets.
        target: String,
        /// What was tried.
        doing: String,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else holds the target right now.
    #[error("{target} is busy: {why}")]
    Busy {
        /// The target, without its secrets.
        target: String,
        /// Who or what holds it.
        why: String,
    },
    /// A newer holder of the lease has been here: the caller must stop.
    #[error("{target} refuses fence {given}: it has seen {seen}")]
    StaleFence {
        /// The target, without its secrets.
        target: String,
        /// The caller's fence.
        given: u64,
        /// The newest fence that the target has seen.
        seen: u64,
    },
    /// The caller's token was cancelled; nothing more is done.
    #[error("cancelled while trying to {doing}")]
    Cancelled {
        /// What was going on.
        doing: String,
    },
    /// The disk is full.
    #[error("no space for {what}: needed {}, free {}", bytes(*.needed), bytes(*.free))]
    NoSpace {
        /// What was written.
        what: String,
        /// Bytes needed, when known.
        needed: Option<u64>,
        /// Bytes free, when known.
        free: Option<u64>,
    },
    /// A backup or a database does not hold what it should.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// The file or database.
        what: String,
        /// The first finding.
        why: String,
    },
    /// There is no such thing.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A name that could leave its folder, or that the target cannot hold.
    #[error("the name {name:?} is refused: {why}")]
    BadName {
        /// The name as given.
        name: String,
        /// The rule that it breaks.
        why: String,
    },
    /// A program that a driver needs is not installed.
    #[error("{tool} was not found on PATH or in /usr/lib/postgresql/*/bin")]
    ToolMissing {
        /// The program.
        tool: String,
    },
    /// A program that a driver runs ended badly.
    #[error("{tool} ended with {status}: {stderr}")]
    ToolFailed {
        /// The program.
        tool: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// The database refused one of our own statements.
    #[error("{target} refused to {doing}: {text} ({sqlstate})")]
    Sql {
        /// The target, without its secrets.
        target: String,
        /// What was tried.
        doing: String,
        /// The database's code.
        sqlstate: String,
        /// The database's words.
        text: String,
    },
    /// The same job came back with another script.
    #[error("statement {index} of job {job} is recorded with another text: the script was changed after it had begun")]
    ScriptChanged {
        /// The job.
        job: String,
        /// The statement, from 1.
        index: u32,
    },
    /// The operating system refused a file operation.
    #[error("could not {doing} {}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl TargetError {
    /// The stable code of this failure: log field, metric label, problem+json.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "target_bad_url",
            Self::MissingSecret { .. } => "target_missing_secret",
            Self::NoDriver { .. } => "target_no_driver",
            Self::Unreachable { .. } => "target_unreachable",
            Self::Busy { .. } => "target_busy",
            Self::StaleFence { .. } => "target_stale_fence",
            Self::Cancelled { .. } => "target_cancelled",
            Self::NoSpace { .. } => "target_no_space",
            Self::Corrupt { .. } => "target_corrupt",
            Self::NotFound { .. } => "target_not_found",
            Self::BadName { .. } => "target_bad_name",
            Self::ToolMissing { .. } => "target_tool_missing",
            Self::ToolFailed { .. } => "target_tool_failed",
            Self::Sql { .. } => "target_sql",
            Self::ScriptChanged { .. } => "target_script_changed",
            Self::Io { .. } => "target_io",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } | Self::NoSpace { .. } | Self::Io { .. } => true,
            Self::Sql { sqlstate, .. } => {
                ["08", "40", "53", "55P03", "57P"].iter().any(|class| sqlstate.starts_with(class))
            }
            _ => false,
        }
    }

    /// An I/O failure with its place; a full disk becomes [`TargetError::NoSpace`].
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::no_space(&path, None),
            std::io::ErrorKind::NotFound => Self::NotFound { what: path.display().to_string() },
            _ => Self::Io { doing, path, source },
        }
    }

    /// A full disk, with what is free there.
    pub(crate) fn no_space(path: &std::path::Path, needed: Option<u64>) -> Self {
        Self::NoSpace { what: path.display().to_string(), needed, free: crate::space::free_bytes(path) }
    }
}

fn bytes(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| format!("{count} bytes"))
}
