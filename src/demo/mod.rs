//! `leasehold demo`: a scripted day of real jobs on a sandbox estate. Nothing is staged: real databases, processes,
//! signals and signatures. It succeeds only when every scene came out as the rules say.

mod crew;
mod desk;
mod error;
mod estate;
mod receiver;
mod scene;
mod show;
mod story;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{Timelike as _, Utc};
use leasehold_jobs::policy::Calendar;

use self::crew::Crew;
use self::desk::Desk;
use self::error::{DemoError, Result};
use self::receiver::Receiver;
use self::scene::Scenes;
use self::show::Show;
use self::story::Story;
use crate::cli::client::Client;
use crate::cli::{Failure, Out};
use crate::config::Config;
use crate::roles::{self, ADMIN_KEY_FILE, Parts, Service, ServiceOptions, Signals};

/// Business zones to choose from: the first in which it is day, so that neither the maintenance window nor midnight,
/// when quotas begin anew, falls into the demo.
const ZONES: [&str; 4] = ["Asia/Shanghai", "Europe/London", "America/New_York", "Pacific/Auckland"];
/// Hours of the day that are far enough from both.
const DAY: std::ops::Range<u32> = 5..21;

/// Runs the demo in `folder`, or in a temporary one. With `keep` it is left running until a signal comes.
///
/// # Errors
/// A scene was not as expected, or the service did not start.
pub(crate) async fn run(folder: Option<&Path>, keep: bool, out: &Out) -> std::result::Result<(), Failure> {
    let failed = |error: DemoError| Failure::failed("demo_failed", error.to_string());
    let signals = Signals::take().map_err(|error| failed(error.into()))?;
    let place = Place::new(folder).map_err(failed)?;
    log_to(&place.path).map_err(failed)?;
    let show = Show::new(out.is_json());
    let mut stage = Stage::open(&place.path, &show).await.map_err(failed)?;
    let mut scenes = Scenes::default();
    let played = tokio::select! {
        totals = play(&mut stage, &show, &mut scenes) => Some(totals),
        () = signals.next() => None,
    };
    let Some(totals) = played else {
        stage.close().await;
        return Err(Failure::failed("interrupted", "interrupted by a signal"));
    };
    match out.is_json() {
        true => out.line(format_args!("{:#}", scenes.to_json(&totals))),
        false => out.line(scenes.to_text(&totals)),
    }
    if keep {
        out.aside(stage.invitation(&place.path));
        signals.next().await;
    }
    stage.close().await;
    match scenes.failed() {
        0 => Ok(()),
        n => {
            let path = place.keep();
            if out.is_json() {
                out.aside(format_args!("files and logs are kept in {}", path.display()));
                return Err(Failure::Shown);
            }
            Err(Failure::failed(
                "demo_failed",
                format!("{n} scenes were not as expected; files and logs are kept in {}", path.display()),
            ))
        }
    }
}

/// The folder of the demo; a temporary one is removed at the end.
struct Place {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new(folder: Option<&Path>) -> Result<Self> {
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

    fn keep(self) -> PathBuf {
        if let Some(temporary) = self.temporary {
            let _ = temporary.keep();
        }
        self.path
    }
}

/// What the scenes are played on.
struct Stage {
    service: Service,
    story: Story,
    zone: &'static str,
}

impl Stage {
    async fn open(folder: &Path, show: &Show) -> Result<Self> {
        let zone = zone_by_day()?;
        let file = folder.join("leasehold.toml");
        std::fs::write(&file, settings(folder, zone))?;
        let config = Config::from_sources(Some(&file), [])?;
        let calendar = *config.rules.calendar();
        show.say(&format!(
            "Data in {}; business zone {zone}, where it is day: neither the maintenance window",
            folder.display()
        ));
        show.say("(00:00-03:30 there) nor midnight, when quotas begin anew, falls into the demo.");
        let parts = Parts { api: true, worker: false, upkeep: true, webhooks: true, folder: true };
        let options = ServiceOptions { command: "demo", parts, accept_data_loss: false, worker_name: None };
        let service = Service::start(config.clone(), options).await?;
        let address = service.address().ok_or_else(|| DemoError::new("the API has no address"))?;
        let key = std::fs::read_to_string(folder.join(ADMIN_KEY_FILE))?.trim().to_owned();
        let store = service.store().clone();
        let story = Story {
            desk: Desk::new(Client::at(&format!("http://{address}"), Some(key))?, folder),
            crew: Crew::new(folder, &file),
            receiver: Receiver::start().await?,
            kinds: roles::catalogue(&config, &store)?,
            store,
            calendar,
            folder: folder.to_owned(),
        };
        Ok(Self { service, story, zone })
    }

    fn invitation(&self, folder: &Path) -> String {
        let base = self.story.desk.client.base();
        format!(
            "Left running: {base} (business zone {}), key in {}\n  leasehold jobs --url {base} --data {}\nCtrl-C ends it.",
            self.zone,
            folder.join(ADMIN_KEY_FILE).display(),
            folder.display()
        )
    }

    async fn close(mut self) {
        self.story.crew.dismiss().await;
        drop(self.story);
        self.service.stop(std::time::Duration::ZERO).await;
    }
}

/// Plays all scenes; returns the totals.
async fn play(stage: &mut Stage, show: &Show, scenes: &mut Scenes) -> Vec<(String, String)> {
    let story = &mut stage.story;
    let elapsed = || show.elapsed();
    let mut rows = 0;

    let going = show.begin("three data centers with an ERP schema", 0);
    let built = build(&story.folder).await;
    let built = built.and_then(|n| {
        rows = n;
        if n >= 200_000 { Ok(format!("{n} rows")) } else { Err(DemoError::new(format!("only {n} rows"))) }
    });
    let mut good = scenes.note("three data centers with an ERP schema", going, built, elapsed);

    let going = show.begin("tenants and a webhook", 0);
    let opened = story.open().await;
    good &= scenes.note("tenants and a webhook", going, opened, elapsed);

    let going = show.begin("a worker process", 0);
    let hired = story.crew.hire("worker-1").await.map(|()| "worker-1 is ready".to_owned());
    good &= scenes.note("a worker process", going, hired, elapsed);
    if !good {
        return Vec::new();
    }

    let mut planned = show.begin("a planned update with backup", 100);
    let green = story.plan_green().await;

    let going = show.begin("a cancel 30 minutes ahead", 0);
    scenes.note("a cancel 30 minutes ahead", going, story.cancel_in_time().await, elapsed);
    let going = show.begin("a cancel 5 minutes ahead", 0);
    scenes.note("a cancel 5 minutes ahead", going, story.cancel_too_late().await, elapsed);
    let going = show.begin("an update planned for 02:00", 0);
    scenes.note("an update planned for 02:00", going, story.in_the_window().await, elapsed);
    let mut going = show.begin("the eleventh update of a day", 100);
    let outcome = story.eleventh(&mut going).await;
    scenes.note("the eleventh update of a day", going, outcome, elapsed);

    let outcome = match green {
        Ok(id) => story.green(&id, &mut planned).await,
        Err(error) => Err(error),
    };
    scenes.note("a planned update with backup", planned, outcome, elapsed);
    let mut going = show.begin("an update with failing statements", 100);
    let outcome = story.red(&mut going).await;
    scenes.note("an update with failing statements", going, outcome, elapsed);
    let mut going = show.begin("a worker killed between backup and execute", 100);
    let outcome = story.killed(&mut going).await;
    scenes.note("a worker killed between backup and execute", going, outcome, elapsed);
    let mut going = show.begin("a restore after a careless update", 100);
    let outcome = story.restored(&mut going).await;
    scenes.note("a restore after a careless update", going, outcome, elapsed);
    let mut going = show.begin("webhooks", 0);
    let outcome = story.webhooks(&mut going).await;
    scenes.note("webhooks", going, outcome, elapsed);
    let going = show.begin("the store's books", 0);
    scenes.note("the store's books", going, story.audit().await, elapsed);
    totals(story, rows, show).await
}

async fn build(folder: &Path) -> Result<u64> {
    let building = estate::CENTERS.map(|(tenant, center, _)| {
        let folder = folder.to_owned();
        tokio::task::spawn_blocking(move || estate::build(&folder, tenant, center))
    });
    let mut rows = 0;
    for one in building {
        rows += one.await??;
    }
    Ok(rows)
}

async fn totals(story: &Story, rows: u64, show: &Show) -> Vec<(String, String)> {
    let counts = story.store.counts().await.unwrap_or_default();
    let mut places: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for count in counts.iter().filter(|count| count.jobs > 0) {
        *places.entry(count.place.as_str()).or_default() += count.jobs;
    }
    let jobs: Vec<String> = places.iter().map(|(place, n)| format!("{n} {place}")).collect();
    let webhooks = story.receiver.counts();
    let backups = story.kinds.services().backups().list(estate::FIRST).await.unwrap_or_default();
    let bytes: u64 = backups.iter().map(|backup| backup.bytes).sum();
    [
        ("rows in the estate", rows.to_string()),
        ("jobs", jobs.join(", ")),
        ("backups", format!("{}, {:.1} MB, each read back and verified", backups.len(), bytes as f64 / 1e6)),
        (
            "webhooks",
            format!("{} verified, {} refused, {} doubles", webhooks.verified, webhooks.refused, webhooks.doubles),
        ),
        ("on disk", format!("{:.1} MB", story::bytes_in(&story.folder) as f64 / 1e6)),
        ("time", format!("{:.1} s", show.elapsed().as_secs_f64())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn zone_by_day() -> Result<&'static str> {
    let now = Utc::now();
    let by_day = ZONES.into_iter().find(|zone| {
        let calendar: Option<Calendar> = serde_json::from_value(serde_json::json!(zone)).ok();
        calendar.is_some_and(|calendar| DAY.contains(&calendar.local(now).hour()))
    });
    by_day.ok_or_else(|| DemoError::new("it is night in every zone"))
}

/// The demo's configuration: short leases, so that a killed worker is noticed soon; webhooks to this machine.
fn settings(folder: &Path, zone: &str) -> String {
    let folder = serde_json::json!(folder.to_string_lossy());
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n\n[store]\ndata_dir = {folder}\n\n[worker]\nlease_ms = 3000\nrenew_ms = 1000\nslots = 4\n\n\
         [webhooks]\nallow = [\"127.0.0.0/8\"]\n\n[time]\nbusiness_zone = \"{zone}\"\n"
    )
}

/// Log lines go to a file: the screen belongs to the scenes.
fn log_to(folder: &Path) -> Result<()> {
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

    #[test]
    fn at_every_hour_of_a_year_it_is_day_in_one_of_the_zones() {
        let start = chrono::DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        for hour in 0..24 * 366 {
            let now = start + chrono::TimeDelta::hours(hour);
            let day = |zone: &&str| {
                DAY.contains(&serde_json::from_value::<Calendar>(serde_json::json!(zone)).unwrap().local(now).hour())
            };
            assert!(ZONES.iter().any(|zone| day(&zone)), "{now}");
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
