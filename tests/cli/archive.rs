//! Finished jobs that leave Redis are still there for whoever asks.

use crate::lab::{Lab, Program, text};

#[test]
fn jobs_that_were_archived_are_listed_and_shown_and_lie_in_files_for_others() {
    let lab = Lab::new();
    let mut command = lab.command(&["up", "--listen", "127.0.0.1:0"]);
    command
        .env("LEASEHOLD__RETENTION__KINDS__SQL_UPDATE__SUCCEEDED__COUNT", "0")
        .env("LEASEHOLD__UPKEEP__PRUNE_MS", "50");
    let mut up = Program::start(command);
    let url = up.ready();
    lab.tenant(&url);
    let ids = [lab.insert(&url), lab.insert(&url)];
    for id in &ids {
        let job = lab.job(&url, id, |job| job["archived"] == true);
        assert_eq!((&job["place"], &job["result"]["colour"]), (&"succeeded".into(), &"green".into()), "{job:#}");
        assert!(job["steps"].as_array().unwrap().iter().any(|step| step["name"] == "execute"), "{job:#}");
    }
    let listed = lab.json(&url, &["jobs", "--archived", "--tenant", "t-1", "--kind", "sql_update", "--since", "-1h"]);
    let listed: Vec<_> = listed["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(listed, [ids[1].as_str(), ids[0].as_str()], "the newest first");
    let table = text(&lab.ask(&url, &["jobs", "--archived", "--until", "+1h"]));
    assert!(table.starts_with("ID ") && ids.iter().all(|id| table.contains(id.as_str())), "{table}");
    assert!(text(&lab.ask(&url, &["jobs", "--archived", "--until", "-1h"])).contains("no jobs"));
    // A folder for each day on which jobs were put away: two of them when midnight went by.
    let days = entries(&lab.data().join("archive")).into_iter().map(|day| day.join("t-1/sql_update"));
    let objects: Vec<_> = days.filter(|day| day.is_dir()).flat_map(|day| entries(&day)).collect();
    assert!(!objects.is_empty());
    for object in objects {
        let lines = zstd::decode_all(std::fs::File::open(object).unwrap()).unwrap();
        assert!(String::from_utf8(lines).unwrap().lines().all(|line| line.starts_with(r#"{"v":1,"id":""#)));
    }
}

fn entries(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_time_without_the_archive_is_a_usage_error() {
    let lab = Lab::new();
    assert_eq!(lab.run(&["jobs", "--since", "-1h"]).status.code(), Some(2));
    let wrong = lab.run(&["jobs", "--archived", "--since", "lately"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong).contains("--since"), "{wrong:?}");
}

#[test]
fn doctor_says_that_the_archive_cannot_be_written_and_the_job_stays() {
    let lab = Lab::new();
    let mut command = lab.command(&["up", "--listen", "127.0.0.1:0"]);
    command.env("LEASEHOLD__RETENTION__SUCCEEDED__COUNT", "0").env("LEASEHOLD__UPKEEP__PRUNE_MS", "50");
    command.env("LEASEHOLD__ARCHIVE__FILES", "file:dc.db/archive");
    std::fs::create_dir_all(lab.data()).unwrap();
    std::fs::write(lab.data().join("dc.db"), "in the way").unwrap();
    let mut up = Program::start(command);
    let url = up.ready();
    lab.tenant(&url);
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| job["place"] == "succeeded");
    up.hear("the archive fails");
    assert_eq!(lab.job(&url, &id, |_| true)["archived"], serde_json::Value::Null);
    let doctor = lab.run(&["doctor", "--skip-targets"]);
    assert!(text(&doctor).contains("finished jobs stay in Redis"), "{}", text(&doctor));
}
