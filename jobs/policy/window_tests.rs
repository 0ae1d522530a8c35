//! The boundaries of SQL-06, to the millisecond.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use chrono_tz::Tz;
use proptest::prelude::*;

fn shanghai() -> Calendar {
    Calendar::new(Tz::Asia__Shanghai)
}

fn at(local: &str) -> DateTime<Utc> {
    shanghai().instant(local.parse().unwrap())
}

fn nightly(end_inclusive: bool) -> Maintenance {
    Maintenance { window: Some("00:00-03:30".parse().unwrap()), end_inclusive }
}

fn inside(maintenance: Maintenance, local: &str) -> bool {
    maintenance.blocked_until(&shanghai(), at(local)).is_some()
}

#[test]
fn ac_070_midnight_is_inside_and_the_millisecond_before_is_not() {
    assert!(!inside(nightly(true), "2025-07-03T23:59:59"));
    assert!(!inside(nightly(true), "2025-07-03T23:59:59.999"));
    assert!(inside(nightly(true), "2025-07-04T00:00:00"));
}

#[test]
fn ac_071_the_end_belongs_to_the_window_unless_the_switch_says_otherwise() {
    assert!(inside(nightly(true), "2025-07-04T03:29:59.999"));
    assert!(inside(nightly(true), "2025-07-04T03:30:00"));
    assert!(!inside(nightly(true), "2025-07-04T03:30:00.001"));
    assert!(!inside(nightly(true), "2025-07-04T03:30:01"));
    assert!(inside(nightly(false), "2025-07-04T03:29:59.999"));
    assert!(!inside(nightly(false), "2025-07-04T03:30:00"));
}

#[test]
fn the_instant_that_a_refusal_names_is_the_first_that_is_accepted() {
    let now = at("2025-07-04T00:20:00");
    for end_inclusive in [true, false] {
        let maintenance = nightly(end_inclusive);
        let refusal = maintenance.check(&shanghai(), now, "SQL-06").unwrap_err();
        assert_eq!((refusal.code, refusal.rule), (ErrorCode::MaintenanceWindow, "SQL-06"));
        let allowed = refusal.allowed_at.unwrap().to_utc();
        assert_eq!(maintenance.check(&shanghai(), allowed, "SQL-06"), Ok(()));
        assert!(maintenance.check(&shanghai(), allowed - Duration::milliseconds(1), "SQL-06").is_err());
    }
}

#[test]
fn a_window_may_cross_midnight() {
    let late = Maintenance { window: Some("23:00-02:00".parse().unwrap()), end_inclusive: false };
    let until = at("2025-07-04T02:00:00");
    assert_eq!(late.blocked_until(&shanghai(), at("2025-07-03T22:59:59.999")), None);
    assert_eq!(late.blocked_until(&shanghai(), at("2025-07-03T23:00:00")), Some(until));
    assert_eq!(late.blocked_until(&shanghai(), at("2025-07-04T01:59:59")), Some(until));
    assert_eq!(late.blocked_until(&shanghai(), until), None);
}

#[test]
fn no_window_blocks_nothing() {
    assert!(!inside(Maintenance::NONE, "2025-07-04T01:00:00"));
}

#[test]
fn a_window_that_cannot_be_read_or_never_ends_is_refused() {
    for text in ["00:00", "0-3", "03:30-03:30", "25:00-26:00", "00:00-24:00", "a-b"] {
        assert!(text.parse::<DailyWindow>().is_err(), "{text}");
    }
    assert_eq!(" 00:00 - 03:30 ".parse::<DailyWindow>().unwrap().to_string(), "00:00-03:30");
}

fn reach(now: &str, planned: &str) -> Result<(), ErrorCode> {
    check_reach(&shanghai(), at(now), at(planned), Duration::hours(24), "SQL-06").map_err(|refusal| refusal.code)
}

#[test]
fn ac_072_exactly_twenty_four_hours_ahead_is_accepted_and_a_millisecond_more_is_not() {
    assert_eq!(reach("2025-07-03T12:00:00", "2025-07-04T12:00:00"), Ok(()));
    assert_eq!(reach("2025-07-03T12:00:00", "2025-07-04T12:00:00.001"), Err(ErrorCode::TimeNotAllowed));
    assert_eq!(reach("2025-07-03T12:00:00", "2025-07-04T12:00:01"), Err(ErrorCode::TimeNotAllowed));
}

#[test]
fn ac_073_now_is_accepted_and_the_past_is_not() {
    assert_eq!(reach("2025-07-03T12:00:00", "2025-07-03T12:00:00"), Ok(()));
    assert_eq!(reach("2025-07-03T12:00:00", "2025-07-03T11:59:59.999"), Err(ErrorCode::TimeNotAllowed));
    assert_eq!(reach("2025-07-03T12:00:00", "2025-07-03T11:59:59"), Err(ErrorCode::TimeNotAllowed));
}

#[test]
fn a_plan_too_far_ahead_is_told_when_it_comes_into_reach() {
    let planned = at("2025-07-05T12:00:00");
    let refusal = check_reach(&shanghai(), at("2025-07-03T12:00:00"), planned, Duration::hours(24), "SQL-06");
    let allowed = refusal.unwrap_err().allowed_at.unwrap().to_utc();
    assert_eq!(check_reach(&shanghai(), allowed, planned, Duration::hours(24), "SQL-06"), Ok(()));
}

proptest! {
    #[test]
    fn leaving_a_window_never_lands_in_it(ms in 1_700_000_000_000_i64..1_900_000_000_000, from in 0_u32..1440, to in 0_u32..1440, inclusive: bool) {
        prop_assume!(from != to);
        let text = format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60);
        // The longest window that still leaves a gap when its end belongs to it.
        prop_assume!((from + 1440 - to) % 1440 > 1);
        let maintenance = Maintenance { window: Some(text.parse().unwrap()), end_inclusive: inclusive };
        let at = DateTime::from_timestamp_millis(ms).unwrap();
        if let Some(until) = maintenance.blocked_until(&shanghai(), at) {
            prop_assert!(until > at);
            prop_assert!(until - at <= Duration::hours(24));
            prop_assert_eq!(maintenance.blocked_until(&shanghai(), until), None);
            let last = until - Duration::milliseconds(1);
            prop_assert!(maintenance.blocked_until(&shanghai(), last).is_some());
        }
    }
}
