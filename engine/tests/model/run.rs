//! Plays a sequence on the model and on a real Redis, side by side. Guards that after each verb both say the same, and that
//! in the end everything can come to its end.

use leasehold_engine::{
    JobId, Place, Store, StoreOptions,
    store::{Claimed, Outcome},
    testing::{NOON, RedisServer},
};

use crate::{
    claims::Asked,
    deliveries::Delivery,
    model::Model,
    seen::Seen,
    seen_deliveries, seen_schedules,
    send::Far,
    verbs::{
        Arrival, ENDPOINTS, Expected, FREEZES, Fence, J, JOBS, KINDS, Line, Part, QUEUES, SIGNALS, SLOT_JOBS, STEPS,
        TENANTS, Verb,
    },
};

/// The key of the last signals, which no sequence has.
const LAST_KEY: u8 = 99;

/// What a claim answers when there is nothing for it.
const NOTHING: &str = "nothing";

/// Shards of the stores that are played on. Both tenants lie in the last one: what is looked for in the first is not there.
const SHARDS: [u16; 2] = [1, 3];

/// Stores, and a way to look past each.
pub(crate) struct Bench([Stand; 2]);

/// A Redis, a store on it, and a way to look past the store.
struct Stand {
    far: Far,
    redis: redis::Connection,
    _server: RedisServer,
}

/// How a sequence is played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Care {
    /// All records are compared after so many verbs.
    pub(crate) every: usize,
    /// Whether it is brought to its end and audited.
    pub(crate) to_the_end: bool,
    /// Whether somebody listens to all that happens.
    pub(crate) listening: bool,
    /// Whether the store has several shards.
    pub(crate) sharded: bool,
}

/// A sequence on its way.
pub(crate) struct Play<'a> {
    bench: &'a mut Stand,
    pub(crate) model: Model,
    requests: u64,
    last_claims: [Option<Verb>; 2],
    care: Care,
    since: usize,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self([Stand::new(SHARDS[0]).await, Stand::new(SHARDS[1]).await])
    }

    /// An empty store at noon.
    pub(crate) async fn play(&mut self, care: Care) -> Play<'_> {
        let stand = &mut self.0[usize::from(care.sharded)];
        redis::cmd("FLUSHDB").query::<()>(&mut stand.redis).expect("an answer of Redis");
        let store = &stand.far.store;
        if care.listening {
            store.set_listening(true).await.expect("an answer");
        }
        store.set_time(NOON);
        let mut ids: Vec<JobId> = (0..JOBS + SLOT_JOBS).map(|_| store.new_id(TENANTS[0])).collect();
        ids.sort();
        let model = Model { listening: care.listening, ..Model::new(NOON, ids) };
        Play { bench: stand, model, requests: 0, last_claims: [None, None], care, since: 0 }
    }
}

impl Stand {
    async fn new(shards: u16) -> Self {
        let server = RedisServer::start();
        let store = Store::open(StoreOptions { shards, ..StoreOptions::new(server.url()) }).await.expect("a store");
        let redis = redis::Client::open(server.url()).and_then(|client| client.get_connection()).expect("a connection");
        let found = TENANTS.map(|tenant| store.shard_of(tenant));
        assert_eq!(found, [shards - 1; 2], "the tenants' jobs lie in the last shard");
        Self { far: Far { store, shard: shards - 1 }, redis, _server: server }
    }
}

impl Play<'_> {
    /// Plays a line; what the store does otherwise than the model.
    pub(crate) async fn line(&mut self, line: &Line) -> Result<(), String> {
        if self.is_out_of_place(&line.verb) {
            return Ok(());
        }
        let first = self.verb(&line.verb, false).await?;
        if !line.twice {
            return Ok(());
        }
        let second = self.verb(&line.verb, true).await?;
        // A claim that found nothing may find what became free meanwhile.
        if line.verb.answers_alike() && first != second && first != NOTHING {
            return Err(format!("sent again after a lost reply it answered {second}, and {first} before"));
        }
        Ok(())
    }

    /// Callers make a new id for each job: a forgotten one does not come again.
    fn is_out_of_place(&self, verb: &Verb) -> bool {
        match verb {
            Verb::Enqueue { jobs, .. } => jobs.iter().any(|(j, _)| self.model.forgotten.contains(j)),
            Verb::Spawn { job, child, .. } => self.model.forgotten.contains(child) || job == child,
            // A worker undoes only what has an undo.
            Verb::UndoBegin { job, .. } => self.model.jobs.get(job).is_some_and(|job| !job.undo),
            Verb::ClaimAgain { worker } => self.last_claims[*worker].is_none(),
            // There are not so many names.
            Verb::Fire { .. } => self.model.schedules.made + 8 > SLOT_JOBS,
            Verb::FireSeen { process, .. } => {
                self.model.schedules.looked[*process].is_none() || self.model.schedules.made + 8 > SLOT_JOBS
            }
            Verb::OutboxRoute { sender } => self.model.outbox.read[*sender].is_empty(),
            _ => false,
        }
    }

    async fn verb(&mut self, verb: &Verb, again: bool) -> Result<String, String> {
        let answer = match verb {
            Verb::Claim { worker, .. } => {
                self.last_claims[*worker] = Some(verb.clone());
                self.requests += u64::from(!again);
                let request = self.requests * 2 + *worker as u64;
                self.claim(verb, request).await?
            }
            Verb::ClaimAgain { worker } => {
                let last = self.last_claims[*worker].clone().expect("a claim before");
                let request = self.model.claims.get(worker).map_or(0, |(request, _)| *request);
                if request == 0 { String::new() } else { self.claim(&last, request).await? }
            }
            Verb::Promote => {
                let answer = self.bench.far.send(verb, &self.model).await;
                let seen = Seen::look(&mut self.bench.redis, &self.model);
                if answer.starts_with("error") {
                    return Err(answer);
                }
                self.model.judge_promotion(&seen)?;
                seen.compare(&mut self.model)?;
                String::new()
            }
            Verb::OutboxRead { sender, most } => {
                // What was told until now is known only when the records are.
                self.compare()?;
                let entries = self.bench.far.outbox_read(*most).await?;
                self.model.judge_read(*sender, *most, &entries)?;
                format!("{:?}", entries.iter().map(|entry| &entry.entry).collect::<Vec<_>>())
            }
            Verb::Progress { job, fence, percent } => {
                self.requests += u64::from(!again);
                self.progress((*job, *fence), *percent, again).await?
            }
            Verb::FireLook { process } => {
                self.bench.far.fire_look(&mut self.model, *process).await?;
                String::new()
            }
            Verb::FireSeen { process, decisions, again } => {
                self.bench.far.fire_seen(&mut self.model, *process, (*decisions, *again)).await?;
                self.compare()?;
                seen_schedules::compare(&self.bench.far, &self.model).await?;
                String::new()
            }
            Verb::Fire { .. } | Verb::SchedulePut { .. } | Verb::SchedulePause { .. } => {
                let answer = self.plain(verb).await?;
                seen_schedules::compare(&self.bench.far, &self.model).await?;
                answer
            }
            _ => self.plain(verb).await?,
        };
        Ok(answer)
    }

    async fn plain(&mut self, verb: &Verb) -> Result<String, String> {
        if matches!(verb, Verb::Prune { .. } | Verb::Listen(_)) && self.since > 0 {
            self.compare()?;
        }
        let before = if matches!(verb, Verb::Advance { .. }) {
            None
        } else {
            Some(self.bench.far.send(verb, &self.model).await)
        };
        let meant = self.model.apply(verb).unwrap_or_default();
        let answer = match before {
            Some(answer) => answer,
            None => self.bench.far.send(verb, &self.model).await,
        };
        if answer != meant {
            return Err(format!("it answered {answer}, and {meant} was expected"));
        }
        self.since += 1;
        if self.since >= self.care.every || matches!(verb, Verb::Rescue | Verb::Prune { .. } | Verb::Fire { .. }) {
            self.compare()?;
        }
        Ok(answer)
    }

    async fn progress(&mut self, (job, fence): (J, Fence), percent: u8, again: bool) -> Result<String, String> {
        let fence = self.model.fence(job, fence);
        let model = &mut self.model;
        let (line, request) = (format!("at {percent}"), format!("r{}", self.requests));
        let said = self.bench.far.progress((model.id(job), fence), (percent, &line), &request).await;
        let (kept, log) = said.map_err(|error| format!("error: {error:?}"))?;
        let meant = if again { model.running(job, fence).is_some() } else { model.progress((job, fence), &line) };
        let lines = model.jobs.get(&job).map_or(&[][..], |job| &job.said);
        if (kept, &log[..]) != (meant, lines) {
            return Err(format!("{meant} was expected and {lines:?}; it answered {kept}, and the log is {log:?}"));
        }
        Ok(kept.to_string())
    }

    pub(crate) fn compare(&mut self) -> Result<(), String> {
        self.since = 0;
        Seen::look(&mut self.bench.redis, &self.model).compare(&mut self.model)?;
        seen_deliveries::compare(&mut self.bench.redis, &self.model)
    }

    async fn claim(&mut self, verb: &Verb, request: u64) -> Result<String, String> {
        let Verb::Claim { worker, want, queues, only } = verb else { return Ok(String::new()) };
        // What other verbs did must be right before chance has a say.
        if self.since > 0 {
            self.compare()?;
        }
        let claim = Far::claim_of(*worker, *want, queues, *only, request);
        let claimed = self
            .bench
            .far
            .store
            .claim(self.bench.far.shard, &claim)
            .await
            .map_err(|error| format!("error: {error:?}"))?;
        let seen = Seen::look(&mut self.bench.redis, &self.model);
        if self.model.claims.get(worker).is_some_and(|(last, _)| *last == request) {
            self.model.judge_again(*worker, &claimed)?;
        } else {
            let asked = Asked { worker: *worker, request, want: *want, queues, only: *only };
            self.model.judge_claim(&asked, &claimed, &seen)?;
        }
        seen.compare(&mut self.model)?;
        Ok(told(&claimed))
    }

    /// Takes away what stops jobs (limits stay), and lets workers do what there is, until all have ended.
    async fn bring_to_the_end(&mut self) -> Result<(), String> {
        self.compare()?;
        self.audit().await?;
        for verb in self.openings() {
            self.plain(&verb).await.map_err(|text| format!("{verb:?}: {text}"))?;
        }
        for _ in 0..30 {
            for verb in self.round() {
                self.verb(&verb, false).await.map_err(|text| format!("at the end, {verb:?}: {text}"))?;
            }
            if self.model.jobs.values().all(|job| job.place.is_final()) {
                self.deliver_all().await?;
                return self.audit().await;
            }
        }
        let left = self.model.jobs.iter().filter(|(_, job)| !job.place.is_final());
        let left: Vec<_> = left.map(|(j, job)| (j, job.place, job.hold.as_deref())).collect();
        Err(format!("these cannot come to an end: {left:?}"))
    }

    /// The end of a sequence: all is compared, and brought to its end or at least read by who hears of it.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        if self.care.to_the_end {
            return self.bring_to_the_end().await;
        }
        self.verb(&Verb::OutboxRead { sender: 0, most: 1000 }, false).await.map(|_| ())
    }

    /// A sender that nothing stops: all that was told reaches all who hear it.
    async fn deliver_all(&mut self) -> Result<(), String> {
        let mut verbs = vec![Verb::OutboxRead { sender: 0, most: 1000 }, Verb::OutboxRoute { sender: 0 }];
        while !verbs.is_empty() {
            for verb in verbs {
                self.verb(&verb, false).await.map_err(|text| format!("at the end, {verb:?}: {text}"))?;
            }
            let due = self.model.outbox.pending().map(|delivery| delivery.due).max();
            let ms = due.map_or(0, |due| (due - self.model.now).max(0));
            let settle =
                |delivery: &Delivery| Verb::DeliverySettle { parcel: delivery.parcel, how: Arrival::Delivered };
            verbs = due.map_or(Vec::new(), |_| {
                let claims = (0..ENDPOINTS.len()).map(|to| Verb::DeliveryClaim { to, most: 1000, lease_ms: 1000 });
                let settles = self.model.outbox.pending().map(settle);
                [Verb::Advance { ms }].into_iter().chain(claims).chain(settles).collect()
            });
        }
        self.compare()?;
        if self.model.outbox.told() > 0 { Err("something is told to nobody".to_owned()) } else { Ok(()) }
    }

    pub(crate) async fn audit(&mut self) -> Result<(), String> {
        let report = self.bench.far.store.audit().await.map_err(|error| format!("error: {error:?}"))?;
        if report.findings.is_empty() { Ok(()) } else { Err(format!("the audit found {:#?}", report.findings)) }
    }

    fn openings(&self) -> Vec<Verb> {
        let parts = (0..QUEUES.len()).map(Part::Queue).chain((0..KINDS.len()).map(Part::Kind));
        let parts: Vec<Part> = parts.chain((0..TENANTS.len()).map(Part::Tenant)).chain([Part::All]).collect();
        let gates = &self.model.gates;
        let stops = parts.into_iter().filter(|part| gates.is_stopped(*part));
        let mut verbs: Vec<Verb> = stops.flat_map(|part| [Verb::Resume(part), Verb::Unkill(part)]).collect();
        verbs.extend((0..FREEZES.len()).filter(|n| gates.freezes.contains_key(n)).map(|name| Verb::Unfreeze { name }));
        let schedules = self.model.schedules.kept.keys();
        verbs.extend(schedules.map(|of| Verb::ScheduleRemove { of: *of, expected: Expected::Any }));
        verbs.extend(gates.clock_jumped.then_some(Verb::ClockJumped(false)));
        verbs
    }

    /// One round of a world without people: time goes on, what ran is done, what waits is cancelled.
    fn round(&self) -> Vec<Verb> {
        let jobs = |place: Place| self.model.jobs.iter().filter(move |(_, job)| job.place == place).map(|(j, _)| *j);
        let planned = self.model.jobs.values().filter(|job| job.place == Place::Scheduled).map(|job| job.run_at);
        let ms = planned.min().map_or(2000, |at| (at - self.model.now).max(2000));
        let mut verbs: Vec<Verb> = jobs(Place::Running).collect::<Vec<J>>().into_iter().map(done).collect();
        verbs.extend([Verb::Advance { ms }, Verb::Promote]);
        verbs.extend(jobs(Place::Unknown).map(|job| {
            let step = self.model.open_once_steps(job).first().and_then(|name| STEPS.iter().position(|s| s.0 == *name));
            Verb::Resolve { job, step, happened: true }
        }));
        let answers = (0..SIGNALS.len())
            .flat_map(|name| jobs(Place::Waiting).map(move |job| Verb::Signal { job, name, key: LAST_KEY }));
        verbs.extend(answers);
        verbs.extend(jobs(Place::Waiting).map(|job| Verb::Cancel { job, lead_ms: None }));
        let parked = |j: &J| self.model.jobs[j].reason == leasehold_engine::model::BlockedBy::CodeChanged;
        verbs.extend(jobs(Place::Blocked).filter(parked).map(|job| Verb::Revive { job }));
        verbs.extend([Verb::Cascade, Verb::Claim { worker: 0, want: 20, queues: vec![0, 1], only: None }]);
        verbs
    }
}

fn done(job: J) -> Verb {
    Verb::Settle { jobs: vec![job], fence: Fence::Last, outcome: Outcome::Done, plain: true }
}

fn told(claimed: &Claimed) -> String {
    let jobs: Vec<_> = claimed.jobs.iter().map(|r| (&r.id, r.fence)).collect();
    if jobs.is_empty() { NOTHING.to_owned() } else { format!("{jobs:?}") }
}
