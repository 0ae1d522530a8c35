//! Why a job is not running: every reason that can be known, in order, each with when it clears if that is known. Pure.
//!
//! Invariant: whatever a claim would stop at is a reason here. What is said is what was read; nothing is guessed.

mod gates;
mod waits;
mod workers;

use super::{BlockedBy, EventWord, JobId, JobView, Place, Sort, UnixMs, gate};

/// Every code with what it means, in the order in which reasons are told.
pub const CODES: [(&str, &str); 30] = [
    ("ended", "the job is done, cancelled or dead"),
    ("running", "an attempt runs"),
    ("outcome_unknown", "nobody knows whether its open step happened"),
    ("cancel_requested", "it was asked to stop"),
    ("planned_time", "its planned time has not come"),
    ("retry_delay", "an attempt failed, the next one comes later"),
    ("sleep", "it sleeps"),
    ("maintenance_window", "databases are maintained at that time (SQL-16)"),
    ("window_closed", "a window is closed"),
    ("frozen", "a freeze stands"),
    ("does_not_fit", "it would not end before a freeze or the end of a window"),
    ("queue_paused", "its queue is paused, or all are"),
    ("kind_paused", "its kind is paused"),
    ("tenant_paused", "its tenant is paused"),
    ("kill_switch", "a kill switch is on"),
    ("resource_held", "others hold what it needs"),
    ("resource_queue", "others wait before it for what it needs"),
    ("concurrency_limit", "as many run as may"),
    ("rate_limit", "as many were started as may in a period"),
    ("no_live_worker", "no worker that lives serves its queue"),
    ("unknown_kind", "no worker that lives and serves its queue knows its kind"),
    ("code_changed", "other code than this version's began it"),
    ("clock_jumped", "the store's clock jumped"),
    ("signal", "it waits for a signal"),
    ("approval", "it waits for people to agree"),
    ("children", "it waits for its children"),
    ("waiting", "it is suspended"),
    ("workers_busy", "all slots of its workers are taken"),
    ("waiting_for_a_worker", "it is in line"),
    ("going_on", "nothing stands before it any more; it goes on in a moment"),
];

/// All that was read for one explanation.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The store's time, ms.
    pub now: UnixMs,
    /// The job.
    pub job: JobView,
    /// What stands.
    pub gates: gate::Gates,
    /// Resources that it needs and does not hold, in their order.
    pub resources: Vec<ResourceSeen>,
    /// Limits that count it.
    pub limits: Vec<LimitSeen>,
    /// Workers that live.
    pub workers: Vec<WorkerSaid>,
    /// Children that it waits for and that have not ended; not all, if they are many.
    pub pending: Vec<JobId>,
}

/// A resource that the job does not hold.
#[derive(Debug, Clone, Default)]
pub struct ResourceSeen {
    /// Its name.
    pub name: String,
    /// Whether the job would share it.
    pub shared: bool,
    /// Who holds it; not all, if they are many.
    pub holders: Vec<JobId>,
    /// How many hold it.
    pub many_holders: u64,
    /// Whether they share it.
    pub held_shared: bool,
    /// Who waits for it before the job, first come first; not all, if they are many.
    pub before: Vec<JobId>,
    /// How many wait before it.
    pub many_before: u64,
}

/// A limit that counts the job.
#[derive(Debug, Clone)]
pub struct LimitSeen {
    /// The limit.
    pub limit: gate::Limit,
    /// Jobs that run under it.
    pub running: u64,
    /// When the last ones were started, ms.
    pub starts: Vec<UnixMs>,
}

/// What a worker said of itself.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct WorkerSaid {
    /// Queues it serves.
    pub queues: Vec<String>,
    /// Kinds it knows; empty when it does not say.
    pub kinds: Vec<String>,
    /// Jobs at a time.
    pub slots: u64,
    /// Jobs that it runs.
    pub running: u64,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reason {
    /// One of [`CODES`].
    pub code: &'static str,
    /// For people.
    pub text: String,
    /// When it clears, ms, if that is known.
    pub until: Option<UnixMs>,
    /// The resource, queue, step, freeze, limit … it is about.
    pub about: Option<String>,
    /// The jobs that are in the way.
    pub jobs: Vec<JobId>,
    /// Who may end it.
    pub who: Vec<String>,
}

impl Reason {
    fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), ..Self::default() }
    }

    fn until(mut self, at: impl Into<Option<UnixMs>>) -> Self {
        self.until = at.into();
        self
    }

    fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }

    fn jobs(mut self, ids: &[JobId]) -> Self {
        self.jobs = ids.to_vec();
        self
    }
}

/// A stretch of time for people.
#[must_use]
pub fn span(ms: u64) -> String {
    let seconds = ms.div_ceil(1000);
    match seconds {
        _ if ms < 1000 => format!("{ms} ms"),
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        7200..172_800 => format!("{} h", seconds.div_ceil(3600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

impl Seen {
    /// When the job would start if nothing but its time stood before it.
    fn start(&self) -> UnixMs {
        match self.job.record.place {
            Place::Scheduled => self.now.max(self.job.record.run_at),
            _ => self.now,
        }
    }

    fn is_due(&self) -> bool {
        matches!(self.job.record.place, Place::Ready | Place::Blocked)
    }
}

/// Every reason, in the order of [`CODES`].
#[must_use]
pub fn explain(seen: &Seen) -> Vec<Reason> {
    let record = &seen.job.record;
    match record.place {
        Place::Running => return cancel_requested(seen).into_iter().chain([running(seen)]).collect(),
        Place::Unknown => return cancel_requested(seen).into_iter().chain([unknown(seen)]).collect(),
        place if place.is_final() => return vec![ended(place)],
        _ => {}
    }
    let mut reasons: Vec<Reason> = cancel_requested(seen).into_iter().collect();
    reasons.extend(of_time(seen));
    reasons.extend(gates::freezes(seen));
    reasons.extend(gates::stops(seen));
    reasons.extend(gates::resources(seen));
    reasons.extend(gates::limits(seen));
    reasons.extend(workers::missing(seen));
    reasons.extend(waits::parked(seen));
    reasons.extend(waits::suspended(seen));
    if reasons.iter().all(|reason| reason.code == "cancel_requested") {
        reasons.push(workers::in_line(seen));
    }
    reasons
}

fn cancel_requested(seen: &Seen) -> Option<Reason> {
    let text = "it was asked to stop and begins no further step";
    seen.job.record.cancel_requested.then(|| Reason::new("cancel_requested", text))
}

fn running(seen: &Seen) -> Reason {
    let record = &seen.job.record;
    let reason = Reason::new("running", format!("attempt {} of {} runs", record.attempt, record.retry.max_attempts));
    match seen.job.steps.iter().find(|step| !step.done) {
        Some(step) => reason.about(&step.name),
        None => reason,
    }
}

fn unknown(seen: &Seen) -> Reason {
    let open = seen.job.steps.iter().filter(|step| !step.done && step.effect == super::Effect::Once);
    let open: Vec<&str> = open.map(|step| step.name.as_str()).collect();
    if open.is_empty() {
        let text = "its workers were lost, and no run could find out what the target holds; look, then POST …/resolve";
        return Reason::new("outcome_unknown", text);
    }
    let text = "its worker was lost inside a step that may not be repeated; say what happened: POST …/resolve";
    Reason::new("outcome_unknown", text).about(open.join(", "))
}

fn ended(place: Place) -> Reason {
    let text = match place {
        Place::Dead => "it failed for good; `error` says why, and POST …/revive sends it back",
        Place::Cancelled => "it was cancelled; POST …/revive sends it back",
        _ => "it is done",
    };
    Reason::new("ended", text)
}

/// Its own time: planned, retried, asleep.
fn of_time(seen: &Seen) -> Option<Reason> {
    let record = &seen.job.record;
    if record.place != Place::Scheduled {
        return None;
    }
    let asleep = seen.job.steps.iter().find(|step| step.sort == Sort::Sleep && step.wait.is_some());
    let turns = [EventWord::Retrying, EventWord::Edited, EventWord::Revived, EventWord::Scheduled];
    let last = record.events.iter().rev().find(|event| turns.contains(&event.word)).map(|event| event.word);
    let reason = match asleep {
        Some(step) => Reason::new("sleep", "it sleeps, and no worker is held for it").about(&step.name),
        None if last == Some(EventWord::Retrying) && record.attempt > 0 => {
            let (attempt, most) = (record.attempt, record.retry.max_attempts);
            Reason::new("retry_delay", format!("attempt {attempt} of {most} failed; it is tried again later"))
        }
        None => Reason::new("planned_time", "its planned time has not come"),
    };
    Some(reason.until(record.run_at))
}

fn is_blocked_by(seen: &Seen, why: BlockedBy) -> bool {
    seen.job.record.place == Place::Blocked && seen.job.record.blocked_by == why
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
