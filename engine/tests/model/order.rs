//! In which order a claim must start what it starts: queues as the worker names them, priorities, first in first out within
//! a tenant, tenants in turns.
//!
//! Invariant: only what is promised is judged. Jobs set aside on the way make a turn short, so it is not judged then.

use std::collections::BTreeMap;

use leasehold_engine::Place;

use crate::{
    claims::{Asked, Complaint},
    model::Model,
    verbs::J,
};

/// What a claim started, out of what.
pub(crate) struct Order<'a> {
    pub(crate) asked: &'a Asked<'a>,
    pub(crate) taken: &'a [J],
    /// The jobs that were ready, and since when.
    pub(crate) ready: &'a BTreeMap<J, i64>,
    /// How many were set aside.
    pub(crate) tried: usize,
}

/// Queue and priority.
pub(crate) type Lane = (usize, u8);

impl Model {
    pub(crate) fn judge_order(&mut self, order: &Order<'_>) -> Complaint {
        let left: Vec<J> = order.ready.keys().copied().filter(|j| self.jobs[j].place == Place::Ready).collect();
        self.judge_lines(order, &left)?;
        if order.tried > 0 {
            self.turns.clear();
        }
        if order.tried > 1 {
            return Ok(());
        }
        let could: Vec<J> = left
            .iter()
            .copied()
            .filter(|j| order.asked.queues.contains(&self.jobs[j].what.queue))
            .filter(|j| self.forbids(&self.jobs[j], order.asked.only, false).is_none())
            .collect();
        self.judge_priorities(order, &could)?;
        if order.tried == 0 { self.judge_turns(order, &left, &could) } else { Ok(()) }
    }

    fn lane(&self, j: J) -> (Lane, usize) {
        let what = &self.jobs[&j].what;
        ((what.queue, what.priority), what.tenant)
    }

    fn judge_lines(&self, order: &Order<'_>, left: &[J]) -> Complaint {
        let ready = order.ready;
        for (nth, j) in order.taken.iter().enumerate() {
            let mut behind = order.taken[nth + 1..].iter().chain(left);
            if let Some(earlier) = behind.find(|other| self.lane(**other) == self.lane(*j) && ready[*other] < ready[j])
            {
                return Err(format!("{j:?} was started before {earlier:?}, which was first in the same line"));
            }
        }
        Ok(())
    }

    /// `could`: what was left, though it could have been started.
    fn judge_priorities(&self, order: &Order<'_>, could: &[J]) -> Complaint {
        let weight = |j: J| {
            let ((queue, priority), _) = self.lane(j);
            (order.asked.queues.iter().position(|q| *q == queue), priority)
        };
        for passed in could {
            if let Some(j) = order.taken.iter().find(|j| weight(**j) > weight(*passed)) {
                return Err(format!("{j:?} was started, and {passed:?} goes before it"));
            }
            let (mine, others) = self.shares_of(order.taken, *passed);
            if order.tried == 0 && mine == 0 && others > 1 {
                return Err(format!("another tenant had {others} turns, and {passed:?} none"));
            }
        }
        Ok(())
    }

    /// How many of a lane were started of a job's own tenant, and of others.
    fn shares_of(&self, taken: &[J], of: J) -> (usize, usize) {
        let (lane, tenant) = self.lane(of);
        let same = taken.iter().filter(|j| self.lane(**j).0 == lane);
        let (mine, others): (Vec<&J>, Vec<&J>) = same.partition(|j| self.lane(**j).1 == tenant);
        (mine.len(), others.len())
    }

    /// Who was served last in a lane, and has more, stands behind the others there who have.
    fn judge_turns(&mut self, order: &Order<'_>, left: &[J], could: &[J]) -> Complaint {
        for passed in could {
            let (lane, tenant) = self.lane(*passed);
            let (mine, others) = self.shares_of(order.taken, *passed);
            let owed = self.turns.get(&lane).is_some_and(|(last, owed)| *last != tenant && owed.contains(&tenant));
            if owed && mine == 0 && others > 0 {
                return Err(format!("it was the turn of {passed:?}: the other tenant was served last"));
            }
        }
        for j in order.taken {
            let (lane, last) = self.lane(*j);
            let of = |j: &&J| self.lane(**j).0 == lane;
            let has_more: Vec<usize> = left.iter().filter(of).map(|j| self.lane(*j).1).collect();
            self.turns.remove(&lane);
            if has_more.contains(&last) {
                self.turns.insert(lane, (last, has_more));
            }
        }
        Ok(())
    }
}
