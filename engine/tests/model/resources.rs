//! Resources in the model: who has them, who stands in line, who is next.
//!
//! Invariant: nobody goes before those who wait already, and all take what they need in the order of the names.

use leasehold_engine::{Place, model::BlockedBy};

use crate::{
    model::{Job, Model, NEVER, line_of},
    verbs::{J, RESOURCES},
};

impl Model {
    /// Leaves for another reason than that it got what it waited for: those behind it may fit.
    pub(crate) fn step_out(&mut self, j: J) {
        let hold = self.job(j).hold.clone();
        self.leave(j);
        for resource in 0..RESOURCES.len() {
            if hold == Some(line_of(resource)) {
                self.open_line(resource);
            }
        }
    }

    fn open_line(&mut self, resource: usize) {
        if self.first_in_line(resource).is_some() {
            let now = self.now;
            let since = self.openings.entry(resource).or_insert(now);
            *since = now.min(*since);
        }
    }

    pub(crate) fn forget_empty_lines(&mut self) {
        let empty = |resource: &usize| self.first_in_line(*resource).is_none();
        let empty: Vec<usize> = self.openings.keys().copied().filter(empty).collect();
        self.openings.retain(|resource, _| !empty.contains(resource));
    }

    /// Lines that may go on do, the one that may longest first.
    pub(crate) fn serve_openings(&mut self) {
        let mut openings: Vec<(i64, usize)> =
            std::mem::take(&mut self.openings).into_iter().map(|(resource, since)| (since, resource)).collect();
        openings.sort_unstable();
        for (_, resource) in openings {
            self.serve(resource);
        }
    }

    /// A job that a claim set aside gives its resources away, unless it is in the middle of its work: for a limit once.
    pub(crate) fn give_way(&mut self, j: J, reason: BlockedBy) {
        let by_limit = matches!(reason, BlockedBy::LimitReached | BlockedBy::RateReached);
        let job = self.job(j);
        if job.journal || job.locks.is_empty() || (by_limit && job.gave_way) {
            return;
        }
        job.gave_way |= by_limit;
        for resource in std::mem::take(&mut job.locks) {
            self.open_line(resource);
        }
    }

    fn holders(&self, resource: usize) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.locks.contains(&resource))
    }

    pub(crate) fn first_in_line(&self, resource: usize) -> Option<J> {
        let line = line_of(resource);
        let waits = |job: &Job| job.place == Place::Blocked && job.hold.as_ref() == Some(&line);
        let waiting = self.jobs.iter().filter(|(_, job)| waits(job));
        waiting.map(|(j, job)| (job.run_at, *j)).min_by(|a, b| self.in_order(*a, *b)).map(|(_, j)| j)
    }

    pub(crate) fn shares(&self, j: J, resource: usize) -> bool {
        self.jobs[&j].what.resources.contains(&(resource, true))
    }

    fn fits(&self, j: J, resource: usize) -> bool {
        let shared = |job: &Job| job.what.resources.contains(&(resource, true));
        let mut holders = self.holders(resource).peekable();
        holders.peek().is_none() || (self.shares(j, resource) && holders.all(shared))
    }

    /// Resources are taken in the order of their names, each first come first served.
    pub(crate) fn enter_due(&mut self, j: J) {
        let mut wants: Vec<usize> = self.jobs[&j].what.resources.iter().map(|(resource, _)| *resource).collect();
        wants.sort_unstable();
        for resource in wants {
            if self.jobs[&j].locks.contains(&resource) {
                continue;
            }
            if self.first_in_line(resource).is_some() || !self.fits(j, resource) {
                return self.block(j, BlockedBy::ResourceHeld, line_of(resource), NEVER);
            }
            self.job(j).locks.insert(resource);
        }
        self.enter(j, Place::Ready, 0);
    }

    /// The next in line, and with it those behind that may share.
    pub(crate) fn serve(&mut self, resource: usize) {
        while let Some(j) = self.first_in_line(resource) {
            if !self.fits(j, resource) {
                return;
            }
            self.leave(j);
            self.job(j).locks.insert(resource);
            self.enter_due(j);
        }
    }

    pub(crate) fn unlock(&mut self, j: J) {
        for resource in 0..RESOURCES.len() {
            if self.job(j).locks.remove(&resource) {
                self.serve(resource);
            }
        }
    }
}
