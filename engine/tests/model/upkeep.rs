//! Upkeep in the model: what is due goes on, what was lost with its worker is taken back, what ended is forgotten.

use leasehold_engine::Place;

use crate::{model::Model, verbs::J};

impl Model {
    /// Those whose time has come: planned ones, then blocked, then waiting, each by time. `but` those.
    pub(crate) fn promote_due(&mut self, but: &[J]) {
        for place in [Place::Scheduled, Place::Blocked, Place::Waiting] {
            let due = self.jobs.iter().filter(|(_, job)| job.place == place && job.until <= self.now);
            let due = due.filter(|(j, _)| !but.contains(j));
            let mut due: Vec<(i64, J)> =
                due.map(|(j, job)| (if place == Place::Blocked { job.run_at } else { job.until }, *j)).collect();
            due.sort_unstable_by(|a, b| self.in_order(*a, *b));
            for (_, j) in due {
                self.leave(j);
                self.enter_due(j);
            }
        }
        if but.is_empty() {
            self.serve_openings();
        }
    }

    /// Takes back what was lost with its worker; which.
    pub(crate) fn rescue(&mut self) -> Vec<J> {
        let lost = self.jobs.iter().filter(|(_, job)| job.place == Place::Running && job.until <= self.now);
        let mut lost: Vec<(i64, J)> = lost.map(|(j, job)| (job.until, *j)).collect();
        lost.sort_unstable_by(|a, b| self.in_order(*a, *b));
        for (_, j) in &lost {
            self.leave(*j);
            self.take_back(*j);
        }
        lost.into_iter().map(|(_, j)| j).collect()
    }

    fn take_back(&mut self, j: J) {
        // The store chooses the fence; that it is a new one is seen when records are compared.
        self.job(j).fence = 0;
        let job = &self.jobs[&j];
        let last = job.attempt >= job.what.attempts;
        let undoes = job.undo && !job.undoing;
        if job.once_open && (last || job.cancel) {
            self.finish(j, Place::Unknown);
        } else if job.cancel && !job.undo {
            self.finish(j, Place::Cancelled);
            self.unlock(j);
        } else if last && undoes {
            let job = self.job(j);
            (job.undoing, job.attempt, job.result, job.error) = (true, 0, "", "lost");
            self.enter_in_front(j);
        } else if last && job.fenced && !job.undoing && job.closings == 2 {
            self.finish(j, Place::Unknown);
        } else if last && job.fenced && !job.undoing {
            let job = self.job(j);
            (job.closings, job.attempt) = (job.closings + 1, job.what.attempts - 1);
            self.enter_in_front(j);
        } else if last {
            let job = self.job(j);
            (job.result, job.error) = ("", "lost");
            self.give_unit_back(j);
            self.finish(j, Place::Dead);
            self.unlock(j);
            self.untold.push(j);
        } else {
            self.enter_in_front(j);
        }
    }

    /// Of several deaths of a job, one is told of.
    pub(crate) fn note_told(&mut self, j: J) {
        if let Some(first) = self.untold.iter().position(|other| *other == j) {
            self.untold.remove(first);
        }
    }

    pub(crate) fn forget(&mut self, j: J) {
        self.jobs.remove(&j);
        self.forgotten.insert(j);
    }

    /// Forgets ended jobs. One that was revived and ended again may keep those behind it a while.
    pub(crate) fn prune(&mut self, place: Place, kind: usize, age_ms: i64) {
        let over: Vec<J> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.place == place && job.what.kind == kind && self.now - job.finished_at >= age_ms)
            .map(|(j, _)| *j)
            .collect();
        if age_ms > 0 && self.jobs.values().any(|job| job.was_revived) {
            self.fading.extend(over);
            return;
        }
        for j in over {
            self.forget(j);
        }
    }
}
