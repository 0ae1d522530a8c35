//! What keeps jobs from starting although nothing is broken: stops that people left standing, queues that no worker serves.

use std::collections::BTreeMap;

use leasehold_engine::model::gate::Gate;
use leasehold_engine::{Store, StoreError};
use serde_json::Value;

use super::Findings;

/// Pauses and kill switches: each was meant, and each may have been forgotten.
pub(super) async fn standing(store: &Store, findings: &mut Findings) {
    let gates = match store.standing().await {
        Ok(gates) => gates,
        Err(error) => return findings.wrong("stops", error.to_string()),
    };
    for gate in &gates.all {
        let (what, scope, note) = match gate {
            Gate::Pause(scope, note) => ("pause", scope, note),
            Gate::KillSwitch(scope, note) => ("kill switch", scope, note),
            _ => continue,
        };
        let of =
            if scope.name() == "*" { "everything".to_owned() } else { format!("{} {}", scope.word(), scope.name()) };
        let why = if note.why.is_empty() { String::new() } else { format!(": {}", note.why) };
        findings.warning(what, format!("of {of} stands, nothing of it is started{why} (`leasehold gates`)"));
    }
}

/// Queues with live jobs that none of the workers that live looks into.
pub(super) async fn unserved(store: &Store, findings: &mut Findings) {
    match waiting_in_vain(store).await {
        Err(error) => findings.wrong("queues", error.to_string()),
        Ok(queues) => {
            for (queue, jobs) in queues {
                let text = format!(
                    "{jobs} live jobs, and no worker that lives serves it (`leasehold worker --queue {queue}`)"
                );
                findings.warning(format!("queue {queue}"), text);
            }
        }
    }
}

async fn waiting_in_vain(store: &Store) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut served = Vec::new();
    for worker in store.workers().await? {
        let said: Value = serde_json::from_str(&worker.document).unwrap_or_default();
        let queues = said["queues"].as_array().cloned().unwrap_or_default();
        served.extend(queues.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    let mut waiting = BTreeMap::new();
    for count in store.counts().await?.into_iter().filter(|count| !count.place.is_final() && count.jobs > 0) {
        if !served.contains(&count.queue) {
            *waiting.entry(count.queue).or_default() += count.jobs;
        }
    }
    Ok(waiting)
}
