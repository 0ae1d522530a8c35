//! `config …`: shows or checks the configuration, as a server would read it.

use clap::Subcommand;
use serde_json::json;

use super::serve::schedules_beside;
use super::{Failure, Global, Out};
use crate::config::{Config, ConfigError, REFERENCE};
use crate::schedules;

/// Show or check the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the configuration in force, without secrets
    Show {
        /// Print the built-in reference with its explanations instead
        #[arg(long)]
        reference: bool,
    },
    /// Say everything that is wrong with it
    Check,
}

impl ConfigCommand {
    pub(crate) fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        match self {
            Self::Show { reference: true } => out.line(REFERENCE),
            Self::Show { reference: false } => {
                let config = load(global)?;
                let value =
                    serde_json::to_value(&config).map_err(|e| Failure::failed("configuration", e.to_string()))?;
                out.show(&value, |_| config.masked());
            }
            Self::Check => check(global, out)?,
        }
        Ok(())
    }
}

fn check(global: &Global, out: &Out) -> Result<(), Failure> {
    match sound(global) {
        Ok(()) => {
            out.show(&json!({ "ok": true, "complaints": [] }), |_| "the configuration is sound");
            Ok(())
        }
        Err(error) => {
            let complaint =
                |c: &crate::config::Complaint| json!({ "origin": c.origin.to_string(), "key": c.key, "what": c.what });
            let all: Vec<_> = error.complaints.iter().map(complaint).collect();
            out.show(&json!({ "ok": false, "complaints": all }), |_| &error);
            Err(Failure::Shown)
        }
    }
}

/// Reads the configuration, and the schedules beside it.
fn sound(global: &Global) -> Result<(), ConfigError> {
    let config = Config::load(global.config.as_deref())?;
    match schedules_beside(global) {
        Some(path) => schedules::load(&path, config.rules.calendar().name()).map(drop),
        None => Ok(()),
    }
}

/// The configuration with what the command line lays over it.
pub(crate) fn load(global: &Global) -> Result<Config, Failure> {
    let mut config =
        Config::load(global.config.as_deref()).map_err(|e| Failure::failed("configuration", e.to_string()))?;
    if let Some(folder) = &global.data_dir {
        config.store.data_dir.clone_from(folder);
    }
    Ok(config)
}
