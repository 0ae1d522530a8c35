//! What a gate's name and numbers must be. All mistakes of a document are named at once.

use std::collections::BTreeSet;

use leasehold_engine::UnixMs;
use leasehold_jobs::policy::tenant::check_id;

use super::ReachView;
use crate::api::{explain::WorkerDocument, problem::Problem, state::ApiState, tenants};

/// The mistakes found so far: field and what is wrong.
#[derive(Default)]
pub(super) struct Mistakes(Vec<(String, String)>);

impl Mistakes {
    pub(super) fn add(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.0.push((field.into(), what.into()));
    }

    /// A text that must be there and is not too long.
    pub(super) fn check_text(&mut self, field: &str, text: Option<&str>, most: usize) {
        match text.map(str::trim).unwrap_or_default() {
            "" => self.add(field, "it must be said"),
            text if text.chars().count() > most => self.add(field, format!("it has more than {most} characters")),
            _ => {}
        }
    }

    /// Refuses if there are any: the first is the problem's field, and the detail names all.
    pub(super) fn refuse(self) -> Result<(), Problem> {
        let [(field, what), more @ ..] = &self.0[..] else { return Ok(()) };
        let detail = match more {
            [] => what.clone(),
            _ => self.0.iter().map(|(field, what)| format!("{field}: {what}")).collect::<Vec<_>>().join("; "),
        };
        Err(Problem::invalid(field, detail))
    }
}

/// Kinds that this program, a worker that lives or a job of the store knows.
pub(super) async fn known_kinds(state: &ApiState) -> Result<BTreeSet<String>, Problem> {
    let mut kinds: BTreeSet<String> = state.catalogue().names().into_iter().collect();
    kinds.extend(state.store().counts().await?.into_iter().map(|count| count.kind));
    for worker in state.store().workers().await? {
        kinds.extend(WorkerDocument::of(&worker).kinds);
    }
    Ok(kinds)
}

/// A kind that nobody knows is a slip; a gate before it would do nothing and look as if it did.
pub(super) async fn check_kind(state: &ApiState, name: &str) -> Result<(), Problem> {
    let known = check_id("name", name).is_ok() && known_kinds(state).await?.contains(name);
    if known { Ok(()) } else { Err(Problem::not_found("kind", name)) }
}

/// The same for a tenant.
pub(super) async fn check_tenant(state: &ApiState, id: &str) -> Result<(), Problem> {
    let known = check_id("id", id).is_ok() && tenants::read(state, id).await?.is_some();
    if known { Ok(()) } else { Err(Problem::not_found("tenant", id)) }
}

/// What a freeze or a window is about.
pub(super) async fn check_reach(state: &ApiState, reach: &ReachView, wrong: &mut Mistakes) -> Result<(), Problem> {
    if let Some(kind) = &reach.kind
        && !known_kinds(state).await?.contains(kind)
    {
        wrong.add("scope.kind", format!("there is no kind `{kind}`"));
    }
    if let Some(tenant) = &reach.tenant
        && check_tenant(state, tenant).await.is_err()
    {
        wrong.add("scope.tenant", format!("there is no tenant `{tenant}`"));
    }
    if let Some(resource) = &reach.resource
        && !(1..=200).contains(&resource.len())
    {
        wrong.add("scope.resource", "a resource is 1 to 200 bytes");
    }
    Ok(())
}

/// The name of a freeze or a window: 1 to 64 of `[A-Za-z0-9_-]`.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), Problem> {
    Ok(check_id(field, name)?)
}

/// A stretch of time such as `500ms`, `90s`, `15m`, `2h30m` or `3d`, in ms.
pub(super) fn duration(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text.trim(), 0_u64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let unit_ms: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(unit_ms)?)?;
        rest = behind;
    }
    Some(sum)
}

/// The same for people, exactly: `2h30m`.
pub(super) fn duration_text(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let mut left = ms;
    let mut text = String::new();
    for (unit, name) in units {
        if left >= unit {
            text.push_str(&format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Ms as the engine counts them.
pub(super) fn ms(at: chrono::DateTime<chrono::FixedOffset>) -> UnixMs {
    at.timestamp_millis()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_they_are_written() {
        for (text, ms) in [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("2h30m", 9_000_000), ("3d", 259_200_000)]
        {
            assert_eq!(duration(text), Some(ms), "{text}");
            assert_eq!(duration(&duration_text(ms)), Some(ms), "{text}");
        }
        for text in ["", "h", "5", "5x", "-5s", "1.5h", "99999999999999999999s", "1h 30"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(duration(" 1h 30m ").unwrap(), 5_400_000);
    }
}
