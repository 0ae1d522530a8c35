//! The fields of a cron expression, read item by item before the parser sees them. Pure.
//!
//! Invariant: what passes here means to the parser what it says to a reader. By itself the parser leaves empty items
//! out, takes names for numbers wherever they stand, and drops what it does not know behind a `W` or before an `L`.

use std::ops::RangeInclusive;

/// What stands for a whole expression.
const NICKNAMES: [(&str, &str); 7] = [
    ("@YEARLY", "0 0 1 1 *"),
    ("@ANNUALLY", "0 0 1 1 *"),
    ("@MONTHLY", "0 0 1 * *"),
    ("@WEEKLY", "0 0 * * SUN"),
    ("@DAILY", "0 0 * * *"),
    ("@MIDNIGHT", "0 0 * * *"),
    ("@HOURLY", "0 * * * *"),
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Time,
    MonthDay,
    Month,
    Weekday,
}

/// One of the six.
struct Field {
    name: &'static str,
    sort: Sort,
    range: RangeInclusive<u16>,
    known: &'static str,
}

const FIELDS: [Field; 6] = [
    Field { name: "second", sort: Sort::Time, range: 0..=59, known: "0-59" },
    Field { name: "minute", sort: Sort::Time, range: 0..=59, known: "0-59" },
    Field { name: "hour", sort: Sort::Time, range: 0..=23, known: "0-23" },
    Field { name: "day of month", sort: Sort::MonthDay, range: 1..=31, known: "1-31, L, LW and 15W" },
    Field { name: "month", sort: Sort::Month, range: 1..=12, known: "1-12 and JAN-DEC" },
    Field { name: "weekday", sort: Sort::Weekday, range: 0..=7, known: "0-7, SUN-SAT, 5#2 and 5L" },
];

/// The expression as the parser is to have it: in capitals, a nickname replaced by what it stands for.
///
/// # Errors
/// What is wrong, by its field, and what to write instead.
pub(super) fn plain(expr: &str) -> Result<String, String> {
    let mut text = expr.trim().to_ascii_uppercase();
    if text.starts_with('@') {
        let known = NICKNAMES.iter().find(|(name, _)| *name == text);
        let names = || NICKNAMES.map(|(name, _)| name.to_ascii_lowercase()).join(", ");
        text = known.ok_or_else(|| format!("{} are known", names()))?.1.to_owned();
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let kinds = match fields.len() {
        5 => &FIELDS[1..],
        6 => &FIELDS[..],
        n => return Err(format!("it has {n} field{}, and 5 or 6 are needed", if n == 1 { "" } else { "s" })),
    };
    for (kind, field) in kinds.iter().zip(&fields) {
        kind.check(field).map_err(|why| format!("{} `{field}`: {why}", kind.name))?;
    }
    Ok(text)
}

impl Field {
    fn check(&self, text: &str) -> Result<(), String> {
        let is_day = matches!(self.sort, Sort::MonthDay | Sort::Weekday);
        if text == "*" || (text == "?" && is_day) {
            return Ok(());
        }
        let list = match self.sort {
            Sort::Weekday => text.strip_prefix('+').unwrap_or(text),
            _ => text,
        };
        let items: Vec<&str> = list.split(',').collect();
        for item in &items {
            match *item {
                "" => return Err("an item of the list is empty; take the comma away, or say what is meant".to_owned()),
                "*" if list != "*" => return Err("`*` is every value already; leave the others away".to_owned()),
                "*" => {}
                item => self.item(item)?,
            }
        }
        match self.sort == Sort::MonthDay && items.contains(&"L") && items.contains(&"LW") {
            true => Err("`L` and `LW` cannot be in one list; make two schedules".to_owned()),
            false => Ok(()),
        }
    }

    fn item(&self, item: &str) -> Result<(), String> {
        match self.sort {
            Sort::MonthDay => match item.strip_suffix('W') {
                _ if item == "L" || item == "LW" => Ok(()),
                Some(day) => self.value(day).map(drop),
                None => self.steps(item),
            },
            Sort::Weekday if item == "L" => {
                Err("`L` needs a weekday here: `5L` is the last Friday of the month".to_owned())
            }
            Sort::Weekday => match item.split_once('#').or_else(|| Some((item.strip_suffix('L')?, "L"))) {
                Some((days, "1" | "2" | "3" | "4" | "5" | "L")) => self.steps(days),
                Some((_, nth)) => Err(format!("`{nth}` is no week of a month; # is followed by 1 to 5, or by L")),
                None => self.steps(item),
            },
            Sort::Time | Sort::Month => self.steps(item),
        }
    }

    /// `*/5`, `10-40/5`, `10-40` or `10`.
    fn steps(&self, item: &str) -> Result<(), String> {
        let Some((from, step)) = item.split_once('/') else { return self.span(item).map(drop) };
        let (low, high) = match (from, from.contains('-')) {
            ("*", _) => (*self.range.start(), self.last()),
            (_, true) => self.span(from)?,
            (_, false) => {
                let from = if from.is_empty() { "*".to_owned() } else { format!("{from}-{}", self.last()) };
                return Err(format!("a step needs `*` or a range before it; write `{from}/{step}`"));
            }
        };
        let values = high - low + 1;
        match number(step) {
            None => Err(format!("`{step}` is no step; a number is expected after /")),
            Some(0) => Err("a step of 0 goes nowhere; give 1 or more".to_owned()),
            Some(step) if step > values => Err(format!(
                "a step of {step} goes past all {values} values, so that only the first one is left; give at most {values}, or \
                 name each time"
            )),
            Some(_) => Ok(()),
        }
    }

    fn span(&self, item: &str) -> Result<(u16, u16), String> {
        let Some((from, to)) = item.split_once('-') else { return self.value(item).map(|one| (one, one)) };
        let (low, high) = (self.value(from)?, self.value(to)?);
        if from == to && self.sort == Sort::Weekday {
            return Err(format!("one day is no range; write `{from}`"));
        }
        // SUN is the last day of a range that ends with it.
        let high = if self.sort == Sort::Weekday && to == "SUN" { 7 } else { high };
        if low > high {
            let (first, last) = (self.range.start(), self.last());
            return Err(format!("a range does not go on past its end; write `{low}-{last},{first}-{high}`"));
        }
        Ok((low, high))
    }

    fn value(&self, text: &str) -> Result<u16, String> {
        let place = |names: &[&str]| names.iter().position(|name| *name == text).map(|at| at as u16);
        let (weekday, month) = (place(&WEEKDAYS), place(&MONTHS).map(|at| at + 1));
        let value = match self.sort {
            Sort::Weekday if weekday.is_some() => weekday,
            Sort::Month if month.is_some() => month,
            _ if weekday.is_some() => return Err(format!("`{text}` is a weekday, and belongs in the last field")),
            _ if month.is_some() => {
                return Err(format!("`{text}` is a month, and belongs in the field before the last"));
            }
            _ => number(text),
        };
        value.filter(|value| self.range.contains(value)).ok_or_else(|| {
            let what = if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") };
            format!("{what} is not known there ({} are)", self.known)
        })
    }

    /// The highest value; 7 is another name of Sunday.
    fn last(&self) -> u16 {
        if self.sort == Sort::Weekday { 6 } else { *self.range.end() }
    }
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
