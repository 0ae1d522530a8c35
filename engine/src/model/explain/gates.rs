//! Reasons that gates and resources give.

use super::{Reason, Seen, span};
use crate::model::{
    UnixMs,
    gate::{Freeze, Gate, LimitScope, Note, Rate, Scope},
};

/// Freezes and closed windows that the start would fall into, one after the other, and those it would run into.
pub(super) fn freezes(seen: &Seen) -> Vec<Reason> {
    let record = &seen.job.record;
    let names = || record.resources.iter().map(|resource| resource.name.as_str());
    let mut mine: Vec<&Freeze> =
        seen.gates.freezes().filter(|f| f.reach.fits(&record.kind, &record.tenant, names())).collect();
    mine.sort_by_key(|freeze| (freeze.from, freeze.until));
    let takes = seen.gates.takes_ms.get(&record.kind).map_or(0, |ms| UnixMs::try_from(*ms).unwrap_or(0));
    let mut start = seen.start();
    let mut reasons = Vec::new();
    // Each freeze that is met moves the start behind it, where the next one may stand.
    while let Some(at) = mine.iter().position(|freeze| freeze.stops(start, takes)) {
        let freeze = mine.remove(at);
        reasons.push(frozen(freeze, start, takes));
        match freeze.ends() {
            Some(end) => start = start.max(end),
            None => break,
        }
    }
    let place = |reason: &Reason| super::CODES.iter().position(|(code, _)| *code == reason.code);
    reasons.sort_by_key(place);
    reasons
}

fn frozen(freeze: &Freeze, start: UnixMs, takes: UnixMs) -> Reason {
    let why = if freeze.reason.is_empty() { String::new() } else { format!(": {}", freeze.reason) };
    let owner = if freeze.owner.is_empty() { String::new() } else { format!(" (owner: {})", freeze.owner) };
    let name = freeze.window().unwrap_or(&freeze.id);
    let sort = if freeze.window().is_some() { "window" } else { "freeze" };
    let reason = match (start < freeze.from, freeze.window()) {
        (true, _) => {
            let (takes, left) = (span(takes.unsigned_abs()), span((freeze.from - start).unsigned_abs()));
            let what = if sort == "window" { "closes" } else { "begins" };
            let text = format!("its kind takes up to {takes}, and {sort} `{name}` {what} {left} after its start{why}");
            Reason::new("does_not_fit", text)
        }
        (false, Some(_)) => Reason::new("window_closed", format!("window `{name}` is closed{why}{owner}")),
        (false, None) => Reason::new("frozen", format!("freeze `{name}` stands{why}{owner}")),
    };
    reason.about(&freeze.id).until(freeze.ends())
}

/// Pauses, then kill switches.
pub(super) fn stops(seen: &Seen) -> Vec<Reason> {
    let record = &seen.job.record;
    let scopes = [
        Scope::Queue(record.queue.clone()),
        Scope::All,
        Scope::Kind(record.kind.clone()),
        Scope::Tenant(record.tenant.clone()),
    ];
    let found = || scopes.iter().flat_map(|scope| seen.gates.stops(scope));
    let pauses =
        found().filter_map(|gate| if let Gate::Pause(scope, note) = gate { Some(paused(scope, note)) } else { None });
    let kills = found()
        .filter_map(|gate| if let Gate::KillSwitch(scope, note) = gate { Some(killed(scope, note)) } else { None });
    pauses.chain(kills).collect()
}

/// The reason that was given. Who gave it is not told: a tenant's callers read this.
fn because(note: &Note) -> String {
    if note.why.is_empty() { String::new() } else { format!(": {}", note.why) }
}

fn paused(scope: &Scope, note: &Note) -> Reason {
    let (code, what) = match scope {
        Scope::All => ("queue_paused", "every queue is paused"),
        Scope::Queue(_) => ("queue_paused", "the queue is paused"),
        Scope::Kind(_) => ("kind_paused", "the kind is paused"),
        Scope::Tenant(_) => ("tenant_paused", "the tenant is paused"),
    };
    Reason::new(code, format!("{what}{}", because(note))).about(scope.name())
}

fn killed(scope: &Scope, note: &Note) -> Reason {
    let what = match scope {
        Scope::All => "everything".to_owned(),
        other => format!("{} {}", other.word(), other.name()),
    };
    Reason::new("kill_switch", format!("the kill switch is on for {what}{}", because(note))).about(scope.name())
}

/// What it needs and others have, or wait for before it.
pub(super) fn resources(seen: &Seen) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for resource in &seen.resources {
        let passable = resource.many_holders == 0 || (resource.shared && resource.held_shared);
        if !passable {
            let text = match resource.many_holders {
                1 => "another job holds what it works on; they go one at a time (ENG-09)".to_owned(),
                many => format!("{many} other jobs share what it needs for itself"),
            };
            reasons.push(Reason::new("resource_held", text).about(&resource.name).jobs(&resource.holders));
        }
        if resource.many_before > 0 {
            let are = if resource.many_before == 1 { "job waits" } else { "jobs wait" };
            let text = format!("{} {are} for it before this one", resource.many_before);
            reasons.push(Reason::new("resource_queue", text).about(&resource.name).jobs(&resource.before));
        }
    }
    reasons.sort_by_key(|reason| reason.code == "resource_queue");
    reasons
}

/// Limits that are reached now.
pub(super) fn limits(seen: &Seen) -> Vec<Reason> {
    if !seen.is_due() {
        return Vec::new();
    }
    let key = &seen.job.record.key;
    let name = |scope: &LimitScope| match scope {
        LimitScope::Key(kind) => format!("key {key} of kind {kind}"),
        other => format!("{} {}", other.word(), other.name()),
    };
    let mut reasons = Vec::new();
    for found in &seen.limits {
        let (name, limit) = (name(&found.limit.scope), &found.limit);
        if let Some(most) = limit.max_running.filter(|most| found.running >= u64::from(*most)) {
            let text = format!("{} of {most} run that may run of {name}", found.running);
            reasons.push(Reason::new("concurrency_limit", text).about(&name));
        }
        let opens = limit.rate.and_then(|rate| Some((rate, rate_opens(rate, &found.starts, seen.now)?)));
        reasons.extend(opens.map(|(rate, at)| {
            let text = format!("{} of {name} may start in {}, and were", rate.count, span(rate.period_ms));
            Reason::new("rate_limit", text).about(&name).until(at)
        }));
    }
    reasons.sort_by_key(|reason| reason.code == "rate_limit");
    reasons
}

/// When the next may start, if it is not now.
fn rate_opens(rate: Rate, starts: &[UnixMs], now: UnixMs) -> Option<UnixMs> {
    let mut starts = starts.to_vec();
    starts.sort_unstable();
    let nth_last = starts.len().checked_sub(rate.count as usize)?;
    let opens = starts.get(nth_last)? + UnixMs::try_from(rate.period_ms).ok()?;
    (opens > now).then_some(opens)
}
