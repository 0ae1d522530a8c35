//! Makes sequences: chance chooses the verbs, and looks at the model so that most of them meet a job in a fitting place.

use leasehold_engine::{Place, store::Outcome};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use crate::{
    model::Model,
    verbs::{Fence, J, JOBS, KINDS, Line, RESOURCES, SIGNALS, STEPS, Ticket, Verb, Wait, What},
};

/// Which verbs a sequence is mostly made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    /// Attempts, leases, retries, resources.
    Life,
    /// Pauses, limits, freezes.
    Gates,
    /// Steps, waits, signals, children, undo.
    Workflow,
    /// The outbox and what is made of it.
    Deliveries,
    /// Schedules and who fires them.
    Schedules,
    /// All of it.
    All,
}

pub(crate) struct Generator<'a> {
    pub(crate) chance: &'a mut StdRng,
    pub(crate) model: &'a Model,
    pub(crate) theme: Theme,
}

const LITTLE: [i64; 6] = [1, 300, 1000, 3000, 5000, 9_999];
const MUCH: [i64; 4] = [10_000, 30_000, 600_000, 86_400_000];

impl Generator<'_> {
    pub(crate) fn yes(&mut self, percent: u32) -> bool {
        self.chance.random_range(0..100) < percent
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.chance.random_range(0..n)
    }

    pub(crate) fn any<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(self.chance).expect("a choice")
    }

    /// Mostly a job in one of these places, now and then any.
    fn job_in(&mut self, places: &[Place]) -> J {
        let fitting = self.model.jobs.iter().filter(|(_, job)| places.contains(&job.place));
        let fitting: Vec<J> = fitting.map(|(j, _)| *j).collect();
        if !fitting.is_empty() && self.yes(92) { self.any(&fitting) } else { J(self.below(usize::from(JOBS)) as u8) }
    }

    fn fence(&mut self) -> Fence {
        if self.yes(93) { Fence::Last } else { Fence::Old }
    }

    pub(crate) fn line(&mut self) -> Line {
        let verb = self.verb();
        Line { verb, twice: self.yes(12) }
    }

    fn verb(&mut self) -> Verb {
        let roll = self.below(100);
        if self.theme == Theme::Schedules && self.yes(45) {
            return self.schedule();
        }
        match self.theme {
            _ if roll < 16 => self.enqueue(),
            _ if roll < 36 => self.claim(),
            _ if roll < 50 => self.settle(),
            _ if roll < 58 => self.time(),
            Theme::Life if roll < 90 => self.life(),
            Theme::Gates if roll < 88 => self.gate(),
            Theme::Workflow if roll < 94 => self.workflow(),
            Theme::Deliveries if roll < 92 => self.delivery(),
            Theme::Schedules if roll < 94 => self.schedule(),
            Theme::All if roll < 66 => self.gate(),
            Theme::All if roll < 78 => self.workflow(),
            Theme::All if roll < 85 => self.delivery(),
            Theme::All if roll < 92 => self.schedule(),
            _ => self.life(),
        }
    }

    fn time(&mut self) -> Verb {
        match self.below(8) {
            0 => Verb::Advance { ms: self.any(&MUCH) },
            1..=3 => Verb::Advance { ms: self.any(&LITTLE) },
            4..=5 => Verb::Promote,
            _ => Verb::Rescue,
        }
    }

    fn what(&mut self) -> What {
        let mut resources = Vec::new();
        for n in 0..RESOURCES.len() {
            if self.yes(if self.theme == Theme::Gates { 30 } else { 35 }) {
                resources.push((n, self.yes(45)));
            }
        }
        What {
            kind: self.below(KINDS.len()),
            tenant: usize::from(self.yes(35)),
            queue: usize::from(self.yes(30)),
            priority: self.any(&[2, 2, 2, 0, 1, 3]),
            run_in: if self.yes(20) { self.any(&LITTLE) } else { 0 },
            resources,
            key: self.yes(35),
            destructive: self.yes(25),
            attempts: self.any(&[1, 2, 3]),
            idempotency: self.yes(10).then(|| (self.below(2) as u8, self.below(2) as u8)),
            allowance: if self.yes(12) { Some(self.yes(70)) } else { None },
            ticket: None,
            notify: self.yes(if self.theme == Theme::Deliveries { 60 } else { 10 }),
        }
    }

    fn new_name(&mut self) -> J {
        let known = |j: &J| self.model.jobs.contains_key(j) || self.model.forgotten.contains(j);
        let fresh: Vec<J> = (0..JOBS).map(J).filter(|j| !known(j)).collect();
        if !fresh.is_empty() && self.yes(93) { self.any(&fresh) } else { J(self.below(usize::from(JOBS)) as u8) }
    }

    fn enqueue(&mut self) -> Verb {
        let many = self.any(&[1, 1, 1, 2, 3]);
        let mut jobs: Vec<(J, What)> = (0..many).map(|_| (self.new_name(), self.what())).collect();
        if many == 1 && self.yes(if self.model.tickets.are_there() { 40 } else { 2 }) {
            jobs[0].1.ticket = Some(self.ticket());
        }
        if self.yes(30) {
            // Alike: the store takes such jobs in together.
            let first = jobs[0].1.clone();
            jobs.iter_mut().for_each(|(_, what)| *what = first.clone());
        } else {
            // A job named twice in a call is the same job.
            jobs.sort_by_key(|(j, _)| *j);
            jobs.dedup_by_key(|(j, _)| *j);
        }
        Verb::Enqueue { jobs, most: if self.yes(4) { 3 } else { 1000 } }
    }

    fn ticket(&mut self) -> Ticket {
        let mut rather = |other: u32| u8::from(self.yes(other));
        Ticket { id: rather(40), code: rather(25), binding: rather(15) }
    }

    fn claim(&mut self) -> Verb {
        let worker = self.below(2);
        if self.yes(8) {
            return Verb::ClaimAgain { worker };
        }
        let queues = self.any(&[&[0, 1][..], &[0, 1], &[1, 0], &[0], &[1]]).to_vec();
        let only = if self.yes(10) { Some(self.below(KINDS.len())) } else { None };
        Verb::Claim { worker, want: self.any(&[1, 1, 2, 3, 8]), queues, only }
    }

    fn settle(&mut self) -> Verb {
        use Outcome::{Cancelled, Dead, Done, Park, Release, Retry, Sleep, Snooze, Undone, Unknown, Wait};
        let job = self.job_in(&[Place::Running]);
        let mut outcome = self
            .any(&[Done, Done, Done, Done, Retry, Retry, Snooze, Release, Dead, Cancelled, Unknown, Park, Wait, Sleep]);
        if let Some(it) = self.model.jobs.get(&job) {
            let waits = it.hold.is_some();
            outcome = match outcome {
                _ if waits && self.yes(70) => Wait,
                _ if it.undoing && self.yes(50) => Undone,
                other => other,
            };
        }
        let mut jobs = vec![job];
        if self.yes(15) {
            jobs.push(self.job_in(&[Place::Running]));
        }
        Verb::Settle { jobs, fence: self.fence(), outcome, plain: self.yes(40) }
    }

    fn life(&mut self) -> Verb {
        use Place::{Blocked, Cancelled, Dead, Ready, Running, Scheduled, Succeeded, Unknown, Waiting};
        match self.below(10) {
            0..=1 => Verb::Cancel {
                job: self.job_in(&[Scheduled, Blocked, Ready, Running, Waiting]),
                lead_ms: self.yes(15).then_some(1000),
            },
            2..=3 => Verb::Edit {
                job: self.job_in(&[Scheduled, Blocked]),
                args: self.below(3) as u8,
                run_in: self.yes(60).then(|| self.any(&[0, 2000, 9000, 60_000, -500])),
                stale: self.yes(10),
                lead_ms: self.yes(30).then_some(1000),
            },
            4..=5 => Verb::Revive { job: self.job_in(&[Dead, Cancelled, Blocked]) },
            6 => {
                let job = self.job_in(&[Unknown]);
                let open = self.open_step(job).filter(|_| self.yes(60));
                let step = if self.yes(10) { Some(self.below(STEPS.len())) } else { open };
                Verb::Resolve { job, step, happened: self.yes(50) }
            }
            7 if self.yes(40) => Verb::TicketIssue(self.ticket()),
            7 => Verb::Renew { job: self.job_in(&[Running]), fence: self.fence() },
            8 if !self.model.untold.is_empty() && self.yes(50) => {
                Verb::NoteTold { job: self.any(&self.model.untold.clone()) }
            }
            8 => Verb::Prune {
                place: self.any(&[Succeeded, Cancelled, Dead]),
                kind: self.below(KINDS.len()),
                age_ms: self.any(&[0, 5000]),
            },
            _ => self.workflow(),
        }
    }

    fn workflow(&mut self) -> Verb {
        let job = self.job_in(&[Place::Running]);
        let fence = self.fence();
        let step = self.below(STEPS.len());
        match self.below(19) {
            0..=3 => {
                let (again, seal, inside) = (self.yes(15), self.yes(8), self.yes(15));
                Verb::StepBegin { job, fence, step, again, seal, inside }
            }
            4..=5 => Verb::StepEnd { job, fence, step: self.open_step(job).unwrap_or(step) },
            6 => Verb::Suspend { job, fence, wait: Wait::Time { ms: self.any(&LITTLE) } },
            7..=8 => {
                let (name, ms) = (self.below(SIGNALS.len()), self.any(&[0, 0, 3000, 20_000]));
                Verb::Suspend { job, fence, wait: Wait::Signal { name, ms, second: self.yes(40) } }
            }
            9 | 15 => {
                let job = self.parent().unwrap_or(job);
                let also = if self.yes(5) { Some(self.job_in(&[Place::Ready])) } else { None };
                Verb::Suspend { job, fence, wait: Wait::Children { all: self.yes(60), fail: self.yes(50), also } }
            }
            10..=11 => {
                let (job, child) = (self.parent().unwrap_or(job), self.new_name());
                let mut what = self.what();
                (what.idempotency, what.allowance) = (None, None);
                Verb::Spawn { job, fence, child, what }
            }
            12 => Verb::UndoBegin { job: self.undoable().unwrap_or(job), fence },
            13 => Verb::Cascade,
            16 if self.yes(60) => Verb::Progress { job, fence, percent: self.below(100) as u8 },
            14 => Verb::Cancel { job: self.child().unwrap_or(job), lead_ms: None },
            _ => {
                let (job, name) = (self.job_in(&[Place::Waiting, Place::Running]), self.below(SIGNALS.len()));
                Verb::Signal { job, name, key: self.below(4) as u8 }
            }
        }
    }

    fn open_step(&mut self, job: J) -> Option<usize> {
        let steps = &self.model.jobs.get(&job)?.steps;
        STEPS.iter().position(|(name, _, _)| matches!(steps.get(*name), Some(crate::model::Step::Open { .. })))
    }

    fn parent(&self) -> Option<J> {
        let runs = |(_, job): &(&J, &crate::model::Job)| job.place == Place::Running && !job.children.is_empty();
        self.model.jobs.iter().find(runs).map(|(j, _)| *j)
    }

    /// A child that has not ended, of a parent that runs.
    fn child(&self) -> Option<J> {
        let parent = self.parent()?;
        let lives = |j: &&J| self.model.jobs.get(j).is_some_and(|job| !job.place.is_final());
        self.model.jobs[&parent].children.keys().find(lives).copied()
    }

    fn undoable(&self) -> Option<J> {
        let runs = |(_, job): &(&J, &crate::model::Job)| job.place == Place::Running && job.undo;
        self.model.jobs.iter().find(runs).map(|(j, _)| *j)
    }
}
