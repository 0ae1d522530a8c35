//! Log lines on standard error: for people on a terminal, JSON for machines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Begins to log. `form` from the command line goes before the configuration's.
///
/// # Errors
/// The filter of `log.level` cannot be read.
pub fn init(log: &Log, form: Option<&str>) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| format!("log.level `{}`: {error}", log.level))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match form {
        Some("json") => true,
        Some("human") => false,
        _ => log.format == LogFormat::Json || (log.format == LogFormat::Auto && !terminal),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match json {
        true => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        false => builder.with_ansi(terminal).with_target(false).try_init(),
    };
    // A second call in one process (the demo's parts) keeps the first.
    drop(set);
    Ok(())
}
