//! Jobs that come back to their resources: those set aside by a claim gave them away meanwhile. Which of several openings a
//! promotion looks at first is not promised, so who got what is taken over from what is seen, and judged.
//!
//! Invariant: however it went, nobody passes who stood in a line before, and no line waits for nothing.

use std::collections::{BTreeMap, BTreeSet};

use leasehold_engine::{Place, model::BlockedBy};

use crate::{
    claims::{Complaint, complain},
    model::{Job, Model, NEVER, line_of},
    seen::Seen,
    verbs::{J, RESOURCES},
};

fn lacks_something(job: &Job) -> bool {
    job.what.resources.iter().any(|(resource, _)| !job.locks.contains(resource))
}

fn wanted(job: &Job) -> BTreeSet<usize> {
    job.what.resources.iter().map(|(resource, _)| *resource).collect()
}

impl Model {
    /// A promotion: exactly, as long as nobody behind a gate has given its resources away.
    pub(crate) fn promote_as_seen(&mut self, seen: &Seen) {
        let gave_way = |job: &Job| Self::is_held_by_a_gate(job) && lacks_something(job);
        if !self.jobs.values().any(gave_way) {
            return self.promote_due(&[]);
        }
        let due = |job: &Job| matches!(job.place, Place::Scheduled | Place::Waiting) && job.until <= self.now;
        let blocked = |job: &Job| job.place == Place::Blocked && job.reason != BlockedBy::CodeChanged;
        let concerned = |job: &Job| lacks_something(job) && (due(job) || blocked(job));
        let all: Vec<J> = self.jobs.iter().filter(|(_, job)| concerned(job)).map(|(j, _)| *j).collect();
        self.promote_due(&all);
        for j in all {
            self.take_over(j, seen);
        }
        self.openings = seen.openings();
    }

    /// To where it was seen, or to `ready` with all that it needs, when it went on from there.
    fn take_over(&mut self, j: J, seen: &Seen) {
        let (job, hold) = (&self.jobs[&j], seen.hold(j).to_owned());
        let stays = job.place == Place::Blocked && job.hold.as_deref() == Some(&hold);
        let in_line = (0..RESOURCES.len()).any(|resource| line_of(resource) == hold);
        let locks = seen.locks_of(j);
        if seen.place(j) == Some(Place::Blocked) && (stays || in_line) {
            self.job(j).locks = locks;
            if !stays {
                self.leave(j);
                self.block(j, BlockedBy::ResourceHeld, hold, NEVER);
            }
            return;
        }
        self.leave(j);
        let job = self.job(j);
        job.locks = wanted(job);
        self.enter(j, Place::Ready, 0);
    }

    /// What must be so after any promotion and claim, whoever was let go first.
    pub(crate) fn judge_resources(&self, before: &BTreeMap<J, Job>) -> Complaint {
        for (j, job) in &self.jobs {
            self.judge_holder(*j, job)?;
        }
        (0..RESOURCES.len()).try_for_each(|resource| self.judge_line(resource, before))
    }

    fn judge_holder(&self, j: J, job: &Job) -> Complaint {
        let all = wanted(job);
        let hold = job.hold.as_deref().unwrap_or_default();
        let has = || format!("{j:?} is {} (`{hold}`) with {:?} of {all:?}", job.place, job.locks);
        match job.place {
            Place::Ready | Place::Running => complain(job.locks == all, has),
            Place::Blocked if job.reason == BlockedBy::ResourceHeld => {
                let missing = all.iter().find(|resource| !job.locks.contains(resource));
                complain(missing.is_some_and(|resource| line_of(*resource) == hold), has)
            }
            Place::Blocked if Self::is_held_by_a_gate(job) && !job.journal && !job.locks.is_empty() => {
                let by_limit = matches!(job.reason, BlockedBy::LimitReached | BlockedBy::RateReached);
                complain(by_limit && job.gave_way && job.locks == all, has)
            }
            _ => Ok(()),
        }
    }

    fn judge_line(&self, resource: usize, before: &BTreeMap<J, Job>) -> Complaint {
        let (name, line) = (RESOURCES[resource], line_of(resource));
        let holders: Vec<J> =
            self.jobs.iter().filter(|(_, job)| job.locks.contains(&resource)).map(|(j, _)| *j).collect();
        let together = holders.iter().all(|j| self.shares(*j, resource));
        complain(holders.len() < 2 || together, || format!("{holders:?} have {name}, and do not all share it"))?;
        let stands = |job: &Job| job.place == Place::Blocked && job.hold.as_ref() == Some(&line);
        for (j, job) in self.jobs.iter().filter(|(_, job)| stands(job)) {
            let waited = before.get(j).is_some_and(stands);
            let passed = |other: &&J| {
                let had_it = before.get(other).is_some_and(|other| other.locks.contains(&resource));
                !had_it && self.in_order((self.jobs[other].run_at, **other), (job.run_at, *j)).is_gt()
            };
            let passes = holders.iter().find(passed).filter(|_| waited);
            complain(passes.is_none(), || format!("{passes:?} got {name} before {j:?}, which was first in its line"))?;
        }
        let waits_for_nothing =
            holders.is_empty() && self.first_in_line(resource).is_some() && !self.openings.contains_key(&resource);
        complain(!waits_for_nothing, || format!("nobody has {name}, and its line does not go on"))
    }
}
