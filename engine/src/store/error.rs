//! What can go wrong between the engine and its store.

use crate::model::BadRecord;

/// A store verb did not come through. Every verb may be sent again (E10).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis could not be reached or did not answer in time.
    #[error("the store cannot be reached: {0}")]
    Unreachable(#[source] redis::RedisError),
    /// Redis refused the command.
    #[error("the store refused `{verb}`: {source}")]
    Refused {
        /// The verb.
        verb: &'static str,
        /// What Redis said.
        source: redis::RedisError,
    },
    /// A script answered with a word that this version does not know.
    #[error("the script `{verb}` answered `{answer}`, which this version does not know")]
    UnknownAnswer {
        /// The verb.
        verb: &'static str,
        /// The answer.
        answer: String,
    },
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// The store was made with another number of shards.
    #[error(
        "this store was made with {recorded} shards, the configuration says {asked}; the number is fixed when a store is made"
    )]
    OtherShards {
        /// What the store says.
        recorded: u16,
        /// What was asked for.
        asked: u16,
    },
    /// A name has characters that the store cannot keep.
    #[error("{what} is no name: {rule}")]
    BadName {
        /// Which name.
        what: &'static str,
        /// What is allowed.
        rule: &'static str,
    },
    /// What says where a listing goes on was not made by a listing.
    #[error("the cursor is none of this list")]
    BadCursor,
    /// A name is too long for a record.
    #[error("{what} is longer than {max} bytes")]
    TooLong {
        /// Which name.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

impl StoreError {
    /// Stable code for logs, metrics and problem+json.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "storage_unavailable",
            Self::Refused { .. } => "storage_refused",
            Self::UnknownAnswer { .. } | Self::Record(_) => "storage_corrupt",
            Self::OtherShards { .. } => "storage_other_shards",
            Self::TooLong { .. } | Self::BadName { .. } | Self::BadCursor => "invalid_argument",
        }
    }

    /// Whether Redis refused to write because its memory is full. An error of a pipeline has no code of its own, only its text.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.code() == Some("OOM") || source.to_string().contains("OOM"))
    }

    /// Whether the store is away for a while, whatever it was asked.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // It has just started, or another is just being made the master.
            Self::Refused { source, .. } => matches!(source.code(), Some("LOADING" | "READONLY" | "MASTERDOWN")),
            _ => false,
        }
    }

    pub(crate) fn of(verb: &'static str, source: redis::RedisError) -> Self {
        if source.is_io_error()
            || source.is_timeout()
            || source.is_connection_dropped()
            || source.is_connection_refusal()
            // It answers, but is still reading its file: it is there in a moment.
            || source.code() == Some("LOADING")
        {
            Self::Unreachable(source)
        } else {
            Self::Refused { verb, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_reads_its_file_is_away_and_not_refusing() {
        let loading = redis::RedisError::from((
            redis::ErrorKind::Server(redis::ServerErrorKind::BusyLoading),
            "Redis is loading the dataset",
        ));
        assert_eq!(StoreError::of("claim", loading).code(), "storage_unavailable");
    }
}
