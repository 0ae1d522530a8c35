//! What must be true when all is over, whatever was killed on the way.

use std::collections::BTreeMap;
use std::path::Path;

use leasehold_engine::Store;
use leasehold_engine::store::JobFilter;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::estate::center::{self, Center, Effects, FAILS};
use crate::estate::{Arrival, Estate, PATIENCE, TENANT};

/// Waits for the end of a job and for all its webhooks; the job as callers see it.
pub async fn ended(estate: &Estate, id: &str) -> Value {
    let told = estate.receiver.wait(id, PATIENCE, has_ended).await;
    told.unwrap_or_else(|why| panic!("job {id} did not end: {why}\n{}", estate.logs()));
    let job = estate.portal.get(&format!("/v1/jobs/{id}")).await;
    let history = history(estate, id).await;
    let all_told = |told: &BTreeMap<u64, Arrival>| history.keys().all(|seq| told.contains_key(seq));
    let told = estate.receiver.wait(id, PATIENCE, all_told).await;
    let told = told.unwrap_or_else(|why| panic!("history {history:?}, but {why}\n{}", estate.logs()));
    for (seq, word) in &history {
        assert_eq!(told[seq].word(), word, "seq {seq}");
    }
    let (_, last) = told.last_key_value().unwrap();
    assert_eq!((last.word(), last.seq()), ("job.succeeded", *history.last_key_value().unwrap().0));
    job
}

/// Whether the last of a job was told.
pub fn has_ended(told: &BTreeMap<u64, Arrival>) -> bool {
    let last = ["job.succeeded", "job.failed", "job.cancelled", "job.unknown"];
    told.values().any(|one| last.contains(&one.word()))
}

/// The events that the job itself remembers, by seq; progress is told but not kept.
async fn history(estate: &Estate, id: &str) -> BTreeMap<u64, String> {
    let stream = estate.portal.get(&format!("/v1/jobs/{id}/events")).await;
    let mut events = BTreeMap::new();
    let (mut word, mut seq) = (String::new(), 0);
    for line in stream.as_str().unwrap().lines() {
        match line.split_once(':').map(|(name, value)| (name, value.trim())) {
            Some(("event", value)) => word = value.to_owned(),
            Some(("id", value)) => seq = value.parse().unwrap(),
            None if line.is_empty() && seq > 0 => drop(events.insert(seq, std::mem::take(&mut word))),
            _ => {}
        }
    }
    events.retain(|_, word| word != "job.progress");
    events
}

/// Each effect once, the right colour, one backup from before, nothing lost in the store.
pub async fn all_is_well(estate: &Estate, id: &str, job: &Value) {
    assert_eq!(estate.center.effects().await, Effects::once(), "what the data center shows");
    assert_eq!(job["place"], "succeeded", "{job}");
    assert_eq!(job["result"]["colour"], "red", "{job}");
    let statements = job["result"]["statements"].as_array().unwrap();
    let failed: Vec<u64> =
        statements.iter().filter(|one| one["ok"] != true).map(|one| one["index"].as_u64().unwrap()).collect();
    assert_eq!((statements.len(), failed), (6, vec![FAILS]), "{job}");
    let store = estate.store().await;
    one_backup(estate, &store, job).await;
    notices_once(&store, id).await;
    let audit = store.audit().await.unwrap();
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
}

/// One published backup, whole, of the state before the first statement; no other file beside it.
async fn one_backup(estate: &Estate, store: &Store, job: &Value) {
    let documents = store.documents(&format!("backups/{TENANT}")).await.unwrap();
    let ids: Vec<_> = documents.keys().cloned().collect();
    assert_eq!(ids, [job["result"]["backup_id"].as_str().unwrap()]);
    let backup: Value = serde_json::from_slice(&documents[&ids[0]].bytes).unwrap();
    assert_eq!(backup["origin"], "pre_sql");
    let file = estate.backups().join(backup["file"].as_str().unwrap());
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(hex::encode(Sha256::digest(&bytes)), backup["sha256"].as_str().unwrap());
    if matches!(estate.center, Center::Sqlite(_)) {
        assert!(center::is_sound(&file));
        assert_eq!(center::effects(&file), Effects::default(), "the backup is of the state before");
    }
    let visible: Vec<_> = files(&estate.backups()).into_iter().filter(|path| path.ends_with(".backup")).collect();
    assert_eq!(visible, [file.display().to_string()], "files that no document names");
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path().display().to_string()),
        }
    }
    found
}

/// NOTIFY-11: the admin and the submitter are told once each a channel.
async fn notices_once(store: &Store, id: &str) {
    let filter =
        JobFilter { kind: Some("notification_send".into()), tenant: Some(TENANT.into()), ..JobFilter::default() };
    let page = store.jobs(&filter, None, 100).await.unwrap();
    let mut notices: Vec<String> = page
        .jobs
        .iter()
        .map(|job| serde_json::from_slice::<Value>(&job.args).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    notices.sort();
    let all = notices.len();
    notices.dedup();
    assert_eq!(all, notices.len(), "a notice was enqueued twice: {notices:?}");
    assert!(all >= 2 && notices.iter().all(|notice| notice.starts_with(id)), "{notices:?}");
}
