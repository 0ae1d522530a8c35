//! The document of the contract (design 4.3), and what is refused at the border.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    json!({
        "name": "Example", "class": "dedicated_vip", "formal": true, "lease_end": "2026-12-31",
        "contacts": [{"user_id": "u1", "roles": ["enterprise_admin"], "email": "a@example.com", "mobile": "138"}],
        "environments": [{
            "id": "prod", "kind": "production", "tenancy": "single_tenant", "resource_class": "dedicated_vip",
            "lease_end": "2026-12-31", "domain": "a.example.com", "site": "local:site", "attachments": "file:files",
            "data_centers": [{"id": "dc-1", "name": "Books", "database": "sqlite:books.db"}]
        }]
    })
}

fn parse(document: &Value) -> Result<Tenant, Refusal> {
    Tenant::parse("t-001", document.to_string().as_bytes())
}

/// The document with the value at a JSON pointer replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = document();
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

fn refused(document: &Value) -> (ErrorCode, Option<String>) {
    let refusal = parse(document).unwrap_err();
    (refusal.code, refusal.field.clone())
}

fn invalid(field: &str) -> (ErrorCode, Option<String>) {
    (ErrorCode::InvalidArgument, Some(field.to_owned()))
}

#[test]
fn the_document_of_the_contract_is_read_and_written_back() {
    let tenant = parse(&document()).unwrap();
    let mut expected = document();
    expected["id"] = json!("t-001");
    assert_eq!(serde_json::to_value(&tenant).unwrap(), expected);
    assert_eq!(parse(&expected).unwrap(), tenant);
}

#[test]
fn an_unknown_field_is_named_with_its_path() {
    let mut document = document();
    document["environments"][0]["data_centers"][0]["databse"] = json!("x");
    let refusal = parse(&document).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::UnknownField);
    assert!(refusal.field.clone().unwrap().starts_with("environments[0].data_centers[0]"), "{refusal}");
}

#[test]
fn what_is_no_json_is_malformed_and_what_has_the_wrong_type_is_invalid() {
    assert_eq!(Tenant::parse("t", b"{").unwrap_err().code, ErrorCode::MalformedJson);
    assert_eq!(Tenant::parse("t", br#"{} x"#).unwrap_err().code, ErrorCode::MalformedJson);
    assert_eq!(Tenant::parse("t", br#"{}"#).unwrap_err().code, ErrorCode::InvalidArgument);
    assert_eq!(refused(&with("/lease_end", json!("2026-02-30"))).0, ErrorCode::InvalidArgument);
    assert_eq!(refused(&with("/formal", json!("yes"))), invalid("formal"));
    assert_eq!(refused(&with("/class", json!("gold"))).0, ErrorCode::InvalidArgument);
    let twice = format!("{} {}", document(), document());
    assert_eq!(Tenant::parse("t", twice.as_bytes()).unwrap_err().code, ErrorCode::MalformedJson);
}

#[test]
fn an_id_is_one_to_sixty_four_safe_letters() {
    for good in ["a", "A-_9", &"x".repeat(64)] {
        assert_eq!(check_id("id", good), Ok(()));
    }
    for bad in ["", "a b", "a/b", "ä", "a:b", "{x}", &"x".repeat(65)] {
        assert_eq!(check_id("id", bad).unwrap_err().code, ErrorCode::InvalidArgument, "{bad}");
        assert!(Tenant::parse(bad, document().to_string().as_bytes()).is_err(), "{bad}");
        assert_eq!(refused(&with("/environments/0/id", json!(bad))), invalid("environments[0].id"));
        let field = "environments[0].data_centers[0].id";
        assert_eq!(refused(&with("/environments/0/data_centers/0/id", json!(bad))), invalid(field));
    }
}

#[test]
fn the_id_of_the_body_must_be_that_of_the_path() {
    let mut document = document();
    document["id"] = json!("t-002");
    assert_eq!(refused(&document), invalid("id"));
}

#[test]
fn ids_are_unique_in_the_tenant() {
    let centers = json!([{"id": "dc-1", "name": "T", "database": "sqlite:t"}]);
    let and = |second: Value| {
        let mut twice = document();
        twice["environments"].as_array_mut().unwrap().push(second);
        twice
    };
    let same_center = and(json!({"id": "test", "kind": "vip_test", "data_centers": centers}));
    assert_eq!(refused(&same_center), invalid("environments[1].data_centers[0].id"));
    assert_eq!(refused(&and(json!({"id": "prod", "kind": "vip_test"}))), invalid("environments[1].id"));
}

#[test]
fn a_target_has_a_known_scheme() {
    for good in ["sqlite:a.db", "postgres://host/db", "postgresql://u@h/db", "mssql://h/db"] {
        assert!(parse(&with("/environments/0/data_centers/0/database", json!(good))).is_ok(), "{good}");
    }
    for bad in ["a.db", "mysql://h/db", "sqlite:", ":x", ""] {
        let field = "environments[0].data_centers[0].database";
        assert_eq!(refused(&with("/environments/0/data_centers/0/database", json!(bad))), invalid(field), "{bad}");
    }
    assert_eq!(refused(&with("/environments/0/site", json!("http://x"))), invalid("environments[0].site"));
    assert_eq!(
        refused(&with("/environments/0/attachments", json!("sqlite:x"))),
        invalid("environments[0].attachments")
    );
}

#[test]
fn a_secret_in_clear_text_is_refused_and_a_reference_is_not() {
    for good in ["postgres://u:${secret:pg}@h/db", "postgres://u@h:5432/db", "postgres://h/db?password=${secret:pg}"] {
        assert!(parse(&with("/environments/0/data_centers/0/database", json!(good))).is_ok(), "{good}");
    }
    for bad in [
        "postgres://u:hunter2@h/db",
        "postgres://u:p@ss@h/db",
        "mssql://u:${secret:a}x@h/db",
        "postgres://u:${secret:}@h/db",
        "postgres://h/db?user=u&Password=hunter2",
    ] {
        let refusal = parse(&with("/environments/0/data_centers/0/database", json!(bad))).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidArgument, "{bad}");
        assert!(!serde_json::to_string(&refusal).unwrap().contains("hunter2"), "the refusal repeats the secret");
    }
}

#[test]
fn a_data_center_is_found_with_its_environment() {
    let tenant = parse(&document()).unwrap();
    let (environment, data_center) = tenant.data_center("dc-1").unwrap();
    assert_eq!((environment.id.as_str(), data_center.name.as_str()), ("prod", "Books"));
    let refusal = tenant.require_data_center("dc-9", "args.data_center").unwrap_err();
    assert_eq!((refusal.code, refusal.field.as_deref()), (ErrorCode::UnknownDataCenter, Some("args.data_center")));
    assert_eq!(tenant.contacts_with(Role::EnterpriseAdmin).count(), 1);
    assert_eq!(tenant.contacts_with(Role::ItOps).count(), 0);
}
