//! What a caller asks the engine to do, and what the engine answers.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{JobId, Retry, UnixMs};

/// Which of the ready jobs of a queue go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Priority {
    /// Before all others.
    Critical = 0,
    /// Before normal ones.
    High = 1,
    /// The default.
    #[default]
    Normal = 2,
    /// When nothing else is ready.
    Low = 3,
}

/// What a job touches: one at a time, or several at a time when all of them share it.
///
/// Jobs take their resources in the order of the names, whoever they are, so that no two wait for each other; each
/// resource is given in the order in which jobs began to wait for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Resource {
    /// Its name, without line breaks and not beginning with `~`.
    pub name: String,
    /// Whether others may share it.
    pub shared: bool,
}

impl Resource {
    /// For this job alone.
    pub fn exclusive(name: impl Into<String>) -> Self {
        Self { name: name.into(), shared: false }
    }

    /// Together with others that share it.
    pub fn shared(name: impl Into<String>) -> Self {
        Self { name: name.into(), shared: true }
    }

    /// In the order of the names, once each (exclusive wins), as the record holds them.
    pub(crate) fn pack(all: &[Self]) -> String {
        let mut sorted = all.to_vec();
        sorted.sort();
        sorted.dedup_by(|later, first| later.name == first.name);
        let texts: Vec<_> =
            sorted.iter().map(|r| if r.shared { format!("~{}", r.name) } else { r.name.clone() }).collect();
        texts.join("\n")
    }

    pub(crate) fn parse(packed: &str) -> Vec<Self> {
        let one = |text: &str| match text.strip_prefix('~') {
            Some(name) => Self::shared(name),
            None => Self::exclusive(text),
        };
        packed.split('\n').filter(|text| !text.is_empty()).map(one).collect()
    }
}

/// A job to be taken in.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Made by [`Store::new_id`](crate::Store::new_id); sending the same id again is harmless.
    pub id: JobId,
    /// Stable name of the sort of job, at most 255 bytes.
    pub kind: String,
    /// Whose job it is: an opaque label that decides the shard and the list it is in.
    pub tenant: String,
    /// The queue that workers claim from.
    pub queue: String,
    /// What the kind reads; opaque bytes here.
    pub args: Bytes,
    /// What the service keeps beside it (actor, labels); opaque bytes, part of each event to be told.
    pub meta: Bytes,
    /// Not before this time, in ms; `None` or past is now.
    pub run_at: Option<UnixMs>,
    /// Order among ready jobs.
    pub priority: Priority,
    /// What it needs for itself, or shares, while it runs; at most 255 bytes in all.
    pub resources: Vec<Resource>,
    /// What limits by key count by, such as a server's name.
    pub key: Option<String>,
    /// The job that spawned it; set by [`Ctx::spawn_child`](crate::Ctx::spawn_child) alone.
    pub parent: Option<JobId>,
    /// It has effects that cannot be repeated: after a jump of the clock it waits for a person.
    pub destructive: bool,
    /// Attempts and delays.
    pub retry: Retry,
    /// The caller's key against doubles.
    pub idempotency: Option<Idempotency>,
    /// A counted allowance of which this job takes one unit.
    pub allowance: Option<Allowance>,
    /// A one-use code that this job spends.
    pub ticket: Option<TicketUse>,
    /// Tell each change even if no listener is known (a callback of this very job).
    pub notify: bool,
}

impl NewJob {
    /// A job with the defaults: at once, normal, no lock, three attempts.
    pub fn new(id: JobId, kind: impl Into<String>, tenant: impl Into<String>, args: impl Into<Bytes>) -> Self {
        Self {
            id,
            kind: kind.into(),
            tenant: tenant.into(),
            queue: "default".to_owned(),
            args: args.into(),
            meta: Bytes::from_static(b"{}"),
            run_at: None,
            priority: Priority::Normal,
            resources: Vec::new(),
            key: None,
            parent: None,
            destructive: false,
            retry: Retry::default(),
            idempotency: None,
            allowance: None,
            ticket: None,
            notify: false,
        }
    }
}

/// The same key and digest give the first job again; another digest is a conflict (ENG-03).
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The caller's key, per tenant; 1 to 128 bytes.
    pub key: String,
    /// Digest of what was asked for.
    pub digest: [u8; 32],
    /// How long the key is remembered.
    pub ttl: Duration,
}

/// A counter with a limit and an end; a unit is taken in the same script as the job (QUOTA-03).
#[derive(Debug, Clone)]
pub struct Allowance {
    /// Names the counter and its period; at most 200 bytes.
    pub name: String,
    /// Units in all.
    pub limit: u32,
    /// When the period ends, in ms.
    pub resets_at: UnixMs,
    /// Whether the unit is given back when the job fails for good.
    pub refund: bool,
}

/// A one-use code presented with a job.
#[derive(Debug, Clone)]
pub struct TicketUse {
    /// The ticket's id.
    pub id: String,
    /// Digest of the code that was presented.
    pub digest: String,
    /// What the ticket must have been issued for.
    pub binding: String,
}

/// Why a ticket was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketRefusal {
    /// Never issued, or spent.
    Missing,
    /// Its time is over.
    Expired,
    /// Too many wrong codes.
    Locked,
    /// The code is wrong.
    Wrong,
    /// Issued for something else.
    Other,
}

/// What came of taking a job in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// Taken in (or already taken in under this very id).
    Accepted(JobId),
    /// The key was used with the same content: the first job.
    Duplicate(JobId),
    /// The key was used with other content: the job that has it.
    Conflict(JobId),
    /// Too many live jobs (back-pressure, E7).
    Full {
        /// Live jobs in the shard.
        live: u64,
    },
    /// The allowance is used up.
    AllowanceSpent {
        /// Units used.
        used: u32,
    },
    /// The ticket was refused.
    TicketRefused {
        /// Why.
        why: TicketRefusal,
        /// Tries left.
        tries_left: u32,
    },
}
