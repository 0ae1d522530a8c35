#![expect(clippy::unwrap_used, reason = "a test may panic")]

use chrono::{DateTime, Utc};

use super::*;

const HOUR: u64 = 3_600_000;

fn window(mode: Mode, opens: &str, zone: &str, hours: u64) -> Window {
    Window {
        reach: Reach::default(),
        zone: zone.to_owned(),
        opens: opens.to_owned(),
        duration_ms: hours * HOUR,
        mode,
        reason: "patches".to_owned(),
        owner: "ops".to_owned(),
        note: Note::default(),
    }
}

fn at(text: &str) -> UnixMs {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

fn closed(window: &Window, now: &str) -> Vec<(String, String)> {
    let text = |ms: UnixMs| match ms {
        FOREVER => "unknown".to_owned(),
        ms => DateTime::<Utc>::from_timestamp_millis(ms).unwrap().format("%m-%dT%H:%MZ").to_string(),
    };
    window.closed(at(now)).unwrap().into_iter().map(|s| (text(s.from), text(s.until))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn outside_of_an_allowed_window_it_is_closed_until_the_next_opening() {
    let sundays = window(Mode::Allow, "0 2 * * 0", "Asia/Shanghai", 4);
    let gaps = [("11-14T22:00Z", "11-21T18:00Z"), ("11-21T22:00Z", "11-28T18:00Z"), ("11-28T22:00Z", "unknown")];
    assert_eq!(closed(&sundays, "2026-11-18T12:00:00Z"), pairs(&gaps));
}

#[test]
fn inside_of_an_allowed_window_nothing_is_closed_until_its_end() {
    let sundays = window(Mode::Allow, "0 2 * * 0", "Asia/Shanghai", 4);
    let next = &pairs(&[("11-21T22:00Z", "11-28T18:00Z")])[0];
    for now in ["2026-11-21T18:00:00Z", "2026-11-21T21:59:59.999Z"] {
        let gaps = closed(&sundays, now);
        assert_eq!((&gaps[0], gaps[gaps.len() - 1].1.as_str()), (next, "unknown"), "{now}");
    }
    assert_eq!(&closed(&sundays, "2026-11-21T22:00:00Z")[0], next, "its end is closed");
    assert_eq!(closed(&sundays, "2026-11-21T17:59:59.999Z")[0].1, "11-21T18:00Z", "a moment before it is closed");
}

#[test]
fn a_denied_window_is_closed_while_it_lasts_and_keeps_its_beginning() {
    let nights = window(Mode::Deny, "0 0 * * *", "Europe/Berlin", 3);
    for now in ["2026-11-20T23:00:00Z", "2026-11-21T01:59:59Z", "2026-11-20T12:00:00Z"] {
        let all = closed(&nights, now);
        assert_eq!(all[..2], pairs(&[("11-20T23:00Z", "11-21T02:00Z"), ("11-21T23:00Z", "11-22T02:00Z")])[..], "{now}");
        assert_eq!(all.len(), MOST);
    }
}

#[test]
fn windows_follow_the_clock_of_their_zone_over_its_changes() {
    // Berlin goes back on 2026-10-25 at 03:00 and forward on 2027-03-28 at 02:00.
    let nights = window(Mode::Deny, "30 2 * * *", "Europe/Berlin", 1);
    let autumn = closed(&nights, "2026-10-24T12:00:00Z");
    assert_eq!(autumn[..2], pairs(&[("10-25T00:30Z", "10-25T01:30Z"), ("10-26T01:30Z", "10-26T02:30Z")])[..]);
    let spring = closed(&nights, "2027-03-27T12:00:00Z");
    assert_eq!(spring[..2], pairs(&[("03-28T01:00Z", "03-28T02:00Z"), ("03-29T00:30Z", "03-29T01:30Z")])[..]);
}

#[test]
fn openings_that_touch_are_one_window() {
    let weekdays = window(Mode::Deny, "0 0 * * 1-5", "UTC", 24);
    let all = closed(&weekdays, "2026-11-25T12:00:00Z");
    assert_eq!(all[..2], pairs(&[("11-23T00:00Z", "11-28T00:00Z"), ("11-30T00:00Z", "12-05T00:00Z")])[..]);
}

#[test]
fn ids_stay_the_same_from_look_to_look() {
    let nights = window(Mode::Allow, "0 22 * * *", "UTC", 2);
    let ids = |now| -> Vec<String> { nights.freezes("nights", at(now)).unwrap().into_iter().map(|f| f.id).collect() };
    let (early, late) = (ids("2026-11-20T01:00:00Z"), ids("2026-11-20T21:59:59Z"));
    assert_eq!(early, late);
    assert_eq!(ids("2026-11-20T22:30:00Z")[..3], early[1..4], "the first gap is over");
}

#[test]
fn every_mistake_of_a_window_is_named_at_once() {
    let fields = |w: &Window| -> Vec<&str> { w.complaints(0).into_iter().map(|(field, _)| field).collect() };
    assert_eq!(fields(&window(Mode::Deny, "61 * * * *", "Mars/Base", 0)), ["duration", "zone", "opens"]);
    assert_eq!(fields(&window(Mode::Deny, "0 0 30 2 *", "UTC", 1)), ["opens"], "it never comes");
    assert_eq!(fields(&window(Mode::Allow, "0 * * * *", "UTC", 1)), ["duration"], "it never ends");
    assert_eq!(fields(&window(Mode::Allow, "0 2 * * 0#1", "Asia/Shanghai", 4)), [""; 0]);
}
