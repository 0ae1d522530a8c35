//! The slots against a reference that looks at every second or minute of the time line.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use chrono::Timelike;
use proptest::prelude::*;

use super::*;

/// Zones with every sort of change: none, an hour in each half of the world, half an hour, at midnight, none any more.
const ZONES: [&str; 8] = [
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Kathmandu",
];

fn table(expr: &str, zone: &str) -> Timetable {
    Timetable::parse(expr, zone).unwrap()
}

fn ms(text: &str) -> UnixMs {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

/// The next slots after an instant, as the zone shows them, without the year and the seconds.
fn shown(expr: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let table = table(expr, zone);
    table.slots_after(ms(after)).take(count).map(|slot| table.show(slot)[5..].replacen(":00", "", 1)).collect()
}

fn full(expr: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let table = table(expr, zone);
    table.slots_after(ms(after)).take(count).map(|slot| table.show(slot)).collect()
}

#[test]
fn a_named_time_in_a_gap_fires_once_at_the_first_instant_after_it() {
    let new_york = full("30 2 * * *", "America/New_York", "2026-03-07T12:00:00-05:00", 2);
    assert_eq!(new_york, ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"]);
    let berlin = full("0 30 2 29 3 *", "Europe/Berlin", "2026-01-01T00:00:00Z", 1);
    assert_eq!(berlin, ["2026-03-29T03:00:00+02:00"]);
    let half_an_hour = full("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", 2);
    assert_eq!(half_an_hour, ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"]);
    let at_midnight = full("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00-04:00", 2);
    assert_eq!(at_midnight, ["2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"]);
    let formerly = full("30 0 4 11 *", "America/Sao_Paulo", "2018-11-03T00:00:00-03:00", 1);
    assert_eq!(formerly, ["2018-11-04T01:00:00-02:00"]);
}

#[test]
fn several_named_times_in_a_gap_fire_once_together() {
    let slots = full("0,20,40 2,3 * * *", "America/New_York", "2026-03-08T01:00:00-05:00", 4);
    let wanted = [
        "2026-03-08T03:00:00-04:00",
        "2026-03-08T03:20:00-04:00",
        "2026-03-08T03:40:00-04:00",
        "2026-03-09T02:00:00-04:00",
    ];
    assert_eq!(slots, wanted);
}

#[test]
fn a_day_that_a_zone_leaves_out_fires_at_the_start_of_the_next() {
    let samoa = full("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00-10:00", 2);
    assert_eq!(samoa, ["2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"]);
}

#[test]
fn a_named_time_in_a_fold_fires_once_the_first_time() {
    let new_york = full("30 1 * * *", "America/New_York", "2026-10-31T12:00:00-04:00", 2);
    assert_eq!(new_york, ["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"]);
    let berlin = full("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+02:00", 2);
    assert_eq!(berlin, ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
    let lord_howe = full("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00+11:00", 2);
    assert_eq!(lord_howe, ["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"]);
    let from_the_second = full("30,45 1 * * *", "America/New_York", "2026-11-01T01:35:00-05:00", 1);
    assert_eq!(from_the_second, ["2026-11-02T01:30:00-05:00"], "both were in the first hour");
    let hours = full("0 1-3 * * *", "America/New_York", "2026-11-01T00:00:00-04:00", 3);
    assert_eq!(hours, ["2026-11-01T01:00:00-04:00", "2026-11-01T02:00:00-05:00", "2026-11-01T03:00:00-05:00"]);
}

#[test]
fn what_repeats_goes_on_in_real_time() {
    let gap = full("*/30 * * * *", "America/New_York", "2026-03-08T01:00:00-05:00", 3);
    assert_eq!(gap, ["2026-03-08T01:30:00-05:00", "2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"]);
    let fold = full("*/30 * * * *", "America/New_York", "2026-11-01T01:00:00-04:00", 4);
    let wanted = [
        "2026-11-01T01:30:00-04:00",
        "2026-11-01T01:00:00-05:00",
        "2026-11-01T01:30:00-05:00",
        "2026-11-01T02:00:00-05:00",
    ];
    assert_eq!(fold, wanted);
    let half = full("*/15 * * * *", "Australia/Lord_Howe", "2026-04-05T01:45:00+11:00", 2);
    assert_eq!(half, ["2026-04-05T01:30:00+10:30", "2026-04-05T01:45:00+10:30"]);
    let only_then = full("*/20 2 * * *", "Europe/Berlin", "2026-03-28T02:40:00+01:00", 1);
    assert_eq!(only_then, ["2026-03-30T02:00:00+02:00"], "that hour is not there on the 29th");
}

#[test]
fn last_days_nearest_weekdays_and_nth_weekdays_are_known() {
    let after = "2026-01-01T00:00:00+08:00";
    let days =
        |expr: &str| shown(expr, "Asia/Shanghai", after, 3).iter().map(|s| s[..5].to_owned()).collect::<Vec<_>>();
    assert_eq!(days("0 2 L * *"), ["01-31", "02-28", "03-31"]);
    assert_eq!(days("0 2 15W * *"), ["01-15", "02-16", "03-16"], "15 February and 15 March 2026 are Sundays");
    assert_eq!(days("0 2 LW * *"), ["01-30", "02-27", "03-31"]);
    assert_eq!(days("0 2 * * 7#2"), ["01-11", "02-08", "03-08"]);
    assert_eq!(days("0 2 * * FRI#L"), ["01-30", "02-27", "03-27"]);
    assert_eq!(days("0 2 1,15 * MON"), ["01-01", "01-05", "01-12"], "either");
    assert_eq!(days("0 2 13 * +FRI"), ["02-13", "03-13", "11-13"], "both");
    assert_eq!(full("*/20 * * * * *", "UTC", "2026-01-01T00:00:00Z", 2)[1], "2026-01-01T00:00:40+00:00");
    assert_eq!(full("@monthly", "UTC", "2026-01-01T00:00:00Z", 1), ["2026-02-01T00:00:00+00:00"]);
    assert_eq!(full("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00+00:00"]);
}

#[test]
fn an_expression_that_never_fires_is_refused_at_once() {
    for expr in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31W 2 *", "*/5 * 30 2 *", "0 0 31 4 +MON#1"] {
        let refused = Timetable::parse(expr, "Asia/Shanghai").unwrap_err();
        assert_eq!(refused, BadTimetable::NeverFires { expr: expr.to_owned() });
        assert!(refused.to_string().contains("never fires: no day"), "{refused}");
    }
    for expr in ["0 0 29 2 *", "0 0 31 * *", "0 0 29 2 +MON"] {
        assert!(Timetable::parse(expr, "Asia/Shanghai").is_ok(), "{expr}");
    }
}

#[test]
fn an_expression_that_cannot_be_read_is_told_by_its_field() {
    let why = |expr: &str| match Timetable::parse(expr, "UTC") {
        Err(BadTimetable::Expression { why, .. }) => why,
        other => panic!("{expr}: {other:?}"),
    };
    assert!(why("61 * * * *").starts_with("minute `61`:"), "{}", why("61 * * * *"));
    assert!(why("0 0 24 * * *").starts_with("hour `24`:"));
    assert!(why("0 0 * 13 *").starts_with("month `13`:"));
    assert!(why("0 0 * * MOO").starts_with("weekday `MOO`:"));
    assert!(why("0 0 L-3 * *").starts_with("day of month `L-3`:"));
    assert!(why("*/0 * * * *").starts_with("minute `*/0`:"));
    assert_eq!(why("* * * *"), "it has 4 fields, and 5 or 6 are needed");
    assert_eq!(why(""), "it has 0 fields, and 5 or 6 are needed");
    assert_eq!(why("0 0 0 1 1 * 2020"), "it has 7 fields, and 5 or 6 are needed");
    assert_eq!(why(&"1,".repeat(200)), "it is longer than 256 bytes");
}

#[test]
fn an_expression_that_says_something_else_to_the_parser_is_refused_with_a_remedy() {
    for (expr, field, remedy) in [
        (", * * * *", "minute `,`", "an item of the list is empty"),
        ("0 , * * *", "hour `,`", "an item of the list is empty"),
        ("0,,30 * * * *", "minute `0,,30`", "an item of the list is empty"),
        ("0, 30 * * * *", "second `0,`", "an item of the list is empty"),
        ("*,5 * * * *", "minute `*,5`", "leave the others away"),
        ("*/90 * * * *", "minute `*/90`", "give at most 60"),
        ("0 20-40/30 * * *", "hour `20-40/30`", "`40` is not known there (0-23 are)"),
        ("0/10 * * * *", "minute `0/10`", "write `0-59/10`"),
        ("/10 * * * *", "minute `/10`", "write `*/10`"),
        ("0 22-2 * * *", "hour `22-2`", "write `22-23,0-2`"),
        ("0 0 * MON *", "month `MON`", "a weekday, and belongs in the last field"),
        ("JAN MON * * *", "minute `JAN`", "a month, and belongs in the field before the last"),
        ("0 0 15W1 * *", "day of month `15W1`", "`15W1` is not known there"),
        ("0 0 15WW * *", "day of month `15WW`", "`15W` is not known there"),
        ("0 0 L,LW * *", "day of month `L,LW`", "make two schedules"),
        ("0 0 * * 5#2L", "weekday `5#2L`", "1 to 5, or by L"),
        ("0 0 * * 5#6", "weekday `5#6`", "1 to 5, or by L"),
        ("0 0 * * SUN-SUN", "weekday `SUN-SUN`", "write `SUN`"),
        ("0 0 * * FRI-MON", "weekday `FRI-MON`", "write `5-6,0-1`"),
        ("0 0 L * L", "weekday `L`", "`5L` is the last Friday"),
        ("0 0 * * +", "weekday `+`", "an item of the list is empty"),
        ("@reboot", "@yearly", "@midnight"),
    ] {
        let said = Timetable::parse(expr, "UTC").map(|_| ()).unwrap_err().to_string();
        assert!(said.contains(field) && said.contains(remedy), "{said}");
    }
}

#[test]
fn what_is_usual_among_cron_expressions_is_taken() {
    for expr in [
        "@midnight",
        "@Daily",
        "*/60 * * * *",
        "5-5 * * * *",
        "00 05 * * *",
        "0 0 ? * mon-fri",
        "0 0 1,L * ?",
        "0 0 1,15w * *",
        "0 0 * jan-mar,dec *",
        "0 0 * * fri-sun",
        "0 0 * * SAT-SUN",
        "0 0 * * 1-5/2",
        "0 0 * * MON-FRI#1",
        "0 0 * * friL",
        "0 0 * * 7",
        "0 0 13 * +fri",
        "0 0 * * 0-7",
        "*/5,59 10-20/2 * * *",
        "0 0 LW * *",
        "0 0 */2 */3 *",
    ] {
        assert!(Timetable::parse(expr, "UTC").is_ok(), "{expr}: {:?}", Timetable::parse(expr, "UTC"));
    }
    let weekend = full("0 0 * * SAT-SUN", "UTC", "2026-01-01T00:00:00Z", 2);
    assert_eq!(weekend, ["2026-01-03T00:00:00+00:00", "2026-01-04T00:00:00+00:00"]);
    assert_eq!(full("@midnight", "UTC", "2026-01-01T00:00:00Z", 1), ["2026-01-02T00:00:00+00:00"]);
}

/// By itself the parser takes these, and the search for their next slot does not come to an end in any useful time.
#[test]
fn an_expression_without_a_time_of_day_does_not_fire() {
    for expr in [", * * * *", "0 , * * *", ", 0 0 * * *", "0 0 30 2 *"] {
        assert!(!fires(&parser().parse(expr).unwrap()), "{expr}");
    }
    assert!(fires(&parser().parse("0 0 29 2 *").unwrap()));
}

#[test]
fn an_unknown_zone_is_refused_with_the_nearest_known_one() {
    let near = |zone: &str| match Timetable::parse("0 0 * * *", zone) {
        Err(BadTimetable::UnknownZone { nearest, .. }) => nearest,
        other => panic!("{zone}: {other:?}"),
    };
    assert_eq!(near("Asia/Shangai"), Some("Asia/Shanghai"));
    assert_eq!(near("asia/shanghai"), Some("Asia/Shanghai"));
    assert_eq!(near("Asia/Beijing"), Some("Asia/Shanghai"));
    assert_eq!(near("Berlin"), Some("Europe/Berlin"));
    assert_eq!(near("America/New York"), Some("America/New_York"));
    for (given, zone) in [
        ("PST", Some("America/Los_Angeles")),
        ("CST", Some("Asia/Shanghai")),
        ("XST", None),
        ("+08:00", Some("Asia/Shanghai")),
        ("UTC+8", Some("Asia/Shanghai")),
        ("UTC+9", Some("Etc/GMT-9")),
        ("gmt-5", Some("Etc/GMT+5")),
        ("+00:00", Some("UTC")),
        ("+05:30", None),
        ("UTC+99", None),
    ] {
        assert_eq!(near(given), zone, "{given}");
    }
    assert!("Etc/GMT-9".parse::<Tz>().is_ok_and(|zone| zone.from_utc_datetime(&NaiveDateTime::default()).hour() == 9));
    assert_eq!(near("Mars/Olympus_Mons"), None);
    assert_eq!(near(""), None);
    let text = Timetable::parse("0 0 * * *", "Asia/Shangai").unwrap_err().to_string();
    assert_eq!(text, "there is no time zone `Asia/Shangai`; did you mean `Asia/Shanghai`?");
}

/// What should fire on a stretch of the time line, by looking at each step of it. Named times are looked for on the wall.
fn reference(table: &Timetable, from: UnixMs, to: UnixMs, step_s: i64) -> Vec<UnixMs> {
    let zone: Tz = table.zone().parse().unwrap();
    let fits = |wall: NaiveDateTime| table.cron.is_time_matching(&wall).unwrap();
    let at = |ms: UnixMs| zone.timestamp_millis_opt(ms).unwrap();
    let steps = || (from / 1000 + 1..=to / 1000).filter(|s| s % step_s == 0).map(|s| s * 1000);
    if table.repeats {
        return steps().filter(|ms| fits(at(*ms).naive_local())).collect();
    }
    let mut slots = Vec::new();
    for ms in steps() {
        let (wall, before) = (at(ms).naive_local(), at(ms - step_s * 1000).naive_local());
        let shown_before =
            zone.from_local_datetime(&wall).earliest().is_some_and(|first| first.timestamp_millis() < ms);
        let jumped = (1..).map(|n| before + TimeDelta::seconds(n * step_s)).take_while(|skipped| *skipped < wall);
        if (fits(wall) && !shown_before) || jumped.into_iter().any(fits) {
            slots.push(ms);
        }
    }
    slots
}

#[test]
fn around_every_change_of_the_clocks_the_slots_are_those_of_the_reference() {
    const DAY: i64 = 86_400_000;
    let exprs = ["30 2 * * *", "0,15,45 0-3 * * *", "*/15 * * * *", "0 */2 * * *", "45 1 L * *", "0 0 * * SUN"];
    let mut changes = 0;
    for zone in ZONES {
        let tz: Tz = zone.parse().unwrap();
        let shown = |day: i64| tz.timestamp_millis_opt(day * DAY).unwrap().naive_local();
        let first = ms("2026-01-01T00:00:00Z") / DAY;
        for day in (first..first + 731).filter(|day| shown(day + 1) - shown(*day) != TimeDelta::days(1)) {
            changes += 1;
            let (from, to) = ((day - 1) * DAY, (day + 2) * DAY);
            for expr in exprs {
                let table = table(expr, zone);
                let slots: Vec<_> = table.slots_after(from).take_while(|slot| *slot <= to).collect();
                assert!(slots == reference(&table, from, to, 900), "{expr} in {zone}");
            }
        }
    }
    assert_eq!(changes, 4 * 5, "five zones change their clocks twice a year");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Around each change of the clocks, from any instant.
    #[test]
    fn any_start_finds_the_next_slot_of_the_reference(
        zone in prop::sample::select(&ZONES[..]),
        minute in prop::sample::select(&["0", "30", "*/10", "5,45", "*"][..]),
        hour in prop::sample::select(&["*", "0", "1", "2", "1-3", "*/2"][..]),
        change in prop::sample::select(&["2026-03-08T06:00:00Z", "2026-11-01T05:00:00Z", "2026-03-29T00:00:00Z",
            "2026-10-25T00:00:00Z", "2026-04-04T14:00:00Z", "2026-10-03T14:30:00Z", "2026-09-06T03:00:00Z"][..]),
        start in 0_i64..18_000,
    ) {
        let table = table(&format!("{minute} {hour} * * *"), zone);
        let from = ms(change) - 7_200_000 + start * 1000 + 137;
        let wanted = reference(&table, from, from + 26 * 3_600_000, 60).first().copied();
        prop_assert_eq!(table.next_after(from), wanted, "after {}", table.show(from));
    }

    #[test]
    fn no_text_makes_the_parser_panic(expr in "\\PC{0,40}", zone in "\\PC{0,20}") {
        let _ = Timetable::parse(&expr, &zone);
        let _ = Timetable::parse(&expr, "Asia/Shanghai");
    }

    #[test]
    fn no_cron_like_text_makes_the_search_panic(expr in "[0-9*/,LW#?MONJA +-]{5,30}", at in 0_i64..4_102_444_800_000) {
        if let Ok(table) = Timetable::parse(&expr, "Europe/Berlin")
            && let Some(next) = table.next_after(at) {
            prop_assert!(next > at);
        }
    }
}

#[test]
fn a_look_ahead_ends_where_no_summer_time_is_known() {
    let yearly = table("0 0 1 7 *", "Europe/Berlin");
    let last = yearly.preview(ms("2097-01-01T00:00:00Z"), 10).unwrap();
    assert_eq!(last.last().map(String::as_str), Some("2099-07-01T00:00:00+02:00"));
    assert_eq!(yearly.preview(ms("2100-01-01T00:00:00Z"), 10), Err(TooFarAhead));
}

#[test]
fn an_instant_is_shown_with_its_offset() {
    let table = table("0 0 * * *", "Asia/Kathmandu");
    assert_eq!(table.show(ms("2026-01-01T00:00:00Z")), "2026-01-01T05:45:00+05:45");
}
