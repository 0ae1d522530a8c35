//! What happened to a job: the words of its history, of the webhook outbox and of the metrics.

use serde::{Deserialize, Serialize};

use super::{Place, UnixMs};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// The sort of an event. The numbers are those of the scripts' prelude; a test says that they agree.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum EventWord { $($(#[$doc])* $name,)* }

        impl EventWord {
            /// The event of a number read from the store.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                Some(match code { $($code => Self::$name,)* _ => return None })
            }

            /// The number that the store uses.
            #[must_use]
            pub const fn code(self) -> u8 { match self { $(Self::$name => $code,)* } }

            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }
        }
    };
}

words! {
    /// Taken in.
    Accepted = 1, "accepted";
    /// Waits for its time.
    Scheduled = 2, "scheduled";
    /// Waits for its resource.
    Blocked = 3, "blocked";
    /// An attempt began.
    Started = 4, "started";
    /// Told its progress.
    Progress = 5, "progress";
    /// An attempt failed; another will follow.
    Retrying = 6, "retrying";
    /// Suspended.
    Waiting = 7, "waiting";
    /// Done.
    Succeeded = 8, "succeeded";
    /// Failed for good.
    Failed = 9, "failed";
    /// Cancelled.
    Cancelled = 10, "cancelled";
    /// Nobody knows whether its open step happened.
    Unknown = 11, "unknown";
    /// Changed by a person.
    Edited = 12, "edited";
    /// Taken back from a lost worker.
    Rescued = 13, "rescued";
    /// Handed back by a worker that stops.
    Released = 14, "released";
    /// Asked to stop.
    Cancelling = 15, "cancelling";
    /// Sent back to work.
    Revived = 16, "revived";
    /// Its open step was decided by a person.
    Resolved = 17, "resolved";
    /// Was sent a signal.
    Signalled = 18, "signalled";
    /// Undoes its steps.
    Undoing = 19, "undoing";
}

impl EventWord {
    /// Where a job is after it; `None` where the word alone does not say so.
    #[must_use]
    pub const fn leads_to(self) -> Option<Place> {
        Some(match self {
            Self::Scheduled | Self::Retrying => Place::Scheduled,
            Self::Blocked => Place::Blocked,
            Self::Started | Self::Progress => Place::Running,
            Self::Waiting => Place::Waiting,
            Self::Succeeded => Place::Succeeded,
            Self::Failed => Place::Dead,
            Self::Cancelled => Place::Cancelled,
            Self::Unknown => Place::Unknown,
            Self::Rescued | Self::Released => Place::Ready,
            Self::Accepted
            | Self::Edited
            | Self::Cancelling
            | Self::Revived
            | Self::Resolved
            | Self::Signalled
            | Self::Undoing => return None,
        })
    }
}

/// One entry of a job's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Rises by one with each change of the job; some numbers are progress, which history does not keep.
    pub seq: u32,
    /// What happened.
    #[serde(rename = "type")]
    pub word: EventWord,
    /// When, in ms.
    pub at: UnixMs,
    /// The attempt it belongs to.
    pub attempt: u16,
    /// A short document of whoever caused it (JSON or text), may be empty.
    pub note: String,
}
