//! The verbs of a sequence, as lines that a person can read. Guards that a sequence says by itself all that is sent: a
//! line keeps its meaning when lines before it are taken out.

use std::fmt;

use leasehold_engine::{Place, store::Outcome};

pub(crate) use crate::nouns::{
    Arrival, Asks, CRONS, Counted, ENDPOINTS, Expected, FREEZES, Fence, J, JOBS, KINDS, LEASE_MS, MISSED, Parcel, Part,
    QUEUES, RESOURCES, Rules, SIGNALS, SLOT_JOBS, STEPS, TENANTS, TICKET_MS, TRIES, Ticket, UNITS, WORKERS, Wait, What,
};

/// One verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    Enqueue {
        jobs: Vec<(J, What)>,
        most: u64,
    },
    Claim {
        worker: usize,
        want: usize,
        queues: Vec<usize>,
        only: Option<usize>,
    },
    /// The last claim of this worker, sent again after other things happened.
    ClaimAgain {
        worker: usize,
    },
    Settle {
        jobs: Vec<J>,
        fence: Fence,
        outcome: Outcome,
        plain: bool,
    },
    Renew {
        job: J,
        fence: Fence,
    },
    Promote,
    Rescue,
    Cancel {
        job: J,
        lead_ms: Option<u64>,
    },
    Edit {
        job: J,
        args: u8,
        run_in: Option<i64>,
        stale: bool,
        lead_ms: Option<u64>,
    },
    Revive {
        job: J,
    },
    Resolve {
        job: J,
        step: Option<usize>,
        happened: bool,
    },
    StepBegin {
        job: J,
        fence: Fence,
        step: usize,
        again: bool,
        seal: bool,
        inside: bool,
    },
    StepEnd {
        job: J,
        fence: Fence,
        step: usize,
    },
    Suspend {
        job: J,
        fence: Fence,
        wait: Wait,
    },
    Signal {
        job: J,
        name: usize,
        key: u8,
    },
    Spawn {
        job: J,
        fence: Fence,
        child: J,
        what: What,
    },
    UndoBegin {
        job: J,
        fence: Fence,
    },
    /// Somebody was told that this job died with its worker.
    NoteTold {
        job: J,
    },
    /// A percentage and a line for the log.
    Progress {
        job: J,
        fence: Fence,
        percent: u8,
    },
    Cascade,
    Pause(Part),
    Resume(Part),
    Kill(Part),
    Unkill(Part),
    Limit {
        of: Counted,
        most: u32,
        rate: Option<(u32, i64)>,
    },
    Unlimit {
        of: Counted,
    },
    Freeze {
        name: usize,
        from_in: i64,
        lasts: i64,
        kind: Option<usize>,
        tenant: Option<usize>,
        resource: Option<usize>,
    },
    Unfreeze {
        name: usize,
    },
    ClockJumped(bool),
    Takes {
        kind: usize,
        ms: i64,
    },
    Prune {
        place: Place,
        kind: usize,
        age_ms: i64,
    },
    Advance {
        ms: i64,
    },
    /// The code has two tries, ends after a while, and no other is issued for the same binding for a second.
    TicketIssue(Ticket),
    /// Somebody wants to be told of all that happens from now on, or nobody does any more.
    Listen(bool),
    /// A sender reads the oldest entries of the outbox; it may vanish before it makes deliveries of them.
    OutboxRead {
        sender: usize,
        most: usize,
    },
    /// It makes deliveries of what it read last, perhaps late, perhaps once more.
    OutboxRoute {
        sender: usize,
    },
    DeliveryClaim {
        to: usize,
        most: usize,
        lease_ms: i64,
    },
    DeliverySettle {
        parcel: Parcel,
        how: Arrival,
    },
    /// What a sender said of a delivery first, said once more after other things happened.
    DeliverySettleAgain {
        parcel: Parcel,
    },
    DeliveryReplay {
        parcel: Parcel,
    },
    DeliveriesForget {
        to: usize,
        most: usize,
    },
    SchedulePut {
        of: usize,
        rules: Rules,
        expected: Expected,
    },
    SchedulePause {
        of: usize,
        paused: bool,
        expected: Expected,
    },
    ScheduleRemove {
        of: usize,
        expected: Expected,
    },
    /// A process decides on all that is due.
    Fire {
        most: u64,
    },
    /// One looks at what is due; it may be stopped before it decides on anything.
    FireLook {
        process: usize,
    },
    /// It decides on some of what it saw, perhaps late; each decision loses its reply and is sent again, or not.
    FireSeen {
        process: usize,
        decisions: usize,
        again: bool,
    },
}

/// A verb, and whether its first reply was lost, so that it was sent twice.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) verb: Verb,
    pub(crate) twice: bool,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.verb, if self.twice { "   (reply lost, sent again)" } else { "" })
    }
}

impl Verb {
    /// Whether the same answer is promised to who sends it again at once (E10).
    pub(crate) fn answers_alike(&self) -> bool {
        match self {
            // Told apart on purpose: `already` with the first result, `duplicate`, `not final`, how many are left.
            Self::StepEnd { .. } | Self::Signal { .. } | Self::Revive { .. } | Self::Resolve { .. } => false,
            Self::Promote | Self::Rescue | Self::Cascade | Self::Prune { .. } => false,
            Self::Unlimit { .. } | Self::Unfreeze { .. } | Self::ClockJumped(_) => false,
            // Each call is a request of its own; each look sees what is left.
            Self::ScheduleRemove { .. } | Self::Fire { .. } | Self::FireLook { .. } | Self::FireSeen { .. } => false,
            // What was taken is under a lease; what was routed or forgotten is no more there.
            Self::DeliveryClaim { .. } | Self::OutboxRoute { .. } | Self::DeliveriesForget { .. } => false,
            _ => true,
        }
    }
}
