//! Schedules from a file: read with all complaints at once, and laid over what the store has when upkeep starts.
//!
//! Invariant: after a start, the schedules that are marked as the file's are exactly those of the file. The others stay.

use std::collections::BTreeSet;
use std::path::Path;

use leasehold_engine::{
    Store, StoreError,
    model::{Missed, ScheduleRules, ScheduleSpec},
    store::SchedulePut,
};
use leasehold_jobs::policy::tenant::check_id;
use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::{JobTemplate, Kept};
use crate::config::{Complaint, ConfigError, Origin};

/// Schedules that are read at a time.
const PAGE: usize = 500;

/// A schedule of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileSchedule {
    spec: ScheduleSpec,
    /// The file says nothing of a pause: one that a person asked for stays.
    pause_stays: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    schedule: Vec<Spanned<Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    cron: String,
    zone: Option<String>,
    #[serde(default)]
    missed: Missed,
    paused: Option<bool>,
    job: JobTemplate,
}

/// Reads a file of schedules. `zone` is that of schedules that name none.
///
/// # Errors
/// All complaints at once, each with its line.
pub fn load(path: &Path, zone: &str) -> Result<Vec<FileSchedule>, ConfigError> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, key: String, what: String| {
        complaints.push(Complaint { origin: Origin::File { path: path.to_owned(), line }, key, what });
    };
    let (mut schedules, mut names) = (Vec::new(), BTreeSet::new());
    match read(path) {
        Err((line, what)) => complain(line, String::new(), what),
        Ok((text, file)) => {
            for (at, entry) in file.schedule.into_iter().enumerate() {
                let line = text[..entry.span().start].matches('\n').count() + 1;
                match schedule(entry.into_inner(), path, zone) {
                    Err((key, what)) => complain(line, format!("schedule[{at}].{key}"), what),
                    Ok(FileSchedule { spec, .. }) if !names.insert((spec.tenant.clone(), spec.name.clone())) => {
                        let what = format!("tenant `{}` has a schedule `{}` already", spec.tenant, spec.name);
                        complain(line, format!("schedule[{at}].name"), what);
                    }
                    Ok(found) => schedules.push(found),
                }
            }
        }
    }
    if complaints.is_empty() { Ok(schedules) } else { Err(ConfigError { complaints }) }
}

fn read(path: &Path) -> Result<(String, File), (usize, String)> {
    let text = std::fs::read_to_string(path).map_err(|error| (1, format!("cannot be read: {error}")))?;
    match toml::from_str(&text) {
        Ok(file) => Ok((text, file)),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            Err((
                text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1,
                error.message().to_owned(),
            ))
        }
    }
}

/// A schedule of its table; the key that is wrong, and why.
fn schedule(table: Table, path: &Path, zone: &str) -> Result<FileSchedule, (String, String)> {
    let entry: Entry = serde_path_to_error::deserialize(Value::Table(table))
        .map_err(|error| (error.path().to_string(), error.inner().message().to_owned()))?;
    check_id("name", &entry.name).map_err(|no| ("name".to_owned(), no.detail.clone()))?;
    check_id("tenant", &entry.job.tenant).map_err(|no| ("job.tenant".to_owned(), no.detail.clone()))?;
    if entry.job.callback_url.is_some() {
        let what = "a callback is signed with the secret of an API key; set this schedule through the API instead";
        return Err(("job.callback_url".to_owned(), what.to_owned()));
    }
    leasehold_jobs::check_form(&entry.job.kind, entry.job.args.clone()).map_err(|no| {
        let field = no.field.as_deref().unwrap_or("args");
        let said = [Some(&no.detail), no.remedy.as_ref(), no.limit.as_ref()];
        (format!("job.{field}"), said.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("; "))
    })?;
    entry.job.check_labels().map_err(|taken| (taken.field(), taken.to_string()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let rules = ScheduleRules {
        cron: entry.cron,
        zone: entry.zone.unwrap_or_else(|| zone.to_owned()),
        missed: entry.missed,
        paused: entry.paused.unwrap_or(false),
        made_by: format!("file:{name}"),
        from_file: true,
    };
    rules.timetable().map_err(|bad| (bad.field().to_owned(), bad.to_string()))?;
    let job = Kept { job: entry.job.clone(), callback: None }.to_bytes();
    let spec = ScheduleSpec { tenant: entry.job.tenant, name: entry.name, rules, job };
    Ok(FileSchedule { spec, pause_stays: entry.paused.is_none() })
}

/// Writes the file's schedules over what the store has, and forgets those that were the file's and are no more.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn apply(store: &Store, file: &[FileSchedule]) -> Result<(), StoreError> {
    for FileSchedule { spec, pause_stays } in file {
        let (tenant, name) = (&spec.tenant, &spec.name);
        let mut spec = spec.clone();
        if *pause_stays {
            spec.rules.paused = store.schedule(tenant, name).await?.is_some_and(|held| held.spec.rules.paused);
        }
        let table = match spec.rules.timetable() {
            Ok(table) => table,
            Err(error) => {
                tracing::error!(tenant, name, %error, "a schedule of the file is left out");
                continue;
            }
        };
        match store.put_schedule(&spec, &table, None).await? {
            SchedulePut::Ok(revision) => tracing::info!(tenant, name, revision, "a schedule of the file"),
            SchedulePut::Conflict(_) => {}
            SchedulePut::Full(most) => {
                tracing::error!(tenant, name, most, "too many schedules: one of the file is left out")
            }
        }
    }
    forget_others(store, file).await
}

/// Says which schedules are a file's, when no file is read: they stay, although nobody may know of them any more.
///
/// # Errors
/// [`StoreError`] when the store cannot be reached.
pub async fn warn_of_orphans(store: &Store) -> Result<(), StoreError> {
    let (mut names, mut after) = (Vec::new(), None::<(String, String)>);
    loop {
        let cursor = after.as_ref().map(|(tenant, name)| (tenant.as_str(), name.as_str()));
        let page = store.schedules(None, cursor, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.spec.tenant.clone(), last.spec.name.clone()));
        let of_file = page.iter().filter(|schedule| schedule.spec.rules.from_file);
        names.extend(of_file.map(|schedule| format!("{}/{}", schedule.spec.tenant, schedule.spec.name)));
    }
    if !names.is_empty() {
        let (count, first) = (names.len(), names.iter().take(10).cloned().collect::<Vec<_>>().join(", "));
        tracing::warn!(
            count,
            first,
            "no file of schedules is read, and these are of one: they go on; give the file by --schedules, an empty one to forget \
             them"
        );
    }
    Ok(())
}

async fn forget_others(store: &Store, file: &[FileSchedule]) -> Result<(), StoreError> {
    let kept: BTreeSet<_> = file.iter().map(|one| (one.spec.tenant.as_str(), one.spec.name.as_str())).collect();
    let mut after: Option<(String, String)> = None;
    loop {
        let cursor = after.as_ref().map(|(tenant, name)| (tenant.as_str(), name.as_str()));
        let page = store.schedules(None, cursor, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.spec.tenant.clone(), last.spec.name.clone()));
        for schedule in &page {
            let spec = &schedule.spec;
            if spec.rules.from_file && !kept.contains(&(spec.tenant.as_str(), spec.name.as_str())) {
                store.remove_schedule(&spec.tenant, &spec.name, Some(schedule.revision)).await?;
                tracing::info!(
                    tenant = spec.tenant,
                    name = spec.name,
                    "a schedule is no longer in the file: forgotten"
                );
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const JOB: &str = r#"job = { kind = "data_center_backup", tenant = "t-001", actor = { user_id = "u1", roles = ["it_ops"] }, args = { data_center = "dc-1", name = "nightly" } }"#;

    fn of(text: &str) -> Result<Vec<FileSchedule>, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schedules.toml");
        std::fs::write(&path, text).unwrap();
        load(&path, "Asia/Shanghai")
    }

    #[test]
    fn a_file_says_name_time_policy_and_job() {
        let text = format!(
            "[[schedule]]\nname = \"nightly\"\ncron = \"0 2 * * *\"\n{JOB}\n\n[[schedule]]\nname = \"month-end\"\n\
             cron = \"0 30 23 L * *\"\nzone = \"Europe/Berlin\"\nmissed = \"within:2h\"\npaused = true\n{JOB}\n"
        );
        let found = of(&text).unwrap();
        let rules: Vec<_> = found.iter().map(|one| &one.spec.rules).collect();
        assert_eq!((rules[0].zone.as_str(), rules[0].missed, rules[0].paused), ("Asia/Shanghai", Missed::Once, false));
        assert_eq!((rules[1].zone.as_str(), rules[1].missed.to_string().as_str()), ("Europe/Berlin", "within:2h"));
        assert!(rules[1].paused && rules[0].from_file && rules[0].made_by == "file:schedules.toml");
        let kept = Kept::read(&found[0].spec.job).unwrap();
        assert_eq!((kept.job.kind.as_str(), &kept.job.args["name"]), ("data_center_backup", &"nightly".into()));
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_line_and_key() {
        let bad = |name: &str, line: &str| format!("[[schedule]]\nname = \"{name}\"\n{line}\n{JOB}\n");
        let job = |what: &str, instead: &str| {
            format!("[[schedule]]\nname = \"h\"\ncron = \"0 2 * * *\"\n{}\n", JOB.replace(what, instead))
        };
        let text = [
            bad("a", "cron = \"0 0 30 2 *\""),
            bad("b", "cron = \"0 25 * * *\""),
            bad("c", "cron = \"0 2 * * *\"\nzone = \"Asia/Shangai\""),
            bad("d", "cron = \"0 2 * * *\"\nmissed = \"sometimes\""),
            bad("e", "cron = \"0 2 * * *\"\nretries = 3"),
            bad("no name!", "cron = \"0 2 * * *\""),
            bad("g", "cron = \"0 2 * * *\""),
            bad("g", "cron = \"0 3 * * *\""),
            job("data_center_backup", "data_center_backupp"),
            job("\"dc-1\"", "7"),
            job("name = \"nightly\"", "name = \"nightly\", colour = 1"),
            job(", args", ", labels = { slot = \"1\" }, args"),
        ];
        let error = of(&text.concat()).unwrap_err();
        let wanted = [
            (1, "schedule[0].cron", "never fires"),
            (5, "schedule[1].cron", "hour `25`"),
            (9, "schedule[2].zone", "did you mean `Asia/Shanghai`?"),
            (14, "schedule[3].missed", "`sometimes` is no policy"),
            (19, "schedule[4].retries", "unknown field `retries`"),
            (24, "schedule[5].name", "1 to 64 of"),
            (32, "schedule[7].name", "already"),
            (36, "schedule[8].job.kind", "did you mean `data_center_backup`?"),
            (40, "schedule[9].job.args.data_center", "string"),
            (44, "schedule[10].job.args.colour", "there is no field `colour`"),
            (48, "schedule[11].job.labels.slot", "the schedule's own"),
        ];
        assert_eq!(error.complaints.len(), wanted.len(), "{error}");
        for (complaint, (line, key, what)) in error.complaints.iter().zip(wanted) {
            let there = matches!(&complaint.origin, Origin::File { line: at, .. } if *at == line);
            assert!(
                there && complaint.key == key && complaint.what.contains(what),
                "{complaint} / {line} {key} {what}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_toml_or_not_there_is_refused() {
        assert!(of("[[schedule]]\nname = ").unwrap_err().to_string().contains(":2"));
        assert!(of("[[schedules]]\n").unwrap_err().to_string().contains("schedules"));
        assert!(load(Path::new("/nowhere/schedules.toml"), "UTC").unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(of("# nothing\n").unwrap(), []);
    }

    #[test]
    fn the_file_that_comes_with_the_program_is_sound() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schedules.toml");
        assert_eq!(load(&path, "Asia/Shanghai").unwrap(), []);
        let text = std::fs::read_to_string(path).unwrap();
        let example: String =
            text.lines().filter_map(|line| line.strip_prefix("#| ")).map(|l| format!("{l}\n")).collect();
        assert_eq!(of(&example).unwrap().len(), 2, "{example}");
    }
}
