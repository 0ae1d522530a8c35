//! How a command ends when it does not succeed; each way has its exit status.

use std::fmt;

use serde_json::json;

use super::out::Out;
use super::problem::Problem;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line or a file named on it is wrong: 2.
    Usage(String),
    /// The API said no: 3 when a rule did, else 1.
    Problem(Box<Problem>),
    /// Something else: 1.
    Failed {
        /// Stable code.
        code: &'static str,
        /// What was tried and what came of it.
        text: String,
    },
    /// The job was accepted, and nobody could say how it ended: 4.
    EndNotKnown {
        /// The job.
        job: String,
        /// For how long the API was asked, in seconds.
        seconds: u64,
        /// What came of the last attempt to ask.
        last: Box<Failure>,
    },
    /// The result was printed already, and it is not a good one: 1.
    Shown,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "usage: {text}"),
            Self::Problem(problem) => problem.fmt(f),
            Self::Failed { code, text } => write!(f, "failed: {text} ({code})"),
            Self::EndNotKnown { job, seconds, last } => write!(
                f,
                "not known: job {job} was accepted and goes on by itself, but for {seconds} s the API did not say how it \
                 ended; ask later: leasehold job watch {job} (end_not_known)\n  last: {last}"
            ),
            Self::Shown => f.write_str("failed"),
        }
    }
}

impl Failure {
    /// A failure with a stable code.
    pub fn failed(code: &'static str, text: impl Into<String>) -> Self {
        Self::Failed { code, text: text.into() }
    }

    /// Whether the API could not be asked now, and may answer soon: it restarts, or its store is away.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Failed { code, .. } => ["api_unreachable", "api_broken"].contains(code),
            Self::Problem(problem) => problem.is_passing(),
            Self::Usage(_) | Self::EndNotKnown { .. } | Self::Shown => false,
        }
    }

    /// The exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Problem(problem) if problem.is_refusal() => 3,
            Self::Problem(_) | Self::Failed { .. } | Self::Shown => 1,
            Self::EndNotKnown { .. } => 4,
        }
    }

    /// Tells on standard error; with --json the document on standard output.
    pub(crate) fn report(&self, out: &Out) {
        match self {
            Self::Shown => {}
            Self::Problem(problem) if out.is_json() => out.line(format_args!("{:#}", problem.body())),
            Self::Usage(text) if out.is_json() => out.line(json!({ "code": "usage", "detail": text })),
            Self::Failed { code, text } if out.is_json() => out.line(json!({ "code": code, "detail": text })),
            Self::EndNotKnown { job, .. } if out.is_json() => {
                out.line(json!({ "code": "end_not_known", "id": job, "detail": self.to_string() }));
            }
            other => out.aside(other),
        }
    }
}
