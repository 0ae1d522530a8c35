//! A job's record: one packed string, written by Rust at enqueue and changed by scripts. Guards that both read it alike.
//!
//! Layout (little endian): 52 bytes of hot fields, the last 30 of which claims and settlements change; 27 bytes of cold ones; then kind,
//! tenant, queue, resources, allowance, key, parent (a length byte each); then meta, args, result, error (lengths in the header); then
//! the events that the hot fields do not tell. `prelude.lua` holds the same layout.

use bytes::Bytes;

use super::{Event, EventWord, JobId, NewJob, Place, Priority, Resource, Retry, UnixMs};

/// Size of the header.
const HEADER_BYTES: usize = 79;
/// Size of the hot fields at its front.
pub(crate) const HOT_BYTES: usize = 52;
/// The end of the job is known from place, time and seq; no event was written down.
const QUIET_END: u64 = 2;
/// Where what a claim changes begins, and how long it is.
pub(crate) const CLAIMED: std::ops::Range<usize> = 22..46;
const VERSION: u8 = 2;
const FLAG_CANCEL: u16 = 1;
const FLAG_ONCE_OPEN: u16 = 4;
const FLAG_LOCKED: u16 = 8;
const FLAG_SEALED: u16 = 16;
const FLAG_NOTIFY: u16 = 32;
pub(super) const FLAG_JOURNAL: u16 = 2;
const FLAG_UNDO: u16 = 256;
const FLAG_UNDOING: u16 = 512;
const FLAG_DESTRUCTIVE: u16 = 1024;
const FLAG_FAMILY: u16 = 2048;
const FLAG_CLOSING: u16 = 8192;

/// Why a job is blocked. The numbers are those of the scripts' prelude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockedBy {
    /// Nothing.
    Nothing,
    /// Others hold a resource that it needs.
    ResourceHeld,
    /// Its kind is paused or switched off.
    KindPaused,
    /// A freeze, or a window that is closed.
    Frozen,
    /// As many run as may.
    LimitReached,
    /// As many were started as may in a period.
    RateReached,
    /// It would not end before a freeze begins.
    NoFit,
    /// No worker that lives knew its kind.
    KindUnknown,
    /// Its code is not the one that wrote its journal.
    CodeChanged,
    /// The store's clock jumped, and it has effects that cannot be repeated.
    ClockJumped,
}

impl BlockedBy {
    const fn from_code(code: u64) -> Self {
        match code {
            1 => Self::ResourceHeld,
            3 => Self::KindPaused,
            4 => Self::Frozen,
            5 => Self::LimitReached,
            6 => Self::RateReached,
            7 => Self::NoFit,
            8 => Self::KindUnknown,
            9 => Self::CodeChanged,
            10 => Self::ClockJumped,
            _ => Self::Nothing,
        }
    }
}

/// The bytes are no record of this version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a job's record cannot be read: {0}")]
pub struct BadRecord(&'static str);

/// A record, read.
#[derive(Debug, Clone)]
pub struct JobRecord {
    /// The job.
    pub id: JobId,
    /// Where it is.
    pub place: Place,
    /// Its order among ready jobs.
    pub priority: Priority,
    /// A cancel was asked for while it ran.
    pub cancel_requested: bool,
    /// A `Once` step is begun and not ended.
    pub once_open: bool,
    /// It holds its resource.
    pub holds_resource: bool,
    /// A cancel comes too late.
    pub sealed: bool,
    /// It has begun a step: its journal is to be read.
    pub has_journal: bool,
    /// Steps that have an undo are done.
    pub has_undo: bool,
    /// It undoes its steps, or has undone them (then `has_undo` is false).
    pub undoing: bool,
    /// Its workers were lost after it began a `Fenced` step, and no attempt is left: this run is to settle with what is known.
    pub closing: bool,
    /// It has effects that cannot be repeated.
    pub destructive: bool,
    /// It has children or was sent signals.
    pub has_family: bool,
    /// What holds it, if blocked.
    pub blocked_by: BlockedBy,
    /// Attempts begun.
    pub attempt: u16,
    /// Retry rule.
    pub retry: Retry,
    /// When it was taken in, ms.
    pub created_at: UnixMs,
    /// When it may start, ms.
    pub run_at: UnixMs,
    /// When its last attempt began, ms; 0 never.
    pub started_at: UnixMs,
    /// When it became final, ms; 0 not yet.
    pub finished_at: UnixMs,
    /// The number of its tenant's list that it is in.
    pub(crate) chunk: u32,
    /// The fence of its last claim.
    pub fence: u64,
    /// Rises with each change.
    pub seq: u32,
    /// Kind.
    pub kind: String,
    /// Tenant.
    pub tenant: String,
    /// Queue.
    pub queue: String,
    /// What it needs for itself or shares, in their order.
    pub resources: Vec<Resource>,
    /// What limits by key count by, may be empty.
    pub key: String,
    /// The job that spawned it, if any.
    pub parent: Option<JobId>,
    /// Meta document.
    pub meta: Bytes,
    /// Arguments.
    pub args: Bytes,
    /// Result document, empty when there is none.
    pub result: Bytes,
    /// Error document, empty when there is none.
    pub error: Bytes,
    /// History, oldest first: the acceptance and at most the last 100 or so events.
    pub events: Vec<Event>,
}

/// Packs a new job; the script fills in times and place.
#[must_use]
pub fn pack(job: &NewJob) -> Vec<u8> {
    let resources = Resource::pack(&job.resources);
    let names: [&str; 7] = [
        &job.kind,
        &job.tenant,
        &job.queue,
        &resources,
        job.allowance.as_ref().filter(|a| a.refund).map_or("", |a| &a.name),
        job.key.as_deref().unwrap_or_default(),
        job.parent.as_ref().map_or("", JobId::as_str),
    ];
    let identity_len: usize = names.iter().map(|n| 1 + n.len().min(255)).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + identity_len + job.meta.len() + job.args.len() + 64);
    let flags = if job.notify { FLAG_NOTIFY } else { 0 } | if job.destructive { FLAG_DESTRUCTIVE } else { 0 };
    out.push(VERSION);
    out.extend(flags.to_le_bytes());
    out.extend((identity_len as u16).to_le_bytes());
    out.push(job.priority as u8);
    out.extend([0; 6 + 6 + 4 + 1]);
    out.push(Place::Scheduled as u8);
    out.extend([0; 2 + 6 + 4 + 4 + 6 + 6]);
    out.extend(job.retry.max_attempts.to_le_bytes());
    out.extend(job.retry.base_ms.to_le_bytes());
    out.extend(job.retry.cap_ms.to_le_bytes());
    out.push(job.retry.jitter_percent);
    out.extend((job.meta.len() as u32).to_le_bytes());
    out.extend((job.args.len() as u32).to_le_bytes());
    out.extend([0; 4 + 2 + 2]);
    for name in names {
        let bytes = &name.as_bytes()[..name.len().min(255)];
        out.push(bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend(&job.meta[..]);
    out.extend(&job.args[..]);
    out
}

/// How many bytes a packed job shares with others of its sort: header and identity.
pub(crate) fn shared_bytes(record: &[u8]) -> usize {
    HEADER_BYTES + usize::from(u16::from_le_bytes([record[3], record[4]]))
}

/// Walks over little-endian fields.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], BadRecord> {
        let slice = self.bytes.get(self.at..self.at + n).ok_or(BadRecord("it is too short"))?;
        self.at += n;
        Ok(slice)
    }

    fn number(&mut self, n: usize) -> Result<u64, BadRecord> {
        Ok(self.take(n)?.iter().rev().fold(0, |value, b| (value << 8) | u64::from(*b)))
    }

    fn text(&mut self, length_bytes: usize) -> Result<String, BadRecord> {
        let n = self.number(length_bytes)? as usize;
        Ok(String::from_utf8_lossy(self.take(n)?).into_owned())
    }
}

impl JobRecord {
    /// A record that says nothing yet, for whoever reads jobs from elsewhere, such as an archive.
    ///
    /// # Errors
    /// [`BadRecord`] never; the record of a new job can be read.
    pub fn empty(id: JobId) -> Result<Self, BadRecord> {
        let job = NewJob::new(id.clone(), "", "", Bytes::new());
        Self::parse(id, &Bytes::from(pack(&job)))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`BadRecord`] when the bytes are short, or of another version.
    pub fn parse(id: JobId, bytes: &Bytes) -> Result<Self, BadRecord> {
        let mut r = Reader { bytes, at: 0 };
        if r.number(1)? != u64::from(VERSION) {
            return Err(BadRecord("it is of another version"));
        }
        let flags = r.number(2)? as u16;
        let _identity_len = r.number(2)?;
        let priority = match r.number(1)? {
            0 => Priority::Critical,
            1 => Priority::High,
            2 => Priority::Normal,
            _ => Priority::Low,
        };
        let (created_at, run_at) = (r.number(6)? as UnixMs, r.number(6)? as UnixMs);
        let chunk = r.number(4)? as u32;
        let reason = r.number(1)?;
        let place = Place::from_code(r.number(1)? as u8).ok_or(BadRecord("its place is none"))?;
        let attempt = r.number(2)? as u16;
        let fence = r.number(6)?;
        let (seq, started_seq) = (r.number(4)? as u32, r.number(4)? as u32);
        let (started_at, finished_at) = (r.number(6)? as UnixMs, r.number(6)? as UnixMs);
        let max_attempts = r.number(2)? as u16;
        let retry = Retry {
            base_ms: r.number(4)? as u32,
            cap_ms: r.number(4)? as u32,
            jitter_percent: r.number(1)? as u8,
            max_attempts,
        };
        let lengths = [r.number(4)?, r.number(4)?, r.number(4)?, r.number(2)?].map(|n| n as usize);
        let written = r.number(2)? as usize;
        let (kind, tenant, queue, resources) = (r.text(1)?, r.text(1)?, r.text(1)?, r.text(1)?);
        let (_allowance, key, parent) = (r.text(1)?, r.text(1)?, r.text(1)?);
        let mut blobs = [const { Bytes::new() }; 4];
        for (blob, n) in blobs.iter_mut().zip(lengths) {
            let from = r.at;
            r.take(n)?;
            *blob = bytes.slice(from..from + n);
        }
        let mut events =
            vec![Event { seq: 1, word: EventWord::Accepted, at: created_at, attempt: 0, note: String::new() }];
        for _ in 0..written {
            events.push(read_event(&mut r)?);
        }
        if started_seq > 0 {
            events.push(Event {
                seq: started_seq,
                word: EventWord::Started,
                at: started_at,
                attempt,
                note: String::new(),
            });
        }
        if let (QUIET_END, Some(word)) = (reason, quiet_word(place)) {
            events.push(Event { seq, word, at: finished_at, attempt, note: String::new() });
        }
        if is_planned(&events, seq) {
            let word = EventWord::Scheduled;
            events.insert(1, Event { seq: 2, word, at: created_at, attempt: 0, note: String::new() });
        }
        let [meta, args, result, error] = blobs;
        Ok(Self {
            id,
            place,
            priority,
            cancel_requested: flags & FLAG_CANCEL != 0,
            once_open: flags & FLAG_ONCE_OPEN != 0,
            holds_resource: flags & FLAG_LOCKED != 0,
            sealed: flags & FLAG_SEALED != 0,
            has_journal: flags & FLAG_JOURNAL != 0,
            has_undo: flags & FLAG_UNDO != 0,
            undoing: flags & FLAG_UNDOING != 0,
            closing: flags & FLAG_CLOSING != 0,
            destructive: flags & FLAG_DESTRUCTIVE != 0,
            has_family: flags & FLAG_FAMILY != 0,
            blocked_by: if place == Place::Blocked { BlockedBy::from_code(reason) } else { BlockedBy::Nothing },
            attempt,
            retry,
            created_at,
            run_at,
            started_at,
            finished_at,
            chunk,
            fence,
            seq,
            kind,
            tenant,
            queue,
            resources: Resource::parse(&resources),
            key,
            parent: parent.parse().ok(),
            meta,
            args,
            result,
            error,
            events,
        })
    }
}

/// Whether the job was taken in for a later time. That is told as its second event and written down nowhere: until something
/// else happens it is the only one that is missing, since progress comes after a start and old events are dropped by the dozen.
fn is_planned(events: &[Event], seq: u32) -> bool {
    events.get(1).map_or(seq + 1, |next| next.seq) == 3
}

fn quiet_word(place: Place) -> Option<EventWord> {
    match place {
        Place::Succeeded => Some(EventWord::Succeeded),
        Place::Cancelled => Some(EventWord::Cancelled),
        Place::Dead => Some(EventWord::Failed),
        _ => None,
    }
}

fn read_event(r: &mut Reader<'_>) -> Result<Event, BadRecord> {
    let word = EventWord::from_code(r.number(1)? as u8).ok_or(BadRecord("an event has no known word"))?;
    Ok(Event {
        word,
        seq: r.number(4)? as u32,
        at: r.number(6)? as UnixMs,
        attempt: r.number(2)? as u16,
        note: r.text(2)?,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_packed_job_reads_back() {
        let mut job = NewJob::new(JobId::new(0), "noop", "t-001", &b"{\"a\":1}"[..]);
        job.resources = vec![Resource::shared("host:1"), Resource::exclusive("dc:1")];
        job.notify = true;
        let read = JobRecord::parse(job.id.clone(), &Bytes::from(pack(&job))).unwrap();
        assert_eq!((read.kind.as_str(), read.tenant.as_str()), ("noop", "t-001"));
        assert_eq!(read.resources, [Resource::exclusive("dc:1"), Resource::shared("host:1")], "in the global order");
        assert_eq!((read.args, read.meta, read.retry), (job.args, job.meta, job.retry));
    }

    #[test]
    fn a_cut_record_is_refused_not_guessed() {
        let job = NewJob::new(JobId::new(0), "noop", "t", &b"0123456789"[..]);
        let bytes = pack(&job);
        for n in 0..bytes.len() {
            assert!(JobRecord::parse(job.id.clone(), &Bytes::copy_from_slice(&bytes[..n])).is_err(), "{n}");
        }
    }
}
