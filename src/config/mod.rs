//! Every knob of the program: the compiled-in reference, a file, and variables, in this order.
//!
//! Invariant: a [`Config`] that exists is complete and sound. Whatever is wrong is said at once, with its place, and
//! nothing is guessed: an unknown key is an error that names the nearest known one.

mod complaint;
mod layers;
mod open;
mod secret;
mod sections;
mod sound;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use leasehold_jobs::policy::Rules;
use serde::{Deserialize, Serialize};

pub use complaint::{Complaint, ConfigError, Origin};
pub use secret::{MaskedUrl, Secret};
pub use sections::*;
pub(crate) use sound::queue_slip;

/// The reference configuration with all defaults, as text.
pub const REFERENCE: &str = include_str!("../../config/leasehold.toml");

/// The prefix of the variables.
pub const VARIABLE_PREFIX: &str = "LEASEHOLD__";

/// The whole configuration. Serialised (for `leasehold doctor`), it shows no secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `server.*`: the API and the dashboard.
    pub server: Server,
    /// `store.*`: Redis and the data folder.
    pub store: Store,
    /// `worker.*`: how jobs are claimed.
    pub worker: Worker,
    /// `upkeep.*`: the loops beside the workers.
    pub upkeep: Upkeep,
    /// `clock.*`: when the store's clock is not trusted.
    pub clock: Clock,
    /// `retention.*`: how long things are kept.
    pub retention: Retention,
    /// `archive.*`: where finished jobs go.
    pub archive: Archive,
    /// `limits.*`: what is refused because it is too much.
    pub limits: Limits,
    /// `retry.*`: attempts and delays when a kind does not say.
    pub retry: Retry,
    /// `webhooks.*`: how callers are told.
    pub webhooks: Webhooks,
    /// `targets.*`: the far ends.
    pub targets: Targets,
    /// `log.*`
    pub log: Log,
    /// `secrets.*`: name → value, looked up already.
    pub secrets: BTreeMap<String, Secret>,
    /// All sections of the business: `time`, `role`, `expiry`, `sql`, `backup`, `restore`, `verify`, `quota`, `notify`.
    pub rules: Rules,
}

impl Config {
    /// The configuration from the file, if one is given, and the process' variables.
    ///
    /// # Errors
    /// All complaints at once.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(VARIABLE_PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self::from_sources(file, variables)
    }

    /// The configuration from the file and the given variables; those without the prefix are ignored.
    ///
    /// # Errors
    /// All complaints at once.
    pub fn from_sources(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        layers::load(file, variables)
    }

    /// The reference alone.
    #[expect(clippy::expect_used, reason = "a test loads the reference that is compiled in")]
    #[must_use]
    pub fn reference() -> Self {
        Self::from_sources(None, []).expect("the reference configuration is sound")
    }

    /// A path of the configuration; relative ones lie in the data folder.
    #[must_use]
    pub fn in_data_dir(&self, path: impl AsRef<Path>) -> PathBuf {
        self.store.data_dir.join(path)
    }

    /// The values of the secrets by their names, for the targets.
    pub fn secret_values(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned()))
    }

    /// The configuration as TOML text without secrets: what `leasehold doctor` shows.
    #[must_use]
    pub fn masked(&self) -> String {
        let shown = toml::Table::try_from(self).and_then(|mut table| {
            if let Some(toml::Value::Table(rules)) = table.remove("rules") {
                table.extend(rules);
            }
            toml::to_string_pretty(&table)
        });
        shown.unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }
}

#[cfg(test)]
mod tests;
