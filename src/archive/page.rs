//! Pages of archived jobs, the newest first. Guards that a page costs a bounded amount, that a job is shown once though it
//! lies in two objects, and that nobody sees another tenant's.

use std::{
    collections::{BTreeMap, HashSet},
    str::FromStr,
};

use leasehold_engine::{JobId, JobView, Place, UnixMs};

use super::{
    Shelf, ShelfError,
    name::{ObjectName, day_of, is_day, part},
};

/// Days and objects that one page looks at; then it ends short, and its cursor goes on behind them.
const DAYS: usize = 400;
const OBJECTS: usize = 64;
/// Objects that are looked into for doubles of one object.
const DOUBLES: usize = 16;
/// Days in which a job is looked for by its id alone.
const FIND_DAYS: usize = 45;

/// Which archived jobs to list.
#[derive(Debug, Clone, Default)]
pub struct ArchiveQuery {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// That ended in this place.
    pub place: Option<Place>,
    /// Of this queue.
    pub queue: Option<String>,
    /// That ended at this time, ms, or later.
    pub since: Option<UnixMs>,
    /// That ended before this time, ms.
    pub until: Option<UnixMs>,
}

impl ArchiveQuery {
    pub(super) fn admits(&self, job: &JobView) -> bool {
        let r = &job.record;
        self.tenant.as_ref().is_none_or(|t| *t == r.tenant)
            && self.kind.as_ref().is_none_or(|k| *k == r.kind)
            && self.place.is_none_or(|p| p == r.place)
            && self.queue.as_ref().is_none_or(|q| *q == r.queue)
            && self.since.is_none_or(|since| r.finished_at >= since)
            && self.until.is_none_or(|until| r.finished_at < until)
    }

    /// Whether an object may hold such a job; its tenant and kind were chosen by its folder.
    fn may_be_in(&self, object: &ObjectName) -> bool {
        self.kind.as_ref().is_none_or(|kind| part(kind) == object.kind)
            && self.place.is_none_or(|place| place == object.place)
            && self.since.is_none_or(|since| object.newest >= since)
            && self.until.is_none_or(|until| object.oldest < until)
    }

    fn may_be_on(&self, day: &str) -> bool {
        self.since.is_none_or(|since| day >= day_of(since).as_str())
            && self.until.is_none_or(|until| day <= day_of(until).as_str())
    }
}

/// A page of archived jobs.
#[derive(Debug)]
pub struct ArchivePage {
    /// The jobs: object by object, the newest first, and so within each.
    pub jobs: Vec<JobView>,
    /// Where to go on; `None` at the end. A page may be short, even empty, and yet have more behind it.
    pub next: Option<String>,
}

/// Where a listing goes on: at a day, or behind the first `skip` jobs of an object.
struct Cursor {
    day: String,
    inside: Option<(usize, ObjectName)>,
}

impl FromStr for Cursor {
    type Err = ShelfError;

    fn from_str(text: &str) -> Result<Self, ShelfError> {
        let bad = || ShelfError::BadCursor(text.chars().take(200).collect());
        match text.split_once(':') {
            None if is_day(text) => Ok(Self { day: text.to_owned(), inside: None }),
            None => Err(bad()),
            Some((skip, name)) => {
                let object = ObjectName::read(name).ok_or_else(bad)?;
                Ok(Self { day: object.day.clone(), inside: Some((skip.parse().map_err(|_| bad())?, object)) })
            }
        }
    }
}

/// A page that is being filled.
struct Filling<'a> {
    shelf: &'a Shelf,
    query: &'a ArchiveQuery,
    limit: usize,
    read: usize,
    jobs: Vec<JobView>,
    ids: BTreeMap<String, HashSet<JobId>>,
}

impl Shelf {
    /// A page of archived jobs.
    ///
    /// # Errors
    /// [`ShelfError`] when the archive cannot be read, or the cursor is none of its own.
    pub async fn page(
        &self,
        query: &ArchiveQuery,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<ArchivePage, ShelfError> {
        let cursor: Option<Cursor> = cursor.map(str::parse).transpose()?;
        let mut filling = Filling { shelf: self, query, limit, read: 0, jobs: Vec::new(), ids: BTreeMap::new() };
        let days = self.days().await?.into_iter().rev().filter(|day| query.may_be_on(day));
        let days = days.filter(|day| cursor.as_ref().is_none_or(|cursor| *day <= cursor.day));
        for (n, day) in days.enumerate() {
            if n >= DAYS {
                return Ok(ArchivePage { jobs: filling.jobs, next: Some(day) });
            }
            let objects = self.objects(&day, query.tenant.as_deref(), query).await?;
            let inside = cursor.as_ref().filter(|cursor| cursor.day == day).and_then(|cursor| cursor.inside.as_ref());
            if let Some(next) = filling.take_day(&objects, inside).await? {
                return Ok(ArchivePage { jobs: filling.jobs, next: Some(next) });
            }
        }
        Ok(ArchivePage { jobs: filling.jobs, next: None })
    }

    /// An archived job by its id: looked for on the day on which the id was made, and those after it that have objects.
    /// A tenant, if known, makes it cheaper and hides the others'.
    ///
    /// # Errors
    /// [`ShelfError`] when the archive cannot be read.
    pub async fn find(&self, id: &JobId, tenant: Option<&str>) -> Result<Option<JobView>, ShelfError> {
        let made_on = day_of(id.made_at() - 86_400_000);
        let (after, before): (Vec<String>, Vec<String>) =
            self.days().await?.into_iter().partition(|day| *day >= made_on);
        let all = ArchiveQuery::default();
        let mut read = 0;
        // Days before it have the job only when two clocks are far apart.
        for day in after.into_iter().chain(before.into_iter().rev()).take(FIND_DAYS) {
            let objects = self.objects(&day, tenant, &all).await?;
            for object in objects.iter().filter(|object| object.first <= *id && *id <= object.last) {
                let found = self.read(object).await?.into_iter().find(|job| job.record.id == *id);
                if let Some(job) = found.filter(|job| tenant.is_none_or(|tenant| tenant == job.record.tenant)) {
                    return Ok(Some(job));
                }
                read += 1;
                if read >= OBJECTS {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// The days that have objects, oldest first.
    async fn days(&self) -> Result<Vec<String>, ShelfError> {
        Ok(self.files.folders("").await?.into_iter().filter(|day| is_day(day)).collect())
    }

    /// The objects of a day that may hold what is asked for, in the order of a listing.
    async fn objects(
        &self,
        day: &str,
        tenant: Option<&str>,
        query: &ArchiveQuery,
    ) -> Result<Vec<ObjectName>, ShelfError> {
        let prefix = match (tenant, &query.kind) {
            (Some(tenant), Some(kind)) => format!("{day}/{}/{}/", part(tenant), part(kind)),
            (Some(tenant), None) => format!("{day}/{}/", part(tenant)),
            (None, _) => format!("{day}/"),
        };
        let found = self.files.list(&prefix).await?.into_iter();
        let mut objects: Vec<ObjectName> = found.filter_map(|facts| ObjectName::read(&facts.name)).collect();
        objects.retain(|object| query.may_be_in(object));
        objects.sort_by(ObjectName::listed_before);
        Ok(objects)
    }
}

impl Filling<'_> {
    /// Takes the jobs of a day's objects, from `inside` on; where to go on when the page is full.
    async fn take_day(
        &mut self,
        objects: &[ObjectName],
        inside: Option<&(usize, ObjectName)>,
    ) -> Result<Option<String>, ShelfError> {
        for (n, object) in objects.iter().enumerate() {
            let skip = match inside {
                Some((_, at)) if object.listed_before(at).is_lt() => continue,
                Some((skip, at)) if object == at => *skip,
                _ => 0,
            };
            if self.read >= OBJECTS {
                return Ok(Some(format!("0:{object}")));
            }
            let jobs = self.shelf.read(object).await?;
            self.read += 1;
            let shown = self.shown_before(&objects[..n], object).await?;
            for (i, job) in jobs.into_iter().enumerate().skip(skip) {
                if self.jobs.len() >= self.limit {
                    return Ok(Some(format!("{i}:{object}")));
                }
                if self.query.admits(&job) && !shown.contains(&job.record.id) {
                    self.jobs.push(job);
                }
            }
        }
        Ok(None)
    }

    /// The ids of objects before this one that may hold the same jobs.
    async fn shown_before(&mut self, before: &[ObjectName], object: &ObjectName) -> Result<HashSet<JobId>, ShelfError> {
        let mut shown = HashSet::new();
        for other in before.iter().rev().filter(|other| other.overlaps(object)).take(DOUBLES) {
            let name = other.to_string();
            if !self.ids.contains_key(&name) {
                let ids = self.shelf.read(other).await?.into_iter().map(|job| job.record.id);
                self.ids.insert(name.clone(), ids.collect());
            }
            shown.extend(self.ids.get(&name).into_iter().flatten().cloned());
        }
        Ok(shown)
    }
}
