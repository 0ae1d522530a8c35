//! The zone that somebody may have meant who named one that does not exist. Pure.
//!
//! Invariant: an abbreviation or an offset is never taken for another one that looks like it.

/// What people write, and what the tz database calls it. `CST` is China's here, as the business zone is.
const ALSO_KNOWN: [(&str, &str); 22] = [
    ("asia/beijing", "Asia/Shanghai"),
    ("beijing", "Asia/Shanghai"),
    ("china", "Asia/Shanghai"),
    ("cst", "Asia/Shanghai"),
    ("hkt", "Asia/Hong_Kong"),
    ("sgt", "Asia/Singapore"),
    ("jst", "Asia/Tokyo"),
    ("kst", "Asia/Seoul"),
    ("ist", "Asia/Kolkata"),
    ("pst", "America/Los_Angeles"),
    ("pdt", "America/Los_Angeles"),
    ("mdt", "America/Denver"),
    ("cdt", "America/Chicago"),
    ("edt", "America/New_York"),
    ("bst", "Europe/London"),
    ("cest", "Europe/Berlin"),
    ("eest", "Europe/Athens"),
    ("msk", "Europe/Moscow"),
    ("aest", "Australia/Sydney"),
    ("aedt", "Australia/Sydney"),
    ("nzst", "Pacific/Auckland"),
    ("z", "UTC"),
];
/// Names that are shorter than this are abbreviations: one letter more or less is another zone.
const SHORTEST_NAME: usize = 5;

/// The known zone that looks most like it.
pub(super) fn nearest(zone: &str) -> Option<&'static str> {
    let asked = zone.trim().to_ascii_lowercase().replace(' ', "_");
    if asked.is_empty() || asked.len() > 64 {
        return None;
    }
    if let Some((_, known)) = ALSO_KNOWN.iter().find(|(also, _)| *also == asked) {
        return Some(known);
    }
    let offset = ["utc", "gmt", ""].iter().find_map(|before| asked.strip_prefix(before)?.strip_prefix(['+', '-']));
    if let Some(hours) = offset {
        return of_offset(asked.contains('-'), hours);
    }
    let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let city = |name: &str| name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let same = names().find(|name| name.to_ascii_lowercase() == asked).or_else(|| names().find(|n| city(n) == asked));
    same.or_else(|| {
        let far = |name: &&str| strsim::damerau_levenshtein(&name.to_ascii_lowercase(), &asked);
        names().filter(|_| asked.len() >= SHORTEST_NAME).min_by_key(far).filter(|near| far(near) * 3 <= asked.len())
    })
}

/// The zone of an offset of whole hours. The tz database counts them westwards: `Etc/GMT-9` is 9 hours ahead of UTC.
fn of_offset(is_west: bool, hours: &str) -> Option<&'static str> {
    let (hours, minutes) = hours.split_once(':').unwrap_or((hours, "00"));
    let hours: u8 = hours.parse().ok().filter(|_| minutes == "00")?;
    let name = match (is_west, hours) {
        (_, 0) => "UTC".to_owned(),
        (false, 8) => "Asia/Shanghai".to_owned(),
        (false, hours) => format!("Etc/GMT-{hours}"),
        (true, hours) => format!("Etc/GMT+{hours}"),
    };
    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).find(|known| *known == name)
}
