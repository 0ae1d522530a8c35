//! The engine's "no" in the words of the rules: quota, code, key, back-pressure; and the nearest known name.

use leasehold_engine::{Enqueued, JobId};

use super::submission::Admitted;
use crate::policy::verify::code_refused;
use crate::policy::{ErrorCode, Refusal, Rules};

/// Reads the engine's answer to a job that the rules admitted.
pub(super) fn read(
    rules: &Rules,
    admitted: &Admitted,
    quota_rule: &'static str,
    answer: Enqueued,
) -> Result<(JobId, bool), Refusal> {
    match answer {
        Enqueued::Accepted(id) => Ok((id, false)),
        Enqueued::Duplicate(id) => Ok((id, true)),
        Enqueued::Conflict(id) => {
            let detail = format!("the key belongs to job {id}, which was asked for with other content");
            Err(Refusal::new(ErrorCode::IdempotencyConflict, "ENG-03", detail)
                .with_field("Idempotency-Key")
                .with_remedy("send a new key with a new request"))
        }
        Enqueued::Full { live } => {
            Err(Refusal::new(ErrorCode::TooManyJobs, "ENG-01", format!("{live} jobs wait or run already"))
                .with_remedy("try again later"))
        }
        Enqueued::AllowanceSpent { used } => Err(match &admitted.allowance {
            Some(allowance) => allowance.spent(rules.calendar(), used, quota_rule),
            None => Refusal::new(ErrorCode::QuotaExceeded, quota_rule, format!("{used} used")),
        }),
        Enqueued::TicketRefused { why, tries_left } => Err(code_refused(why, tries_left)),
    }
}

/// The refusal of a name that is not known, with the nearest one that is.
#[must_use]
pub fn unknown(code: ErrorCode, field: &str, given: &str, known: &[&str]) -> Refusal {
    let shown: String = given.chars().take(64).collect();
    let refusal = Refusal::new(code, "ENG-01", format!("`{shown}` is not known"))
        .with_field(field)
        .with_limit(format!("known: {}", known.join(", ")));
    match nearest(given, known) {
        Some(near) => refusal.with_remedy(format!("did you mean `{near}`?")),
        None => refusal,
    }
}

/// The known name that `given` was probably meant to be.
pub(super) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let score = |name: &str| strsim::jaro_winkler(&given.to_lowercase(), name);
    known.iter().copied().filter(|name| score(name) > 0.75).max_by(|a, b| score(a).total_cmp(&score(b)))
}
