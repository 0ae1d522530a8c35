//! Arguments: JSON into a kind's type and back, with complaints that name the field and the nearest known one.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::refused::nearest;
use crate::policy::{ErrorCode, Refusal, json};

/// Reads a caller's arguments.
pub(super) fn read<T: DeserializeOwned>(rule: &'static str, args: Value) -> Result<T, Refusal> {
    if !args.is_object() {
        return Err(Refusal::invalid(rule, "args", "the arguments must be a JSON object"));
    }
    json::fit(args).map_err(|error| complain(rule, &error))
}

/// The arguments as they are stored: the type's own form, the same for the same meaning.
pub(super) fn write<T: Serialize>(args: &T) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(args).map_err(|error| Refusal::new(ErrorCode::Internal, "ENG-01", error.to_string()))
}

/// The held arguments with the changed fields on top.
pub(super) fn merged(held: &[u8], changes: &Value) -> Result<Value, Refusal> {
    let mut whole: Value = serde_json::from_slice(held)
        .map_err(|error| Refusal::new(ErrorCode::Internal, "SQL-17", format!("the held arguments: {error}")))?;
    let changed = match changes {
        Value::Null => return Ok(whole),
        Value::Object(changed) => changed,
        _ => return Err(Refusal::invalid("SQL-17", "args", "the changed arguments must be a JSON object")),
    };
    if let Some(held) = whole.as_object_mut() {
        let moved = changed.get("data_center").is_some_and(|new| Some(new) != held.get("data_center"));
        if moved {
            return Err(Refusal::invalid(
                "SQL-17",
                "args.data_center",
                "an edit cannot move a job to another data center",
            )
            .with_remedy("cancel it, and enqueue a new one"));
        }
        held.extend(changed.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(whole)
}

fn complain(rule: &'static str, error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let text = error.inner().to_string();
    let path = error.path().to_string();
    let parent = if path == "." { "args".to_owned() } else { format!("args.{path}") };
    let mut quoted = text.split('`').skip(1).step_by(2);
    if text.starts_with("unknown field") {
        let (given, known) = (quoted.next().unwrap_or_default(), quoted.collect::<Vec<_>>());
        let field = if parent.ends_with(given) { parent } else { format!("{parent}.{given}") };
        let refusal = Refusal::new(ErrorCode::UnknownField, rule, format!("there is no field `{given}`"))
            .with_field(field)
            .with_limit(format!("known: {}", known.join(", ")));
        return match nearest(given, &known) {
            Some(near) => refusal.with_remedy(format!("did you mean `{near}`?")),
            None => refusal.with_remedy("leave it out"),
        };
    }
    if text.starts_with("missing field") {
        let given = quoted.next().unwrap_or_default();
        return Refusal::invalid(rule, format!("{parent}.{given}"), "it is required");
    }
    if text.starts_with("unknown variant") {
        let (given, known) = (quoted.next().unwrap_or_default().to_owned(), quoted.collect::<Vec<_>>());
        let refusal = Refusal::invalid(rule, parent, format!("`{given}` is not one of {}", known.join(", ")));
        return match nearest(&given, &known) {
            Some(near) => refusal.with_remedy(format!("did you mean `{near}`?")),
            None => refusal,
        };
    }
    Refusal::invalid(rule, parent, text)
}
