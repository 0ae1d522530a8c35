//! Reasons that the job's own course gives: parked, suspended for a signal, people, children.

use super::{Reason, Seen, is_blocked_by};
use crate::model::{ApprovalSpec, Awaited, BlockedBy, EventWord, Place, Wait};

/// Set aside until a person or another version comes.
pub(super) fn parked(seen: &Seen) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if is_blocked_by(seen, BlockedBy::CodeChanged) {
        let said = noted(seen, "detail").map(|text| format!(": {text}")).unwrap_or_default();
        let text = format!("other code than this version's began it{said}; POST …/revive goes on, …/cancel ends it");
        reasons.push(Reason::new("code_changed", text).about(&seen.job.record.kind));
    }
    if let (Some(_), true) = (seen.gates.clock(), seen.job.record.destructive) {
        let text = "the store's clock jumped, and it has effects that cannot be repeated; a person has to look first";
        reasons.push(Reason::new("clock_jumped", text));
    }
    reasons
}

/// A text of the note with which it was blocked last.
fn noted(seen: &Seen, field: &str) -> Option<String> {
    let blocked = seen.job.record.events.iter().rev().find(|event| event.word == EventWord::Blocked)?;
    let note: serde_json::Value = serde_json::from_str(&blocked.note).ok()?;
    Some(note.get(field)?.as_str()?.to_owned())
}

/// What a waiting job waits for.
pub(super) fn suspended(seen: &Seen) -> Vec<Reason> {
    if seen.job.record.place != Place::Waiting {
        return Vec::new();
    }
    let open = seen.job.steps.iter().filter_map(|step| Some((step.name.as_str(), step.wait.as_ref()?)));
    let mut reasons: Vec<_> = open.map(|(name, wait)| awaited(seen, name, wait)).collect();
    if reasons.is_empty() {
        reasons.push(Reason::new("waiting", "it is suspended until it is told to go on"));
    }
    reasons.sort_by_key(|reason| super::CODES.iter().position(|(code, _)| *code == reason.code));
    reasons
}

fn awaited(seen: &Seen, step: &str, wait: &Wait) -> Reason {
    let reason = match &wait.awaited {
        Awaited::Time => Reason::new("sleep", "it sleeps, and no worker is held for it").about(step),
        Awaited::Signal { signal } => {
            Reason::new("signal", format!("it waits for the signal `{signal}`: POST …/signals/{signal}")).about(signal)
        }
        Awaited::Approval(spec) => approval(step, spec),
        Awaited::Children { all, many } => {
            let which = if *all { "all" } else { "one" };
            let text = format!("it waits for {which} of {many} children; {} have not ended", seen.pending.len());
            Reason::new("children", text).about(step).jobs(&seen.pending)
        }
    };
    reason.until((wait.until > 0).then_some(wait.until))
}

fn approval(step: &str, spec: &ApprovalSpec) -> Reason {
    let from: Vec<String> = spec.from.iter().cloned().collect();
    let people = if spec.needed == 1 { "one person has".to_owned() } else { format!("{} people have", spec.needed) };
    let not = if spec.requester.is_empty() { String::new() } else { format!(", but not {}", spec.requester) };
    let asked = if spec.prompt.is_empty() { String::new() } else { format!(" ({})", spec.prompt) };
    let text = format!("{people} to agree{asked}; may answer: {}{not}: POST …/signals/{step}", from.join(", "));
    let mut reason = Reason::new("approval", text).about(step);
    reason.who = from;
    reason
}
