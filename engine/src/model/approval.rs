//! Approvals: who may answer, how many must agree, until when, and to what exactly they agree. Pure.
//!
//! Invariant: an approval is granted only by `needed` different people who hold one of its grants, none of whom asked for
//! the job, each of whom agreed to these very arguments before its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JobError, UnixMs};

/// An approval that a kind asks for with [`Ctx::approval`](crate::Ctx::approval).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who may answer: opaque grants such as `role:it_ops` or `user:u7`. One of them is enough.
    pub from: Vec<String>,
    /// How many different people must agree; at least 1.
    pub needed: u16,
    /// Who asked for the job, as `user:u1`: never an approver of it. Empty when nobody did.
    pub requester: String,
    /// How long it is open; `None` for as long as it takes.
    pub within: Option<Duration>,
    /// What people are asked, in a sentence.
    pub prompt: String,
}

impl Approval {
    /// One of those who hold a grant in `from`, but not the requester.
    pub fn new<G: Into<String>>(requester: impl Into<String>, from: impl IntoIterator<Item = G>) -> Self {
        Self {
            from: from.into_iter().map(Into::into).collect(),
            needed: 1,
            requester: requester.into(),
            within: None,
            prompt: String::new(),
        }
    }

    /// So many different people must agree.
    #[must_use]
    pub const fn needed(mut self, people: u16) -> Self {
        self.needed = people;
        self
    }

    /// It expires after this long.
    #[must_use]
    pub const fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// What people are asked.
    #[must_use]
    pub fn prompt(mut self, text: impl Into<String>) -> Self {
        self.prompt = text.into();
        self
    }

    /// The document that is kept while it is open, bound to the arguments with this SHA-256 (hex).
    ///
    /// # Errors
    /// Permanent when nobody could ever grant it.
    pub(crate) fn spec(&self, args_sha256: String) -> Result<ApprovalSpec, JobError> {
        let wrong = |text: &str| Err(JobError::permanent("approval_impossible", text));
        if self.needed == 0 || self.from.is_empty() {
            return wrong("an approval needs at least one person, and somebody who may answer");
        }
        let from: BTreeSet<String> = self.from.iter().cloned().collect();
        if from.iter().all(|grant| *grant == self.requester) {
            return wrong("nobody but the requester could answer, who may not");
        }
        Ok(ApprovalSpec {
            from,
            needed: self.needed,
            requester: self.requester.clone(),
            args_sha256,
            prompt: self.prompt.clone(),
        })
    }
}

/// An open approval, as it lies in the journal and is shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalSpec {
    /// Who may answer.
    pub from: BTreeSet<String>,
    /// How many different people must agree.
    pub needed: u16,
    /// Who may not, though a grant would allow it.
    pub requester: String,
    /// SHA-256 of the arguments, hex: an answer to other arguments does not count.
    pub args_sha256: String,
    /// What people are asked.
    pub prompt: String,
}

/// Why somebody may not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAllowed {
    /// It is his own job.
    Requester,
    /// He holds none of the grants.
    NoGrant,
}

impl ApprovalSpec {
    /// Whether this person may answer.
    ///
    /// # Errors
    /// Why not.
    pub fn may_answer(&self, by: &str, grants: &[String]) -> Result<(), NotAllowed> {
        if by == self.requester || grants.contains(&self.requester) && !self.requester.is_empty() {
            return Err(NotAllowed::Requester);
        }
        let holds = self.from.contains(by) || grants.iter().any(|grant| self.from.contains(grant));
        if holds { Ok(()) } else { Err(NotAllowed::NoGrant) }
    }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Yes.
    Approve,
    /// No: ends the approval at once.
    Refuse,
}

/// One person's answer: the payload of a signal that bears the approval's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Yes or no.
    pub decision: Choice,
    /// Who, as `user:u7`.
    pub by: String,
    /// What he may act as, as the service that took the answer vouches for.
    pub grants: Vec<String>,
    /// SHA-256 (hex) of the job's arguments when he answered.
    pub args_sha256: String,
    /// Why, for people.
    #[serde(default)]
    pub comment: String,
    /// What else he said, such as the fields of a form: any JSON. Who asks reads it with what was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
}

/// What came of an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Decision {
    /// Enough people agreed.
    Approved {
        /// Who, in the order in which they agreed.
        by: Vec<String>,
        /// What they sent with it, by who; those who sent nothing are left out.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        payloads: BTreeMap<String, Value>,
    },
    /// Somebody who may answer said no.
    Refused {
        /// Who.
        by: String,
        /// Why.
        comment: String,
        /// What he sent with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
    /// Its time is over.
    Expired {
        /// Who had agreed.
        agreed: Vec<String>,
    },
}

impl Decision {
    /// Who agreed.
    ///
    /// # Errors
    /// Permanent, `approval_refused` or `approval_expired`, when it was not granted.
    pub fn granted(self) -> Result<Vec<String>, JobError> {
        match self {
            Self::Approved { by, .. } => Ok(by),
            Self::Refused { by, comment, .. } => {
                Err(JobError::permanent("approval_refused", format!("{by} refused: {comment}")))
            }
            Self::Expired { agreed } => Err(JobError::permanent(
                "approval_expired",
                format!("the approval's time is over; {} had agreed", agreed.len()),
            )),
        }
    }
}

/// What the answers, in the order in which they came, amount to at `now`; `None` while it is open.
///
/// `until` is its end in ms, 0 never; an answer that came later does not count.
#[must_use]
pub fn decide(spec: &ApprovalSpec, answers: &[(UnixMs, Answer)], until: UnixMs, now: UnixMs) -> Option<Decision> {
    let (mut agreed, mut payloads): (Vec<String>, BTreeMap<_, _>) = Default::default();
    for (at, answer) in answers {
        let in_time = until == 0 || *at < until;
        let counts =
            in_time && answer.args_sha256 == spec.args_sha256 && spec.may_answer(&answer.by, &answer.grants).is_ok();
        match answer.decision {
            _ if !counts => {}
            Choice::Refuse => {
                let Answer { by, comment, payload, .. } = answer.clone();
                return Some(Decision::Refused { by, comment, payload });
            }
            Choice::Approve if agreed.contains(&answer.by) => {}
            Choice::Approve => {
                agreed.push(answer.by.clone());
                payloads.extend(answer.payload.clone().map(|payload| (answer.by.clone(), payload)));
            }
        }
        if agreed.len() >= usize::from(spec.needed) {
            return Some(Decision::Approved { by: agreed, payloads });
        }
    }
    (until > 0 && until <= now).then_some(Decision::Expired { agreed })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn spec(needed: u16) -> ApprovalSpec {
        Approval::new("user:u1", ["role:it_ops", "user:u7"]).needed(needed).spec("aa".to_owned()).unwrap()
    }

    fn answer(decision: Choice, user: &str, roles: &[&str]) -> Answer {
        let by = format!("user:{user}");
        let grants = roles.iter().map(|role| format!("role:{role}")).chain([by.clone()]).collect();
        Answer { decision, by, grants, args_sha256: "aa".to_owned(), comment: "why".to_owned(), payload: None }
    }

    fn yes(user: &str, roles: &[&str]) -> (UnixMs, Answer) {
        (10, answer(Choice::Approve, user, roles))
    }

    fn agreed(by: Vec<String>) -> Decision {
        Decision::Approved { by, payloads: BTreeMap::new() }
    }

    #[test]
    fn what_people_send_with_their_answers_is_given_with_the_decision() {
        let with =
            |(at, answer): (UnixMs, Answer), payload: i32| (at, Answer { payload: Some(payload.into()), ..answer });
        let yeses = [with(yes("u2", &["it_ops"]), 1), with(yes("u2", &["it_ops"]), 2), yes("u7", &[])];
        let payloads = BTreeMap::from([("user:u2".to_owned(), 1.into())]);
        let by = vec!["user:u2".to_owned(), "user:u7".to_owned()];
        assert_eq!(
            decide(&spec(2), &yeses, 0, 20),
            Some(Decision::Approved { by, payloads }),
            "the first answer counts"
        );
        let (at, no) = with((10, answer(Choice::Refuse, "u7", &[])), 3);
        let refused = decide(&spec(2), &[(at, no)], 0, 20);
        assert!(matches!(refused, Some(Decision::Refused { payload: Some(payload), .. }) if payload == 3));
    }

    #[test]
    fn two_of_those_who_may_must_agree_and_one_person_counts_once() {
        let it_ops = ["it_ops"];
        assert_eq!(decide(&spec(2), &[yes("u2", &it_ops)], 0, 20), None);
        assert_eq!(decide(&spec(2), &[yes("u2", &it_ops), yes("u2", &it_ops)], 0, 20), None, "the same person");
        let by = vec!["user:u2".to_owned(), "user:u7".to_owned()];
        assert_eq!(decide(&spec(2), &[yes("u2", &it_ops), yes("u7", &[])], 0, 20), Some(agreed(by)));
    }

    #[test]
    fn the_requester_and_people_without_a_grant_do_not_count() {
        assert_eq!(decide(&spec(1), &[yes("u1", &["it_ops"]), yes("u9", &["clerk"])], 0, 20), None);
        assert_eq!(spec(1).may_answer("user:u1", &[]), Err(NotAllowed::Requester));
        let acting_as = ["user:u1".to_owned(), "role:it_ops".to_owned()];
        assert_eq!(spec(1).may_answer("user:u5", &acting_as), Err(NotAllowed::Requester));
        assert_eq!(spec(1).may_answer("user:u9", &["role:clerk".to_owned()]), Err(NotAllowed::NoGrant));
        assert_eq!(spec(1).may_answer("user:u7", &[]), Ok(()));
    }

    #[test]
    fn a_refusal_counts_at_once_but_only_of_one_who_may_answer() {
        let no = |user, roles: &[&str]| (10, answer(Choice::Refuse, user, roles));
        let refused = Decision::Refused { by: "user:u7".to_owned(), comment: "why".to_owned(), payload: None };
        assert_eq!(decide(&spec(2), &[yes("u2", &["it_ops"]), no("u7", &[])], 0, 20), Some(refused.clone()));
        assert_eq!(decide(&spec(2), &[no("u9", &["clerk"]), no("u1", &["it_ops"])], 0, 20), None);
        assert_eq!(refused.granted().unwrap_err().code, "approval_refused");
    }

    #[test]
    fn an_answer_to_other_arguments_or_after_the_end_does_not_count() {
        let mut other = yes("u7", &[]);
        other.1.args_sha256 = "bb".to_owned();
        assert_eq!(decide(&spec(1), &[other], 0, 20), None);
        let expired = Decision::Expired { agreed: Vec::new() };
        assert_eq!(decide(&spec(1), &[yes("u7", &[])], 10, 20), Some(expired.clone()));
        assert_eq!(decide(&spec(1), &[], 21, 20), None);
        assert_eq!(expired.granted().unwrap_err().code, "approval_expired");
    }

    #[test]
    fn an_approval_that_nobody_can_grant_is_refused() {
        for wrong in [
            Approval::new("", ["role:a"]).needed(0),
            Approval::new("", Vec::<String>::new()),
            Approval::new("user:u1", ["user:u1"]),
        ] {
            assert_eq!(wrong.spec(String::new()).unwrap_err().code, "approval_impossible");
        }
    }
}
