//! What people's verbs do in the model and what they answer: cancel, edit, revive, resolve; and what follows for children.

use leasehold_engine::{
    Place,
    model::BlockedBy,
    store::{Cancelled, Edited, Resolved, Revived},
};

use crate::{
    model::{Child, Job, Model, Step},
    verbs::{J, STEPS},
};

impl Model {
    fn is_too_late(&self, job: &Job, lead_ms: Option<u64>) -> bool {
        lead_ms.is_some_and(|lead| job.run_at - self.now <= lead as i64)
    }

    pub(crate) fn cancel(&mut self, j: J, lead_ms: Option<u64>) -> Cancelled {
        let Some(job) = self.jobs.get(&j) else { return Cancelled::Gone };
        match job.place {
            Place::Cancelled => Cancelled::Now,
            Place::Succeeded | Place::Dead => Cancelled::Final(job.place),
            Place::Unknown => Cancelled::Unknown,
            _ if job.cancel => Cancelled::Requested,
            _ if job.sealed || self.is_too_late(job, lead_ms) => Cancelled::TooLate(job.place),
            _ => self.cancel_it(j),
        }
    }

    fn cancel_it(&mut self, j: J) -> Cancelled {
        let job = &self.jobs[&j];
        let place = job.place;
        if !job.children.is_empty() {
            // One that ends right now is noted a second time by its end: that costs a look, no more.
            self.cascades.push_back(j);
        }
        let job = &self.jobs[&j];
        let rests = !matches!(place, Place::Running | Place::Unknown);
        if rests && !job.undo && !job.once_open {
            self.step_out(j);
            self.finish(j, Place::Cancelled);
            self.unlock(j);
            return Cancelled::Now;
        }
        self.job(j).cancel = true;
        if rests && place != Place::Ready {
            self.step_out(j);
            self.enter_due(j);
        }
        Cancelled::Requested
    }

    /// Cancels the children of one job; how many such jobs are left.
    pub(crate) fn cascade(&mut self) -> usize {
        let Some(parent) = self.cascades.pop_front() else { return 0 };
        let children: Vec<J> = self.jobs.get(&parent).map_or(Vec::new(), |job| job.children.keys().copied().collect());
        for child in children {
            let is_over = |job: &Job| job.cancel || job.sealed || job.place.is_final();
            if self.jobs.get(&child).is_some_and(|job| !is_over(job)) {
                self.cancel_it(child);
            }
        }
        self.cascades.len()
    }

    pub(crate) fn edit(&mut self, j: J, args: u8, run_in: Option<i64>, stale: bool, lead_ms: Option<u64>) -> Edited {
        let Some(job) = self.jobs.get(&j) else { return Edited::Gone };
        let run_at = run_in.map(|ms| self.now + ms);
        // Nothing to change is as good as changed: it may have been sent before.
        let both_due = |at: i64| at <= self.now && job.run_at <= self.now;
        if job.args == args && run_at.is_none_or(|at| at == job.run_at || both_due(at)) {
            return Edited::Ok(0);
        }
        if !matches!(job.place, Place::Scheduled | Place::Blocked) || job.journal {
            return Edited::NotScheduled(job.place);
        }
        if stale {
            return Edited::Changed(0);
        }
        if self.is_too_late(job, lead_ms) {
            return Edited::TooLate;
        }
        self.step_out(j);
        let now = self.now;
        let job = self.job(j);
        job.args = args;
        job.run_at = run_at.map_or(job.run_at, |at| at.max(now));
        if job.run_at > now {
            // What is planned for later holds nothing up until then.
            self.unlock(j);
        }
        self.begin(j);
        Edited::Ok(0)
    }

    pub(crate) fn revive(&mut self, j: J) -> Revived {
        let Some(job) = self.jobs.get(&j) else { return Revived::Gone };
        if job.place == Place::Blocked && job.reason == BlockedBy::CodeChanged {
            self.leave(j);
            self.enter_due(j);
            return Revived::Ok(self.jobs[&j].place);
        }
        if !matches!(job.place, Place::Dead | Place::Cancelled) {
            return Revived::NotFinal(job.place);
        }
        if job.place == Place::Dead && job.what.allowance == Some(true) {
            // It was given back when the job died.
            self.units += 1;
        }
        let parent = job.parent.and_then(|parent| self.jobs.get_mut(&parent)).filter(|parent| !parent.place.is_final());
        if let Some(parent) = parent {
            parent.children.insert(j, Child::Pending);
        }
        let now = self.now;
        let job = self.job(j);
        job.cancel &= job.undo;
        (job.sealed, job.closings) = (false, 0);
        if job.undoing && !job.undo {
            (job.undoing, job.journal, job.once_open, job.fenced) = (false, false, false, false);
            job.steps.clear();
        }
        if !(job.undoing && job.undo) {
            (job.result, job.error) = ("", "");
        }
        job.attempt = 0;
        (job.run_at, job.finished_at, job.was_revived) = (job.run_at.max(now), 0, true);
        self.begin(j);
        Revived::Ok(self.jobs[&j].place)
    }

    /// Once steps that were begun, and of which nobody said what became of them.
    pub(crate) fn open_once_steps(&self, j: J) -> Vec<String> {
        let is_open = |step: &Step| matches!(step, Step::Open { once: true, .. });
        let steps = self.jobs.get(&j).into_iter().flat_map(|job| &job.steps);
        steps.filter(|(_, step)| is_open(step)).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn resolve(&mut self, j: J, step: Option<usize>, happened: bool) -> Resolved {
        let (now, open) = (self.now, self.open_once_steps(j));
        let Some(job) = self.jobs.get_mut(&j) else { return Resolved::Gone };
        if job.place != Place::Unknown {
            return Resolved::NotUnknown(job.place);
        }
        let named = match step.map(|n| STEPS[n].0) {
            Some(name) if !open.iter().any(|other| other == name) => return Resolved::NotOpen(open),
            None if open.len() > 1 => return Resolved::Several(open),
            Some(name) => Some(name.to_owned()),
            None => open.first().cloned(),
        };
        match &named {
            Some(name) if happened => drop(job.steps.insert(name.clone(), Step::Done("said".to_owned()))),
            Some(name) => drop(job.steps.remove(name)),
            None => {}
        }
        if open.len() <= 1 {
            (job.once_open, job.closings) = (false, 0);
            if job.cancel && !job.undo {
                self.finish(j, Place::Cancelled);
                self.unlock(j);
            } else {
                (job.run_at, job.attempt) = (now, job.attempt.min(job.what.attempts - 1));
                self.enter_due(j);
            }
        }
        Resolved::Ok(named.unwrap_or_default())
    }
}
