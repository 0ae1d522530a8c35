//! The secrets that addresses refer to by `${secret:NAME}`.
//!
//! Invariant: a value leaves this type only into a resolved address; `Debug` shows names.

use std::collections::BTreeMap;
use std::fmt;

use crate::TargetError;

/// Names and values of secrets, as the configuration gives them.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Secrets from pairs of name and value.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// Replaces each `${secret:NAME}` in `text` by its value, passed through `encode`.
    pub(crate) fn resolve(&self, text: &str, encode: fn(&str) -> String) -> Result<String, TargetError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${secret:") {
            out.push_str(&rest[..start]);
            let after = &rest[start + "${secret:".len()..];
            let Some(end) = after.find('}') else {
                return Err(TargetError::BadUrl { url: "…".into(), why: "a ${secret: is not closed by }".into() });
            };
            let name = &after[..end];
            let value = self.0.get(name).ok_or_else(|| TargetError::MissingSecret { name: name.to_owned() })?;
            out.push_str(&encode(value));
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
