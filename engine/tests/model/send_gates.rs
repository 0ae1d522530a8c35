//! Sends the verbs of gates, and gives their answers as text.

use leasehold_engine::model::gate::{Freeze, Gate, Limit, LimitScope, Note, Rate, Reach, Scope};

use crate::{
    model::Model,
    send::{Far, text},
    verbs::{Counted, FREEZES, KINDS, Part, QUEUES, RESOURCES, TENANTS, Verb},
};

fn scope(part: Part) -> Scope {
    match part {
        Part::All => Scope::All,
        Part::Queue(n) => Scope::Queue(QUEUES[n].to_owned()),
        Part::Kind(n) => Scope::Kind(KINDS[n].to_owned()),
        Part::Tenant(n) => Scope::Tenant(TENANTS[n].to_owned()),
    }
}

fn limit_scope(of: Counted) -> LimitScope {
    match of {
        Counted::Queue(n) => LimitScope::Queue(QUEUES[n].to_owned()),
        Counted::Kind(n) => LimitScope::Kind(KINDS[n].to_owned()),
        Counted::Key(n) => LimitScope::Key(KINDS[n].to_owned()),
    }
}

impl Far {
    pub(crate) async fn gate(&self, verb: &Verb, model: &Model) -> String {
        let (store, note, now) = (&self.store, Note::default(), model.now);
        match verb {
            Verb::Pause(part) => text(store.pause(&scope(*part), &note).await),
            Verb::Resume(part) => text(store.resume(&scope(*part)).await),
            Verb::Kill(part) => text(store.kill(&scope(*part), &note).await),
            Verb::Unkill(part) => text(store.unkill(&scope(*part)).await),
            Verb::Limit { of, most, rate } => {
                let rate = rate.map(|(count, period)| Rate { count, period_ms: period as u64 });
                let max_running = (*most > 0).then_some(*most);
                text(store.put_gate(&Gate::Limit(Limit { scope: limit_scope(*of), max_running, rate, note })).await)
            }
            Verb::Unlimit { of } => text(store.gate_remove(&limit_scope(*of).field()).await),
            Verb::Freeze { name, from_in, lasts, kind, tenant, resource } => {
                let reach = Reach {
                    kind: kind.map(|n| KINDS[n].to_owned()),
                    tenant: tenant.map(|n| TENANTS[n].to_owned()),
                    resource: resource.map(|n| RESOURCES[n].to_owned()),
                };
                let (from, until) = (now + from_in, now + from_in + lasts);
                let (reason, owner) = (String::new(), String::new());
                let freeze = Freeze { id: FREEZES[*name].to_owned(), reach, from, until, reason, owner, note };
                text(store.put_gate(&Gate::Freeze(freeze)).await)
            }
            Verb::Unfreeze { name } => text(store.gate_remove(&format!("f {}", FREEZES[*name])).await),
            Verb::ClockJumped(true) => text(store.gate_set("clock", b"{}").await),
            Verb::ClockJumped(false) => text(store.gate_remove("clock").await),
            Verb::Takes { kind, ms } => {
                text(store.gate_set(&format!("d {}", KINDS[*kind]), ms.to_string().as_bytes()).await)
            }
            _ => String::new(),
        }
    }
}
