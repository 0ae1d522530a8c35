//! The two questions, may it be accepted and may it start, in the words of the scenarios of section 8.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::policy::Role;
use crate::policy::testing::{actor, rules, shanghai, specialist, tenant};

const SCRIPT: &str = "UPDATE t SET a = 1;";

/// A command at noon of 2025-07-03, by a specialist, on production, confirmed and with a code.
struct Ask {
    rules: Rules,
    tenant: Tenant,
    actor: Actor,
    now: DateTime<Utc>,
    data_center: &'static str,
    planned_at: Option<DateTime<Utc>>,
    confirmed: bool,
    has_code: bool,
}

fn ask() -> Ask {
    Ask {
        rules: rules(),
        tenant: tenant("2030-12-31"),
        actor: specialist(),
        now: shanghai("2025-07-03T12:00:00"),
        data_center: "dc-1",
        planned_at: None,
        confirmed: true,
        has_code: true,
    }
}

impl Ask {
    fn at(mut self, now: &str, planned: &str) -> Self {
        self.now = shanghai(now);
        self.planned_at = Some(shanghai(planned));
        self
    }

    fn submission(&self) -> Submission<'_> {
        Submission {
            now: self.now,
            tenant: &self.tenant,
            actor: &self.actor,
            data_center: self.data_center,
            planned_at: self.planned_at,
            confirmed: self.confirmed,
            has_code: self.has_code,
        }
    }

    fn sql(&self) -> Result<Admission, Refusal> {
        self.rules.admit_sql_update(&self.submission(), SCRIPT)
    }

    fn sql_code(&self) -> Result<(), ErrorCode> {
        self.sql().map(drop).map_err(|refusal| refusal.code)
    }

    fn backup(&self, name: &str, description: &str) -> Result<Admission, Refusal> {
        self.rules.admit_backup(&self.submission(), name, description)
    }

    fn restore(&self, source: SourceKind, id: &str, letter: bool) -> Result<Admission, Refusal> {
        self.rules.admit_restore(&self.submission(), source, id, letter)
    }

    fn code(&self, operation: &str) -> Result<Admission, Refusal> {
        self.rules.admit_verification_code(&self.submission(), operation)
    }
}

#[test]
fn sql_01_an_admission_says_all_that_the_store_has_to_hold_on_to() {
    let admission = ask().at("2025-07-03T12:00:00", "2025-07-03T13:00:00").sql().unwrap();
    assert_eq!(admission.run_at, shanghai("2025-07-03T13:00:00"));
    assert_eq!(admission.resource, "data_center/t-001/dc-1");
    assert_eq!(admission.ticket_binding.as_deref(), Some("t-001/u1/sql_update/dc-1"));
    assert_eq!((admission.locked, admission.min_remaining_ms), (false, Some(600_001)));
    let allowance = admission.allowance.unwrap();
    assert_eq!((allowance.name.as_str(), allowance.limit), ("sql_update/t-001/2025-07-03", 10));
}

#[test]
fn ac_070_midnight_cannot_be_chosen_and_the_second_before_can() {
    let code = |planned| ask().at("2025-07-03T22:00:00", planned).sql_code();
    assert_eq!(code("2025-07-04T00:00:00"), Err(ErrorCode::MaintenanceWindow));
    assert_eq!(code("2025-07-03T23:59:59"), Ok(()));
}

#[test]
fn ac_071_the_end_of_the_window_cannot_be_chosen_unless_the_switch_says_so() {
    let mut ask = ask().at("2025-07-03T22:00:00", "2025-07-04T03:30:00");
    assert_eq!(ask.sql_code(), Err(ErrorCode::MaintenanceWindow));
    ask.rules.sql.maintenance.end_inclusive = false;
    assert_eq!(ask.sql_code(), Ok(()));
    ask.rules.sql.maintenance.end_inclusive = true;
    ask.planned_at = Some(shanghai("2025-07-04T03:30:01"));
    assert_eq!(ask.sql_code(), Ok(()));
}

#[test]
fn ac_072_ac_073_the_plan_lies_between_now_and_twenty_four_hours() {
    let code = |planned| ask().at("2025-07-03T12:00:00", planned).sql_code();
    assert_eq!(code("2025-07-04T12:00:00"), Ok(()));
    assert_eq!(code("2025-07-04T12:00:01"), Err(ErrorCode::TimeNotAllowed));
    assert_eq!(code("2025-07-03T11:59:59"), Err(ErrorCode::TimeNotAllowed));
    assert_eq!(code("2025-07-03T12:00:00"), Ok(()));
}

#[test]
fn ac_074_inside_the_window_now_is_refused_and_after_it_is_accepted() {
    assert_eq!(ask().at("2025-07-03T01:00:00", "2025-07-03T01:00:00").sql_code(), Err(ErrorCode::MaintenanceWindow));
    assert_eq!(ask().at("2025-07-03T01:00:00", "2025-07-03T03:31:00").sql_code(), Ok(()));
    let at_once = Ask { now: shanghai("2025-07-03T01:00:00"), ..ask() };
    let refusal = at_once.sql().unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::MaintenanceWindow, "SQL-06"), "no time means now");
    assert_eq!(refusal.allowed_at.unwrap().to_rfc3339(), "2025-07-03T03:30:00.001+08:00");
}

#[test]
fn x_28_without_a_window_every_hour_can_be_chosen() {
    let mut ask = ask().at("2025-07-03T01:00:00", "2025-07-03T01:00:00");
    ask.rules.sql.maintenance.window = None;
    assert_eq!(ask.sql_code(), Ok(()));
}

#[test]
fn ac_075_revoking_and_editing_need_more_than_ten_minutes() {
    let planned = shanghai("2025-07-03T12:00:00");
    let edit = |now: &str| {
        let mut ask = ask();
        ask.now = shanghai(now);
        ask.rules.admit_sql_edit(&ask.submission(), SCRIPT, planned).map(drop).map_err(|refusal| refusal.code)
    };
    let cancel =
        |now: &str| rules().check_cancel(SQL_UPDATE, shanghai(now), planned, false).map_err(|refusal| refusal.code);
    assert_eq!((edit("2025-07-03T11:49:59"), cancel("2025-07-03T11:49:59")), (Ok(()), Ok(())));
    for late in ["2025-07-03T11:50:00", "2025-07-03T11:55:00"] {
        assert_eq!(edit(late), Err(ErrorCode::TooLateToEdit), "{late}");
        assert_eq!(cancel(late), Err(ErrorCode::TooLateToCancel), "{late}");
    }
}

#[test]
fn ac_078_sql_17_an_edit_runs_the_same_guards_with_a_fresh_code_and_takes_no_unit() {
    let planned = shanghai("2025-07-03T20:00:00");
    let edit = |ask: &Ask| ask.rules.admit_sql_edit(&ask.submission(), SCRIPT, planned);
    let admission = edit(&ask()).unwrap();
    assert_eq!((admission.allowance, admission.run_at), (None, planned));
    assert!(admission.ticket_binding.is_some());
    let refused = |ask: &Ask| edit(ask).unwrap_err().code;
    assert_eq!(refused(&Ask { has_code: false, ..ask() }), ErrorCode::CodeInvalid);
    assert_eq!(refused(&Ask { confirmed: false, ..ask() }), ErrorCode::ConfirmationRequired);
    assert_eq!(refused(&ask().at("2025-07-03T12:00:00", "2025-07-04T12:00:01")), ErrorCode::TimeNotAllowed);
    assert_eq!(refused(&ask().at("2025-07-03T12:00:00", "2025-07-04T01:00:00")), ErrorCode::MaintenanceWindow);
    assert_eq!(refused(&Ask { actor: actor(&[Role::ItOps]), ..ask() }), ErrorCode::ForbiddenRole);
}

#[test]
fn sql_04_verify_02_a_code_is_required_unless_the_caller_vouches() {
    let mut ask = Ask { has_code: false, ..ask() };
    let refusal = ask.sql().unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::CodeInvalid, "SQL-04"));
    ask.rules.verify.mode = VerifyMode::Caller;
    assert_eq!(ask.sql().unwrap().ticket_binding, None);
    ask.confirmed = false;
    let refusal = ask.sql().unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::ConfirmationRequired, "VERIFY-02"));
}

#[test]
fn verify_03_an_sql_update_needs_the_second_confirmation() {
    let refusal = Ask { confirmed: false, ..ask() }.sql().unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::ConfirmationRequired, "VERIFY-03"));
}

#[test]
fn ac_088_sql_needs_the_add_on_and_admin_or_it_ops() {
    for roles in [&[Role::ItOps][..], &[Role::DataOpsSpecialist, Role::Employee], &[]] {
        let refusal = Ask { actor: actor(roles), ..ask() }.sql().unwrap_err();
        assert_eq!((refusal.code, refusal.rule), (ErrorCode::ForbiddenRole, "ROLE-04"), "{roles:?}");
    }
}

#[test]
fn ac_202_x_30_a_plan_within_ten_minutes_is_accepted_and_locked() {
    let ask = ask().at("2025-07-03T12:00:00", "2025-07-03T12:05:00");
    assert!(ask.sql().unwrap().locked);
    let revoked = ask.rules.check_cancel(SQL_UPDATE, ask.now, ask.planned_at.unwrap(), false);
    assert_eq!(revoked.unwrap_err().code, ErrorCode::TooLateToCancel);
}

#[test]
fn sql_19_a_script_is_not_empty_not_too_large_and_has_nothing_forbidden() {
    let mut rules = rules().sql;
    rules.max_script_bytes = 20;
    rules.forbidden_statements = vec!["drop database".into()];
    let code = |script: &str| rules.check_script(script).map_err(|refusal| refusal.code);
    assert_eq!(code(&"x".repeat(20)), Ok(()));
    assert_eq!(code(&"x".repeat(21)), Err(ErrorCode::FileTooLarge));
    assert_eq!(code(&"价".repeat(7)), Err(ErrorCode::FileTooLarge), "bytes count, not characters");
    assert_eq!(code(" \n\t"), Err(ErrorCode::InvalidArgument));
    assert_eq!(code("DROP\n Database x"), Err(ErrorCode::InvalidArgument));
    assert_eq!(code("drop databases"), Ok(()));
    assert_eq!(rules_of_reference(&"x".repeat(1_048_577)), Err(ErrorCode::FileTooLarge));
}

fn rules_of_reference(script: &str) -> Result<(), ErrorCode> {
    let ask = ask();
    ask.rules.admit_sql_update(&ask.submission(), script).map(drop).map_err(|refusal| refusal.code)
}

#[test]
fn the_guards_of_sql_are_asked_in_the_order_of_the_requirement() {
    // Everything is wrong; each repair uncovers the next refusal.
    let mut ask = ask().at("2025-07-03T01:00:00", "2025-07-03T00:30:00");
    ask.tenant = tenant("2025-01-01");
    ask.tenant.formal = false;
    (ask.actor, ask.confirmed, ask.has_code, ask.data_center) = (actor(&[]), false, false, "dc-9");
    let mut seen = Vec::new();
    let mut script = "";
    let refusal = |ask: &Ask, script| ask.rules.admit_sql_update(&ask.submission(), script).unwrap_err().code;
    seen.push(refusal(&ask, script));
    ask.tenant.formal = true;
    seen.push(refusal(&ask, script));
    ask.actor = specialist();
    seen.push(refusal(&ask, script));
    ask.data_center = "dc-1";
    seen.push(refusal(&ask, script));
    ask.tenant = tenant("2030-01-01");
    seen.push(refusal(&ask, script));
    script = SCRIPT;
    seen.push(refusal(&ask, script));
    ask.confirmed = true;
    seen.push(refusal(&ask, script));
    ask.has_code = true;
    seen.push(refusal(&ask, script));
    ask.planned_at = Some(ask.now);
    seen.push(refusal(&ask, script));
    use ErrorCode::*;
    assert_eq!(
        seen,
        [
            NotFormalTenant,
            ForbiddenRole,
            UnknownDataCenter,
            LeaseClosedRepurchase,
            InvalidArgument,
            ConfirmationRequired,
            CodeInvalid,
            TimeNotAllowed,
            MaintenanceWindow
        ]
    );
}

#[test]
fn a_quota_may_be_given_to_any_kind_and_taken_from_sql() {
    let mut ask = ask();
    assert_eq!(ask.backup("b", "").unwrap().allowance, None);
    let quota = ask.rules.quota.remove(SQL_UPDATE).unwrap();
    assert_eq!(ask.sql().unwrap().allowance, None);
    for kind in KINDS {
        ask.rules.quota.insert(kind.into(), quota.clone());
    }
    let name = |admission: Result<Admission, Refusal>| admission.unwrap().allowance.unwrap().name;
    assert_eq!(name(ask.backup("b", "")), "data_center_backup/t-001/2025-07-03");
    assert_eq!(name(ask.restore(SourceKind::Backup, "b1", false)), "data_center_restore/t-001/2025-07-03");
    assert_eq!(name(ask.code(SQL_UPDATE)), "verification_code/t-001/2025-07-03");
}

#[test]
fn backup_01_backup_04_a_backup_needs_it_ops_and_a_name() {
    let admission = ask().backup("before the audit", "").unwrap();
    assert_eq!(admission.resource, "data_center/t-001/dc-1");
    assert_eq!((admission.run_at, admission.min_remaining_ms), (ask().now, None));
    let code = |name: &str, description: &str| ask().backup(name, description).map(drop).map_err(|r| r.field.clone());
    assert_eq!(code(&"名".repeat(100), &"x".repeat(500)), Ok(()));
    for name in ["", " ", &"x".repeat(101)] {
        assert_eq!(code(name, ""), Err(Some("args.name".into())), "{name:?}");
    }
    assert_eq!(code("b", &"x".repeat(501)), Err(Some("args.description".into())));
    let employee = Ask { actor: actor(&[Role::Employee]), ..ask() };
    assert_eq!(employee.backup("b", "").unwrap_err().code, ErrorCode::ForbiddenRole);
    let mut admin = Ask { actor: actor(&[Role::EnterpriseAdmin]), ..ask() };
    assert!(admin.backup("b", "").is_ok());
    admin.rules.role.admin_implies_it_ops = false;
    assert_eq!(admin.backup("b", "").unwrap_err().rule, "ROLE-01");
}

#[test]
fn ac_117_restore_06_only_an_upload_needs_a_letter() {
    assert!(ask().restore(SourceKind::Backup, "b1", false).is_ok());
    assert!(ask().restore(SourceKind::DataCenter, "dc-2", false).is_ok());
    let refusal = ask().restore(SourceKind::Upload, "u1", false).unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::LetterRequired, "RESTORE-06"));
    assert!(ask().restore(SourceKind::Upload, "u1", true).is_ok());
    let mut strict = ask();
    strict.rules.restore.letter_required_for = vec![SourceKind::Backup];
    assert_eq!(strict.restore(SourceKind::Backup, "b1", false).unwrap_err().code, ErrorCode::LetterRequired);
}

#[test]
fn restore_07_source_and_target_differ_and_are_the_tenants() {
    assert_eq!(ask().restore(SourceKind::DataCenter, "dc-1", false).unwrap_err().rule, "RESTORE-07");
    let stranger = ask().restore(SourceKind::DataCenter, "dc-of-another", false).unwrap_err();
    assert_eq!((stranger.code, stranger.field.as_deref()), (ErrorCode::UnknownDataCenter, Some("args.source.id")));
    let into_nothing = Ask { data_center: "dc-9", ..ask() }.restore(SourceKind::Backup, "b", false).unwrap_err();
    assert_eq!(into_nothing.code, ErrorCode::UnknownDataCenter);
    assert!(Ask { data_center: "dc-test", ..ask() }.restore(SourceKind::DataCenter, "dc-1", false).is_ok());
}

#[test]
fn role_07_a_restore_needs_admin_or_it_ops() {
    let refusal = Ask { actor: actor(&[Role::Employee]), ..ask() }.restore(SourceKind::Backup, "b", false).unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::ForbiddenRole, "ROLE-07"));
}

#[test]
fn ac_120_restore_09_a_restore_can_be_cancelled_until_the_overwrite_begins() {
    let now = ask().now;
    assert_eq!(rules().check_cancel(DATA_CENTER_RESTORE, now, now, false), Ok(()));
    let refusal = rules().check_cancel(DATA_CENTER_RESTORE, now, now, true).unwrap_err();
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::TooLateToCancel, "RESTORE-09"));
}

#[test]
fn verify_01_a_code_is_sent_to_the_mobile_of_somebody_who_may_do_the_operation() {
    let admission = ask().code(SQL_UPDATE).unwrap();
    assert_eq!(admission.resource, "verification/t-001/u1/sql_update/dc-1");
    assert_eq!(ask().code("data_center_backup").unwrap_err().field.as_deref(), Some("args.operation"));
    let other = Ask { actor: actor(&[Role::ItOps]), ..ask() };
    assert_eq!(other.code(SQL_UPDATE).unwrap_err().code, ErrorCode::ForbiddenRole);
    let mut silent = ask();
    silent.actor.mobile = Some(" ".into());
    assert_eq!(silent.code(SQL_UPDATE).unwrap_err().field.as_deref(), Some("actor.mobile"));
}

#[test]
fn verify_02_the_binding_tells_users_operations_targets_and_tenants_apart() {
    let base = ask();
    let binding = |ask: &Ask, operation| ticket_binding(&ask.submission(), operation);
    let mut others = vec![Ask { data_center: "dc-2", ..ask() }, ask(), ask()];
    others[1].actor.user_id = "u2".into();
    others[2].tenant.id = "t-002".into();
    for other in &others {
        assert_ne!(binding(&base, SQL_UPDATE), binding(other, SQL_UPDATE));
    }
    assert_ne!(binding(&base, SQL_UPDATE), binding(&base, "data_center_rename"));
}

#[test]
fn requirements_7_6_each_kind_is_open_until_day_thirty_on_production() {
    for (lease_end, open) in [("2025-07-03", true), ("2025-06-28", true), ("2025-06-03", true), ("2025-06-02", false)] {
        let ask = Ask { tenant: tenant(lease_end), ..ask() };
        let answers = [
            ask.sql().map(drop),
            ask.backup("b", "").map(drop),
            ask.restore(SourceKind::Backup, "b", false).map(drop),
            ask.code(SQL_UPDATE).map(drop),
        ];
        for answer in answers {
            assert_eq!(
                answer.as_ref().map_err(|refusal| refusal.code),
                match open {
                    true => Ok(&()),
                    false => Err(ErrorCode::LeaseClosedRepurchase),
                },
                "{lease_end}"
            );
        }
    }
}

#[test]
fn exp_30_in_the_buffer_a_test_data_center_may_be_backed_up_and_nothing_else() {
    let ask = Ask { tenant: tenant("2025-06-28"), data_center: "dc-test", ..ask() };
    assert!(ask.backup("b", "").is_ok());
    let restricted = |answer: Result<Admission, Refusal>| answer.unwrap_err().rule;
    assert_eq!(restricted(ask.sql()), "EXP-30");
    assert_eq!(restricted(ask.restore(SourceKind::Backup, "b", false)), "EXP-30");
    assert_eq!(restricted(ask.code(SQL_UPDATE)), "EXP-30", "no code for what is refused anyway");
}

#[test]
fn a_restore_cannot_read_a_source_whose_lease_is_over() {
    let mut ask = ask();
    ask.tenant.environments[1].lease_end = Some("2025-01-01".parse().unwrap());
    let refusal = ask.restore(SourceKind::DataCenter, "dc-test", false).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::LeaseClosedRepurchase);
}

fn start(kind: &str, lease_end: &str, now: &str) -> Start {
    rules().start_check(kind, shanghai(now), &tenant(lease_end), "dc-1")
}

#[test]
fn sql_16_ac_087_a_late_worker_waits_for_the_end_of_the_window() {
    let at = shanghai("2025-07-04T03:30:00.001");
    let wait = Start::WaitUntil { at, flag: DEFERRED_BY_MAINTENANCE };
    assert_eq!(start(SQL_UPDATE, "2030-01-01", "2025-07-03T23:59:59.999"), Start::Go);
    assert_eq!(start(SQL_UPDATE, "2030-01-01", "2025-07-04T00:20:00"), wait);
    assert_eq!(start(SQL_UPDATE, "2030-01-01", "2025-07-04T03:30:00"), wait);
    assert_eq!(rules().start_check(SQL_UPDATE, at, &tenant("2030-01-01"), "dc-1"), Start::Go);
    assert_eq!(start(DATA_CENTER_BACKUP, "2030-01-01", "2025-07-04T00:20:00"), Start::Go);
}

#[test]
fn sql_14_the_lease_is_checked_again_at_the_start() {
    assert_eq!(start(SQL_UPDATE, "2025-06-03", "2025-07-03T23:59:59.999"), Start::Go);
    for kind in [SQL_UPDATE, DATA_CENTER_BACKUP, DATA_CENTER_RESTORE] {
        let Start::Refuse(refusal) = start(kind, "2025-06-03", "2025-07-04T00:00:00") else {
            panic!("{kind} starts on day 31");
        };
        assert_eq!(refusal.code, ErrorCode::LeaseClosedRepurchase);
    }
}

#[test]
fn role_01_a_tenant_that_is_formal_no_more_starts_nothing() {
    let tenant = Tenant { formal: false, ..tenant("2030-01-01") };
    for kind in [SQL_UPDATE, DATA_CENTER_BACKUP, DATA_CENTER_RESTORE] {
        let answer = rules().start_check(kind, ask().now, &tenant, "dc-1");
        assert!(matches!(answer, Start::Refuse(refusal) if refusal.code == ErrorCode::NotFormalTenant), "{kind}");
    }
}

#[test]
fn a_job_whose_data_center_is_gone_does_not_start() {
    let answer = rules().start_check(SQL_UPDATE, ask().now, &tenant("2030-01-01"), "dc-9");
    assert!(matches!(answer, Start::Refuse(refusal) if refusal.code == ErrorCode::UnknownDataCenter));
}

#[test]
fn a_plan_of_a_backup_that_has_passed_means_now() {
    let ask = ask().at("2025-07-03T12:00:00", "2025-07-03T11:00:00");
    assert_eq!(ask.backup("b", "").unwrap().run_at, ask.now);
}

#[test]
fn exp_09_a_code_is_an_operation_of_its_own_in_the_restricted_days() {
    let mut ask = Ask { tenant: tenant("2025-06-20"), ..ask() };
    assert!(ask.code(SQL_UPDATE).is_ok());
    ask.rules.expiry.restricted.allowed_ops.retain(|op| op != VERIFICATION_CODE);
    assert_eq!(ask.code(SQL_UPDATE).unwrap_err().code, ErrorCode::LeaseRestricted);
}

#[test]
fn role_19_no_kind_is_admitted_for_a_user_without_an_id() {
    let mut nobody = ask();
    nobody.actor.user_id = String::new();
    let answers = [
        nobody.sql(),
        nobody.rules.admit_sql_edit(&nobody.submission(), SCRIPT, shanghai("2025-07-03T13:00:00")),
        nobody.backup("b", ""),
        nobody.restore(SourceKind::Backup, "b", false),
        nobody.code(SQL_UPDATE),
    ];
    for answer in answers {
        assert_eq!(answer.unwrap_err().rule, "ROLE-19");
    }
}
