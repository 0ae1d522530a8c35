//! Pages of jobs: of a tenant, of a place, of all. Guards that a page costs a bounded amount, whatever the filter (E6), and
//! that its cursor still fits when jobs, kinds and queues came or went meanwhile: a job that stays where it is is listed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::{JobRecord, Place};

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this place.
    pub place: Option<Place>,
    /// In this queue.
    pub queue: Option<String>,
}

impl JobFilter {
    fn admits(&self, r: &JobRecord) -> bool {
        self.tenant.as_ref().is_none_or(|t| *t == r.tenant)
            && self.kind.as_ref().is_none_or(|k| *k == r.kind)
            && self.place.is_none_or(|p| p == r.place)
            && self.queue.as_ref().is_none_or(|q| *q == r.queue)
    }
}

/// Where a listing goes on; opaque text.
pub type Cursor = String;

/// A page of jobs.
#[derive(Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<JobRecord>,
    /// Where to go on; `None` at the end. A page may be short, even empty, and yet have more behind it.
    pub next: Option<Cursor>,
}

/// Entries looked at for one page at most, so that a filter that fits nothing costs a bounded amount; a list that is looked
/// into counts as some.
const LOOK: usize = 1000;
const LOOK_OF_A_LIST: usize = 5;
/// Jobs in one of a tenant's lists, about; as the scripts' prelude has it.
const TENANT_CHUNK: u64 = 1000;
/// Lists of a tenant that are read for one slice at most.
const CHUNKS: usize = 20;
/// Tenants whose ready jobs are read together.
const TENANTS: usize = 50;
/// Tenants of a ring that are looked at.
const RING: usize = 100_000;
/// Jobs that are put back at the head of a list between two pages, at most; more make some of them be met again.
const PUT_BACK: i64 = 1000;
/// Jobs that end between two pages, at most; more make some of them be met again.
const GROWN: i64 = 10_000;

impl Store {
    /// A page of jobs: of a tenant newest first; of a place in its own order; else the live ones first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn jobs(&self, filter: &JobFilter, cursor: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let sources = self.sources(filter).await?;
        let begin = (0, String::new());
        let (mut at, mut from) = cursor.map_or(Ok(begin), |cursor| find_cursor(cursor, &sources))?;
        let (mut jobs, mut looked) = (Vec::new(), 0);
        // A job that changes its place while the places are read one after the other is met twice.
        let mut met = HashSet::new();
        while let Some(source) = sources.get(at) {
            let slice = self.slice(source, &from, (limit - jobs.len()).clamp(50, 200)).await?;
            looked += LOOK_OF_A_LIST;
            let ids: Vec<String> = slice.entries.iter().map(|(id, _)| id.clone()).collect();
            let records = self.records(source.shard, &ids).await?;
            for ((_, after), record) in slice.entries.iter().zip(records) {
                looked += 1;
                let in_source = |r: &JobRecord| source.place.is_none_or(|p| p == r.place);
                jobs.extend(record.filter(|r| filter.admits(r) && in_source(r) && met.insert(r.id.clone())));
                if jobs.len() >= limit || looked >= LOOK {
                    return Ok(Page { jobs, next: Some(source.cursor(at, after)) });
                }
            }
            (at, from) = slice.rest.map_or_else(|| (at + 1, String::new()), |rest| (at, rest));
            if let Some(next) = sources.get(at).filter(|_| looked >= LOOK) {
                return Ok(Page { jobs, next: Some(next.cursor(at, &from)) });
            }
        }
        Ok(Page { jobs, next: None })
    }

    async fn sources(&self, filter: &JobFilter) -> Result<Vec<Source>, StoreError> {
        if let Some(tenant) = &filter.tenant {
            let shard = self.shard_of(tenant);
            return Ok(vec![Source::new(shard, tenant.clone(), Order::Tenant, None)]);
        }
        let mut all = Vec::new();
        for shard in 0..self.shards {
            self.sources_of(shard, filter, &mut all).await?;
        }
        Ok(all)
    }

    async fn sources_of(&self, shard: u16, filter: &JobFilter, all: &mut Vec<Source>) -> Result<(), StoreError> {
        let wanted = |p: Place| filter.place.is_none_or(|w| w == p);
        for (place, key) in [
            (Place::Running, "leases"),
            (Place::Blocked, "blocked"),
            (Place::Waiting, "waiting"),
            (Place::Unknown, "unknown"),
            (Place::Scheduled, "scheduled"),
        ] {
            if wanted(place) {
                all.push(Source::new(shard, key.to_owned(), Order::Rank, Some(place)));
            }
        }
        let counts = self.counts_in(shard).await?;
        let fits = |name: &String, filter: &Option<String>| filter.as_ref().is_none_or(|wanted| wanted == name);
        if wanted(Place::Ready) {
            let ready = counts.keys().filter(|(_, _, place)| *place == Place::Ready).map(|(queue, _, _)| queue);
            let queues: BTreeSet<&String> = ready.filter(|queue| fits(queue, &filter.queue)).collect();
            // A tenant that is paused is in no ring.
            let gates = self.gates_in(shard).await?;
            let paused: Vec<&str> = gates.keys().filter_map(|field| field.strip_prefix("t ")).collect();
            for (queue, priority) in queues.into_iter().flat_map(|queue| (0..4).map(move |priority| (queue, priority)))
            {
                let rest = format!("{priority}:{queue}");
                all.push(Source::new(shard, format!("ring:{rest}"), Order::Ring, Some(Place::Ready)));
                let lists = paused.iter().filter(|tenant| self.shard_of(tenant) == shard);
                let lists = lists.map(|tenant| format!("ready:{rest}|{tenant}"));
                all.extend(lists.map(|key| Source::new(shard, key, Order::List, Some(Place::Ready))));
            }
        }
        for wanted_place in [Place::Dead, Place::Cancelled, Place::Succeeded].into_iter().filter(|p| wanted(*p)) {
            let ended = counts.keys().filter(|(_, _, place)| *place == wanted_place).map(|(_, kind, _)| kind);
            let kinds: BTreeSet<&String> = ended.filter(|kind| fits(kind, &filter.kind)).collect();
            let keys = kinds.into_iter().map(|kind| format!("finished:{wanted_place}:{kind}"));
            all.extend(keys.map(|key| Source::new(shard, key, Order::ListFromEnd, Some(wanted_place))));
        }
        Ok(())
    }

    async fn slice(&self, source: &Source, from: &str, many: usize) -> Result<Slice, StoreError> {
        match source.order {
            Order::Ring => self.ring_slice(source, from, many).await,
            Order::Tenant => self.tenant_slice(source, from, many).await,
            Order::Rank => self.rank_slice(source, from, many).await,
            Order::List | Order::ListFromEnd => self.list_slice(source, from, many).await,
        }
    }

    /// A sorted set, from the entry behind `score:id`, whatever was taken out before it.
    async fn rank_slice(&self, source: &Source, from: &str, many: usize) -> Result<Slice, StoreError> {
        let key = self.key(source.shard, &source.key);
        let first = if from.is_empty() { 0 } else { self.rank_behind(&key, from).await? };
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(key).arg(first).arg(first + many - 1).arg("WITHSCORES");
        let found: Vec<(String, f64)> = self.query("jobs", cmd).await?;
        Ok(Slice::full(found.into_iter().map(|(id, score)| (id.clone(), format!("{score}:{id}"))).collect(), many))
    }

    /// How many entries of a sorted set lie before `score:id`, itself included. Those of one score are in the order of their ids.
    async fn rank_behind(&self, key: &str, from: &str) -> Result<usize, StoreError> {
        let (score, id) = from.split_once(':').ok_or(StoreError::BadCursor)?;
        let score: f64 = score.parse().map_err(|_| StoreError::BadCursor)?;
        let mut pipe = redis::pipe();
        pipe.cmd("ZCOUNT").arg(key).arg("-inf").arg(format!("({score}"));
        pipe.cmd("ZCOUNT").arg(key).arg("-inf").arg(score);
        let (mut low, mut high): (usize, usize) = self.pipe("jobs", &pipe).await?;
        while low < high {
            let middle = low.midpoint(high);
            let mut cmd = redis::cmd("ZRANGE");
            cmd.arg(key).arg(middle).arg(middle);
            let found: Vec<String> = self.query("jobs", cmd).await?;
            if found.first().is_some_and(|found| found.as_str() <= id) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// A list, from the entry behind `position:id`.
    async fn list_slice(&self, source: &Source, from: &str, many: usize) -> Result<Slice, StoreError> {
        let key = self.key(source.shard, &source.key);
        let is_from_end = source.order == Order::ListFromEnd;
        let first = self.list_behind(&key, from, is_from_end).await?;
        let last = first + many as i64 - 1;
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(key);
        if is_from_end {
            cmd.arg(-last - 1).arg(-first - 1)
        } else {
            cmd.arg(first).arg(last)
        };
        let mut ids: Vec<String> = self.query("jobs", cmd).await?;
        if is_from_end {
            ids.reverse();
        }
        let after = |(n, id): (usize, String)| (id.clone(), format!("{}:{id}", first + n as i64 + 1));
        Ok(Slice::full(ids.into_iter().enumerate().map(after).collect(), many))
    }

    /// The position behind the entry `position:id` of a list, which others may have moved. When it is gone: jobs leave a list
    /// that is worked off at its head, so all that was before it is gone too, or is met again; one that grows at the end keeps
    /// its positions, or repeats some.
    async fn list_behind(&self, key: &str, from: &str, is_from_end: bool) -> Result<i64, StoreError> {
        if from.is_empty() {
            return Ok(0);
        }
        let (position, id) = from.split_once(':').ok_or(StoreError::BadCursor)?;
        let position: i64 = position.parse().map_err(|_| StoreError::BadCursor)?;
        let within = position.saturating_add(if is_from_end { GROWN } else { PUT_BACK });
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("LLEN").arg(key);
        pipe.cmd("LPOS").arg(key).arg(id).arg("RANK").arg(if is_from_end { -1 } else { 1 }).arg("MAXLEN").arg(within);
        let (length, found): (i64, Option<i64>) = self.pipe("jobs", &pipe).await?;
        Ok(match found {
            Some(at) if is_from_end => length - at,
            Some(at) => at + 1,
            None if is_from_end => position,
            None => 0,
        })
    }

    /// A tenant's lists from the last to the first, each by falling ids, so that a cursor fits though jobs come and go.
    async fn tenant_slice(&self, source: &Source, from: &str, many: usize) -> Result<Slice, StoreError> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.key(source.shard, &format!("tenant:{}", source.key))).arg("total").arg("first");
        let (total, first): (Option<u64>, Option<u64>) = self.query("jobs", cmd).await?;
        let (mut chunk, mut below) = match from.split_once('.') {
            Some((chunk, id)) => (chunk.parse().unwrap_or(0), id.to_owned()),
            None => (total.unwrap_or(0) / TENANT_CHUNK, String::new()),
        };
        let (mut entries, mut looked) = (Vec::new(), 0);
        while entries.len() < many {
            let mut cmd = redis::cmd("LRANGE");
            cmd.arg(self.key(source.shard, &format!("tenant_jobs:{chunk}:{}", source.key))).arg(0).arg(-1);
            let mut ids: Vec<String> = self.query("jobs", cmd).await?;
            ids.retain(|id| below.is_empty() || *id < below);
            ids.sort_unstable_by(|a, b| b.cmp(a));
            entries.extend(ids.into_iter().map(|id| (id.clone(), format!("{chunk}.{id}"))));
            looked += 1;
            if entries.len() > many {
                entries.truncate(many);
                return Ok(Slice { rest: entries.last().map(|(_, after): &(String, String)| after.clone()), entries });
            }
            if chunk <= first.unwrap_or(0) {
                return Ok(Slice { entries, rest: None });
            }
            (chunk, below) = (chunk - 1, String::new());
            if looked >= CHUNKS {
                break;
            }
        }
        Ok(Slice { entries, rest: Some(format!("{chunk}.")) })
    }

    /// The lists of the tenants of a ring, by their names: claims turn the ring meanwhile. `from` is the tenant as [`hex`], and
    /// where in its list.
    async fn ring_slice(&self, source: &Source, from: &str, many: usize) -> Result<Slice, StoreError> {
        let (tenant, mut at) = from.split_once('.').unwrap_or((from, ""));
        let ring = self.ring(source.shard, &source.key, 0, RING).await?;
        let mut tenants: Vec<(String, String)> = ring.into_iter().map(|name| (hex(&name), name)).collect();
        tenants.retain(|(hex, _)| hex.as_str() >= tenant);
        tenants.sort_unstable();
        let is_last = tenants.len() <= TENANTS;
        tenants.truncate(TENANTS);
        if tenants.first().is_none_or(|(hex, _)| hex != tenant) {
            at = "";
        }
        let first = match tenants.first() {
            Some((_, name)) => self.list_behind(&self.ready_list(source, name), at, false).await?,
            None => 0,
        };
        let mut pipe = redis::pipe();
        for (n, (_, name)) in tenants.iter().enumerate() {
            let first = if n == 0 { first } else { 0 };
            pipe.cmd("LRANGE").arg(self.ready_list(source, name)).arg(first).arg(first + many as i64 - 1);
        }
        let lists: Vec<Vec<String>> = if tenants.is_empty() { Vec::new() } else { self.pipe("jobs", &pipe).await? };
        let mut entries = Vec::new();
        for (n, ((hex, _), list)) in tenants.iter().zip(lists).enumerate() {
            let first = if n == 0 { first } else { 0 };
            let after = |(nth, id): (usize, String)| (id.clone(), format!("{hex}.{}:{id}", first + nth as i64 + 1));
            entries.extend(list.into_iter().enumerate().map(after));
            if entries.len() >= many {
                let rest = entries.last().map(|(_, after): &(String, String)| after.clone());
                return Ok(Slice { entries, rest });
            }
        }
        // Behind the last tenant: no name goes on with what is before every digit.
        let rest = tenants.last().filter(|_| !is_last).map(|(hex, _)| format!("{hex}-"));
        Ok(Slice { entries, rest })
    }

    fn ready_list(&self, ring: &Source, tenant: &str) -> String {
        self.key(ring.shard, &format!("ready:{}|{tenant}", ring.key.strip_prefix("ring:").unwrap_or_default()))
    }

    /// Tenants of a ring, in the order of their turns.
    pub(super) async fn ring(
        &self,
        shard: u16,
        key: &str,
        from: usize,
        many: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.key(shard, key)).arg(from).arg(from + many - 1);
        self.query("jobs", cmd).await
    }

    pub(crate) async fn records(&self, shard: u16, ids: &[String]) -> Result<Vec<Option<JobRecord>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut cmd = redis::cmd("MGET");
        for id in ids {
            cmd.arg(self.key(shard, &format!("j:{id}")));
        }
        let held: Vec<Option<Bytes>> = self.query("records", cmd).await?;
        Ok(ids.iter().zip(held).map(|(id, bytes)| JobRecord::parse(id.parse().ok()?, &bytes?).ok()).collect())
    }

    /// What the counters of a shard say: queue, kind, place → jobs. Those that are empty are in it as long as they are known.
    pub(super) async fn counts_in(&self, shard: u16) -> Result<BTreeMap<(String, String, Place), i64>, StoreError> {
        let mut counts = BTreeMap::new();
        for (field, n) in self.counters(shard).await? {
            let parts = field.split_once('|').and_then(|(queue, rest)| Some((queue, rest.rsplit_once('|')?)));
            if let Some((queue, (kind, place))) = parts
                && let Ok(place) = place.parse()
            {
                counts.insert((queue.to_owned(), kind.to_owned(), place), n);
            }
        }
        Ok(counts)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// A tenant's lists, the newest job first.
    Tenant,
    /// A sorted set by its scores.
    Rank,
    /// A list from its head.
    List,
    /// A list from its end: the newest first.
    ListFromEnd,
    /// The lists of the tenants of a ring.
    Ring,
}

/// One list of a listing.
struct Source {
    shard: u16,
    key: String,
    order: Order,
    place: Option<Place>,
}

/// A piece of a source: ids, each with the place behind it; and where the source goes on.
struct Slice {
    entries: Vec<(String, String)>,
    rest: Option<String>,
}

impl Slice {
    /// Of a source that goes on when it gave as many as were asked for.
    fn full(entries: Vec<(String, String)>, many: usize) -> Self {
        let rest = entries.last().filter(|_| entries.len() == many).map(|(_, after)| after.clone());
        Self { entries, rest }
    }
}

impl Source {
    const fn new(shard: u16, key: String, order: Order, place: Option<Place>) -> Self {
        Self { shard, key, order, place }
    }

    fn cursor(&self, at: usize, from: &str) -> Cursor {
        format!("{at}.{}.{}~{from}", self.shard, self.key)
    }
}

/// Where a cursor goes on: at its source, wherever that stands by now.
fn find_cursor(cursor: &str, sources: &[Source]) -> Result<(usize, String), StoreError> {
    let read = || {
        let (source, from) = cursor.rsplit_once('~')?;
        let (at, rest) = source.split_once('.')?;
        let (shard, key) = rest.split_once('.')?;
        Some((at.parse::<usize>().ok()?, shard.parse::<u16>().ok()?, key, from))
    };
    let (at, shard, key, from) = read().ok_or(StoreError::BadCursor)?;
    let same = |source: &&Source| source.shard == shard && source.key == key;
    Ok(match sources.get(at).filter(same) {
        Some(_) => (at, from.to_owned()),
        None => sources.iter().position(|s| same(&s)).map_or_else(|| (at, String::new()), |at| (at, from.to_owned())),
    })
}

/// A name in letters that fit a cursor, in the same order.
fn hex(name: &str) -> String {
    name.bytes().fold(String::new(), |mut hex, byte| {
        for nibble in [byte >> 4, byte & 15] {
            hex.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
        hex
    })
}
