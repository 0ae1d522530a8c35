//! Taking jobs in: one script for up to 250 jobs, each accepted whole or refused whole.

use std::collections::HashSet;

use futures::StreamExt;
use redis::Value;

use super::{connect::Store, error::StoreError};
use crate::model::{Enqueued, JobId, NewJob, Resource, TicketRefusal, pack, shared_bytes};

/// Jobs in one call of the script; more gains nothing and makes others wait.
const BATCH: usize = 250;
/// Calls on their way at a time: each waits for the disk.
const IN_FLIGHT: usize = 4;

impl Store {
    /// Takes jobs in. Answers in the order of `jobs`; each is accepted, or refused with nothing written.
    ///
    /// Sending the same ids again gives the same answers. `max_live` bounds the live jobs of a shard (back-pressure).
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached: then it is not known what was taken in; send the same ids again.
    pub async fn enqueue(&self, jobs: &[NewJob], max_live: u64) -> Result<Vec<Enqueued>, StoreError> {
        let mut answers: Vec<Option<Enqueued>> = vec![None; jobs.len()];
        for shard in 0..self.shards {
            let mine: Vec<usize> = (0..jobs.len()).filter(|i| jobs[*i].id.shard() == shard).collect();
            let mut calls = Vec::new();
            for batch in mine.chunks(BATCH) {
                calls.push(self.enqueue_batch(shard, jobs, batch.to_vec(), max_live));
            }
            let mut answered = futures::stream::iter(calls).buffered(IN_FLIGHT);
            while let Some(batch) = answered.next().await {
                for (at, reply) in batch? {
                    answers[at] = Some(reply);
                }
            }
        }
        let lost = || StoreError::UnknownAnswer { verb: "enqueue", answer: "a job on no shard".to_owned() };
        answers.into_iter().map(|a| a.ok_or_else(lost)).collect()
    }

    async fn enqueue_batch(
        &self,
        shard: u16,
        jobs: &[NewJob],
        batch: Vec<usize>,
        max_live: u64,
    ) -> Result<Vec<(usize, Enqueued)>, StoreError> {
        let mut cmd = self.begin(&self.scripts.enqueue, shard);
        let groups = groups(jobs, &batch)?;
        cmd.arg(max_live).arg(groups.len());
        for group in &groups {
            cmd.arg(group.start()).arg(u8::from(group.plain)).arg(group.jobs.len());
            for (job, record) in &group.jobs {
                cmd.arg(job.id.as_str()).arg(&record[group.shared..]);
                if !group.plain {
                    cmd.arg(job.run_at.unwrap_or(0)).arg(wish(job));
                }
            }
        }
        let replies: Vec<Value> = self.query("enqueue", cmd).await?;
        if replies.is_empty() {
            return Ok(batch.into_iter().map(|at| (at, Enqueued::Accepted(jobs[at].id.clone()))).collect());
        }
        batch.into_iter().zip(replies).map(|(at, reply)| Ok((at, read(reply, &jobs[at].id)?))).collect()
    }
}

/// Jobs that follow each other and whose records begin alike.
struct Group<'a> {
    /// Due now, and asking for nothing but a place.
    plain: bool,
    shared: usize,
    jobs: Vec<(&'a NewJob, Vec<u8>)>,
}

impl Group<'_> {
    fn start(&self) -> &[u8] {
        self.jobs.first().map_or(&[], |(_, record)| &record[..self.shared])
    }
}

fn groups<'a>(jobs: &'a [NewJob], batch: &[usize]) -> Result<Vec<Group<'a>>, StoreError> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let ids: HashSet<&JobId> = batch.iter().map(|at| &jobs[*at].id).collect();
    for job in batch.iter().map(|at| &jobs[*at]) {
        check_names(job)?;
        let record = pack(job);
        let shared = shared_bytes(&record);
        // An id that is there twice is told from the first one by the slower way alone.
        let asks = job.idempotency.is_some() || job.allowance.is_some() || job.ticket.is_some();
        let plain = job.run_at.is_none() && !asks && ids.len() == batch.len();
        let fits = |last: &&mut Group<'a>| last.plain == plain && *last.start() == record[..shared];
        match groups.last_mut().filter(fits) {
            Some(group) => group.jobs.push((job, record)),
            None => groups.push(Group { plain, shared, jobs: vec![(job, record)] }),
        }
    }
    Ok(groups)
}

pub(super) fn check_names(job: &NewJob) -> Result<(), StoreError> {
    let resources = Resource::pack(&job.resources);
    let allowance = job.allowance.as_ref().map_or("", |a| a.name.as_str());
    let names = [
        ("kind", job.kind.as_str()),
        ("tenant", &job.tenant),
        ("queue", &job.queue),
        ("resources", &resources),
        ("allowance", allowance),
        ("key", job.key.as_deref().unwrap_or_default()),
    ];
    if let Some((what, _)) = names.iter().find(|(_, name)| name.len() > 255) {
        return Err(StoreError::TooLong { what, max: 255 });
    }
    // These stand in keys, between separators.
    let separates = |c: char| c == '|' || c.is_whitespace() || c.is_control();
    if let Some((what, _)) = [names[0], names[2]].iter().find(|(_, name)| name.contains(separates)) {
        return Err(StoreError::BadName { what, rule: "no `|`, white space or control characters" });
    }
    let odd = |r: &Resource| r.name.is_empty() || r.name.starts_with('~') || r.name.contains('\n');
    if job.resources.iter().any(odd) {
        return Err(StoreError::BadName {
            what: "resource",
            rule: "not empty, no line break, no `~` at its beginning",
        });
    }
    Ok(())
}

/// Packs what a job asks for besides being taken in; empty for most jobs.
pub(super) fn wish(job: &NewJob) -> Vec<u8> {
    if job.idempotency.is_none() && job.allowance.is_none() && job.ticket.is_none() {
        return Vec::new();
    }
    let mut out = Vec::new();
    let text = |out: &mut Vec<u8>, t: &[u8]| {
        out.push(t.len().min(255) as u8);
        out.extend(&t[..t.len().min(255)]);
    };
    match &job.idempotency {
        Some(i) => {
            text(&mut out, i.key.as_bytes());
            text(&mut out, &i.digest);
            out.extend(&(i.ttl.as_millis() as u64).to_le_bytes()[..6]);
        }
        None => out.extend([0; 8]),
    }
    match &job.allowance {
        Some(a) => {
            text(&mut out, a.name.as_bytes());
            out.extend(a.limit.to_le_bytes());
            out.extend(&(a.resets_at.max(0) as u64).to_le_bytes()[..6]);
        }
        None => out.extend([0; 11]),
    }
    match &job.ticket {
        Some(t) => {
            for part in [&t.id, &t.digest, &t.binding] {
                text(&mut out, part.as_bytes());
            }
        }
        None => out.extend([0; 3]),
    }
    out
}

fn read(reply: Value, asked: &JobId) -> Result<Enqueued, StoreError> {
    let reply = match reply {
        Value::Array(words) => words,
        word => vec![word],
    };
    let text = |i: usize| reply.get(i).and_then(|v| redis::from_redis_value_ref::<String>(v).ok()).unwrap_or_default();
    let unknown = || StoreError::UnknownAnswer { verb: "enqueue", answer: text(0) };
    let id = || text(1).parse::<JobId>().map_err(|_| unknown());
    Ok(match text(0).as_str() {
        "accepted" => Enqueued::Accepted(asked.clone()),
        "duplicate" => Enqueued::Duplicate(id()?),
        "conflict" => Enqueued::Conflict(id()?),
        "full" => Enqueued::Full { live: text(1).parse().unwrap_or(0) },
        "spent" => Enqueued::AllowanceSpent { used: text(1).parse().unwrap_or(0) },
        "ticket" => Enqueued::TicketRefused {
            why: ticket_refusal(&text(1)).ok_or_else(unknown)?,
            tries_left: text(2).parse().unwrap_or(0),
        },
        _ => return Err(unknown()),
    })
}

pub(super) fn ticket_refusal(word: &str) -> Option<TicketRefusal> {
    Some(match word {
        "missing" => TicketRefusal::Missing,
        "expired" => TicketRefusal::Expired,
        "locked" => TicketRefusal::Locked,
        "wrong" => TicketRefusal::Wrong,
        "other" => TicketRefusal::Other,
        _ => return None,
    })
}
