//! The reference: what a store of a few jobs is and how jobs move in it, written from the documents and from `next()`.
//!
//! Invariant: what can be derived is not kept. Who holds a resource, who stands in a line, how many run: each is counted
//! from the jobs when it is asked for, so that the model cannot disagree with itself.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use leasehold_engine::{
    JobId, Place,
    model::{BlockedBy, CAUSES, next},
    store::Outcome,
};

use crate::{
    deliveries::Outbox,
    gates::Gates,
    order::Lane,
    schedules::Schedules,
    tickets::Tickets,
    verbs::{Fence, J, JOBS, RESOURCES, What},
};

/// A time that does not come by itself.
pub(crate) const NEVER: i64 = i64::MAX;

/// What the journal says of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Open { once: bool, begun_by: u64 },
    Done(String),
    Waits { until: i64 },
}

/// What a parent knows of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    Pending,
    WaitedFor,
    Ended(Place),
}

#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) used: bool,
    pub(crate) at: i64,
    pub(crate) name: usize,
    pub(crate) key: u8,
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) what: What,
    pub(crate) parent: Option<J>,
    pub(crate) place: Place,
    pub(crate) reason: BlockedBy,
    pub(crate) attempt: u16,
    pub(crate) seq: u32,
    pub(crate) fence: u64,
    /// The fences that workers were given.
    pub(crate) given: Vec<u64>,
    pub(crate) cancel: bool,
    pub(crate) sealed: bool,
    pub(crate) journal: bool,
    pub(crate) once_open: bool,
    pub(crate) undo: bool,
    pub(crate) undoing: bool,
    /// A Fenced step was begun; how many closing runs were granted since.
    pub(crate) fenced: bool,
    pub(crate) closings: u8,
    /// The resources that it has.
    pub(crate) locks: BTreeSet<usize>,
    /// It gave them away for a limit, and has not started since: it does not do so again.
    pub(crate) gave_way: bool,
    pub(crate) hold: Option<String>,
    /// Until when it stays where it is, by itself: planned time, lease, deadline.
    pub(crate) until: i64,
    pub(crate) run_at: i64,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) steps: BTreeMap<String, Step>,
    pub(crate) letters: Vec<Letter>,
    /// Its log.
    pub(crate) said: Vec<String>,
    pub(crate) children: BTreeMap<J, Child>,
    /// How many of the children that it waits for must still end, and whether one that fails is enough.
    pub(crate) left: Option<i64>,
    pub(crate) fails: bool,
    pub(crate) args: u8,
    pub(crate) result: &'static str,
    pub(crate) error: &'static str,
    /// In which verb it became ready; those put in front have negative ones.
    pub(crate) rank: i64,
    pub(crate) was_revived: bool,
    /// Where it was seen last.
    pub(crate) seen: Option<Place>,
}

/// All of it.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) now: i64,
    /// The ids of `J0` and so on; those of `J10` and so on are nobody's until a schedule makes the job.
    pub(crate) ids: Vec<JobId>,
    pub(crate) jobs: BTreeMap<J, Job>,
    pub(crate) forgotten: BTreeSet<J>,
    /// Ended jobs that may be forgotten by now, or not yet.
    pub(crate) fading: BTreeSet<J>,
    pub(crate) gates: Gates,
    /// Keys that callers gave: of which tenant, for which job, with which content.
    pub(crate) keys: BTreeMap<(usize, u8), (JobId, u8)>,
    pub(crate) units: i64,
    /// Jobs whose children are to be cancelled.
    pub(crate) cascades: VecDeque<J>,
    /// Resources whose line may go on, since when: it lost somebody who stood before others, or a holder gave way. They are
    /// looked at with the next promotion.
    pub(crate) openings: BTreeMap<usize, i64>,
    /// What each worker claimed last: request, jobs, fences.
    pub(crate) claims: BTreeMap<usize, (u64, Vec<(J, u64)>)>,
    /// By lane: which tenant was served last there, and which had more.
    pub(crate) turns: BTreeMap<Lane, (usize, Vec<usize>)>,
    /// Somebody wants to be told of all that happens.
    pub(crate) listening: bool,
    pub(crate) outbox: Outbox,
    pub(crate) schedules: Schedules,
    pub(crate) tickets: Tickets,
    /// Died with their worker, and nobody was told: one entry for each death.
    pub(crate) untold: Vec<J>,
    pub(crate) last_fence: u64,
    /// How many verbs there were.
    pub(crate) nth: i64,
}

pub(crate) fn line_of(resource: usize) -> String {
    format!("r {}", RESOURCES[resource])
}

/// Whether `next()` leads there, in one step or (due, and held up at once) in two. What is revived keeps to its
/// planned time.
fn is_a_way(from: Place, to: Place) -> bool {
    let steps = |from: Place| CAUSES.into_iter().filter_map(move |cause| next(from, cause));
    let by_people = to == Place::Scheduled && matches!(from, Place::Dead | Place::Cancelled);
    from == to || by_people || steps(from).any(|via| via == to || steps(via).any(|place| place == to))
}

impl Model {
    pub(crate) fn new(now: i64, ids: Vec<JobId>) -> Self {
        Self {
            now,
            ids,
            jobs: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            fading: BTreeSet::new(),
            gates: Gates::default(),
            keys: BTreeMap::new(),
            units: 0,
            cascades: VecDeque::new(),
            openings: BTreeMap::new(),
            claims: BTreeMap::new(),
            turns: BTreeMap::new(),
            listening: false,
            outbox: Outbox::default(),
            schedules: Schedules::default(),
            tickets: Tickets::default(),
            untold: Vec::new(),
            last_fence: 0,
            nth: 0,
        }
    }

    pub(crate) fn id(&self, j: J) -> &JobId {
        &self.ids[usize::from(j.0)]
    }

    /// Where all of it lies.
    pub(crate) fn shard(&self) -> u16 {
        self.ids[0].shard()
    }

    /// What a key of the store is called.
    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{{lh:{}}}:{rest}", self.shard())
    }

    /// All that there may be.
    pub(crate) fn names(&self) -> impl Iterator<Item = J> + use<> {
        (0..JOBS + self.schedules.made).map(J)
    }

    /// Redis puts alike ones in the order of their ids.
    pub(crate) fn in_order(&self, a: (i64, J), b: (i64, J)) -> Ordering {
        a.0.cmp(&b.0).then_with(|| self.id(a.1).as_str().cmp(self.id(b.1).as_str()))
    }

    pub(crate) fn job(&mut self, j: J) -> &mut Job {
        self.jobs.get_mut(&j).expect("a job that is there")
    }

    /// Jobs that have not ended.
    pub(crate) fn live(&self) -> u64 {
        self.jobs.values().filter(|job| !job.place.is_final()).count() as u64
    }

    /// The fence that a worker speaks with; 1 is nobody's.
    pub(crate) fn fence(&self, j: J, which: Fence) -> u64 {
        let given = self.jobs.get(&j).map_or(&[][..], |job| &job.given);
        let back = if which == Fence::Last { 1 } else { 2 };
        given.len().checked_sub(back).map_or(1, |at| given[at])
    }

    /// The job when it runs under this fence.
    pub(crate) fn running(&mut self, j: J, fence: u64) -> Option<&mut Job> {
        self.jobs.get_mut(&j).filter(|job| job.place == Place::Running && job.fence == fence)
    }

    pub(crate) fn enter(&mut self, j: J, place: Place, until: i64) {
        let (now, nth) = (self.now, self.nth);
        let job = self.job(j);
        assert!(is_a_way(job.place, place), "next() knows no way from {} to {place}", job.place);
        (job.place, job.until, job.rank) = (place, until, nth);
        if place.is_final() {
            job.finished_at = now;
        }
    }

    pub(crate) fn leave(&mut self, j: J) {
        let job = self.job(j);
        if matches!(job.place, Place::Blocked | Place::Waiting) {
            job.hold = None;
        }
        job.reason = BlockedBy::Nothing;
        self.forget_empty_lines();
    }

    pub(crate) fn block(&mut self, j: J, reason: BlockedBy, hold: String, until: i64) {
        self.enter(j, Place::Blocked, until);
        let job = self.job(j);
        (job.reason, job.hold) = (reason, Some(hold));
    }

    /// A waiting job goes on; one that runs finds out when it wants to wait.
    pub(crate) fn wake(&mut self, j: J) {
        match self.job(j).place {
            Place::Waiting => {
                self.leave(j);
                self.enter_due(j);
            }
            Place::Running => self.job(j).hold = None,
            _ => {}
        }
    }

    pub(crate) fn finish(&mut self, j: J, place: Place) {
        self.enter(j, place, 0);
        if place == Place::Unknown {
            return;
        }
        self.job(j).hold = None;
        if !self.jobs[&j].children.is_empty() && place != Place::Succeeded {
            self.cascades.push_back(j);
        }
        if let Some(parent) = self.jobs[&j].parent {
            self.tell_parent(parent, j, place);
        }
    }

    fn tell_parent(&mut self, parent: J, child: J, place: Place) {
        let Some(job) = self.jobs.get_mut(&parent) else { return };
        let Some(mark) = job.children.insert(child, Child::Ended(place)) else { return };
        if mark == Child::WaitedFor {
            let left = job.left.get_or_insert(0);
            *left -= 1;
            if *left <= 0 || (job.fails && place != Place::Succeeded) {
                self.wake(parent);
            }
        }
    }

    pub(crate) fn give_unit_back(&mut self, j: J) {
        if self.jobs[&j].what.allowance == Some(true) {
            self.units -= 1;
        }
    }

    pub(crate) fn enter_in_front(&mut self, j: J) {
        self.enter(j, Place::Ready, 0);
        self.job(j).rank = -self.nth;
    }

    /// When a job that is suspended goes on at the latest: what its journal says, for a worker that settles so.
    pub(crate) fn suspended_until(&self, j: J, outcome: Outcome) -> i64 {
        let waits = |step: &Step| if let Step::Waits { until } = step { Some(*until) } else { None };
        let first = self.jobs.get(&j).and_then(|job| job.steps.values().filter_map(waits).filter(|at| *at > 0).min());
        match outcome {
            Outcome::Snooze => self.now + 3000,
            Outcome::Sleep => first.unwrap_or(self.now + 5000),
            Outcome::Wait => first.unwrap_or(0),
            _ => 3000,
        }
    }
}
