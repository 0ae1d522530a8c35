//! Plays a sequence on the model and on a real Redis, side by side. Guards that after each verb both say the same.

use leasehold_engine::{
    JobId, Store, StoreOptions,
    store::Claimed,
    testing::{NOON, RedisServer},
};

use crate::{
    claims::Asked,
    model::Model,
    seen::Seen,
    seen_deliveries, seen_schedules,
    send::Far,
    verbs::{Fence, J, JOBS, Line, SLOT_JOBS, TENANTS, Verb},
};

/// What a claim answers when there is nothing for it.
const NOTHING: &str = "nothing";

/// Shards of the stores that are played on. Both tenants lie in the last one: what is looked for in the first is not there.
const SHARDS: [u16; 2] = [1, 3];

/// Stores, and a way to look past each.
pub(crate) struct Bench([Stand; 2]);

/// A Redis, a store on it, and a way to look past the store.
pub(crate) struct Stand {
    pub(crate) far: Far,
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
    pub(crate) bench: &'a mut Stand,
    pub(crate) model: Model,
    requests: u64,
    last_claims: [Option<Verb>; 2],
    pub(crate) care: Care,
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
        // Replies are lost when a sequence says so, and not because the machine is slow.
        let response_timeout = std::time::Duration::from_secs(60);
        let options = StoreOptions { shards, response_timeout, ..StoreOptions::new(server.url()) };
        let store = Store::open(options).await.expect("a store");
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

    pub(crate) async fn verb(&mut self, verb: &Verb, again: bool) -> Result<String, String> {
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
            Verb::FireLook { .. } | Verb::FireSeen { .. } | Verb::Fire { .. } => self.schedule(verb).await?,
            Verb::SchedulePut { .. } | Verb::SchedulePause { .. } => self.schedule(verb).await?,
            _ => self.plain(verb).await?,
        };
        Ok(answer)
    }

    /// A verb of a schedule; then the schedules are compared.
    async fn schedule(&mut self, verb: &Verb) -> Result<String, String> {
        let answer = match verb {
            Verb::FireLook { process } => {
                self.bench.far.fire_look(&mut self.model, *process).await?;
                String::new()
            }
            Verb::FireSeen { process, decisions, again } => {
                self.bench.far.fire_seen(&mut self.model, *process, (*decisions, *again)).await?;
                self.compare()?;
                String::new()
            }
            _ => self.plain(verb).await?,
        };
        seen_schedules::compare(&self.bench.far, &self.model).await?;
        Ok(answer)
    }

    pub(crate) async fn plain(&mut self, verb: &Verb) -> Result<String, String> {
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
}

fn told(claimed: &Claimed) -> String {
    let jobs: Vec<_> = claimed.jobs.iter().map(|r| (&r.id, r.fence)).collect();
    if jobs.is_empty() { NOTHING.to_owned() } else { format!("{jobs:?}") }
}
