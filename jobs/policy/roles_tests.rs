//! The role matrices: each check is asked for every role, so that a widened guard is seen.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const ON: RoleRules = RoleRules { admin_implies_it_ops: true };
const OFF: RoleRules = RoleRules { admin_implies_it_ops: false };

fn actor(roles: &[Role]) -> Actor {
    Actor { user_id: "u1".into(), roles: roles.to_vec(), mobile: None, email: None, yunzhijia_id: None }
}

fn allowed(check: impl Fn(&Actor) -> Result<(), Refusal>) -> Vec<Role> {
    Role::ALL.into_iter().filter(|role| check(&actor(&[*role])).is_ok()).collect()
}

#[test]
fn role_01_only_it_ops_operates_when_the_admin_does_not_imply_it() {
    assert_eq!(allowed(|a| OFF.operate(a, true)), [Role::ItOps]);
}

#[test]
fn role_02_the_enterprise_admin_counts_as_it_ops_by_default() {
    assert_eq!(allowed(|a| ON.operate(a, true)), [Role::EnterpriseAdmin, Role::ItOps]);
}

#[test]
fn role_01_nobody_of_a_tenant_that_is_not_formal_may_do_anything() {
    let all = actor(&Role::ALL);
    for check in [RoleRules::operate, RoleRules::update_sql, RoleRules::rename, RoleRules::restore] {
        assert_eq!(check(&ON, &all, true), Ok(()));
        let refusal = check(&ON, &all, false).unwrap_err();
        assert_eq!((refusal.code, refusal.rule), (ErrorCode::NotFormalTenant, "ROLE-01"));
    }
}

#[test]
fn role_04_no_single_role_is_enough_for_sql() {
    assert_eq!(allowed(|a| ON.update_sql(a, true)), []);
}

#[test]
fn role_04_sql_needs_the_add_on_and_admin_or_it_ops_and_nothing_else_will_do() {
    for rules in [ON, OFF] {
        let with_add_on: Vec<_> = Role::ALL
            .into_iter()
            .filter(|role| rules.update_sql(&actor(&[Role::DataOpsSpecialist, *role]), true).is_ok())
            .collect();
        assert_eq!(with_add_on, [Role::EnterpriseAdmin, Role::ItOps]);
    }
}

#[test]
fn ac_088_it_ops_alone_and_a_specialist_who_is_an_employee_are_refused() {
    for roles in [&[Role::ItOps][..], &[Role::DataOpsSpecialist, Role::Employee]] {
        let refusal = ON.update_sql(&actor(roles), true).unwrap_err();
        assert_eq!((refusal.code, refusal.rule), (ErrorCode::ForbiddenRole, "ROLE-04"));
        assert!(refusal.detail.contains("data_ops_specialist"), "{refusal}");
    }
}

#[test]
fn role_06_and_role_07_name_both_roles_whatever_the_switch_says() {
    for rules in [ON, OFF] {
        assert_eq!(allowed(|a| rules.rename(a, true)), [Role::EnterpriseAdmin, Role::ItOps]);
        assert_eq!(allowed(|a| rules.restore(a, true)), [Role::EnterpriseAdmin, Role::ItOps]);
    }
}

#[test]
fn no_role_of_the_vendor_or_of_a_machine_may_operate_for_a_customer() {
    for role in Role::ALL.into_iter().filter(|role| role.side() != Side::Customer) {
        let with_add_on = actor(&[role, Role::DataOpsSpecialist]);
        for check in [RoleRules::operate, RoleRules::update_sql, RoleRules::rename, RoleRules::restore] {
            assert!(check(&ON, &with_add_on, true).is_err(), "{role:?}");
        }
    }
}

#[test]
fn each_role_of_a_key_may_do_what_the_table_says() {
    use Permission::*;
    let of = |role: KeyRole| Permission::ALL.into_iter().filter(|p| !role.may(*p)).collect::<Vec<_>>();
    assert_eq!(of(KeyRole::Admin), []);
    assert_eq!(of(KeyRole::Operator), [Keys]);
    assert_eq!(of(KeyRole::Caller), [RepairJobs, PauseQueues, WriteSchedules, WriteTenants, Keys, Metrics]);
    let reads = Permission::ALL.into_iter().filter(|p| KeyRole::Monitor.may(*p)).collect::<Vec<_>>();
    assert_eq!(reads, [ReadJobs, ReadQueues, ReadTenants, Metrics]);
}

#[test]
fn a_key_without_a_fitting_role_is_told_which_would_do() {
    assert_eq!(KeyRole::check(&[KeyRole::Monitor, KeyRole::Caller], Permission::Enqueue), Ok(()));
    let refusal = KeyRole::check(&[KeyRole::Monitor], Permission::Enqueue).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Forbidden);
    assert_eq!(refusal.limit.as_deref(), Some("one of: admin, operator, caller"));
    assert!(KeyRole::check(&[], Permission::ReadJobs).is_err());
}

#[test]
fn an_actor_with_an_unknown_field_or_role_is_refused() {
    assert!(serde_json::from_str::<Actor>(r#"{"user_id":"u","roles":["it_ops"]}"#).is_ok());
    assert!(serde_json::from_str::<Actor>(r#"{"user_id":"u","roles":["root"]}"#).is_err());
    assert!(serde_json::from_str::<Actor>(r#"{"user_id":"u","roles":[],"admin":true}"#).is_err());
}

#[test]
fn role_19_a_user_id_is_short_and_has_no_control_characters() {
    let named = |user_id: &str| Actor { user_id: user_id.into(), ..actor(&[]) }.check();
    assert_eq!(named("张三@example.com"), Ok(()));
    assert_eq!(named(&"x".repeat(64)), Ok(()));
    for bad in ["", " ", "a\nb", "a\0", &"x".repeat(65)] {
        assert_eq!(named(bad).unwrap_err().field.as_deref(), Some("actor.user_id"), "{bad:?}");
    }
}
