//! Lays the file and the variables over the reference, and says everything that does not fit.
//!
//! The reference is the schema: its keys are the known keys, and the type of its value is the type of the key. Only
//! `secrets.*`, `quota.*`, `retention.kinds.*` and the limits of queues, kinds and keys are open: names may be added there.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::complaint::{Complaint, ConfigError, Origin};
use super::{Config, REFERENCE, VARIABLE_PREFIX, sound};

/// The sections that make up [`Rules`](leasehold_jobs::policy::Rules).
const RULES: [&str; 9] = ["time", "role", "expiry", "sql", "backup", "restore", "verify", "quota", "notify"];

/// The values by dotted key, with their origins.
pub(super) struct Layers {
    pub(super) reference: BTreeMap<String, Value>,
    pub(super) values: BTreeMap<String, (Value, Origin)>,
    complaints: Vec<Complaint>,
}

/// The configuration from the reference, the file and the variables.
pub(super) fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut layers = Layers::of_reference()?;
    if let Some(path) = file {
        layers.add_file(path);
    }
    let mut variables: Vec<_> = variables.into_iter().collect();
    variables.sort();
    for (name, text) in variables {
        layers.add_variable(&name, &text);
    }
    layers.fill_quotas();
    layers.fill_kinds();
    layers.finish()
}

impl Layers {
    fn of_reference() -> Result<Self, ConfigError> {
        let mut reference = BTreeMap::new();
        let table: Table = toml::from_str(REFERENCE).map_err(|error| ConfigError {
            complaints: vec![Complaint { origin: Origin::Reference, key: String::new(), what: error.to_string() }],
        })?;
        flatten("", table, &mut |key, value| drop(reference.insert(key, value)));
        let values = reference.iter().map(|(key, value)| (key.clone(), (value.clone(), Origin::Reference))).collect();
        Ok(Self { reference, values, complaints: Vec::new() })
    }

    fn complain(&mut self, origin: Origin, key: impl Into<String>, what: impl Into<String>) {
        self.complaints.push(Complaint { origin, key: key.into(), what: what.into() });
    }

    fn add_file(&mut self, path: &Path) {
        let at = |line| Origin::File { path: path.to_owned(), line };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.complain(at(1), "", format!("cannot be read: {error}")),
        };
        let (parsed, errors) = toml::de::DeTable::parse_recoverable(&text);
        for error in &errors {
            let line = line_of(&text, error.span().map_or(0, |span| span.start));
            self.complain(at(line), "", error.message());
        }
        if !errors.is_empty() {
            return;
        }
        let mut lines = BTreeMap::new();
        find_lines("", parsed.get_ref(), &text, &mut lines);
        let table: Table = match toml::from_str(&text) {
            Ok(table) => table,
            Err(error) => return self.complain(at(1), "", error.message()),
        };
        let mut found = Vec::new();
        flatten("", table, &mut |key, value| found.push((key, value)));
        for (key, value) in found {
            let origin = at(lines.get(&key).copied().unwrap_or(1));
            self.set(&key, value, origin);
        }
    }

    fn add_variable(&mut self, name: &str, text: &str) {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { return };
        let key = rest.split("__").map(str::to_lowercase).collect::<Vec<_>>().join(".");
        let origin = Origin::Variable(name.to_owned());
        let Some(model) = self.model(&key) else { return self.unknown(&key, origin) };
        match read_as(&model, text) {
            Ok(value) => self.set(&key, value, origin),
            Err(expected) => self.complain(origin, key, format!("expected {expected}, got `{text}`")),
        }
    }

    /// The value of the reference that says the type of a key; `None` for a key that is not known.
    fn model(&self, key: &str) -> Option<Value> {
        if let Some(value) = self.reference.get(key) {
            return Some(value.clone());
        }
        self.open_model(key)
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) {
        let Some(model) = self.model(key) else {
            let inside = format!("{key}.");
            return match self.reference.keys().any(|known| known.starts_with(&inside)) {
                true => self.complain(origin, key, format!("expected a table, got {}", describe(&value))),
                false => self.unknown(key, origin),
            };
        };
        match mismatch(&model, &value) {
            None => drop(self.values.insert(key.to_owned(), (value, origin))),
            Some(expected) => {
                let what = match key.starts_with("secrets.") {
                    true => format!("expected {expected}"),
                    false => format!("expected {expected}, got {}", describe(&value)),
                };
                self.complain(origin, key, what);
            }
        }
    }

    fn unknown(&mut self, key: &str, origin: Origin) {
        let what = match self.nearest(key) {
            Some(known) => format!("unknown key; did you mean `{known}`?"),
            None => "unknown key".to_owned(),
        };
        self.complain(origin, key, what);
    }

    fn nearest(&self, key: &str) -> Option<String> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let mut known: Vec<String> = self.reference.keys().cloned().collect();
        known.extend(self.open_keys(key));
        let distance = |known: &String| strsim::damerau_levenshtein(known, key);
        let near = known.iter().min_by_key(|known| distance(known)).filter(|known| distance(known) * 3 <= key.len());
        near.or_else(|| known.iter().find(|known| last(known) == last(key))).cloned()
    }

    /// Reads the values as a [`Config`]. A value that cannot be read is complained of and replaced by its default, so
    /// that the next one is found as well.
    fn finish(mut self) -> Result<Config, ConfigError> {
        loop {
            match serde_path_to_error::deserialize::<_, Config>(Value::Table(self.nest())) {
                Ok(config) => {
                    let origins = &self.values;
                    let complaints = &mut self.complaints;
                    sound::check(&config, |key, what| {
                        let origin = origins.get(key).map_or(Origin::Reference, |(_, origin)| origin.clone());
                        complaints.push(Complaint { origin, key: key.to_owned(), what });
                    });
                    if self.complaints.is_empty() {
                        return Ok(config);
                    }
                    break;
                }
                Err(error) => {
                    let path = error.path().to_string();
                    let key = self.key_of(path.strip_prefix("rules.").unwrap_or(&path));
                    let Some((_, origin)) = key.as_ref().and_then(|key| self.values.get(key)) else {
                        self.complain(Origin::Reference, path, error.inner().message());
                        break;
                    };
                    let (origin, key) = (origin.clone(), key.unwrap_or_default());
                    let at_reference = origin == Origin::Reference;
                    self.complain(origin, key.clone(), error.inner().message());
                    if at_reference {
                        break;
                    }
                    self.reset(&key);
                }
            }
        }
        self.complaints.sort_by(|a, b| (&a.origin, &a.key).cmp(&(&b.origin, &b.key)));
        Err(ConfigError { complaints: self.complaints })
    }

    /// The known key that a path of serde is, or is inside of (`webhooks.allow[0]`).
    fn key_of(&self, path: &str) -> Option<String> {
        let mut path = path.split('[').next().unwrap_or_default();
        loop {
            if self.values.contains_key(path) {
                return Some(path.to_owned());
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    fn reset(&mut self, key: &str) {
        match self.model(key) {
            Some(model) if !key.starts_with("secrets.") => {
                self.values.insert(key.to_owned(), (model, Origin::Reference));
            }
            _ => drop(self.values.remove(key)),
        }
    }

    /// The values as nested tables, those of the business below `rules`.
    fn nest(&self) -> Table {
        let mut root = Table::new();
        root.insert("secrets".into(), Value::Table(Table::new()));
        for (key, (value, _)) in &self.values {
            let section = key.split('.').next().unwrap_or_default();
            let full = if RULES.contains(&section) { format!("rules.{key}") } else { key.clone() };
            insert(&mut root, &full, value.clone());
        }
        root
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Calls `each` with the dotted key of every value that is not a table.
fn flatten(prefix: &str, table: Table, each: &mut impl FnMut(String, Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, each),
            value => each(key, value),
        }
    }
}

/// The line of every key of the file.
fn find_lines(prefix: &str, table: &toml::de::DeTable<'_>, text: &str, lines: &mut BTreeMap<String, usize>) {
    for (name, value) in table {
        let key = match prefix.is_empty() {
            true => name.get_ref().to_string(),
            false => format!("{prefix}.{}", name.get_ref()),
        };
        lines.insert(key.clone(), line_of(text, name.span().start));
        if let toml::de::DeValue::Table(inner) = value.get_ref() {
            find_lines(&key, inner, text, lines);
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Reads the text of a variable as the type of the reference's value.
fn read_as(model: &Value, text: &str) -> Result<Value, String> {
    let wrong = || expected(model);
    match model {
        Value::Integer(_) => text.trim().replace('_', "").parse().map(Value::Integer).map_err(|_| wrong()),
        Value::Float(_) => text.trim().parse().map(Value::Float).map_err(|_| wrong()),
        Value::Boolean(_) => text.trim().parse().map(Value::Boolean).map_err(|_| wrong()),
        Value::Array(items) => {
            let item = items.first().cloned().unwrap_or_else(|| Value::String(String::new()));
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| read_as(&item, part)).collect::<Result<_, _>>().map(Value::Array).map_err(|_| wrong())
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// What was expected, when the value is not of the type of the reference's value.
fn mismatch(model: &Value, value: &Value) -> Option<String> {
    let fits = match (model, value) {
        (Value::Array(items), Value::Array(values)) => {
            let item = items.first().cloned().unwrap_or_else(|| Value::String(String::new()));
            values.iter().all(|value| mismatch(&item, value).is_none())
        }
        _ => model.same_type(value),
    };
    (!fits).then(|| expected(model))
}

fn expected(model: &Value) -> String {
    match model {
        Value::Array(items) => match items.first() {
            Some(Value::Integer(_)) => "a list of whole numbers".into(),
            _ => "a list of texts".into(),
        },
        Value::Integer(_) => "a whole number".into(),
        Value::Float(_) => "a number".into(),
        Value::Boolean(_) => "true or false".into(),
        _ => "a text in quotes".into(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".into(),
        Value::Array(_) => format!("the list {value}"),
        Value::String(text) => format!("the text `{text}`"),
        _ => format!("`{value}`"),
    }
}
