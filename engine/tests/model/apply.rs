//! What a verb does in the model and what it must answer, as text. Claims and promotions are judged by what is seen.

use leasehold_engine::store::GateSet;

use crate::{
    gates::{Frozen, Limit, limit_of},
    model::Model,
    send::children_of,
    verbs::Verb,
};

impl Model {
    /// The answer; `None` when the model does not say one.
    pub(crate) fn apply(&mut self, verb: &Verb) -> Option<String> {
        self.nth += 1;
        Some(match verb {
            Verb::Claim { .. } | Verb::ClaimAgain { .. } | Verb::Promote | Verb::OutboxRead { .. } => return None,
            Verb::FireLook { .. } | Verb::FireSeen { .. } | Verb::Progress { .. } => return None,
            Verb::SchedulePut { .. } | Verb::SchedulePause { .. } => self.apply_schedule(verb),
            Verb::ScheduleRemove { .. } | Verb::Fire { .. } => self.apply_schedule(verb),
            Verb::Enqueue { jobs, most } => format!("{:?}", self.enqueue(jobs, *most)),
            Verb::Settle { jobs, fence, outcome, plain } => {
                let asked: Vec<_> =
                    jobs.iter().map(|j| (*j, self.fence(*j, *fence), self.suspended_until(*j, *outcome))).collect();
                let one = |(j, fence, at)| self.settle(j, fence, *outcome, *plain, at);
                format!("{:?}", asked.into_iter().map(one).collect::<Vec<_>>())
            }
            Verb::Renew { job, fence } => format!("{:?}", [self.renew(*job, self.fence(*job, *fence))]),
            Verb::Rescue => {
                let mut ids: Vec<_> = self.rescue().into_iter().map(|j| self.id(j).clone()).collect();
                ids.sort();
                format!("{ids:?}")
            }
            Verb::Cancel { .. } | Verb::Edit { .. } | Verb::Revive { .. } | Verb::Resolve { .. } => {
                self.apply_people(verb)
            }
            Verb::Cascade => format!("{:?}", self.cascade()),
            Verb::Prune { place, kind, age_ms } => {
                self.prune(*place, *kind, *age_ms);
                String::new()
            }
            Verb::NoteTold { job } => {
                self.note_told(*job);
                "()".to_owned()
            }
            Verb::TicketIssue(ticket) => format!("{:?}", self.tickets.issue(*ticket, self.now)),
            Verb::Advance { ms } => {
                self.now += ms;
                String::new()
            }
            Verb::StepBegin { .. } | Verb::StepEnd { .. } | Verb::Suspend { .. } => self.apply_workflow(verb),
            Verb::Signal { .. } | Verb::Spawn { .. } | Verb::UndoBegin { .. } => self.apply_workflow(verb),
            Verb::Listen(_) | Verb::OutboxRoute { .. } | Verb::DeliveryClaim { .. } => self.apply_delivery(verb),
            Verb::DeliverySettle { .. } | Verb::DeliveryReplay { .. } => self.apply_delivery(verb),
            Verb::DeliverySettleAgain { .. } | Verb::DeliveriesForget { .. } => self.apply_delivery(verb),
            _ => self.apply_gate(verb),
        })
    }

    fn apply_people(&mut self, verb: &Verb) -> String {
        match verb {
            Verb::Cancel { job, lead_ms } => {
                let answer = self.cancel(*job, *lead_ms);
                // Who cancels a tree does not leave its children to others.
                while !self.cascades.is_empty() {
                    self.cascade();
                }
                format!("{answer:?}")
            }
            Verb::Edit { job, args, run_in, stale, lead_ms } => {
                format!("{:?}", self.edit(*job, *args, *run_in, *stale, *lead_ms))
            }
            Verb::Revive { job } => format!("{:?}", self.revive(*job)),
            Verb::Resolve { job, step, happened } => format!("{:?}", self.resolve(*job, *step, *happened)),
            _ => String::new(),
        }
    }

    fn apply_workflow(&mut self, verb: &Verb) -> String {
        match verb {
            Verb::StepBegin { job, fence, step, again, seal, inside } => {
                let of = (*job, self.fence(*job, *fence));
                format!("{:?}", self.step_begin(of, *step, (*again, *seal, *inside)))
            }
            Verb::StepEnd { job, fence, step } => self.step_end((*job, self.fence(*job, *fence)), *step).to_owned(),
            Verb::Suspend { job, fence, wait } => {
                let children = children_of(self, *job, wait);
                self.suspend((*job, self.fence(*job, *fence)), wait, &children)
            }
            Verb::Signal { job, name, key } => format!("{:?}", self.signal(*job, *name, *key)),
            Verb::Spawn { job, fence, child, what } => self.spawn((*job, self.fence(*job, *fence)), *child, what),
            Verb::UndoBegin { job, fence } => format!("{:?}", self.undo_begin(*job, self.fence(*job, *fence))),
            _ => String::new(),
        }
    }

    fn apply_gate(&mut self, verb: &Verb) -> String {
        let set = format!("{:?}", GateSet::Set);
        // A tenant that was paused begins its turns anew.
        self.turns.clear();
        let gates = &mut self.gates;
        gates.changes += 1;
        match verb {
            Verb::Pause(part) => gates.change_stop(*part, |stop| stop.0 = true),
            Verb::Resume(part) => gates.change_stop(*part, |stop| stop.0 = false),
            Verb::Kill(part) => gates.change_stop(*part, |stop| stop.1 = true),
            Verb::Unkill(part) => gates.change_stop(*part, |stop| stop.1 = false),
            Verb::Limit { of, most, rate } => {
                let (field, of) = limit_of(*of);
                let same = gates.limits.get(&field).filter(|(_, l)| l.most == *most && l.rate == *rate);
                let since = same.map_or(self.nth, |(_, limit)| limit.since);
                gates.limits.insert(field, (of, Limit { most: *most, rate: *rate, since }));
            }
            Verb::Unlimit { of } => return (gates.limits.remove(&limit_of(*of).0).is_some()).to_string(),
            Verb::Freeze { name, from_in, lasts, kind, tenant, resource } => {
                let from = self.now + from_in;
                let (kind, tenant, resource) = (*kind, *tenant, *resource);
                gates.freezes.insert(*name, Frozen { from, until: from + lasts, kind, tenant, resource });
            }
            Verb::Unfreeze { name } => return gates.freezes.remove(name).is_some().to_string(),
            Verb::ClockJumped(true) => gates.clock_jumped = true,
            Verb::ClockJumped(false) => return std::mem::take(&mut gates.clock_jumped).to_string(),
            Verb::Takes { kind, ms } => drop(gates.takes.insert(*kind, *ms)),
            _ => {}
        }
        set
    }
}
