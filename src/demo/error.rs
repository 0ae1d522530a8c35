//! Why a scene of the demo did not go as it should.

use crate::cli::Failure;

/// What went wrong, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DemoError(pub(super) String);

/// The result of a step of the demo.
pub(super) type Result<T> = std::result::Result<T, DemoError>;

impl DemoError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for DemoError {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

from!(
    Failure,
    std::io::Error,
    rusqlite::Error,
    serde_json::Error,
    leasehold_engine::StoreError,
    leasehold_targets::TargetError,
    crate::roles::BootError,
    crate::config::ConfigError,
    tokio::task::JoinError
);
