//! Values that are not shown: they serialise and print as `***`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MASK: &str = "***";

/// A secret, looked up already.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    reference: Option<String>,
}

impl Secret {
    /// The secret that a configured text means: `env:VARIABLE`, `file:PATH` (its trailing line break is dropped), or
    /// the text itself.
    ///
    /// # Errors
    /// Says what could not be looked up.
    pub fn look_up(text: &str) -> Result<Self, String> {
        let reference = Some(text.to_owned());
        if let Some(name) = text.strip_prefix("env:") {
            let value = std::env::var(name).map_err(|_| format!("the variable {name} is not set"))?;
            return Ok(Self { value, reference });
        }
        if let Some(path) = text.strip_prefix("file:") {
            let value = std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
            return Ok(Self { value: value.trim_end_matches(['\r', '\n']).to_owned(), reference });
        }
        Ok(Self { value: text.to_owned(), reference: None })
    }

    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.value
    }

    fn shown(&self) -> &str {
        self.reference.as_deref().unwrap_or(MASK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::look_up(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A URL that may carry a password, which is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskedUrl(String);

impl MaskedUrl {
    /// The URL with its password.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for MaskedUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Display for MaskedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = self.0.split_once("://").and_then(|(scheme, rest)| {
            let (credentials, host) = rest.rsplit_once('@')?;
            let (user, _) = credentials.split_once(':')?;
            Some(format!("{scheme}://{user}:{MASK}@{host}"))
        });
        f.write_str(masked.as_deref().unwrap_or(&self.0))
    }
}

impl fmt::Debug for MaskedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for MaskedUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MaskedUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}
