//! Where and when the demo plays: its folder, its configuration, a business zone in which it is day.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{Timelike as _, Utc};
use leasehold_jobs::policy::Calendar;

use super::error::{DemoError, Result};

/// Business zones to choose from: the first in which it is day, so that neither the maintenance window nor midnight,
/// when quotas begin anew, falls into the demo.
const ZONES: [&str; 4] = ["Asia/Shanghai", "Europe/London", "America/New_York", "Pacific/Auckland"];
/// Hours of the day that are far enough from both.
const DAY: std::ops::Range<u32> = 5..21;

/// The folder of the demo; a temporary one is removed at the end.
pub(super) struct Place {
    pub(super) path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Place {
    pub(super) fn new(folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else {
            let ours_alone = std::fs::Permissions::from_mode(0o700);
            let temporary = tempfile::Builder::new().prefix("leasehold-demo-").permissions(ours_alone).tempdir()?;
            return Ok(Self { path: temporary.path().canonicalize()?, temporary: Some(temporary) });
        };
        std::fs::create_dir_all(folder)?;
        if std::fs::read_dir(folder)?.next().is_some() {
            return Err(DemoError::new(format!("{} is not empty; the demo wants a fresh folder", folder.display())));
        }
        Ok(Self { path: folder.canonicalize()?, temporary: None })
    }

    pub(super) fn keep(self) -> PathBuf {
        if let Some(temporary) = self.temporary {
            let _ = temporary.keep();
        }
        self.path
    }
}

/// The first zone in which it is day.
pub(super) fn zone_by_day() -> Result<&'static str> {
    let now = Utc::now();
    let by_day = ZONES.into_iter().find(|zone| {
        let calendar: Option<Calendar> = serde_json::from_value(serde_json::json!(zone)).ok();
        calendar.is_some_and(|calendar| DAY.contains(&calendar.local(now).hour()))
    });
    by_day.ok_or_else(|| DemoError::new("it is night in every zone"))
}

/// The demo's configuration: short leases, so that a killed worker is noticed soon; webhooks to this machine.
pub(super) fn settings(folder: &Path, zone: &str) -> String {
    let folder = serde_json::json!(folder.to_string_lossy());
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n\n[store]\ndata_dir = {folder}\n\n[worker]\nlease_ms = 3000\nrenew_ms = 1000\nslots = 4\n\n\
         [webhooks]\nallow = [\"127.0.0.0/8\"]\n\n[time]\nbusiness_zone = \"{zone}\"\n"
    )
}

/// Log lines go to a file: the screen belongs to the scenes.
pub(super) fn log_to(folder: &Path) -> Result<()> {
    let file = std::fs::File::create(folder.join("demo.log"))?;
    let filter = tracing_subscriber::EnvFilter::new("info");
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(std::sync::Mutex::new(file));
    // Only the first subscriber of a process counts.
    drop(subscriber.try_init());
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn at_every_hour_of_a_year_it_is_day_in_one_of_the_zones() {
        let start = chrono::DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        for hour in 0..24 * 366 {
            let now = start + chrono::TimeDelta::hours(hour);
            let day = |zone: &&str| {
                DAY.contains(&serde_json::from_value::<Calendar>(serde_json::json!(zone)).unwrap().local(now).hour())
            };
            assert!(ZONES.iter().any(day), "{now}");
        }
    }

    #[test]
    fn the_settings_are_sound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leasehold.toml");
        std::fs::write(&file, settings(folder.path(), "Asia/Shanghai")).unwrap();
        Config::from_sources(Some(&file), []).unwrap();
    }
}
