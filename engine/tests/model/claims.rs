//! Claims and promotions, judged by what is seen afterwards: which of several jobs starts is not all promised, but what may
//! never start, what may not be passed over, and in which order what is promised goes.

use std::collections::BTreeMap;

use leasehold_engine::{JobRecord, Place, model::BlockedBy, store::Claimed};

use crate::{
    model::{Job, Model},
    order::Order,
    seen::Seen,
    verbs::{J, LEASE_MS},
};

/// What a worker asked for.
pub(crate) struct Asked<'a> {
    pub(crate) worker: usize,
    pub(crate) request: u64,
    pub(crate) want: usize,
    pub(crate) queues: &'a [usize],
    pub(crate) only: Option<usize>,
}

pub(crate) type Complaint = Result<(), String>;

pub(crate) fn complain(holds: bool, text: impl FnOnce() -> String) -> Complaint {
    if holds { Ok(()) } else { Err(text()) }
}

impl Model {
    /// After a promotion: what was due is where it belongs, and what stood behind a gate may be let go.
    pub(crate) fn judge_promotion(&mut self, seen: &Seen) -> Complaint {
        self.nth += 1;
        let before = self.jobs.clone();
        let held: Vec<J> = self.gate_held();
        self.promote_as_seen(seen);
        for j in held {
            if self.jobs[&j].place != Place::Blocked {
                continue;
            }
            match seen.place(j) {
                Some(Place::Ready) => self.let_go(j),
                _ => self.must_stay_or_go(j)?,
            }
        }
        self.gates.changes = 0;
        self.judge_resources(&before)
    }

    fn gate_held(&self) -> Vec<J> {
        self.jobs.iter().filter(|(_, job)| Self::is_held_by_a_gate(job)).map(|(j, _)| *j).collect()
    }

    fn let_go(&mut self, j: J) {
        self.leave(j);
        self.enter(j, Place::Ready, 0);
    }

    fn must_stay_or_go(&self, j: J) -> Complaint {
        let job = &self.jobs[&j];
        let hold = job.hold.as_deref().unwrap_or_default();
        complain(!self.must_let_go(job, hold), || format!("{j:?} is blocked by `{hold}`, which is no more"))
    }

    /// The same request again: what of it still runs under that claim, and nothing else.
    pub(crate) fn judge_again(&mut self, worker: usize, claimed: &Claimed) -> Complaint {
        self.nth += 1;
        let (_, taken) = self.claims.get(&worker).cloned().unwrap_or_default();
        let runs = |(j, fence): &(J, u64)| {
            self.jobs.get(j).is_some_and(|job| job.place == Place::Running && job.fence == *fence)
        };
        let meant: Vec<(J, u64)> = taken.into_iter().filter(runs).collect();
        for (j, _) in &meant {
            self.jobs.get_mut(j).expect("a job that runs").until = self.now + LEASE_MS;
        }
        let got: Vec<(J, u64)> = claimed.jobs.iter().map(|r| (self.name_of(r), r.fence)).collect();
        complain(meant == got, || format!("the same claim again must give {meant:?}, and gave {got:?}"))
    }

    fn name_of(&self, record: &JobRecord) -> J {
        let at = self.ids.iter().position(|id| *id == record.id).expect("a job of this sequence");
        J(at as u8)
    }

    pub(crate) fn judge_claim(&mut self, asked: &Asked<'_>, claimed: &Claimed, seen: &Seen) -> Complaint {
        self.nth += 1;
        complain(claimed.now == self.now, || format!("it is {}, the claim says {}", self.now, claimed.now))?;
        self.gates.parked.retain(|kind| asked.only.is_some_and(|only| only != *kind));
        let before = self.jobs.clone();
        let held = self.gate_held();
        self.promote_as_seen(seen);
        let taken: Vec<J> = claimed.jobs.iter().map(|record| self.name_of(record)).collect();
        for j in &held {
            let let_go = taken.contains(j) || seen.place(*j) == Some(Place::Ready);
            if self.jobs[j].place == Place::Blocked && let_go {
                self.let_go(*j);
            }
        }
        let ready: BTreeMap<J, i64> = self.ready_ones();
        let mut tried: Vec<J> = Vec::new();
        for (j, record) in taken.iter().zip(&claimed.jobs) {
            self.start(*j, record, asked)?;
        }
        for j in self.jobs.keys().copied().collect::<Vec<_>>() {
            tried.extend(self.set_aside(j, asked, seen, &held)?);
        }
        self.gates.changes = 0;
        self.judge_resources(&before)?;
        if !taken.is_empty() {
            let fences = claimed.jobs.iter().map(|r| r.fence);
            self.claims.insert(asked.worker, (asked.request, taken.iter().copied().zip(fences).collect()));
        }
        self.judge_order(&Order { asked, taken: &taken, ready: &ready, tried: tried.len() })?;
        // Who set something aside is told to look again at once, and then goes on.
        let told_to_look = claimed.next_due.is_some_and(|at| at <= self.now);
        if taken.len() < asked.want && !told_to_look && tried.is_empty() { self.judge_rest(asked) } else { Ok(()) }
    }

    fn ready_ones(&self) -> BTreeMap<J, i64> {
        self.jobs.iter().filter(|(_, job)| job.place == Place::Ready).map(|(j, job)| (*j, job.rank)).collect()
    }

    fn start(&mut self, j: J, record: &JobRecord, asked: &Asked<'_>) -> Complaint {
        let job = self.jobs.get(&j).cloned().ok_or_else(|| format!("{j:?} was started and is not there"))?;
        complain(job.place == Place::Ready, || format!("{j:?} was started, and it is {}", job.place))?;
        complain(asked.queues.contains(&job.what.queue), || format!("{j:?} was started from another queue"))?;
        if let Some(why) = self.forbids(&job, asked.only, true) {
            return Err(format!("{j:?} was started, though {why}"));
        }
        let last = self.last_fence;
        complain(record.fence > last, || format!("the fence {} of {j:?} comes after {last}", record.fence))?;
        complain(
            record.place == Place::Running && record.attempt == job.attempt + 1 && record.started_at == self.now,
            || format!("the worker was told that {j:?} is {} at attempt {}", record.place, record.attempt),
        )?;
        self.last_fence = record.fence;
        self.count_start(&job);
        self.enter(j, Place::Running, self.now + LEASE_MS);
        let now = self.now;
        let job = self.job(j);
        (job.attempt, job.fence, job.started_at) = (record.attempt, record.fence, now);
        job.given.push(record.fence);
        job.gave_way = false;
        Ok(())
    }

    /// Takes note of a job that the claim set aside, if it was right to do so; the job, when it was looked at.
    fn set_aside(&mut self, j: J, asked: &Asked<'_>, seen: &Seen, held: &[J]) -> Result<Option<J>, String> {
        let job = self.jobs[&j].clone();
        let was_held = held.contains(&j) && job.place == Place::Blocked;
        if !(was_held || job.place == Place::Ready) || seen.place(j) != Some(Place::Blocked) {
            return Ok(None);
        }
        let (reason, hold) = (seen.reason(j), seen.hold(j).to_owned());
        let known = asked.only;
        let until = self.may_set_aside(&job, reason, &hold, known).filter(|_| asked.queues.contains(&job.what.queue));
        match until {
            Some(until) if !was_held || job.hold.as_deref() != Some(&hold) => {
                if reason == BlockedBy::KindUnknown {
                    self.gates.parked.insert(job.what.kind);
                }
                self.leave(j);
                self.block(j, reason, hold, until);
                self.give_way(j, reason);
                Ok(Some(j))
            }
            // It may have been let go and set aside anew.
            Some(until) => {
                let job = self.job(j);
                (job.until, job.reason) = (until, reason);
                Ok(Some(j))
            }
            None if was_held && job.hold.as_deref() == Some(&hold) => self.must_stay_or_go(j).map(|()| None),
            None => {
                Err(format!("{j:?} was set aside by `{hold}` ({reason:?}), and nothing of the sort stands before it"))
            }
        }
    }

    /// Nothing that could start is left when a worker gets less than it wants.
    fn judge_rest(&self, asked: &Asked<'_>) -> Complaint {
        let startable = |job: &Job| {
            job.place == Place::Ready
                && asked.queues.contains(&job.what.queue)
                && self.forbids(job, asked.only, false).is_none()
        };
        let left: Vec<J> = self.jobs.iter().filter(|(_, job)| startable(job)).map(|(j, _)| *j).collect();
        complain(left.is_empty(), || format!("{left:?} could have been started, and the worker wanted more"))
    }
}
