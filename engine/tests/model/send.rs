//! Sends a verb to the store and gives its answer as text, as it would be printed. Guards that what is sent depends on the
//! line and on what workers were told before, and on nothing else.

use std::{fmt::Debug, time::Duration};

use leasehold_engine::{
    Allowance, Effect, Idempotency, JobId, NewJob, Priority, Resource, Store, StoreError,
    model::{Sort, TicketUse},
    store::{Claim, Cutoff, Edit, Edited, Opening, Outcome, Resolution, Retention, Settlement},
    testing::bare::{self, Awaiting},
};

use crate::{
    gates::KEY,
    model::Model,
    verbs::{
        J, KINDS, LEASE_MS, QUEUES, RESOURCES, SIGNALS, STEPS, TENANTS, TICKET_MS, TRIES, Ticket, UNITS, Verb, WORKERS,
        Wait, What,
    },
    workflow::{spawn_step, wait_step},
};

fn cutoff(lead_ms: u64) -> Cutoff {
    Cutoff { lead_ms, inclusive: false }
}

pub(crate) fn park_hold(what: &What) -> String {
    format!("c {}", KINDS[what.kind])
}

/// The real store.
pub(crate) struct Far {
    pub(crate) store: Store,
    /// Where the tenants' jobs lie.
    pub(crate) shard: u16,
}

pub(crate) fn text<T: Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::UnknownAnswer { answer, .. }) => answer,
        Err(error) => format!("error: {error:?}"),
    }
}

fn priority(n: u8) -> Priority {
    [Priority::Critical, Priority::High, Priority::Normal, Priority::Low][usize::from(n)]
}

fn opening(effect: Effect) -> Opening {
    Opening::of(effect)
}

impl Far {
    fn new_job(model: &Model, j: J, what: &What) -> NewJob {
        new_job(model.now, model.id(j).clone(), what)
    }
}

fn ticket_use(ticket: Ticket) -> TicketUse {
    let Ticket { id, code, binding } = ticket;
    TicketUse { id: format!("k{id}"), digest: format!("d{code}"), binding: format!("b{binding}") }
}

/// A job as a caller makes it.
pub(crate) fn new_job(now: i64, id: JobId, what: &What) -> NewJob {
    let mut job = NewJob::new(id, KINDS[what.kind], TENANTS[what.tenant], vec![b'0']);
    job.queue = QUEUES[what.queue].to_owned();
    job.priority = priority(what.priority);
    job.run_at = (what.run_in > 0).then_some(now + what.run_in);
    let resource = |(n, shared): &(usize, bool)| Resource { name: RESOURCES[*n].to_owned(), shared: *shared };
    job.resources = what.resources.iter().map(resource).collect();
    job.key = what.key.then(|| KEY.to_owned());
    job.destructive = what.destructive;
    job.retry.max_attempts = what.attempts;
    job.notify = what.notify;
    job.idempotency = what.idempotency.map(|(key, content)| Idempotency {
        key: format!("k{key}"),
        digest: [content; 32],
        ttl: Duration::from_secs(3600),
    });
    job.ticket = what.ticket.map(ticket_use);
    let resets_at = now + 86_400_000;
    job.allowance =
        what.allowance.map(|refund| Allowance { name: "units".to_owned(), limit: UNITS, resets_at, refund });
    job
}

impl Far {
    pub(crate) fn claim_of(worker: usize, want: usize, queues: &[usize], only: Option<usize>, request: u64) -> Claim {
        Claim {
            worker: WORKERS[worker].to_owned(),
            request,
            want,
            lease_ms: LEASE_MS as u64,
            queues: queues.iter().map(|n| QUEUES[*n].to_owned()).collect(),
            kinds: only.iter().map(|n| KINDS[*n].to_owned()).collect(),
            by: 0,
        }
    }

    /// Sends a verb other than a claim.
    pub(crate) async fn send(&self, verb: &Verb, model: &Model) -> String {
        let store = &self.store;
        match verb {
            Verb::Claim { .. } | Verb::ClaimAgain { .. } | Verb::OutboxRead { .. } => String::new(),
            Verb::Enqueue { jobs, most } => {
                let jobs: Vec<_> = jobs.iter().map(|(j, what)| Self::new_job(model, *j, what)).collect();
                text(store.enqueue(&jobs, *most).await)
            }
            Verb::Promote => text(store.promote(self.shard, 500).await),
            Verb::Rescue => text(store.rescue(self.shard, 500).await.map(|mut ids| {
                ids.sort();
                ids
            })),
            Verb::Cancel { job, lead_ms } => text(store.cancel(model.id(*job), "", lead_ms.map(cutoff)).await),
            Verb::Revive { job } => text(store.revive(model.id(*job), "").await),
            Verb::Resolve { job, step, happened } => {
                let said = Resolution { step: step.map(|n| STEPS[n].0), happened: *happened, result: b"said" };
                text(store.resolve(model.id(*job), said, "").await)
            }
            Verb::Cascade => text(store.cascade(self.shard).await),
            Verb::Edit { .. } => self.edit(verb, model).await,
            Verb::Prune { .. } => self.prune(verb).await,
            Verb::NoteTold { job } => text(store.note_told(model.id(*job)).await),
            Verb::TicketIssue(ticket) => {
                let used = ticket_use(*ticket);
                let named = (used.id.as_str(), used.digest.as_str(), used.binding.as_str());
                let [ttl, gap] = [TICKET_MS.0, TICKET_MS.1].map(|ms| Duration::from_millis(ms as u64));
                text(store.ticket_issue(TENANTS[0], named, TRIES, ttl, gap).await)
            }
            Verb::Advance { .. } => {
                store.set_time(model.now);
                String::new()
            }
            Verb::Settle { .. } | Verb::Renew { .. } => self.settle(verb, model).await,
            Verb::StepBegin { .. } | Verb::StepEnd { .. } | Verb::Suspend { .. } => self.step(verb, model).await,
            Verb::Signal { .. } | Verb::Spawn { .. } | Verb::UndoBegin { .. } => self.family(verb, model).await,
            Verb::Listen(_) | Verb::OutboxRoute { .. } | Verb::DeliveryClaim { .. } => self.deliver(verb, model).await,
            Verb::DeliverySettle { .. } | Verb::DeliveryReplay { .. } => self.deliver(verb, model).await,
            Verb::DeliverySettleAgain { .. } | Verb::DeliveriesForget { .. } => self.deliver(verb, model).await,
            Verb::SchedulePut { .. } | Verb::SchedulePause { .. } | Verb::ScheduleRemove { .. } => {
                self.schedule(verb, model).await
            }
            Verb::Fire { most } => self.fire(model.now, model.most_of(*most)).await,
            Verb::FireLook { .. } | Verb::FireSeen { .. } | Verb::Progress { .. } => String::new(),
            _ => self.gate(verb, model).await,
        }
    }

    async fn settle(&self, verb: &Verb, model: &Model) -> String {
        match verb {
            Verb::Renew { job, fence } => {
                let held = [(model.id(*job).clone(), model.fence(*job, *fence))];
                text(self.store.renew(self.shard, &held, LEASE_MS as u64).await)
            }
            Verb::Settle { jobs, fence, outcome, plain } => {
                let ending = |j: &J| {
                    let failed = matches!(outcome, Outcome::Dead | Outcome::Retry);
                    let park = || model.jobs.get(j).map_or("c".to_owned(), |job| park_hold(&job.what));
                    let done = *outcome == Outcome::Done && !plain;
                    Settlement {
                        id: model.id(*j).clone(),
                        fence: model.fence(*j, *fence),
                        outcome: *outcome,
                        wait_ms: model.suspended_until(*j, *outcome) as u64,
                        result: if done { b"\"well\"".to_vec() } else { Vec::new() },
                        error: match outcome {
                            Outcome::Park => park().into_bytes(),
                            _ if failed => b"failed".to_vec(),
                            _ => Vec::new(),
                        },
                        note: if *plain { Vec::new() } else { b"{}".to_vec() },
                    }
                };
                text(self.store.settle(self.shard, &jobs.iter().map(ending).collect::<Vec<_>>()).await)
            }
            _ => String::new(),
        }
    }

    /// What a running job says, and what stands in its log then.
    pub(crate) async fn progress(
        &self,
        (id, fence): (&JobId, u64),
        (percent, line): (u8, &str),
        request: &str,
    ) -> Result<(bool, Vec<String>), StoreError> {
        let kept = bare::progress(&self.store, (id, fence), (percent, line), request).await?;
        Ok((kept, self.store.log(id, 0, 100).await?))
    }

    async fn edit(&self, verb: &Verb, model: &Model) -> String {
        let Verb::Edit { job, args, run_in, stale, lead_ms } = verb else { return String::new() };
        let edit = Edit {
            expected_seq: stale.then_some(999_999),
            cutoff: lead_ms.map(cutoff),
            run_at: run_in.map(|ms| model.now + ms),
            meta: "{}".into(),
            args: args.to_string().into(),
            note: String::new(),
            ticket: None,
        };
        let answer = self.store.edit(model.id(*job), &edit).await;
        text(answer.map(|answer| match answer {
            Edited::Ok(_) => Edited::Ok(0),
            Edited::Changed(_) => Edited::Changed(0),
            other => other,
        }))
    }

    async fn prune(&self, verb: &Verb) -> String {
        let Verb::Prune { place, kind, age_ms } = verb else { return String::new() };
        let keep = Retention { max_age_ms: *age_ms as u64, max_count: 1000 };
        let expired = match self.store.expired(self.shard, *place, KINDS[*kind], keep, 100).await {
            Ok(expired) => expired,
            Err(error) => return format!("error: {error:?}"),
        };
        match self.store.forget(self.shard, *place, KINDS[*kind], &expired.entries).await {
            Ok(_) => String::new(),
            Err(error) => format!("error: {error:?}"),
        }
    }

    async fn step(&self, verb: &Verb, model: &Model) -> String {
        match verb {
            Verb::StepBegin { job, fence, step, again, seal, inside } => {
                let (name, effect, undo) = STEPS[*step];
                let how = Opening { again: *again, seal: *seal, inside: *inside, undo, ..opening(effect) };
                text(self.store.step_begin(model.id(*job), model.fence(*job, *fence), name, how).await)
            }
            Verb::StepEnd { job, fence, step } => {
                text(self.store.step_end(model.id(*job), model.fence(*job, *fence), STEPS[*step].0, b"1").await)
            }
            Verb::Suspend { job, fence, wait } => {
                let children = children_of(model, *job, wait);
                let ids: Vec<JobId> = children.iter().map(|child| model.id(*child).clone()).collect();
                let (awaiting, sort, ms) = match wait {
                    Wait::Time { ms } => (Awaiting::Time, Sort::Sleep, *ms),
                    Wait::Signal { name, ms, .. } => (Awaiting::Signal(SIGNALS[*name]), Sort::Signal, *ms),
                    Wait::Children { all, fail, .. } => {
                        (Awaiting::Children { ids: &ids, all: *all, fail: *fail }, Sort::Children, 0)
                    }
                };
                let how = Opening { sort, ..opening(Effect::ReadOnly) };
                let (of, step) = ((model.id(*job), model.fence(*job, *fence)), wait_step(wait));
                spoken(bare::suspend(&self.store, of, (&step, how), (awaiting, ms as u64)).await)
            }
            _ => String::new(),
        }
    }

    async fn family(&self, verb: &Verb, model: &Model) -> String {
        match verb {
            Verb::Signal { job, name, key } => {
                text(self.store.signal(model.id(*job), SIGNALS[*name], &format!("k{key}"), b"1", "").await)
            }
            Verb::Spawn { job, fence, child, what } => {
                let mut new = Self::new_job(model, *child, what);
                new.parent = Some(model.id(*job).clone());
                let how = Opening { sort: Sort::Spawn, ..opening(Effect::Idempotent) };
                let (of, step) = ((model.id(*job), model.fence(*job, *fence)), spawn_step(*child));
                spoken(bare::spawn(&self.store, of, (&step, how), &new).await)
            }
            Verb::UndoBegin { job, fence } => {
                let fence = model.fence(*job, *fence);
                text(bare::undo_begin(&self.store, model.id(*job), fence, b"undoing").await)
            }
            _ => String::new(),
        }
    }
}

fn spoken(answer: Result<String, StoreError>) -> String {
    answer.unwrap_or_else(|error| format!("error: {error:?}"))
}

/// The children that a job waits for.
pub(crate) fn children_of(model: &Model, job: J, wait: &Wait) -> Vec<J> {
    let Wait::Children { also, .. } = wait else { return Vec::new() };
    let mine = model.jobs.get(&job).map_or(Vec::new(), |job| job.children.keys().copied().collect());
    mine.into_iter().chain(*also).collect()
}
