//! The `Idempotency-Key` of an enqueue: read from the header, and the first job found again (ENG-03).

use axum::http::HeaderMap;
use leasehold_engine::JobId;
use leasehold_jobs::policy::ErrorCode;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{enqueue::JobRequest, problem::Problem, state::ApiState};

/// The key of the request; quoted (as the IETF draft has it) or plain.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(given) = headers.get("idempotency-key") else { return Ok(None) };
    let refuse = |detail: &str| Problem::invalid("Idempotency-Key", detail).rule("ENG-03").limit("1 to 128 bytes");
    let text = given.to_str().map_err(|_| refuse("the key is not plain ASCII"))?.trim();
    let key = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if (1..=128).contains(&key.len()) { Ok(Some(key.to_owned())) } else { Err(refuse("the length of the key")) }
}

/// The digest of everything that was asked for, but for the code: a low-entropy secret must not be guessable from it.
pub(super) fn digest(ask: &JobRequest) -> Result<[u8; 32], Problem> {
    let value = serde_json::to_value(ask).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    let mut hash = Sha256::new();
    canonical(&value, &mut hash);
    Ok(hash.finalize().into())
}

/// Feeds the value in one form, whatever the order of its fields was.
fn canonical(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.iter().collect();
            names.sort_by_key(|(name, _)| *name);
            hash.update(format!("{{{}", names.len()));
            for (name, inner) in names {
                hash.update(format!("{}:{name}", name.len()));
                canonical(inner, hash);
            }
        }
        Value::Array(values) => {
            hash.update(format!("[{}", values.len()));
            values.iter().for_each(|inner| canonical(inner, hash));
        }
        plain => {
            let text = plain.to_string();
            hash.update(format!("{}:{text}", text.len()));
        }
    }
}

/// The first job of the key, if the same was asked for before; else the problem at hand.
///
/// A request that is refused now, and was accepted when it came first, is answered as it was then.
pub(super) async fn first_or(
    state: &ApiState,
    tenant: &str,
    key: Option<&str>,
    digest: [u8; 32],
    problem: Problem,
) -> Result<JobId, Problem> {
    let settled =
        [ErrorCode::IdempotencyConflict, ErrorCode::StorageUnavailable].iter().any(|c| c.as_str() == problem.code());
    let Some(key) = key.filter(|_| !settled) else { return Err(problem) };
    match state.store().remembered(tenant, key).await? {
        Some((id, first)) if first[..] == digest => Ok(id),
        Some((id, _)) => {
            let detail = format!("the key belongs to job {id}, which was asked for with other content");
            Err(Problem::new(ErrorCode::IdempotencyConflict, detail)
                .rule("ENG-03")
                .field("Idempotency-Key")
                .remedy("send a new key with a new request")
                .job(&id))
        }
        None => Err(problem),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn of(text: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        canonical(&serde_json::from_str(text).unwrap(), &mut hash);
        hash.finalize().into()
    }

    #[test]
    fn the_order_of_fields_does_not_matter_but_everything_else_does() {
        assert_eq!(of(r#"{"a":1,"b":{"c":[1,2],"d":null}}"#), of(r#"{"b":{"d":null,"c":[1,2]},"a":1}"#));
        for other in [
            r#"{"a":1}"#,
            r#"{"a":2,"b":{"c":[1,2],"d":null}}"#,
            r#"{"a":1,"b":{"c":[2,1],"d":null}}"#,
            r#"{"a":"1","b":{"c":[1,2],"d":null}}"#,
        ] {
            assert_ne!(of(r#"{"a":1,"b":{"c":[1,2],"d":null}}"#), of(other), "{other}");
        }
        assert_ne!(of(r#"["a","b"]"#), of(r#"["ab",""]"#));
    }
}
