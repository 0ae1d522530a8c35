//! The tables to which names may be added: `secrets.*`, `quota.*`, `retention.kinds.*`, `limits.queues.*` and its like. Guards that what is left out there
//! is taken from a model, and that only kinds of this program are named.

use leasehold_jobs::kind_names;
use leasehold_jobs::policy::rules::KINDS;
use toml::Value;

use super::complaint::Origin;
use super::layers::Layers;

/// What `limits.*` counts by name.
const LIMITED: [&str; 3] = ["queues", "kinds", "keys"];
/// The keys of such a limit.
const LIMIT_FIELDS: [&str; 3] = ["max_running", "rate", "per_seconds"];
/// The quota that lends its keys to the others.
const MODEL_QUOTA: &str = "quota.sql_update";

impl Layers {
    /// The value that says the type of a key that the reference does not have; `None` for a key that is not known.
    pub(super) fn open_model(&self, key: &str) -> Option<Value> {
        let parts: Vec<_> = key.split('.').collect();
        match parts[..] {
            ["secrets", name] if !name.is_empty() => Some(Value::String(String::new())),
            ["quota", kind, last] if KINDS.contains(&kind) => {
                self.reference.get(&format!("{MODEL_QUOTA}.{last}")).cloned()
            }
            ["retention", "kinds", kind, place, last] if kind_names().contains(&kind) => {
                self.reference.get(&format!("retention.{place}.{last}")).cloned()
            }
            ["limits", sort, name, field] if is_limited(sort, name) && LIMIT_FIELDS.contains(&field) => {
                Some(Value::Integer(1))
            }
            _ => None,
        }
    }

    /// Keys that may be added, to be compared with one that is not known.
    pub(super) fn open_keys(&self, key: &str) -> Vec<String> {
        let quota = format!("{MODEL_QUOTA}.");
        let fields = self.reference.keys().filter_map(|known| known.strip_prefix(&quota));
        let quotas = fields.flat_map(|field| KINDS.map(|kind| format!("quota.{kind}.{field}")));
        let retained = self.kept_fields().into_iter().filter(|_| key.starts_with("retention.kind"));
        let retained = retained.flat_map(|(field, _)| kind_names().into_iter().map(move |kind| kept(kind, &field)));
        quotas.chain(retained).chain(limited_keys(key)).collect()
    }

    /// A quota of a further kind takes what it leaves out from the model.
    pub(super) fn fill_quotas(&mut self) {
        let model = format!("{MODEL_QUOTA}.");
        let fields: Vec<_> = self
            .reference
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&model)?.to_owned(), value.clone())))
            .collect();
        for kind in KINDS {
            let prefix = format!("quota.{kind}.");
            if self.values.keys().any(|key| key.starts_with(&prefix)) {
                for (field, value) in &fields {
                    let key = format!("{prefix}{field}");
                    self.values.entry(key).or_insert_with(|| (value.clone(), Origin::Reference));
                }
            }
        }
    }

    /// What is kept of every kind: `succeeded.seconds` and its like, with the values that hold as long as nobody says more.
    fn kept_fields(&self) -> Vec<(String, Value)> {
        let general = |(key, value): (&String, &(Value, Origin))| {
            let field =
                key.strip_prefix("retention.").filter(|field| !field.starts_with("kinds.") && field.contains('.'));
            field.map(|field| (field.to_owned(), value.0.clone()))
        };
        self.values.iter().filter_map(general).collect()
    }

    /// A kind that is kept otherwise takes what it leaves out from what is kept of all.
    pub(super) fn fill_kinds(&mut self) {
        let fields = self.kept_fields();
        for kind in kind_names() {
            if self.values.keys().any(|key| key.starts_with(&kept(kind, ""))) {
                for (field, value) in &fields {
                    self.values.entry(kept(kind, field)).or_insert_with(|| (value.clone(), Origin::Reference));
                }
            }
        }
    }
}

/// The key of what is kept of a kind.
fn kept(kind: &str, field: &str) -> String {
    format!("retention.kinds.{kind}.{field}")
}

/// Queues are known to the store alone; a kind must be one of this program's.
fn is_limited(sort: &str, name: &str) -> bool {
    match sort {
        "queues" => !name.is_empty(),
        "kinds" | "keys" => kind_names().contains(&name),
        _ => false,
    }
}

/// The limits that a key of four parts may mean.
fn limited_keys(key: &str) -> Vec<String> {
    let ["limits", sort, name, _] = key.split('.').collect::<Vec<_>>()[..] else { return Vec::new() };
    let names = if sort.starts_with('q') { vec![name] } else { kind_names() };
    let limits = LIMITED.iter().flat_map(|sort| names.iter().map(move |name| format!("limits.{sort}.{name}")));
    limits.flat_map(|limit| LIMIT_FIELDS.map(|field| format!("{limit}.{field}"))).collect()
}
