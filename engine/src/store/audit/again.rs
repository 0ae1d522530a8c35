//! What one look found, and which of it is proven: others work on the store while it is read, so what does not agree at one
//! look may have changed between two reads.
//!
//! Invariant: told is only what no change explains. The same is found by two looks, and the record that it is about was the
//! same before and after; a count lies outside of what the records that changed meanwhile could make of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::AuditFinding;
use crate::model::{JobRecord, Place};

/// What a record was when it was read: it is the same record as long as this is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    shard: u16,
    place: Place,
    seq: u64,
    fence: u64,
    /// `queue|kind`; it never changes, nor does the key.
    group: Arc<str>,
    /// `kind key`, empty without one.
    key: Arc<str>,
}

/// Counts that scripts keep, as they were read after the records.
#[derive(Debug)]
struct Tally {
    shard: u16,
    name: &'static str,
    words: &'static str,
    counted: BTreeMap<String, i64>,
}

/// Something that does not agree, and the record that it is about.
#[derive(Debug)]
struct Found {
    finding: AuditFinding,
    about: String,
}

/// One look at everything.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) jobs: u64,
    found: Vec<Found>,
    stamps: BTreeMap<String, Stamp>,
    tallies: Vec<Tally>,
    names: BTreeSet<Arc<str>>,
}

impl Look {
    /// Something of a job, or of a key, does not agree.
    pub(super) fn say(&mut self, subject: &str, text: String) {
        self.say_about(subject, subject, text);
    }

    /// The same, when it is not the subject but a job that it is about.
    pub(super) fn say_about(&mut self, subject: &str, job: &str, text: String) {
        let finding = AuditFinding { subject: subject.to_owned(), text };
        self.found.push(Found { finding, about: job.to_owned() });
    }

    pub(super) fn note_records(&mut self, shard: u16, records: &BTreeMap<String, JobRecord>) {
        self.jobs += records.len() as u64;
        for (id, r) in records {
            let group = self.name(&format!("{}|{}", r.queue, r.kind));
            let key = if r.key.is_empty() { String::new() } else { format!("{} {}", r.kind, r.key) };
            let key = self.name(&key);
            let stamp = Stamp { shard, place: r.place, seq: r.seq.into(), fence: r.fence, group, key };
            self.stamps.insert(id.clone(), stamp);
        }
    }

    /// One text for all records that share it.
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        let name: Arc<str> = Arc::from(text);
        self.names.insert(name.clone());
        name
    }

    /// The counters of a shard: by queue, kind and place, and how many jobs live.
    pub(super) fn note_counters(&mut self, shard: u16, mut counted: BTreeMap<String, i64>) {
        counted.retain(|field, _| field.contains('|') || field == "live");
        self.note_tally(Tally { shard, name: "counters", words: "the counters say", counted });
    }

    /// How many run by key.
    pub(super) fn note_running(&mut self, shard: u16, counted: BTreeMap<String, i64>) {
        self.note_tally(Tally { shard, name: "running", words: "the counts by key say", counted });
    }

    fn note_tally(&mut self, tally: Tally) {
        if !tally.wrong(self, self).is_empty() {
            self.tallies.push(tally);
        }
    }

    /// Nothing is to be looked at again.
    pub(super) fn agrees(&self) -> bool {
        self.found.is_empty() && self.tallies.is_empty()
    }

    /// What a look before and this one prove together; and whether that is all that both found.
    pub(super) fn proven_since(&self, before: &Self) -> (Vec<AuditFinding>, bool) {
        let known: BTreeSet<(&str, &str)> = before.found.iter().map(|f| f.finding.words()).collect();
        let same =
            |f: &&Found| known.contains(&f.finding.words()) && before.stamps.get(&f.about) == self.stamps.get(&f.about);
        let mut proven: Vec<AuditFinding> = self.found.iter().filter(same).map(|f| f.finding.clone()).collect();
        let mut is_all = proven.len() == self.found.len();
        let was_noted = |tally: &Tally| before.tallies.iter().any(|t| (t.shard, t.name) == (tally.shard, tally.name));
        is_all &= self.tallies.iter().all(was_noted);
        for tally in &before.tallies {
            let wrong = tally.wrong(before, self);
            is_all &= !wrong.is_empty();
            proven.extend(wrong);
        }
        (proven, is_all)
    }
}

impl AuditFinding {
    fn words(&self) -> (&str, &str) {
        (&self.subject, &self.text)
    }
}

/// How many records are in a field for sure, and how many more may have been when it was read.
#[derive(Default)]
struct Between {
    sure: BTreeMap<String, i64>,
    moved: BTreeMap<Arc<str>, i64>,
    all_moved: i64,
}

impl Tally {
    /// The fields that records cannot explain, read before and after the counts.
    fn wrong(&self, before: &Look, after: &Look) -> Vec<AuditFinding> {
        let between = self.between(before, after);
        let fields: BTreeSet<&String> = self.counted.keys().chain(between.sure.keys()).collect();
        let mut wrong = Vec::new();
        for field in fields {
            let (counted, least) = (self.counted.get(field).unwrap_or(&0), between.sure.get(field).unwrap_or(&0));
            let group =
                if self.name == "running" { field } else { field.rsplit_once('|').map_or("", |(group, _)| group) };
            let moved = if group.is_empty() { between.all_moved } else { *between.moved.get(group).unwrap_or(&0) };
            if !(*least..=least + moved).contains(counted) {
                let meant = if moved == 0 { least.to_string() } else { format!("{least} to {}", least + moved) };
                let text = format!("{} {counted} for `{field}`, the records say {meant}", self.words);
                wrong.push(AuditFinding { subject: self.name.to_owned(), text });
            }
        }
        wrong
    }

    fn between(&self, before: &Look, after: &Look) -> Between {
        let mut between = Between::default();
        let of_shard = |(_, stamp): &(&String, &Stamp)| stamp.shard == self.shard;
        for (id, stamp) in before.stamps.iter().filter(of_shard) {
            if after.stamps.get(id) == Some(stamp) {
                self.fields_of(stamp).into_iter().for_each(|field| *between.sure.entry(field).or_default() += 1);
            } else {
                self.note_moved(&mut between, stamp);
            }
        }
        for (_, stamp) in after.stamps.iter().filter(of_shard).filter(|(id, _)| !before.stamps.contains_key(*id)) {
            self.note_moved(&mut between, stamp);
        }
        between
    }

    fn note_moved(&self, between: &mut Between, stamp: &Stamp) {
        between.all_moved += 1;
        let group = if self.name == "running" { &stamp.key } else { &stamp.group };
        *between.moved.entry(group.clone()).or_default() += 1;
    }

    fn fields_of(&self, stamp: &Stamp) -> Vec<String> {
        match self.name {
            "running" if stamp.place == Place::Running && !stamp.key.is_empty() => vec![stamp.key.to_string()],
            "running" => Vec::new(),
            _ if stamp.place.is_final() => vec![format!("{}|{}", stamp.group, stamp.place)],
            _ => vec![format!("{}|{}", stamp.group, stamp.place), "live".to_owned()],
        }
    }
}
