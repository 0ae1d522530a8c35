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
            if hold == Some(line_of(resource)) && self.first_in_line(resource).is_some() {
                self.openings.insert(resource);
            }
        }
    }

    fn holders(&self, resource: usize) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.locks.contains(&resource))
    }

    fn first_in_line(&self, resource: usize) -> Option<J> {
        let line = line_of(resource);
        let waits = |job: &Job| job.place == Place::Blocked && job.hold.as_ref() == Some(&line);
        let waiting = self.jobs.iter().filter(|(_, job)| waits(job));
        waiting.map(|(j, job)| (job.run_at, *j)).min_by(|a, b| self.in_order(*a, *b)).map(|(_, j)| j)
    }

    fn shares(&self, j: J, resource: usize) -> bool {
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
