//! What is in the store, read past its verbs: records, holds, locks. Guards that the comparison with the model leaves no
//! job and no field of a record out that the model speaks of.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use leasehold_engine::{JobRecord, Place, model::BlockedBy};

use crate::{
    model::{Job, Model, line_of},
    verbs::{J, RESOURCES},
};

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    records: BTreeMap<J, JobRecord>,
    holds: BTreeMap<J, String>,
    locks: Vec<BTreeSet<J>>,
    openings: BTreeMap<String, f64>,
    units: i64,
    told: u64,
    live: u64,
    untold: Vec<String>,
}

type Held = (
    Vec<Option<Vec<u8>>>,
    BTreeMap<String, String>,
    BTreeSet<String>,
    BTreeSet<String>,
    Option<i64>,
    u64,
    Option<u64>,
    Vec<String>,
    Vec<(String, f64)>,
);

impl Seen {
    pub(crate) fn look(redis: &mut redis::Connection, model: &Model) -> Self {
        let mut pipe = redis::pipe();
        let key = |rest: &str| model.key(rest);
        let keys: Vec<String> = model.names().map(|j| key(&format!("j:{}", model.id(j)))).collect();
        pipe.cmd("MGET").arg(keys).cmd("HGETALL").arg(key("holds"));
        for resource in RESOURCES {
            pipe.cmd("HKEYS").arg(key(&format!("lock:{resource}")));
        }
        pipe.cmd("GET").arg(key("allowance:units")).cmd("XLEN").arg(key("outbox"));
        pipe.cmd("HGET").arg(key("counters")).arg("live");
        pipe.cmd("LRANGE").arg(key("untold")).arg(0).arg(-1);
        pipe.cmd("ZRANGE").arg(key("openings")).arg(0).arg(-1).arg("WITHSCORES");
        let (records, holds, ra, rb, units, told, live, untold, openings): Held =
            pipe.query(redis).expect("an answer of Redis");
        let name = |id: &String| model.names().find(|j| model.id(*j).as_str() == id);
        let mut seen = Self { units: units.unwrap_or(0), told, live: live.unwrap_or(0), untold, ..Self::default() };
        for (n, bytes) in records.into_iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            let record =
                JobRecord::parse(model.ids[n].clone(), &Bytes::from(bytes)).expect("a record that can be read");
            seen.records.insert(J(n as u8), record);
        }
        seen.holds = holds.iter().filter_map(|(id, hold)| Some((name(id)?, hold.clone()))).collect();
        seen.openings = openings.into_iter().collect();
        seen.locks = [ra, rb].iter().map(|ids| ids.iter().filter_map(name).collect()).collect();
        seen
    }

    pub(crate) fn place(&self, j: J) -> Option<Place> {
        Some(self.records.get(&j)?.place)
    }

    pub(crate) fn reason(&self, j: J) -> BlockedBy {
        self.records.get(&j).map_or(BlockedBy::Nothing, |record| record.blocked_by)
    }

    pub(crate) fn hold(&self, j: J) -> &str {
        self.holds.get(&j).map_or("", String::as_str)
    }

    pub(crate) fn locks_of(&self, j: J) -> BTreeSet<usize> {
        self.locks.iter().enumerate().filter(|(_, holders)| holders.contains(&j)).map(|(n, _)| n).collect()
    }

    /// The resources whose lines may go on, and since when.
    pub(crate) fn openings(&self) -> BTreeMap<usize, i64> {
        let since = |n: usize| Some((n, *self.openings.get(&line_of(n))? as i64));
        (0..RESOURCES.len()).filter_map(since).collect()
    }

    /// What the store says otherwise than the model; what only the store decides (fences of a rescue, seq) is taken over.
    pub(crate) fn compare(&self, model: &mut Model) -> Result<(), String> {
        let last = model.last_fence;
        for j in model.names() {
            if model.fading.contains(&j) && !self.records.contains_key(&j) {
                model.forget(j);
            }
            match (self.records.get(&j), model.jobs.contains_key(&j)) {
                (None, false) => {}
                (Some(record), true) => self.compare_job(model, j, record, last)?,
                (Some(record), false) => return Err(format!("{j:?} should not be there; it is {}", record.place)),
                (None, true) => return Err(format!("{j:?} is gone; it should be {}", model.jobs[&j].place)),
            }
        }
        model.fading.clear();
        for (n, name) in RESOURCES.iter().enumerate() {
            let meant: BTreeSet<J> =
                model.jobs.iter().filter(|(_, job)| job.locks.contains(&n)).map(|(j, _)| *j).collect();
            if self.locks[n] != meant {
                return Err(format!("{name} should be held by {meant:?}, and is by {:?}", self.locks[n]));
            }
        }
        if self.units != model.units {
            return Err(format!("{} units of the allowance should be used, and {} are", model.units, self.units));
        }
        let untold: Vec<&str> = model.untold.iter().map(|j| model.id(*j).as_str()).collect();
        if self.untold != untold {
            return Err(format!("the deaths {untold:?} should be told of, and {:?} are to be", self.untold));
        }
        // One that the model has never heard of, too, would be counted.
        if self.live != model.live() {
            return Err(format!("{} jobs should be on their way, and {} are", model.live(), self.live));
        }
        if self.told != model.outbox.told() {
            return Err(format!("{} events should be told, and {} are", model.outbox.told(), self.told));
        }
        Ok(())
    }

    fn compare_job(&self, model: &mut Model, j: J, record: &JobRecord, last: u64) -> Result<(), String> {
        let listening = model.listening;
        let job = model.job(j);
        let before = job.seq;
        let found = compare_fields(job, record, self.hold(j)).and_then(|()| compare_fence(job, record, last));
        found.map_err(|text| format!("{j:?}: {text}"))?;
        let told = (listening || job.what.notify).then(|| (job.what.tenant, before + 1..=job.seq));
        if let Some((tenant, seqs)) = told {
            model.outbox.tell(j, tenant, seqs);
        }
        model.last_fence = model.last_fence.max(record.fence);
        Ok(())
    }
}

macro_rules! same {
    ($($what:literal: $meant:expr, $is:expr;)*) => {$(
        match ($meant, $is) {
            (meant, is) if meant != is => return Err(format!("{} should be {meant:?}, and is {is:?}", $what)),
            _ => {}
        }
    )*};
}
pub(crate) use same;

fn compare_fields(job: &Job, record: &JobRecord, hold: &str) -> Result<(), String> {
    let lost = job.error == "lost" && record.error.starts_with(b"{\"code\":\"worker_lost\"");
    same! {
        "the place": job.place, record.place;
        "the reason": if job.place == Place::Blocked { job.reason } else { BlockedBy::Nothing }, record.blocked_by;
        "the hold": job.hold.as_deref().unwrap_or_default(), hold;
        "the attempt": job.attempt, record.attempt;
        "cancel asked": job.cancel, record.cancel_requested;
        "sealed": job.sealed, record.sealed;
        "has a journal": job.journal, record.has_journal;
        "an open Once step": job.once_open, record.once_open;
        "undos": job.undo, record.has_undo;
        "undoing": job.undoing, record.undoing;
        "closing": job.closings > 0, record.closing;
        "has children": !job.children.is_empty(), record.has_family;
        "has resources": !job.locks.is_empty(), record.holds_resource;
        "planned": job.run_at, record.run_at;
        "started": job.started_at, record.started_at;
        "ended": job.finished_at, record.finished_at;
        "arguments": job.args.to_string().as_bytes(), &record.args[..];
        "result": job.result.as_bytes(), &record.result[..];
        "error": job.error.as_bytes(), if lost { b"lost" } else { &record.error[..] };
    }
    Ok(())
}

/// What the store alone decides grows: fences without a break, seq with each event.
fn compare_fence(job: &mut Job, record: &JobRecord, last: u64) -> Result<(), String> {
    let rescued = job.fence == 0 && record.fence > last;
    if record.fence != job.fence && !rescued {
        return Err(format!("the fence should be {}, and is {}", job.fence, record.fence));
    }
    job.fence = record.fence;
    let told = job.seen != Some(record.place) && record.place != Place::Ready;
    let least = job.seq + u32::from(told);
    if record.seq < least || record.events.last().is_some_and(|event| event.seq > record.seq) {
        return Err(format!("the seq should be {least} or more, and is {}", record.seq));
    }
    (job.seq, job.seen) = (record.seq, Some(record.place));
    Ok(())
}
