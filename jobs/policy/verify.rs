//! One-use codes and the second confirmation: what is asked for, and what a code is bound to (VERIFY-01 … VERIFY-03).
//!
//! The store holds the codes and counts the tries; here is what a refusal by it means to the caller.

use leasehold_engine::TicketRefusal;
use serde::{Deserialize, Serialize};

use super::refusal::{ErrorCode, Refusal};
use super::rules::Submission;

/// The `verify.*` keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRules {
    /// Who checks that the acting user is the user (VERIFY-02).
    pub mode: VerifyMode,
    /// How long a code is good for.
    pub code_ttl_seconds: u64,
    /// Wrong tries that lock a code.
    pub max_attempts: u32,
    /// Time between two codes for the same user, operation and target.
    pub resend_seconds: u64,
}

/// Who checks that the acting user is the user (VERIFY-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyMode {
    /// This program sends codes and checks them.
    Engine,
    /// The upstream vouches with `confirmed`.
    Caller,
}

/// What a code is bound to: the actor, the operation and the target (VERIFY-02).
#[must_use]
pub fn ticket_binding(ask: &Submission<'_>, operation: &str) -> String {
    format!("{}/{}/{operation}/{}", ask.tenant.id, ask.actor.user_id, ask.data_center)
}

/// What the store's "no" to a code means (VERIFY-02). A wrong code takes no unit of a quota.
#[must_use]
pub fn code_refused(why: TicketRefusal, tries_left: u32) -> Refusal {
    let (code, detail) = match why {
        TicketRefusal::Wrong if tries_left == 0 => {
            (ErrorCode::CodeLocked, "the code is wrong, and it is locked now".into())
        }
        TicketRefusal::Wrong => (ErrorCode::CodeInvalid, format!("the code is wrong; {tries_left} tries are left")),
        TicketRefusal::Missing => (ErrorCode::CodeInvalid, "there is no such code, or it was used already".into()),
        TicketRefusal::Other => {
            (ErrorCode::CodeInvalid, "the code was sent for another user, operation or target".into())
        }
        TicketRefusal::Expired => (ErrorCode::CodeExpired, "the code has expired".into()),
        TicketRefusal::Locked => (ErrorCode::CodeLocked, "there were too many wrong tries".into()),
    };
    let refusal = Refusal::new(code, "VERIFY-02", detail).with_field("verification.code");
    match why {
        TicketRefusal::Wrong if tries_left > 0 => refusal,
        _ => refusal.with_remedy("ask for a new code"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verify_02_ac_080_each_refusal_of_a_code_has_its_own_reason() {
        let code = |why, left| code_refused(why, left).code;
        assert_eq!(code(TicketRefusal::Wrong, 4), ErrorCode::CodeInvalid);
        assert_eq!(code(TicketRefusal::Wrong, 0), ErrorCode::CodeLocked);
        assert_eq!(code(TicketRefusal::Locked, 0), ErrorCode::CodeLocked);
        assert_eq!(code(TicketRefusal::Expired, 3), ErrorCode::CodeExpired);
        assert_eq!(code(TicketRefusal::Missing, 0), ErrorCode::CodeInvalid);
        assert_eq!(code(TicketRefusal::Other, 5), ErrorCode::CodeInvalid);
    }
}
