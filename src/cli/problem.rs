//! A problem+json of the API (RFC 9457) as people read it, and the exit status that goes with it.

use std::fmt;

use serde_json::Value;

use super::out::text;

/// What the API answered instead of a result.
#[derive(Debug, Clone)]
pub struct Problem {
    status: u16,
    body: Value,
}

/// Codes of the range 4xx that are no rule's "no".
const NOT_A_RULE: [&str; 7] = [
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "unsupported_media_type",
    "too_many_requests",
    "too_many_jobs",
    "gone",
];

impl Problem {
    /// The problem in an answer with this HTTP status; a body that is no problem+json is kept as the detail.
    #[must_use]
    pub fn of(status: u16, body: &[u8]) -> Self {
        let body = serde_json::from_slice(body).ok().filter(Value::is_object).unwrap_or_else(|| {
            let start = String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned();
            serde_json::json!({ "status": status, "title": format!("HTTP status {status}"), "detail": start })
        });
        Self { status, body }
    }

    /// The stable code; empty when the answer had none.
    #[must_use]
    pub fn code(&self) -> String {
        text(&self.body, "code")
    }

    /// The document.
    #[must_use]
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Whether the API, or what stands before it, cannot answer now and may soon.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        self.status >= 500 || self.code() == "too_many_requests"
    }

    /// Whether a rule said no, rather than something being broken or missing.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status) && !self.code().is_empty() && !NOT_A_RULE.contains(&self.code().as_str())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_refusal() { "refused" } else { "failed" };
        write!(f, "{word}: {}", text(&self.body, "title"))?;
        if !self.code().is_empty() {
            write!(f, " ({})", self.code())?;
        }
        for (name, path) in [
            ("detail", "detail"),
            ("rule", "rule"),
            ("field", "field"),
            ("limit", "limit"),
            ("allowed at", "allowed_at"),
            ("remedy", "remedy"),
        ] {
            let value = text(&self.body, path);
            if !value.is_empty() {
                write!(f, "\n  {name:<11}{value}")?;
            }
        }
        if let Some(quota) = self.body.get("quota").filter(|q| q.is_object()) {
            let (used, limit, resets) = (text(quota, "used"), text(quota, "limit"), text(quota, "resets_at"));
            write!(f, "\n  quota      {used} of {limit} used, anew at {resets}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_its_rule_and_when_it_will_be_allowed() {
        let body = br#"{"title":"It is inside","code":"maintenance_window","rule":"SQL-06","allowed_at":"2026-11-23T03:30:01+08:00"}"#;
        let problem = Problem::of(422, body);
        assert!(problem.is_refusal());
        let text = problem.to_string();
        assert!(text.starts_with("refused: It is inside (maintenance_window)"), "{text}");
        assert!(text.contains("SQL-06") && text.contains("2026-11-23T03:30:01+08:00"), "{text}");
    }

    #[test]
    fn a_missing_job_or_key_is_a_failure_and_not_a_refusal() {
        for code in NOT_A_RULE {
            assert!(!Problem::of(404, format!(r#"{{"code":"{code}"}}"#).as_bytes()).is_refusal(), "{code}");
        }
        assert!(!Problem::of(503, br#"{"code":"storage_unavailable"}"#).is_refusal());
        assert!(!Problem::of(502, b"<html>").is_refusal());
        assert!(Problem::of(502, b"<html>").is_passing() && !Problem::of(404, b"").is_passing());
    }
}
