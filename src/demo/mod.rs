//! `leasehold demo`: a scripted day of real jobs on a sandbox estate. Nothing is staged: real databases, processes,
//! signals and signatures. It succeeds only when every scene came out as the rules say.

mod books;
mod crew;
mod desk;
mod error;
mod estate;
mod place;
mod receiver;
mod scene;
mod show;
mod story;

use std::path::Path;

use self::crew::Crew;
use self::desk::Desk;
use self::error::{DemoError, Result};
use self::place::{Place, log_to, settings, zone_by_day};
use self::receiver::Receiver;
use self::scene::Scenes;
use self::show::Show;
use self::story::Story;
use crate::cli::client::Client;
use crate::cli::{Failure, Out};
use crate::config::Config;
use crate::roles::{self, ADMIN_KEY_FILE, Parts, Service, ServiceOptions, Signals};

/// Fewer rows would be no estate.
const LEAST_ROWS: u64 = 200_000;

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
        let options =
            ServiceOptions { command: "demo", parts, accept_data_loss: false, worker_name: None, schedules: None };
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
    let rows = match opening(story, show, scenes).await {
        Some(rows) => rows,
        None => return Vec::new(),
    };
    let mut planned = show.begin("a planned update with backup", 100);
    let id = story.plan_green().await;
    refusals(story, show, scenes).await;
    let outcome = match id {
        Ok(id) => story.green(&id, &mut planned).await,
        Err(error) => Err(error),
    };
    scenes.note(planned, outcome, show);
    let mut going = show.begin("an update with failing statements", 100);
    let outcome = story.red(&mut going).await;
    scenes.note(going, outcome, show);
    let mut going = show.begin("a worker killed between backup and execute", 100);
    let outcome = story.killed(&mut going).await;
    scenes.note(going, outcome, show);
    let mut going = show.begin("a restore after a careless update", 100);
    let outcome = story.restored(&mut going).await;
    scenes.note(going, outcome, show);
    let mut going = show.begin("webhooks", 0);
    let outcome = story.webhooks(&mut going).await;
    scenes.note(going, outcome, show);
    let going = show.begin("the store's books", 0);
    scenes.note(going, story.audit().await, show);
    totals(story, rows, show).await
}

/// The estate, the tenants and a worker; the rows, when all went well.
async fn opening(story: &mut Story, show: &Show, scenes: &mut Scenes) -> Option<u64> {
    let going = show.begin("three data centers with an ERP schema", 0);
    let rows = build(&story.folder).await;
    let built = rows
        .and_then(|rows| if rows >= LEAST_ROWS { Ok(rows) } else { Err(DemoError::new(format!("only {rows} rows"))) });
    let rows = built.as_ref().ok().copied();
    scenes.note(going, built.map(|rows| format!("{rows} rows")), show);
    let going = show.begin("tenants and a webhook", 0);
    let opened = scenes.note(going, story.open().await, show);
    let going = show.begin("a worker process", 0);
    let hired = story.crew.hire("worker-1").await.map(|()| "worker-1 is ready".to_owned());
    let hired = scenes.note(going, hired, show);
    rows.filter(|_| opened && hired)
}

/// What the rules do not allow, while the planned update waits for its time.
async fn refusals(story: &Story, show: &Show, scenes: &mut Scenes) {
    let going = show.begin("a cancel 30 minutes ahead", 0);
    scenes.note(going, story.cancel_in_time().await, show);
    let going = show.begin("a cancel 5 minutes ahead", 0);
    scenes.note(going, story.cancel_too_late().await, show);
    let going = show.begin("an update planned for 02:00", 0);
    scenes.note(going, story.in_the_window().await, show);
    let mut going = show.begin("the eleventh update of a day", 100);
    let outcome = story.eleventh(&mut going).await;
    scenes.note(going, outcome, show);
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
        ("on disk", format!("{:.1} MB", books::bytes_in(&story.folder) as f64 / 1e6)),
        ("time", format!("{:.1} s", show.elapsed().as_secs_f64())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
