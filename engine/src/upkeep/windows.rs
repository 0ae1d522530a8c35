//! Windows become freezes: written ahead for the next two weeks, replaced when the window changes, taken away when over.
//!
//! Any number of processes may do it: an id names the beginning of its stretch, so that all write the same. What a
//! person took away (an override) is not written again.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{
        UnixMs,
        gate::{Freeze, Gate, Gates, Note},
        window::Window,
    },
    store::{Document, GateSet, Store, StoreError},
};

/// The registry of windows.
pub const WINDOWS: &str = "windows";
/// The registry of freezes of windows that a person took away, until they are over.
pub const OVERRIDES: &str = "window_overrides";
/// How long a freeze that is over is still shown, ms.
const SHOWN_MS: UnixMs = 3_600_000;

/// Writes the freezes of all windows, and takes away what is over; how many gates it changed.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn windows(store: &Store) -> Result<usize, StoreError> {
    let now = store.now().await?;
    let gone: BTreeSet<String> = store.documents(OVERRIDES).await?.into_keys().collect();
    let Computed { freezes, failed } = Computed::of(&store.documents(WINDOWS).await?, now);
    for id in gone.iter().filter(|id| !freezes.contains_key(*id) && !failed.contains(window_of(id))) {
        store.delete_document(OVERRIDES, id).await?;
    }
    let wanted: BTreeMap<_, _> = freezes.into_iter().filter(|(id, _)| !gone.contains(id)).collect();
    let is_outdated = |freeze: &Freeze| match freeze.window() {
        Some(window) => !wanted.contains_key(&freeze.id) && !failed.contains(window),
        None => freeze.until + SHOWN_MS <= now,
    };
    let mut changed = 0;
    // What closes is written before what is outdated goes, so that nothing slips through between the two.
    for shard in 0..store.shards() {
        let standing = Gates::read(&store.gates_in(shard).await?);
        let held: BTreeMap<_, _> = standing.freezes().map(|freeze| (freeze.id.clone(), freeze)).collect();
        for freeze in wanted.values().filter(|freeze| held.get(&freeze.id) != Some(freeze)) {
            changed += usize::from(write(store, freeze).await?);
        }
        for freeze in held.values().filter(|freeze| is_outdated(freeze)) {
            changed += usize::from(store.gate_remove(&freeze.field()).await?);
        }
    }
    Ok(changed)
}

/// What the windows stand for.
struct Computed {
    freezes: BTreeMap<String, Freeze>,
    /// Windows that cannot be computed: what they last wrote stands.
    failed: BTreeSet<String>,
}

impl Computed {
    fn of(documents: &BTreeMap<String, Document>, now: UnixMs) -> Self {
        let mut all = Self { freezes: BTreeMap::new(), failed: BTreeSet::new() };
        for (name, document) in documents {
            let window = serde_json::from_slice::<Window>(&document.bytes).map_err(|error| error.to_string());
            match window.and_then(|window| window.freezes(name, now).map_err(|(field, why)| format!("{field}: {why}")))
            {
                Ok(freezes) => all.freezes.extend(freezes.into_iter().map(|freeze| (freeze.id.clone(), freeze))),
                Err(error) => {
                    tracing::error!(window = name, error, "the window cannot be computed; it stands as it was");
                    all.failed.insert(name.clone());
                }
            }
        }
        all
    }
}

fn window_of(id: &str) -> &str {
    id.split('#').next().unwrap_or_default()
}

async fn write(store: &Store, freeze: &Freeze) -> Result<bool, StoreError> {
    let set = store.put_gate(&Gate::Freeze(freeze.clone())).await?;
    if set == GateSet::Full {
        tracing::error!(freeze = freeze.id, code = "too_many_gates", "no room for the freeze of a window");
    }
    Ok(set == GateSet::Set)
}

/// Takes a freeze away; whether it stood. A window's own is not written again.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn override_freeze(store: &Store, id: &str, note: &Note) -> Result<bool, StoreError> {
    if id.contains('#') {
        let document = serde_json::to_vec(note).unwrap_or_default();
        store.put_document(OVERRIDES, id, &document, None).await?;
    }
    store.gate_remove(&format!("f {id}")).await
}
