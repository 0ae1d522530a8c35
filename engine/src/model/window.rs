//! Windows: when jobs may start, or may not, as stretches of time that begin by a cron expression on the clock of a zone.
//!
//! Pure arithmetic. A window becomes freezes: those of `deny` are its own stretches, those of `allow` the gaps between
//! them, and the gap after the last opening that was looked at has no known end, so that nothing starts by oversight.
//! When the clocks change, openings come as those of a schedule do (schedule_times.rs); what lasts is real time.

use serde::{Deserialize, Serialize};

use super::{
    UnixMs,
    gate::{FOREVER, Freeze, Note, Reach},
    schedule_times::{BadTimetable, Timetable},
};

/// How far ahead freezes are written.
pub const HORIZON_MS: UnixMs = 14 * 86_400_000;
/// Freezes of one window at the most; later ones are written later.
pub const MOST: usize = 8;
/// The shortest window, ms.
pub const SHORTEST_MS: u64 = 60_000;
/// The longest window, ms.
pub const LONGEST_MS: u64 = 366 * 86_400_000;
/// How long ago an earlier opening is looked for: the 29th of February may be eight years away, on a Sunday forty.
const FURTHEST_BACK_MS: UnixMs = 50 * 366 * 86_400_000;
/// Openings that may follow each other without a gap.
const CHAIN: usize = 2000;

/// Whether jobs start inside a window, or outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Only inside.
    Allow,
    /// Only outside.
    Deny,
}

/// A window, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Which jobs.
    pub reach: Reach,
    /// IANA name of the zone whose clock counts.
    pub zone: String,
    /// When it begins: a cron expression of five fields, or six with seconds first; `L`, `W` and `#` are known.
    pub opens: String,
    /// How long it lasts, ms of real time.
    pub duration_ms: u64,
    /// Whether jobs start inside.
    pub mode: Mode,
    /// Why, for people.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// Who wrote it.
    pub note: Note,
}

/// A stretch of time: its first instant, and the first one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Its first instant, ms.
    pub from: UnixMs,
    /// The first instant after it, ms; [`FOREVER`] when that is not known.
    pub until: UnixMs,
}

/// What is wrong with a window: the field and why.
pub type Complaint = (&'static str, String);

fn blamed(bad: BadTimetable) -> Complaint {
    (if bad.field() == "zone" { "zone" } else { "opens" }, bad.to_string())
}

struct Openings {
    table: Timetable,
    duration: UnixMs,
}

impl Openings {
    /// The first opening after `ms`.
    fn after(&self, ms: UnixMs) -> Option<UnixMs> {
        self.table.next_after(ms)
    }

    /// The last opening that is not after `ms`: found by looking further and further back.
    fn until(&self, ms: UnixMs) -> Option<UnixMs> {
        let reaches = std::iter::successors(Some(60_000), |back: &UnixMs| Some(back * 8));
        let mut reaches = reaches.take_while(|back| *back < FURTHEST_BACK_MS);
        reaches.find_map(|back| self.table.slots_after(ms - back).take_while(|slot| *slot <= ms).last())
    }

    /// The open stretch that an opening begins, together with those that follow it without a gap; `None` if none ends it.
    fn stretch(&self, from: UnixMs) -> Option<Stretch> {
        let mut until = from + self.duration;
        for _ in 0..CHAIN {
            match self.until(until).map(|last| last + self.duration) {
                Some(later) if later > until => until = later,
                _ => return Some(Stretch { from, until }),
            }
        }
        None
    }

    /// The open stretch that goes on at `now`, from its real beginning, or the next one.
    fn first(&self, now: UnixMs) -> Option<Stretch> {
        let mut from = self.after(now - self.duration)?;
        for _ in 0..CHAIN {
            match self.until(from - 1000) {
                Some(earlier) if from <= now && earlier + self.duration >= from => from = earlier,
                _ => break,
            }
        }
        self.stretch(from)
    }

    /// Open stretches from the one that goes on at `now`, to the horizon, at most `most`.
    fn stretches(&self, now: UnixMs, most: usize) -> Vec<Stretch> {
        let next = |last: &Stretch| self.after(last.until).and_then(|from| self.stretch(from));
        let all = std::iter::successors(self.first(now), next);
        all.take_while(|open| open.from < now + HORIZON_MS).take(most).collect()
    }
}

impl Window {
    fn openings(&self) -> Result<Openings, Complaint> {
        let table = Timetable::parse(&self.opens, &self.zone).map_err(blamed)?;
        let duration = UnixMs::try_from(self.duration_ms).unwrap_or(FOREVER);
        Ok(Openings { table, duration })
    }

    /// Everything that is wrong with it, each with its field; `now` is where the search for openings begins.
    #[must_use]
    pub fn complaints(&self, now: UnixMs) -> Vec<Complaint> {
        let mut all = Vec::new();
        if !(SHORTEST_MS..=LONGEST_MS).contains(&self.duration_ms) {
            all.push(("duration", "a window lasts from one minute to 366 days".to_owned()));
        }
        all.extend(Timetable::parse("@daily", &self.zone).err().map(blamed));
        all.extend(Timetable::parse(&self.opens, "UTC").err().map(blamed));
        if all.is_empty() {
            all.extend(self.openings().ok().and_then(|openings| self.useless(&openings, now)));
        }
        all
    }

    fn useless(&self, openings: &Openings, now: UnixMs) -> Option<Complaint> {
        let Some(first) = openings.after(now) else {
            return Some(("opens", format!("`{}` never comes", self.opens)));
        };
        let endless = openings.stretch(first).is_none();
        endless.then(|| ("duration", format!("it would never end: `{}` comes again before it is over", self.opens)))
    }

    /// When jobs may not start, from `now` on: what goes on first, each stretch from its real beginning.
    ///
    /// # Errors
    /// The field at fault, when the window cannot be computed.
    pub fn closed(&self, now: UnixMs) -> Result<Vec<Stretch>, Complaint> {
        let openings = self.openings()?;
        if self.mode == Mode::Deny {
            return Ok(openings.stretches(now, MOST));
        }
        let open = openings.stretches(now, MOST - 1);
        let goes_on = open.first().is_some_and(|first| first.from <= now);
        let last_end = || openings.until(now - openings.duration).map_or(0, |last| last + openings.duration);
        let mut from = (!goes_on).then(last_end);
        let mut gaps = Vec::new();
        for stretch in open {
            gaps.extend(from.map(|from| Stretch { from, until: stretch.from }));
            from = Some(stretch.until);
        }
        gaps.extend(from.map(|from| Stretch { from, until: FOREVER }));
        Ok(gaps)
    }

    /// The freezes that it stands for at `now`. An id names the beginning, so that it stays the same from look to look.
    ///
    /// # Errors
    /// The field at fault, when the window cannot be computed.
    pub fn freezes(&self, name: &str, now: UnixMs) -> Result<Vec<Freeze>, Complaint> {
        let freeze = |stretch: Stretch| Freeze {
            id: format!("{name}#{}", stretch.from / 1000),
            reach: self.reach.clone(),
            from: stretch.from,
            until: stretch.until,
            reason: self.reason.clone(),
            owner: self.owner.clone(),
            note: self.note.clone(),
        };
        Ok(self.closed(now)?.into_iter().map(freeze).collect())
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
