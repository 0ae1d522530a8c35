//! What the tests of rules and kinds share: the rules of the reference configuration, a tenant, actors, local times.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{Actor, Calendar, Role, Rules, Tenant};

/// The rules as `config/leasehold.toml` states them.
pub(crate) fn rules() -> Rules {
    let mut table: toml::Table = toml::from_str(include_str!("../../config/leasehold.toml")).unwrap();
    let sections = ["time", "role", "expiry", "sql", "backup", "restore", "verify", "quota", "notify"];
    table.retain(|section, _| sections.contains(&section));
    table.try_into().expect("the reference has all rules")
}

/// The tenant `t-001`, formal, with production `dc-1` and `dc-2`, and the test data center `dc-test`.
pub(crate) fn tenant(lease_end: &str) -> Tenant {
    let json = serde_json::json!({
        "name": "Example Trading", "class": "standard", "formal": true, "lease_end": lease_end,
        "contacts": [{"user_id": "admin", "roles": ["enterprise_admin"], "email": "admin@example.com"}],
        "environments": [
            {"id": "prod", "kind": "production", "tenancy": "multi_tenant", "resource_class": "shared", "data_centers": [
                {"id": "dc-1", "name": "Books", "database": "sqlite:books.db"},
                {"id": "dc-2", "name": "Archive", "database": "postgres://lh:${secret:pg}@db/archive"}]},
            {"id": "test", "kind": "standard_test", "data_centers": [
                {"id": "dc-test", "name": "Test", "database": "sqlite:test.db"}]}
        ]
    });
    Tenant::parse("t-001", json.to_string().as_bytes()).unwrap()
}

/// A user `u1` with a mobile and these roles.
pub(crate) fn actor(roles: &[Role]) -> Actor {
    let mobile = Some("13800000000".to_owned());
    Actor { user_id: "u1".into(), roles: roles.to_vec(), mobile, email: None, yunzhijia_id: None }
}

/// A user who may update SQL.
pub(crate) fn specialist() -> Actor {
    actor(&[Role::DataOpsSpecialist, Role::ItOps])
}

/// The instant of a wall-clock time in Shanghai.
pub(crate) fn shanghai(local: &str) -> DateTime<Utc> {
    Calendar::new(Tz::Asia__Shanghai).instant(local.parse().unwrap())
}
