//! What the verbs of a job's life do in the model and what they answer: enqueue, settle, renew.

use leasehold_engine::{
    Enqueued, Place,
    model::BlockedBy,
    store::{Outcome, Renewed, Settled},
};

use crate::{
    model::{Job, Model, NEVER},
    verbs::{J, LEASE_MS, UNITS, What},
};

impl Model {
    pub(crate) fn enqueue(&mut self, jobs: &[(J, What)], most: u64) -> Vec<Enqueued> {
        jobs.iter().map(|(j, what)| self.enqueue_one(*j, what, most)).collect()
    }

    fn enqueue_one(&mut self, j: J, what: &What, most: u64) -> Enqueued {
        let id = self.id(j).clone();
        if self.jobs.contains_key(&j) {
            return Enqueued::Accepted(id);
        }
        if let Some((key, content)) = what.idempotency
            && let Some((first, known)) = self.keys.get(&(what.tenant, key))
        {
            return if *known == content {
                Enqueued::Duplicate(first.clone())
            } else {
                Enqueued::Conflict(first.clone())
            };
        }
        if let Some(ticket) = what.ticket
            && let Some((why, tries_left)) = self.tickets.refuse(j, ticket, self.now)
        {
            return Enqueued::TicketRefused { why, tries_left };
        }
        if what.allowance.is_some() && self.units >= i64::from(UNITS) {
            return Enqueued::AllowanceSpent { used: self.units as u32 };
        }
        if self.live() >= most {
            return Enqueued::Full { live: self.live() };
        }
        self.tickets.spend(what.ticket);
        self.units += i64::from(what.allowance.is_some());
        if let Some((key, content)) = what.idempotency {
            self.keys.insert((what.tenant, key), (id.clone(), content));
        }
        self.take_in(j, what, None);
        Enqueued::Accepted(id)
    }

    pub(crate) fn take_in(&mut self, j: J, what: &What, parent: Option<J>) {
        let run_at = self.now + what.run_in;
        let job = Job {
            what: what.clone(),
            parent,
            place: Place::Scheduled,
            reason: BlockedBy::Nothing,
            attempt: 0,
            seq: 0,
            fence: 0,
            given: Vec::new(),
            cancel: false,
            sealed: false,
            journal: false,
            once_open: false,
            undo: false,
            undoing: false,
            fenced: false,
            closings: 0,
            locks: Default::default(),
            gave_way: false,
            hold: None,
            until: run_at,
            run_at,
            started_at: 0,
            finished_at: 0,
            steps: Default::default(),
            letters: Vec::new(),
            said: Vec::new(),
            children: Default::default(),
            left: None,
            fails: false,
            args: 0,
            result: "",
            error: "",
            rank: 0,
            was_revived: false,
            seen: None,
        };
        self.jobs.insert(j, job);
        self.begin(j);
    }

    /// To `scheduled` until its time, else to work.
    pub(crate) fn begin(&mut self, j: J) {
        let run_at = self.jobs[&j].run_at;
        if run_at > self.now { self.enter(j, Place::Scheduled, run_at) } else { self.enter_due(j) }
    }

    pub(crate) fn settle(&mut self, j: J, fence: u64, outcome: Outcome, plain: bool, at: i64) -> Settled {
        let Some(job) = self.jobs.get(&j) else { return Settled::Gone };
        if job.fence != fence {
            return Settled::Stale;
        }
        if job.place != Place::Running {
            return Settled::Ok;
        }
        self.leave(j);
        let job = self.job(j);
        let keeps = outcome == Outcome::Park || (job.undoing && matches!(outcome, Outcome::Retry | Outcome::Unknown));
        if !keeps {
            job.result = if outcome == Outcome::Done && !plain { "\"well\"" } else { "" };
            job.error = if matches!(outcome, Outcome::Dead | Outcome::Retry) { "failed" } else { "" };
        }
        self.end(j, outcome, at);
        Settled::Ok
    }

    fn end(&mut self, j: J, outcome: Outcome, at: i64) {
        let job = &self.jobs[&j];
        let goes_on = matches!(
            outcome,
            Outcome::Retry | Outcome::Snooze | Outcome::Sleep | Outcome::Wait | Outcome::Park | Outcome::Release
        );
        // The next attempt may find out what became of an open step.
        let is_looked_at = job.once_open && matches!(outcome, Outcome::Retry | Outcome::Release);
        if goes_on && job.cancel && !job.undo && !is_looked_at {
            return self.close_cancelled(j);
        }
        let must_undo = job.undo && !job.undoing;
        match outcome {
            Outcome::Done => self.close(j, Place::Succeeded),
            Outcome::Dead if must_undo => self.undo_first(j),
            Outcome::Dead => self.close(j, Place::Dead),
            Outcome::Cancelled => {
                let once_open = job.once_open;
                self.job(j).cancel |= must_undo || once_open;
                if must_undo && !once_open { self.undo_first(j) } else { self.close_cancelled(j) }
            }
            Outcome::Undone => {
                self.job(j).undo = false;
                if self.jobs[&j].cancel { self.close_cancelled(j) } else { self.close(j, Place::Dead) }
            }
            Outcome::Unknown => self.finish(j, Place::Unknown),
            _ => self.go_on(j, outcome, at),
        }
    }

    /// Nobody says of a job that it was cancelled while a step is open that may have happened.
    fn close_cancelled(&mut self, j: J) {
        if self.jobs[&j].once_open { self.finish(j, Place::Unknown) } else { self.close(j, Place::Cancelled) }
    }

    fn undo_first(&mut self, j: J) {
        let job = self.job(j);
        (job.undoing, job.attempt) = (true, 0);
        self.enter_in_front(j);
    }

    /// An ending that is none: the job runs again, sooner or later.
    fn go_on(&mut self, j: J, outcome: Outcome, at: i64) {
        match outcome {
            Outcome::Retry => self.try_later(j, self.now + at, true),
            Outcome::Snooze => self.try_later(j, at.max(self.now), false),
            Outcome::Sleep => {
                self.suspend_it(j);
                self.postpone(j, at.max(self.now));
            }
            Outcome::Wait => {
                self.suspend_it(j);
                if self.must_undo(j) || self.jobs[&j].hold.is_none() {
                    self.enter_due(j);
                } else {
                    self.enter(j, Place::Waiting, if at > 0 { at } else { NEVER });
                }
            }
            Outcome::Park => {
                self.suspend_it(j);
                if self.jobs[&j].cancel {
                    return self.enter_due(j);
                }
                let hold = crate::send::park_hold(&self.jobs[&j].what);
                self.block(j, BlockedBy::CodeChanged, hold, NEVER);
            }
            _ => {
                self.job(j).attempt -= 1;
                self.enter_in_front(j);
            }
        }
    }

    fn close(&mut self, j: J, place: Place) {
        if place == Place::Dead {
            self.give_unit_back(j);
        }
        self.finish(j, place);
        self.unlock(j);
    }

    /// A job in the middle of its work keeps its resources while it waits for the next attempt.
    fn try_later(&mut self, j: J, at: i64, counted: bool) {
        if !counted {
            self.job(j).attempt -= 1;
        }
        if !self.jobs[&j].journal {
            self.unlock(j);
        }
        self.postpone(j, at);
    }

    /// Suspended jobs have no resources, and their attempt does not count.
    fn suspend_it(&mut self, j: J) {
        self.job(j).attempt -= 1;
        self.unlock(j);
    }

    /// A cancel that must still undo what was done goes on at once.
    fn must_undo(&self, j: J) -> bool {
        let job = &self.jobs[&j];
        job.cancel && job.undo && !job.undoing
    }

    fn postpone(&mut self, j: J, at: i64) {
        self.job(j).run_at = at;
        if self.must_undo(j) { self.enter_due(j) } else { self.enter(j, Place::Scheduled, at) }
    }

    pub(crate) fn renew(&mut self, j: J, fence: u64) -> Renewed {
        let until = self.now + LEASE_MS;
        let Some(job) = self.running(j, fence) else { return Renewed::Lost };
        job.until = until;
        if job.cancel { Renewed::CancelRequested } else { Renewed::Held }
    }
}
