//! Matching, rotation, the masked view and the state machine.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const DAY: i64 = 86_400_000;

fn endpoint(events: &[&str], tenant: Option<&str>) -> Endpoint {
    let events = events.iter().map(|text| text.parse().unwrap()).collect();
    Endpoint::new("https://example.com/".into(), events, tenant.map(str::to_owned), "key".into(), 0).unwrap().0
}

#[test]
fn a_pattern_hears_what_it_says() {
    let cases = [
        ("*", "job.succeeded", true),
        ("job.*", "job.succeeded", true),
        ("job.*", "jobs.succeeded", false),
        ("job.*", "lease.renewed", false),
        ("job.succeeded", "job.succeeded", true),
        ("job.succeeded", "job.succeeded2", false),
        ("job.succeeded", "job.failed", false),
    ];
    for (pattern, event, heard) in cases {
        assert_eq!(endpoint(&[pattern], None).hears(event, "t"), heard, "{pattern} {event}");
    }
    assert!(endpoint(&["job.failed", "job.succeeded"], None).hears("job.succeeded", "t"));
}

#[test]
fn a_pattern_of_another_shape_is_refused() {
    for text in ["", "job.", ".*", "job*", "*.job", "job.**", "Job.*", "job..x", "job.x y", &"j".repeat(65)] {
        assert!(text.parse::<EventPattern>().is_err(), "{text}");
    }
}

#[test]
fn an_endpoint_of_a_tenant_hears_that_tenant_only() {
    let mut one = endpoint(&["*"], Some("t-1"));
    assert!(one.hears("job.failed", "t-1") && !one.hears("job.failed", "t-2"));
    one.disabled = true;
    assert!(!one.hears("job.failed", "t-1"));
}

#[test]
fn after_a_rotation_both_secrets_sign_for_a_day_and_then_the_new_one_alone() {
    let mut one = endpoint(&["*"], None);
    let old = one.live_secrets(0)[0].clone();
    let new = Secret::generate().unwrap();
    one.rotate(new.clone(), 1000);
    assert_eq!(one.live_secrets(1000), [&new, &old]);
    assert_eq!(one.live_secrets(1000 + DAY - 1), [&new, &old]);
    assert_eq!(one.live_secrets(1000 + DAY), [&new]);
}

#[test]
fn rotating_to_the_same_secret_changes_nothing_and_many_rotations_stay_bounded() {
    let mut one = endpoint(&["*"], None);
    let current = one.live_secrets(0)[0].clone();
    let before = one.clone();
    one.rotate(current, 5);
    assert_eq!(one, before);
    for n in 0..50 {
        one.rotate(Secret::generate().unwrap(), n);
    }
    assert_eq!(one.live_secrets(50).len(), 10);
}

#[test]
fn the_view_shows_no_secret_and_the_document_survives_json() {
    let (one, secret) = Endpoint::new("https://example.com/".into(), vec![], None, "key".into(), 0).unwrap();
    let shown = serde_json::to_string(&one.view(&Health::default())).unwrap();
    assert!(!shown.contains("whsec_") && shown.contains("\"state\":\"enabled\""), "{shown}");
    let stored = serde_json::to_vec(&one).unwrap();
    assert!(String::from_utf8_lossy(&stored).contains(&secret.reveal()));
    assert_eq!(serde_json::from_slice::<Endpoint>(&stored).unwrap(), one);
}

#[test]
fn a_callback_has_the_same_id_for_the_same_key_and_url() {
    assert_eq!(callback_id("k1", "https://a/"), callback_id("k1", "https://a/"));
    assert_ne!(callback_id("k1", "https://a/"), callback_id("k2", "https://a/"));
    assert_ne!(callback_id("k1", "https://a/"), callback_id("k1", "https://b/"));
    assert!(is_callback(&callback_id("k1", "https://a/")) && !is_callback(&endpoint(&[], None).id));
}

#[test]
fn five_days_of_failures_disable_an_endpoint_and_one_success_starts_again() {
    let rules = HealthRules::default();
    let mut health = Health::default();
    assert!(health.failed(0, false, &rules), "the first failure is news");
    assert!(!health.failed(5 * DAY - 1, false, &rules));
    assert!(health.succeeded());
    assert_eq!(health, Health::default());
    health.failed(6 * DAY, false, &rules);
    assert!(health.failed(11 * DAY, false, &rules));
    assert_eq!(health.state, State::DisabledAuto);
    assert!(!health.succeeded() && health.state == State::DisabledAuto, "a late success does not enable it");
}

#[test]
fn many_failures_over_a_minute_degrade_an_endpoint_and_a_burst_does_not() {
    let rules = HealthRules::default();
    let mut health = Health::default();
    for _ in 0..100 {
        health.failed(0, false, &rules);
    }
    assert_eq!(health.state, State::Enabled);
    assert!(health.failed(60_000, false, &rules));
    assert_eq!(health.state, State::Degraded);
    assert!(health.succeeded());
    assert_eq!(health.state, State::Enabled);
}

#[test]
fn gone_disables_at_once() {
    let mut health = Health::default();
    assert!(health.failed(0, true, &HealthRules::default()));
    assert_eq!(health.state, State::DisabledAuto);
}
