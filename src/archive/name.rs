//! Names of objects: what is in one is told by its name, so that a listing finds its day, tenant, kind and place
//! without reading any.
//!
//! `2026-11-22/t-001/sql_update/succeeded.<newest end>.<oldest end>.<first id>.<last id>.jsonl.zst`; times are in ms, days
//! are those of UTC on which the jobs ended. Guards that a name holds no more than its parts: whatever a tenant is called,
//! it cannot lead elsewhere.

use std::cmp::Ordering;

use leasehold_engine::{JobId, Place, UnixMs, model::JobRecord};
use sha2::{Digest as _, Sha256};

/// What every object's name ends with.
const SUFFIX: &str = ".jsonl.zst";
/// Characters of a tenant's or kind's part of a name; longer ones are cut and told apart by a digest.
const PART_CHARS: usize = 120;

/// An object's name, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectName {
    /// `2026-11-22`.
    pub(super) day: String,
    /// The tenant's part.
    pub(super) tenant: String,
    /// The kind's part.
    pub(super) kind: String,
    /// Where its jobs ended.
    pub(super) place: Place,
    /// When its newest job ended, ms.
    pub(super) newest: UnixMs,
    /// When its oldest job ended, ms.
    pub(super) oldest: UnixMs,
    /// The smallest id; ids sort by the time at which they were made.
    pub(super) first: JobId,
    /// The greatest id.
    pub(super) last: JobId,
}

impl ObjectName {
    /// The name of an object of these jobs, which share day, tenant, kind and place; `None` without jobs.
    pub(super) fn of<'a>(jobs: impl Iterator<Item = &'a JobRecord> + Clone) -> Option<Self> {
        let some = jobs.clone().next()?;
        let ends = jobs.clone().map(|job| job.finished_at);
        Some(Self {
            day: day_of(some.finished_at),
            tenant: part(&some.tenant),
            kind: part(&some.kind),
            place: some.place,
            newest: ends.clone().max()?,
            oldest: ends.min()?,
            first: jobs.clone().map(|job| &job.id).min()?.clone(),
            last: jobs.map(|job| &job.id).max()?.clone(),
        })
    }

    /// Reads a name; `None` for a file that is none of ours.
    pub(super) fn read(name: &str) -> Option<Self> {
        let mut folders = name.strip_suffix(SUFFIX)?.split('/');
        let (day, tenant, kind, file) = (folders.next()?, folders.next()?, folders.next()?, folders.next()?);
        let mut facts = file.split('.');
        let read = Self {
            day: day.to_owned(),
            tenant: tenant.to_owned(),
            kind: kind.to_owned(),
            place: facts.next()?.parse().ok()?,
            newest: facts.next()?.parse().ok()?,
            oldest: facts.next()?.parse().ok()?,
            first: facts.next()?.parse().ok()?,
            last: facts.next()?.parse().ok()?,
        };
        // Only what writes back the same is one.
        (read.to_string() == name && day_of(read.newest) == day).then_some(read)
    }

    /// The order of a listing: the newest first.
    pub(super) fn listed_before(&self, other: &Self) -> Ordering {
        let by_day = other.day.cmp(&self.day);
        by_day.then(other.newest.cmp(&self.newest)).then_with(|| self.to_string().cmp(&other.to_string()))
    }

    /// Whether a job that ended at this time may be in both: the same jobs put away twice, after a crash between putting
    /// and forgetting, lie in objects that overlap.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        (&self.day, &self.tenant, &self.kind, self.place) == (&other.day, &other.tenant, &other.kind, other.place)
            && self.oldest <= other.newest
            && other.oldest <= self.newest
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { day, tenant, kind, place, newest, oldest, first, last } = self;
        write!(f, "{day}/{tenant}/{kind}/{place}.{newest}.{oldest}.{first}.{last}{SUFFIX}")
    }
}

/// The day of a time, in UTC.
pub(super) fn day_of(at: UnixMs) -> String {
    chrono::DateTime::from_timestamp_millis(at).unwrap_or_default().format("%Y-%m-%d").to_string()
}

/// Whether a folder's name is a day.
pub(super) fn is_day(name: &str) -> bool {
    chrono::NaiveDate::parse_from_str(name, "%Y-%m-%d").is_ok_and(|day| day.to_string() == name)
}

/// A text as one part of a name: letters, digits, `-` and `_` as they are, other bytes as `%XX`.
pub(super) fn part(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let mut out: String = text
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    if out.is_empty() || out.len() > PART_CHARS {
        out.truncate(PART_CHARS - 34);
        out.push_str(&format!("%~{}", &hex::encode(Sha256::digest(text))[..32]));
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const NOON: UnixMs = 1_795_320_000_000;

    fn name(tenant: &str) -> ObjectName {
        let (first, last) = (JobId::new(0), JobId::new(0));
        let (tenant, kind) = (part(tenant), part("sql_update"));
        ObjectName {
            day: day_of(NOON),
            tenant,
            kind,
            place: Place::Succeeded,
            newest: NOON,
            oldest: NOON - 5,
            first,
            last,
        }
    }

    #[test]
    fn a_name_reads_back() {
        for tenant in ["t-001", "租户", "a/b", "..", "", ".hidden", "a.b.c", &"x".repeat(255), "%41", "A", "a\nb"] {
            let name = name(tenant);
            let text = name.to_string();
            assert_eq!(ObjectName::read(&text).as_ref(), Some(&name), "{text}");
            assert_eq!(text.split('/').count(), 4, "{text}");
            assert!(text.split('/').all(|part| part.len() <= 255 && !part.starts_with('.')), "{text}");
        }
        assert!(name("t-001").to_string().starts_with("2026-11-22/t-001/sql_update/succeeded.1795320000000."));
    }

    #[test]
    fn tenants_never_share_a_part() {
        let long = "x".repeat(300);
        let all = ["a", "a%", "%61", "a/", "", "%~", &long, &long[..299], "a b", "a%20b"];
        let parts: std::collections::BTreeSet<String> = all.iter().map(|tenant| part(tenant)).collect();
        assert_eq!(parts.len(), all.len(), "{parts:?}");
    }

    #[test]
    fn what_is_none_of_ours_is_not_read() {
        let good = name("t").to_string();
        let bad = [
            good.replace("2026-11-22", "2026-11-23"),
            good.replace(".zst", ""),
            format!("x/{good}"),
            good.replace("/t/", "/"),
        ];
        for text in bad.iter().map(String::as_str).chain(["", "readme.txt", "a/b/c/d.jsonl.zst"]) {
            assert_eq!(ObjectName::read(text), None, "{text}");
        }
    }

    #[test]
    fn the_newest_comes_first() {
        let (mut old, new) = (name("a"), name("b"));
        old.newest -= 1;
        assert_eq!(new.listed_before(&old), Ordering::Less);
        assert_eq!(old.listed_before(&new), Ordering::Greater);
        assert_eq!(new.listed_before(&new), Ordering::Equal);
    }

    #[test]
    fn days_are_those_of_utc() {
        assert_eq!(day_of(0), "1970-01-01");
        assert!(is_day("2026-11-22") && !is_day("2026-11-2") && !is_day("lost+found") && !is_day("2026-13-01"));
        assert_eq!("2026-11-22".parse::<chrono::NaiveDate>().unwrap().to_string(), "2026-11-22");
    }
}
