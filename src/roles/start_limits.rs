//! The limits of the configuration become gates when upkeep starts. One that is no longer configured is taken away; one
//! that a person set under another name stays.

use leasehold_engine::{
    Store, StoreError,
    model::gate::{Gate, Limit, LimitScope, Note, Rate},
    store::GateSet,
};

use crate::config::{Limits, StartLimit};

/// Who set it, as it is kept with the gate.
const BY: &str = "config";

/// Sets the configured limits, and takes earlier configured ones away.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub(super) async fn apply(store: &Store, limits: &Limits) -> Result<(), StoreError> {
    let wanted = wanted(limits, store.now().await?);
    let standing: Vec<Limit> = store.standing().await?.limits().cloned().collect();
    for limit in &wanted {
        let held = standing.iter().find(|held| held.scope == limit.scope);
        let same = held.is_some_and(|held| (held.max_running, held.rate) == (limit.max_running, limit.rate));
        if same && held.is_some_and(|held| held.note.by == BY) {
            continue;
        }
        let (of, name) = (limit.scope.word(), limit.scope.name());
        match store.put_gate(&Gate::Limit(limit.clone())).await? {
            GateSet::Set => tracing::info!(of, name, "the limit of the configuration is set"),
            _ => tracing::error!(of, name, code = "too_many_gates", "no room for a limit of the configuration"),
        }
    }
    let is_wanted = |scope: &LimitScope| wanted.iter().any(|limit| limit.scope == *scope);
    for limit in standing.iter().filter(|held| held.note.by == BY && !is_wanted(&held.scope)) {
        store.gate_remove(&limit.scope.field()).await?;
        tracing::info!(of = limit.scope.word(), name = limit.scope.name(), "the limit is configured no more");
    }
    Ok(())
}

fn wanted(limits: &Limits, now: i64) -> Vec<Limit> {
    let limit = |scope: LimitScope, of: &StartLimit| Limit {
        scope,
        max_running: (of.max_running > 0).then_some(of.max_running),
        rate: (of.rate > 0).then_some(Rate { count: of.rate, period_ms: of.per_seconds * 1000 }),
        note: Note { why: String::new(), by: BY.to_owned(), at: now },
    };
    let queues = limits.queues.iter().map(|(name, of)| limit(LimitScope::Queue(name.clone()), of));
    let kinds = limits.kinds.iter().map(|(name, of)| limit(LimitScope::Kind(name.clone()), of));
    let keys = limits.keys.iter().map(|(name, of)| limit(LimitScope::Key(name.clone()), of));
    queues.chain(kinds).chain(keys).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use leasehold_engine::testing::Lab;

    use super::*;
    use crate::config::Config;

    async fn named(lab: &Lab) -> Vec<(String, Option<u32>, String)> {
        let gates = lab.store.standing().await.unwrap();
        gates.limits().map(|l| (l.scope.field(), l.max_running, l.note.by.clone())).collect()
    }

    #[tokio::test]
    async fn configured_limits_are_set_at_the_start_and_gone_when_they_are_no_longer_configured() {
        let lab = Lab::new().await;
        let mut limits = Config::reference().limits;
        let of = StartLimit { max_running: 4, rate: 10, per_seconds: 60 };
        limits.kinds.insert("sql_update".to_owned(), of);
        limits.keys.insert("sql_update".to_owned(), StartLimit { max_running: 1, ..StartLimit::default() });
        let mine = Limit {
            scope: LimitScope::Queue("sql".to_owned()),
            max_running: Some(7),
            rate: None,
            note: Note { by: "u1".to_owned(), ..Note::default() },
        };
        lab.store.put_gate(&Gate::Limit(mine.clone())).await.unwrap();
        let theirs = Gate::Limit(Limit { scope: LimitScope::Kind("sql_update".to_owned()), ..mine });
        lab.store.put_gate(&theirs).await.unwrap();
        apply(&lab.store, &limits).await.unwrap();
        let row = |field: &str, max, by: &str| (field.to_owned(), Some(max), by.to_owned());
        let by_hand = row("l q sql", 7, "u1");
        let all = [row("l k sql_update", 4, "config"), by_hand.clone(), row("l x sql_update", 1, "config")];
        assert_eq!(named(&lab).await, all, "the configuration wins where both speak");
        limits.kinds.clear();
        apply(&lab.store, &limits).await.unwrap();
        assert_eq!(named(&lab).await, all[1..]);
        limits.keys.clear();
        apply(&lab.store, &limits).await.unwrap();
        assert_eq!(named(&lab).await, [by_hand]);
        lab.finish().await;
    }
}
