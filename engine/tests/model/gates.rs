//! What stands before a claim, in the model: pauses, kill switches, limits, freezes, the jumped clock.
//!
//! Invariant: nothing is remembered of who was held up by what. Each start and each job set aside is judged by what stands.

use std::collections::{BTreeMap, BTreeSet};

use leasehold_engine::model::BlockedBy;

use crate::{
    model::{Job, Model, NEVER},
    verbs::{Counted, FREEZES, KINDS, Part, QUEUES, TENANTS},
};

#[derive(Debug, Clone)]
pub(crate) struct Limit {
    pub(crate) most: u32,
    pub(crate) rate: Option<(u32, i64)>,
    /// From when on it counts starts for sure.
    pub(crate) since: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frozen {
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) kind: Option<usize>,
    pub(crate) tenant: Option<usize>,
    pub(crate) resource: Option<usize>,
}

/// A start that limits count.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    at: i64,
    nth: i64,
    queue: usize,
    kind: usize,
    key: bool,
}

/// All that stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates {
    /// By field: paused, killed.
    pub(crate) stops: BTreeMap<String, (bool, bool)>,
    pub(crate) limits: BTreeMap<String, (LimitOf, Limit)>,
    pub(crate) freezes: BTreeMap<usize, Frozen>,
    pub(crate) clock_jumped: bool,
    pub(crate) takes: BTreeMap<usize, i64>,
    /// Kinds that a worker did not know.
    pub(crate) parked: BTreeSet<usize>,
    pub(crate) starts: Vec<Start>,
    /// Changes since the last promotion; each opens a hold, and a promotion looks at ten.
    pub(crate) changes: usize,
}

/// [`Counted`] with an order.
pub(crate) type LimitOf = (char, usize);

pub(crate) fn field_of(part: Part) -> String {
    match part {
        Part::All => "*".to_owned(),
        Part::Queue(n) => format!("q {}", QUEUES[n]),
        Part::Kind(n) => format!("k {}", KINDS[n]),
        Part::Tenant(n) => format!("t {}", TENANTS[n]),
    }
}

pub(crate) fn limit_of(of: Counted) -> (String, LimitOf) {
    match of {
        Counted::Queue(n) => (format!("l q {}", QUEUES[n]), ('q', n)),
        Counted::Kind(n) => (format!("l k {}", KINDS[n]), ('k', n)),
        Counted::Key(n) => (format!("l x {}", KINDS[n]), ('x', n)),
    }
}

/// The one key that jobs have.
pub(crate) const KEY: &str = "host";

fn is_counted((letter, n): LimitOf, queue: usize, kind: usize, key: bool) -> bool {
    match letter {
        'q' => queue == n,
        'k' => kind == n,
        _ => key && kind == n,
    }
}

fn hold_of(field: &str, (letter, _): LimitOf) -> String {
    if letter == 'x' { format!("{field} {KEY}") } else { field.to_owned() }
}

impl Gates {
    pub(crate) fn is_stopped(&self, part: Part) -> bool {
        self.stops.get(&field_of(part)).is_some_and(|(pause, kill)| *pause || *kill)
    }

    pub(crate) fn change_stop(&mut self, part: Part, change: impl Fn(&mut (bool, bool))) {
        let field = field_of(part);
        let mut stop = self.stops.get(&field).copied().unwrap_or_default();
        change(&mut stop);
        self.changes += 1;
        if stop == (false, false) {
            self.stops.remove(&field)
        } else {
            self.stops.insert(field, stop)
        };
    }
}

/// Why a job may not start; `None` when it may.
pub(crate) type Forbidden = Option<String>;

impl Model {
    fn running_under(&self, of: LimitOf) -> u32 {
        let counted = |job: &&Job| {
            job.place == leasehold_engine::Place::Running && is_counted(of, job.what.queue, job.what.kind, job.what.key)
        };
        self.jobs.values().filter(counted).count() as u32
    }

    fn started_under(&self, of: LimitOf, period: i64, since: i64) -> u32 {
        let recent = |s: &&Start| s.at > self.now - period && s.nth >= since;
        let counted = self.gates.starts.iter().filter(recent).filter(|s| is_counted(of, s.queue, s.kind, s.key));
        counted.count() as u32
    }

    pub(crate) fn count_start(&mut self, job: &Job) {
        let start =
            Start { at: self.now, nth: self.nth, queue: job.what.queue, kind: job.what.kind, key: job.what.key };
        self.gates.starts.push(start);
    }

    fn limits_on(&self, job: &Job) -> impl Iterator<Item = (&String, LimitOf, &Limit)> {
        let (queue, kind, key) = (job.what.queue, job.what.kind, job.what.key);
        let on = move |(of, _): &(LimitOf, Limit)| is_counted(*of, queue, kind, key);
        self.gates.limits.iter().filter(move |(_, l)| on(l)).map(|(field, (of, limit))| (field, *of, limit))
    }

    fn freeze_stops(&self, freeze: &Frozen, job: &Job) -> bool {
        let takes = self.gates.takes.get(&job.what.kind).copied().unwrap_or(0);
        let touched = freeze.kind.is_none_or(|k| k == job.what.kind)
            && freeze.tenant.is_none_or(|t| t == job.what.tenant)
            && freeze.resource.is_none_or(|r| job.what.resources.iter().any(|(mine, _)| *mine == r));
        touched && self.now >= freeze.from - takes && self.now < freeze.until
    }

    /// Why a worker may not start this ready job now. `strictly`: what must not be by any means; else also what the store
    /// may hold against it, since it remembers starts of before a limit was changed.
    pub(crate) fn forbids(&self, job: &Job, only: Option<usize>, strictly: bool) -> Forbidden {
        let what = &job.what;
        let parts = [Part::All, Part::Queue(what.queue), Part::Tenant(what.tenant), Part::Kind(what.kind)];
        if let Some(part) = parts.into_iter().find(|part| self.gates.is_stopped(*part)) {
            return Some(format!("{part:?} is stopped"));
        }
        if only.is_some_and(|kind| kind != what.kind) {
            return Some("the worker does not know its kind".to_owned());
        }
        if self.gates.clock_jumped && what.destructive {
            return Some("the clock jumped".to_owned());
        }
        if let Some((name, _)) = self.gates.freezes.iter().find(|(_, freeze)| self.freeze_stops(freeze, job)) {
            return Some(format!("{} stops it", FREEZES[*name]));
        }
        for (field, of, limit) in self.limits_on(job) {
            if limit.most > 0 && self.running_under(of) >= limit.most {
                return Some(format!("`{field}`: as many run as may"));
            }
            let since = if strictly { limit.since } else { 0 };
            if limit.rate.is_some_and(|(n, period)| self.started_under(of, period, since) >= n) {
                return Some(format!("`{field}`: as many were started as may"));
            }
        }
        None
    }

    /// Whether it is right that a claim set this job aside so; until when it then stays.
    pub(crate) fn may_set_aside(&self, job: &Job, reason: BlockedBy, hold: &str, only: Option<usize>) -> Option<i64> {
        let what = &job.what;
        let parts = [Part::All, Part::Queue(what.queue), Part::Tenant(what.tenant)];
        if parts.into_iter().any(|part| self.gates.is_stopped(part)) {
            return None;
        }
        let limit = || self.limits_on(job).find(|(field, of, _)| of.0 != 'q' && hold_of(field, *of) == hold);
        match reason {
            BlockedBy::KindPaused => (hold == field_of(Part::Kind(what.kind))
                && self.gates.is_stopped(Part::Kind(what.kind)))
            .then_some(NEVER),
            BlockedBy::KindUnknown => {
                let unknown = only.is_some_and(|kind| kind != what.kind);
                (unknown && hold == format!("p {}", KINDS[what.kind])).then_some(NEVER)
            }
            BlockedBy::ClockJumped => (hold == "clock" && self.gates.clock_jumped && what.destructive).then_some(NEVER),
            BlockedBy::Frozen | BlockedBy::NoFit => {
                let name = FREEZES.iter().position(|name| hold == format!("f {name}"))?;
                let freeze = self.gates.freezes.get(&name)?;
                let begun = self.now >= freeze.from;
                (self.freeze_stops(freeze, job) && begun == (reason == BlockedBy::Frozen)).then_some(freeze.until)
            }
            BlockedBy::LimitReached => {
                let (_, of, limit) = limit()?;
                (limit.most > 0 && self.running_under(of) >= limit.most).then_some(NEVER)
            }
            BlockedBy::RateReached => {
                let (_, of, limit) = limit()?;
                let (n, period) = limit.rate?;
                (self.started_under(of, period, 0) >= n).then_some(NEVER)
            }
            _ => None,
        }
    }

    /// Whether nothing stands behind this hold any more, so that a promotion must let its waiters go.
    pub(crate) fn must_let_go(&self, job: &Job, hold: &str) -> bool {
        if self.gates.changes > 8 {
            return false;
        }
        match job.reason {
            BlockedBy::KindPaused => !self.gates.is_stopped(Part::Kind(job.what.kind)),
            BlockedBy::ClockJumped => !self.gates.clock_jumped,
            BlockedBy::KindUnknown => !self.gates.parked.contains(&job.what.kind),
            BlockedBy::Frozen | BlockedBy::NoFit => {
                !self.gates.freezes.keys().any(|name| hold == format!("f {}", FREEZES[*name]))
            }
            BlockedBy::LimitReached | BlockedBy::RateReached if hold.starts_with("l k ") => {
                !self.gates.limits.contains_key(hold)
            }
            _ => false,
        }
    }

    /// Whether a job is blocked by something that stands before claims, and not by a resource or by its own code.
    pub(crate) fn is_held_by_a_gate(job: &Job) -> bool {
        use BlockedBy::{ClockJumped, Frozen, KindPaused, KindUnknown, LimitReached, NoFit, RateReached};
        let gates = [KindPaused, KindUnknown, ClockJumped, Frozen, NoFit, LimitReached, RateReached];
        job.place == leasehold_engine::Place::Blocked && gates.contains(&job.reason)
    }
}
