//! The timeline of section 5, day by day and at its boundaries.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use chrono::Duration;

use super::*;
use crate::policy::rules::KINDS;
use crate::policy::testing::{rules, shanghai, tenant};

fn phase(environment: &str, lease_end: &str, local: &str) -> Phase {
    let (rules, tenant) = (rules(), tenant(lease_end));
    let environment = tenant.environment(environment).unwrap();
    rules.expiry.phase(rules.calendar(), &tenant, environment, shanghai(local))
}

fn check(environment: &str, op: &str, local: &str) -> Result<(), (ErrorCode, &'static str)> {
    let (rules, tenant) = (rules(), tenant("2020-06-02"));
    let environment = tenant.environment(environment).unwrap();
    let checked = rules.expiry.check(rules.calendar(), &tenant, environment, op, shanghai(local));
    checked.map_err(|refusal| (refusal.code, refusal.rule))
}

#[test]
fn t_3_the_end_date_is_day_zero_and_the_sample_mail_is_day_fifteen() {
    let calendar = *rules().calendar();
    let end = "2020-06-02".parse().unwrap();
    let day = |local| day_number(&calendar, end, shanghai(local));
    assert_eq!(day("2020-06-01T23:59:59.999"), -1);
    assert_eq!(day("2020-06-02T00:00:00"), 0);
    assert_eq!(day("2020-06-02T23:59:59.999"), 0);
    assert_eq!(day("2020-06-17T16:52:00"), 15);
    assert_eq!(day_begins(&calendar, end, 31).to_rfc3339(), "2020-07-02T16:00:00+00:00");
}

#[test]
fn ac_001_ac_002_day_zero_runs_and_grace_begins_at_midnight() {
    assert_eq!(phase("prod", "2020-06-02", "2020-06-02T23:59:59.999"), Phase::Active);
    assert_eq!(phase("prod", "2020-06-02", "2020-06-03T00:00:00"), Phase::Grace);
}

#[test]
fn ac_003_ac_004_operations_are_restricted_from_day_eight() {
    assert_eq!(phase("prod", "2020-06-02", "2020-06-09T23:59:59.999"), Phase::Grace);
    assert_eq!(check("prod", "iis_restart", "2020-06-09T23:59:59"), Ok(()));
    assert_eq!(phase("prod", "2020-06-02", "2020-06-10T00:00:00"), Phase::Restricted);
    let refused = Err((ErrorCode::LeaseRestricted, "EXP-07"));
    assert_eq!(check("prod", "standard_patch_update", "2020-06-10T00:00:00"), refused);
    for op in ["standard_patch_update", "custom_patch_deploy", "iis_restart", "external_network_access"] {
        assert_eq!(check("prod", op, "2020-07-02T12:00:00"), refused, "{op}");
    }
}

#[test]
fn ac_006_the_nine_and_what_they_need_stay_open_through_day_thirty() {
    let nine = "admin_password_reset data_center_rename sql_update data_center_backup data_center_restore \
        data_center_download data_center_upload attachment_archive attachment_download ops_log_view \
        authorization_letter verification_code other_download_request";
    for op in nine.split_whitespace() {
        for local in ["2020-06-10T00:00:00", "2020-06-17T12:00:00", "2020-07-02T23:59:59.999"] {
            assert_eq!(check("prod", op, local), Ok(()), "{op} {local}");
        }
    }
}

#[test]
fn exp_11_exp_12_day_thirty_one_closes_everything_at_midnight() {
    assert_eq!(phase("prod", "2020-06-02", "2020-07-02T23:59:59.999"), Phase::Restricted);
    assert_eq!(phase("prod", "2020-06-02", "2020-07-03T00:00:00"), Phase::Closed);
    for op in KINDS {
        let refused = Err((ErrorCode::LeaseClosedRepurchase, "EXP-11"));
        assert_eq!(check("prod", op, "2020-07-03T00:00:00"), refused, "{op}");
    }
}

#[test]
fn ac_027_ac_028_ac_029_leap_years_move_the_days() {
    for (end, day_30, closed) in [
        ("2023-02-28", "2023-03-30T23:59:59.999", "2023-03-31T00:00:00"),
        ("2024-01-30", "2024-02-29T23:59:59.999", "2024-03-01T00:00:00"),
        ("2024-02-28", "2024-03-29T23:59:59.999", "2024-03-30T00:00:00"),
        ("2024-02-29", "2024-03-30T23:59:59.999", "2024-03-31T00:00:00"),
        ("2025-12-31", "2026-01-30T23:59:59.999", "2026-01-31T00:00:00"),
    ] {
        assert_eq!(phase("prod", end, day_30), Phase::Restricted, "{end}");
        assert_eq!(phase("prod", end, closed), Phase::Closed, "{end}");
    }
}

#[test]
fn exp_27_exp_28_a_test_environment_has_fifteen_days_of_download_and_is_then_closed() {
    assert_eq!(phase("test", "2020-06-02", "2020-06-02T23:59:59.999"), Phase::Active);
    assert_eq!(phase("test", "2020-06-02", "2020-06-03T00:00:00"), Phase::Buffer);
    assert_eq!(phase("test", "2020-06-02", "2020-06-17T23:59:59.999"), Phase::Buffer);
    assert_eq!(phase("test", "2020-06-02", "2020-06-18T00:00:00"), Phase::Closed);
    assert_eq!(
        check("test", "data_center_backup", "2020-06-18T00:00:00"),
        Err((ErrorCode::LeaseClosedRepurchase, "EXP-29"))
    );
}

#[test]
fn exp_30_in_the_buffer_only_download_and_what_it_needs_is_open() {
    let at = "2020-06-10T12:00:00";
    for op in
        ["data_center_download", "data_center_backup", "authorization_letter", "verification_code", "ops_log_view"]
    {
        assert_eq!(check("test", op, at), Ok(()), "{op}");
    }
    for op in ["data_center_restore", "sql_update", "data_center_rename", "admin_password_reset", "data_center_upload"]
    {
        assert_eq!(check("test", op, at), Err((ErrorCode::LeaseRestricted, "EXP-30")), "{op}");
    }
}

#[test]
fn x_07_a_kind_without_a_buffer_is_closed_the_day_after() {
    let mut expiry = rules().expiry;
    expiry.test.kinds_with_buffer = vec![EnvironmentKind::VipTest];
    assert_eq!(expiry.test_phase(EnvironmentKind::StandardTest, 0), Phase::Active);
    assert_eq!(expiry.test_phase(EnvironmentKind::StandardTest, 1), Phase::Closed);
    assert_eq!(expiry.test_phase(EnvironmentKind::VipTest, 15), Phase::Buffer);
}

#[test]
fn a_test_environment_follows_its_own_end_date() {
    let rules = rules();
    let mut tenant = tenant("2020-06-02");
    tenant.environments[1].lease_end = Some("2021-06-02".parse().unwrap());
    let now = shanghai("2020-07-10T12:00:00");
    let phase = |n: usize| rules.expiry.phase(rules.calendar(), &tenant, &tenant.environments[n], now);
    assert_eq!((phase(0), phase(1)), (Phase::Closed, Phase::Active));
}

#[test]
fn x_01_the_mode_widens_or_closes_the_restricted_days_and_nothing_else() {
    let mut expiry = rules().expiry;
    let open = |expiry: &ExpiryRules, op| {
        [Phase::Active, Phase::Grace, Phase::Restricted, Phase::Buffer, Phase::Closed]
            .map(|phase| expiry.open(phase, op))
    };
    assert_eq!(open(&expiry, "sql_update"), [true, true, true, false, false]);
    assert_eq!(open(&expiry, "iis_restart"), [true, true, false, false, false]);
    expiry.restricted.mode = RestrictedMode::Unrestricted;
    assert_eq!(open(&expiry, "iis_restart"), [true, true, true, false, false]);
    expiry.restricted.mode = RestrictedMode::ReadOnly;
    assert_eq!(open(&expiry, "sql_update"), [true, true, false, false, false]);
}

#[test]
fn a_refusal_by_the_lease_says_the_day_and_what_is_still_open() {
    let (rules, tenant) = (rules(), tenant("2020-06-02"));
    let now = shanghai("2020-06-02T00:00:00") + Duration::days(9);
    let refusal =
        rules.expiry.check(rules.calendar(), &tenant, &tenant.environments[0], "iis_restart", now).unwrap_err();
    assert!(refusal.detail.contains("day 9") && refusal.detail.contains("2020-06-02"), "{refusal}");
    assert!(refusal.limit.as_deref().unwrap().contains("sql_update"), "{refusal}");
}
