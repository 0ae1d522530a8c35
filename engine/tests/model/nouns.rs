//! What the verbs of a sequence are about: jobs, steps, gates, deliveries, schedules, each as plain numbers that a line can show.

use std::fmt;

use leasehold_engine::{Effect, model::Missed};

/// Jobs are named by the sequence, not by their ids: `J0` to `J9`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct J(pub(crate) u8);

impl fmt::Debug for J {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "J{}", self.0)
    }
}

pub(crate) const JOBS: u8 = 10;
/// Jobs that schedules make are named after them, in the order in which they are made: `J10` and so on.
pub(crate) const SLOT_JOBS: u8 = 24;
/// Expressions and how long there is between their slots, ms.
pub(crate) const CRONS: [(&str, i64); 3] =
    [("0 */5 * * * *", 300_000), ("0 0 * * * *", 3_600_000), ("*/20 * * * * *", 20_000)];
pub(crate) const MISSED: [Missed; 5] = [
    Missed::Skip,
    Missed::Once,
    Missed::All { at_most: 2 },
    Missed::Within { ms: 30_000 },
    Missed::Within { ms: 400_000 },
];
pub(crate) const KINDS: [&str; 2] = ["copy", "pay"];
pub(crate) const TENANTS: [&str; 2] = ["t1", "t6"];
pub(crate) const QUEUES: [&str; 2] = ["fast", "slow"];
pub(crate) const RESOURCES: [&str; 2] = ["ra", "rb"];
pub(crate) const WORKERS: [&str; 2] = ["w1", "w2"];
pub(crate) const SIGNALS: [&str; 2] = ["go", "stop"];
pub(crate) const FREEZES: [&str; 2] = ["f1", "f2"];
/// Name, effect, whether it has an undo.
pub(crate) const STEPS: [(&str, Effect, bool); 5] = [
    ("look", Effect::Idempotent, false),
    ("charge", Effect::Once, false),
    ("book", Effect::Idempotent, true),
    ("wipe", Effect::Once, false),
    ("overwrite", Effect::Fenced, false),
];
/// Who hears of what happens: the name, and of which tenant alone, if not of all.
pub(crate) const ENDPOINTS: [(&str, Option<usize>); 2] = [("a", None), ("b", Some(1))];
/// How long a lease lasts, ms.
pub(crate) const LEASE_MS: i64 = 10_000;
/// How long a ticket lasts, and how long until another is issued for the same, ms.
pub(crate) const TICKET_MS: (i64, i64) = (5000, 1000);
pub(crate) const TRIES: u32 = 2;
/// Units of the one allowance.
pub(crate) const UNITS: u32 = 2;

/// What a job is.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct What {
    pub(crate) kind: usize,
    pub(crate) tenant: usize,
    pub(crate) queue: usize,
    /// 0 critical to 3 low.
    pub(crate) priority: u8,
    /// From now, ms; 0 at once.
    pub(crate) run_in: i64,
    /// Which, and whether shared.
    pub(crate) resources: Vec<(usize, bool)>,
    pub(crate) key: bool,
    pub(crate) destructive: bool,
    pub(crate) attempts: u16,
    /// Key and content.
    pub(crate) idempotency: Option<(u8, u8)>,
    /// Takes a unit; given back when it fails for good, or not.
    pub(crate) allowance: Option<bool>,
    /// Somebody wants to be told of each change.
    pub(crate) notify: bool,
    /// Spends a ticket.
    pub(crate) ticket: Option<Ticket>,
}

/// A code for something, as it was issued or as it is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) id: u8,
    pub(crate) code: u8,
    pub(crate) binding: u8,
}

impl fmt::Debug for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, tenant, queue, priority, run_in, attempts, .. } = self;
        write!(f, "{} of {} in {}", KINDS[*kind], TENANTS[*tenant], QUEUES[*queue])?;
        write!(f, ", priority {priority}, {attempts} attempts")?;
        if *run_in > 0 {
            write!(f, ", in {run_in} ms")?;
        }
        for (name, shared) in &self.resources {
            write!(f, ", {}{}", if *shared { "shares " } else { "needs " }, RESOURCES[*name])?;
        }
        for (is, word) in [(self.key, "has a key"), (self.destructive, "destructive"), (self.notify, "told")] {
            if is {
                write!(f, ", {word}")?;
            }
        }
        if let Some((key, content)) = self.idempotency {
            write!(f, ", idempotent by k{key} with content {content}")?;
        }
        if let Some(Ticket { id, code, binding }) = self.ticket {
            write!(f, ", spends k{id} with code {code} for b{binding}")?;
        }
        match self.allowance {
            Some(refund) => write!(f, ", takes a unit{}", if refund { " (given back)" } else { "" }),
            None => Ok(()),
        }
    }
}

/// With which fence a worker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// The last that a worker was given for the job, whether it still counts or not.
    Last,
    /// One that was given before that.
    Old,
}

/// What a pause or a kill switch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    Queue(usize),
    Kind(usize),
    Tenant(usize),
}

/// What a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    Queue(usize),
    Kind(usize),
    Key(usize),
}

/// What a running job wants to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wait {
    Time {
        ms: i64,
    },
    /// At most so long; 0 for ever.
    Signal {
        name: usize,
        ms: i64,
        second: bool,
    },
    /// All of its children (or any), failing with the first that fails (or not), and one that may be no child of it.
    Children {
        all: bool,
        fail: bool,
        also: Option<J>,
    },
}

impl Wait {
    /// For how long at most, if not for ever.
    pub(crate) fn ms(&self) -> Option<i64> {
        match self {
            Self::Time { ms } | Self::Signal { ms, .. } if *ms > 0 => Some(*ms),
            _ => None,
        }
    }
}

/// What is told of one change of a job, on its way to one endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) to: usize,
    pub(crate) job: J,
    pub(crate) seq: u32,
}

impl Parcel {
    /// The delivery's id: the same whoever makes it.
    pub(crate) fn id(&self) -> String {
        format!("{:?}-{}", self.job, self.seq)
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.id(), ENDPOINTS[self.to].0)
    }
}

/// How an attempt to deliver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Delivered,
    Retry { ms: i64 },
    Exhausted,
}

/// What a schedule asks for. There is one for each tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    Plain,
    /// A rule says no.
    Refused,
    /// It cannot be said now.
    NotNow,
    /// Takes a unit, and needs `ra`.
    Scarce,
}

/// What is said of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) cron: usize,
    pub(crate) missed: usize,
    pub(crate) paused: bool,
    pub(crate) asks: Asks,
}

/// What a writer believes of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Any,
    New,
    Current,
    Stale,
}
