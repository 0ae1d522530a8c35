//! Backups and restores (BACKUP-01 … BACKUP-06, RESTORE-01 … RESTORE-10).

use leasehold_engine::Place;
use leasehold_engine::store::{Cancelled, Claim, Resolution};
use leasehold_jobs::{ErrorCode, Origin};
use serde_json::{Value, json};

use crate::estate::{Estate, TENANT, error, result};

fn backup(data_center: &str) -> Value {
    json!({"data_center": data_center, "name": "before the audit", "description": "asked for by Li"})
}

fn restore(data_center: &str, kind: &str, id: &str) -> Value {
    json!({"data_center": data_center, "source": {"type": kind, "id": id}})
}

async fn made(estate: &mut Estate, data_center: &str) -> String {
    let id = estate.submitted("data_center_backup", backup(data_center)).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    result(&view)["backup_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn backup_02_backup_05_ac_114_a_backup_is_visible_only_when_it_is_complete() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("data_center_backup", backup("dc-1")).await;
    estate.stage.hold("backup");
    estate.start_worker().await;
    estate.stage.began.notified().await;
    assert!(estate.catalogue.services().backups().list(TENANT).await.unwrap().is_empty());
    let view = estate.until(&id, |view| !view.progress.text.is_empty()).await;
    assert!(view.progress.text.starts_with("about "), "BACKUP-02: {}", view.progress.text);
    estate.stage.go_on.notify_one();
    let view = estate.run(&id).await;
    let result = result(&view);
    assert!(result["estimate_seconds"].as_u64().unwrap() >= 1);
    let all = estate.catalogue.services().backups().list(TENANT).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (&json!(all[0].id), &json!(all[0].sha256), &json!(all[0].bytes)),
        (&result["backup_id"], &result["sha256"], &result["bytes"])
    );
    assert_eq!((all[0].name.as_str(), all[0].origin), ("before the audit", Origin::Manual));
    assert_eq!(estate.catalogue.status(&view).name, "备份成功");
    let files = estate.files(&estate.path("backups"));
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(estate.files(&estate.path("scratch")).is_empty());
    estate.finish().await;
}

#[tokio::test]
async fn backup_05_ac_115_a_worker_lost_during_a_backup_leaves_no_partial_record() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("data_center_backup", backup("dc-1")).await;
    // The first holder claims the job and is never heard of again; it left a file behind.
    let claim = Claim {
        worker: "lost".into(),
        request: 1,
        want: 9,
        lease_ms: 15_000,
        queues: estate.catalogue.queues(),
        kinds: vec![],
        by: 0,
    };
    assert_eq!(estate.lab.store.claim(0, &claim).await.unwrap().jobs.len(), 1);
    let now = estate.lab.store.now().await.unwrap();
    let left = estate.path("backups").join(format!("{TENANT}/dc-1/bk_{id}-1.backup"));
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, "half a backup").unwrap();
    estate.lab.store.set_time(now + 60_000);
    leasehold_engine::upkeep::rescue(&estate.lab.store).await.unwrap();
    assert!(estate.catalogue.services().backups().list(TENANT).await.unwrap().is_empty());
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded);
    let all = estate.catalogue.services().backups().list(TENANT).await.unwrap();
    assert_eq!(all.len(), 1);
    assert!(!left.exists(), "what the lost worker left is swept");
    estate.finish().await;
}

#[tokio::test]
async fn half_written_copies_are_removed_unless_their_attempt_runs() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("data_center_backup", backup("dc-1")).await;
    estate.stage.hold("backup");
    estate.start_worker().await;
    estate.stage.began.notified().await;
    let fence = estate.until(&id, |view| view.record.place == Place::Running).await.record.fence;
    let scratch = estate.path("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let other = estate.lab.store.new_id(TENANT);
    // What a running attempt makes stays, whatever its age, and so does what nobody can be asked about.
    let stay = [format!("{id}-{fence}-0000abcd.part"), format!("{other}-1-0000abcd.part"), "notes.part".to_owned()];
    let go = [format!("{id}-{}-0000abcd.part", fence - 1), format!("{id}-{}-0000abcd.part-journal", fence - 1)];
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 86_400);
    for name in stay.iter().chain(&go) {
        std::fs::write(scratch.join(name), "half").unwrap();
    }
    let running = std::fs::File::options().write(true).open(scratch.join(&stay[0])).unwrap();
    running.set_modified(long_ago).unwrap();
    let part = estate.path("backups").join(".part-lost");
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, "half").unwrap();
    let services = estate.catalogue.services().clone();
    assert_eq!(services.backups().sweep_leftovers().await.unwrap(), 2);
    assert!(stay.iter().all(|name| scratch.join(name).exists()) && part.exists());
    assert!(!go.iter().any(|name| scratch.join(name).exists()));
    // Days later nobody asks for them any more.
    for path in [&scratch.join(&stay[1]), &part] {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    assert_eq!(services.backups().sweep_leftovers().await.unwrap(), 2);
    estate.stage.go_on.notify_one();
    assert_eq!(estate.run(&id).await.record.place, Place::Succeeded);
    assert_eq!(services.backups().sweep_leftovers().await.unwrap(), 1, "its attempt is over");
    estate.finish().await;
}

#[tokio::test]
async fn backup_01_names_and_descriptions_have_their_lengths() {
    let estate = Estate::new().await;
    for (name, description, accepted) in [
        ("", "", false),
        (" ", "", false),
        ("n", "", true),
        (&*"名".repeat(100), &*"x".repeat(500), true),
        (&*"名".repeat(101), "", false),
        ("n", &*"x".repeat(501), false),
    ] {
        let args = json!({"data_center": "dc-1", "name": name, "description": description});
        let ask = estate.ask("data_center_backup", args).await;
        assert_eq!(estate.catalogue.admit(&ask).await.is_ok(), accepted, "{name} {description}");
    }
    estate.finish().await;
}

#[tokio::test]
async fn restore_03_ac_116_a_backup_is_restored_on_production_and_on_test() {
    let mut estate = Estate::new().await;
    let backup_id = made(&mut estate, "dc-1").await;
    estate.sql("books.db", "DELETE FROM book");
    for (data_center, file) in [("dc-1", "books.db"), ("dc-test", "test.db")] {
        let id = estate.submitted("data_center_restore", restore(data_center, "backup", &backup_id)).await;
        let view = estate.run(&id).await;
        assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
        assert_eq!(estate.catalogue.status(&view).name, "恢复成功");
        assert_eq!(estate.count(file, "SELECT count(*) FROM book WHERE title LIKE 'books.db%'"), 3);
        let safety = result(&view)["safety_backup_id"].as_str().unwrap().to_owned();
        let kept = estate.catalogue.services().backups().get(TENANT, &safety).await.unwrap().unwrap();
        assert_eq!((kept.origin, kept.data_center.as_str()), (Origin::Safety, data_center));
    }
    estate.idle().await;
    assert_eq!(estate.messaged(), ["u1", "u1"], "NOTIFY-07");
    estate.finish().await;
}

#[tokio::test]
async fn restore_02_ac_116_another_data_center_is_the_source() {
    let mut estate = Estate::new().await;
    let id = estate.submitted("data_center_restore", restore("dc-test", "data_center", "dc-2")).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    assert_eq!(estate.count("test.db", "SELECT count(*) FROM book WHERE title LIKE 'archive.db%'"), 5);
    assert_eq!(estate.count("archive.db", "SELECT count(*) FROM book"), 5);
    assert!(result(&view)["bytes"].as_u64().unwrap() > 0);
    // Of the copy of the source nothing is left; the safety copy is there.
    let all = estate.catalogue.services().backups().list(TENANT).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(estate.files(&estate.path("backups")).len(), 1);
    estate.finish().await;
}

/// Two claims are lost, then a worker in the middle of the overwrite, which is its last attempt.
async fn lost_in_the_overwrite(estate: &mut Estate) -> leasehold_engine::JobId {
    let backup_id = made(estate, "dc-1").await;
    estate.idle().await;
    estate.drain().await;
    estate.sql("books.db", "DELETE FROM book");
    let id = estate.submitted("data_center_restore", restore("dc-1", "backup", &backup_id)).await;
    estate.lose_claims(&id, 2).await;
    estate.stage.hold("restore");
    estate.start_worker().await;
    estate.stage.began.notified().await;
    id
}

#[tokio::test]
async fn restore_08_lost_workers_that_overwrote_nothing_are_said_to_have_failed() {
    let mut estate = Estate::new().await;
    let id = lost_in_the_overwrite(&mut estate).await;
    estate.lose_first_worker().await;
    let view = estate.run(&id).await;
    assert_eq!((view.record.place, error(&view)["code"].as_str()), (Place::Dead, Some("worker_lost")));
    assert!(error(&view)["message"].as_str().unwrap().contains("holds what it held before"));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book"), 0);
    estate.finish().await;
}

#[tokio::test]
async fn restore_08_an_overwrite_that_was_done_is_found_when_its_workers_are_lost() {
    let mut estate = Estate::new().await;
    let id = lost_in_the_overwrite(&mut estate).await;
    for n in 0..3 {
        estate.sql("books.db", &format!("INSERT INTO book (title) VALUES ('books.db {n}')"));
    }
    estate.lose_first_worker().await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    assert!(result(&view)["safety_backup_id"].is_string());
    estate.finish().await;
}

#[tokio::test]
async fn restore_08_a_data_center_that_holds_neither_is_looked_at_by_a_person() {
    let mut estate = Estate::new().await;
    let id = lost_in_the_overwrite(&mut estate).await;
    estate.sql("books.db", "INSERT INTO book (title) VALUES ('of somebody else')");
    estate.lose_first_worker().await;
    estate.start_worker().await;
    let view = estate.until(&id, |view| view.record.place == Place::Unknown).await;
    assert_eq!(error(&view)["code"], "outcome_unknown");
    estate.lab.store.resolve(&id, Resolution::of_the_only(false, b""), "").await.unwrap();
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book"), 3, "a person sent it to work: it overwrites");
    estate.finish().await;
}

#[tokio::test]
async fn restore_06_ac_117_an_upload_needs_a_letter_and_a_backup_does_not() {
    let estate = Estate::new().await;
    let ask = estate.ask("data_center_restore", restore("dc-1", "upload", "up-1")).await;
    assert_eq!(estate.refused(&ask).await.code, ErrorCode::LetterRequired);
    estate.finish().await;
}

#[tokio::test]
async fn restore_07_source_and_target_must_differ_exist_and_be_the_tenants() {
    let estate = Estate::new().await;
    for (args, code) in [
        (restore("dc-1", "data_center", "dc-1"), ErrorCode::InvalidArgument),
        (restore("dc-1", "data_center", "dc-9"), ErrorCode::UnknownDataCenter),
        (restore("dc-9", "data_center", "dc-1"), ErrorCode::UnknownDataCenter),
        (restore("dc-1", "backup", "bk_nobody"), ErrorCode::NotFound),
        (restore("dc-1", "data_center", "dc-ms"), ErrorCode::InvalidArgument),
    ] {
        let ask = estate.ask("data_center_restore", args.clone()).await;
        assert_eq!(estate.refused(&ask).await.code, code, "{args}");
    }
    estate.finish().await;
}

#[tokio::test]
async fn restore_07_ac_118_ac_200_backup_restore_and_sql_never_run_two_at_once() {
    let mut estate = Estate::new().await;
    let backup_id = made(&mut estate, "dc-1").await;
    let sql = json!({"data_center": "dc-1", "script": "UPDATE book SET title = 'x'"});
    estate.stage.hold("execute");
    let first = estate.submitted("sql_update", sql.clone()).await;
    estate.start_worker().await;
    estate.stage.began.notified().await;
    let ids = [
        estate.submitted("data_center_restore", restore("dc-1", "backup", &backup_id)).await,
        estate.submitted("data_center_backup", backup("dc-1")).await,
        estate.submitted("sql_update", sql).await,
        estate.submitted("data_center_restore", restore("dc-1", "data_center", "dc-2")).await,
    ];
    for id in &ids {
        assert_eq!(estate.lab.place(id).await, Place::Blocked, "it waits for the update that executes");
    }
    estate.stage.go_on.notify_one();
    for id in [&first].into_iter().chain(&ids) {
        let view = estate.run(id).await;
        assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    }
    assert!(estate.stage.overlaps.lock().unwrap().is_empty(), "{:?}", estate.stage.overlaps);
    estate.finish().await;
}

#[tokio::test]
async fn restore_07_ac_200_a_restore_waits_while_somebody_works_on_its_source() {
    let mut estate = Estate::new().await;
    estate.stage.hold("execute");
    let args = json!({"data_center": "dc-2", "script": "DELETE FROM book WHERE id = 1", "backup": false});
    let update = estate.submitted("sql_update", args).await;
    estate.start_worker().await;
    estate.stage.began.notified().await;
    let id = estate.submitted("data_center_restore", restore("dc-test", "data_center", "dc-2")).await;
    assert_eq!(estate.lab.place(&id).await, Place::Blocked);
    estate.stage.go_on.notify_one();
    estate.run(&update).await;
    assert_eq!(estate.run(&id).await.record.place, Place::Succeeded);
    assert_eq!(estate.count("test.db", "SELECT count(*) FROM book"), 4);
    estate.finish().await;
}

#[tokio::test]
async fn restore_07_ac_200_nobody_changes_the_source_of_a_restore_that_runs() {
    let mut estate = Estate::new().await;
    estate.stage.hold("backup");
    let id = estate.submitted("data_center_restore", restore("dc-test", "data_center", "dc-2")).await;
    estate.start_worker().await;
    estate.stage.began.notified().await;
    let args = json!({"data_center": "dc-2", "script": "DELETE FROM book WHERE id = 1", "backup": false});
    let update = estate.submitted("sql_update", args).await;
    // And one in the opposite direction: the two do not wait for each other for ever.
    let back = estate.submitted("data_center_restore", restore("dc-2", "data_center", "dc-test")).await;
    for waits in [&update, &back] {
        assert_eq!(estate.lab.place(waits).await, Place::Blocked, "the source is being copied");
    }
    estate.stage.go_on.notify_one();
    for id in [&id, &update, &back] {
        let view = estate.run(id).await;
        assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    }
    estate.finish().await;
}

#[tokio::test]
async fn restore_08_ac_119_a_failed_overwrite_leaves_what_was_there_and_is_told() {
    let mut estate = Estate::with(|rules| rules.notify.ops_monitor_email = "ops@example.com".to_owned()).await;
    let backup_id = made(&mut estate, "dc-2").await;
    estate.stage.break_restores(1);
    let id = estate.submitted("data_center_restore", restore("dc-1", "backup", &backup_id)).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Dead);
    assert_eq!(estate.catalogue.status(&view).id, "failed");
    let message = error(&view)["message"].as_str().unwrap().to_owned();
    assert!(message.contains("put back to its safety copy"), "{message}");
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book WHERE title LIKE 'books.db%'"), 3);
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM sqlite_master WHERE name = 'rubbish'"), 0);
    estate.idle().await;
    assert_eq!(estate.mailed(), ["ops@example.com", "u1@example.com"], "NOTIFY-19");
    // The words of an error name hosts and folders of ours: the customer gets its code.
    let code = error(&view)["code"].as_str().unwrap().to_owned();
    for (head, text) in estate.mails() {
        let to_us = head.contains("To: ops@example.com");
        assert!(text.contains(&code), "{head}: {text}");
        assert_eq!(text.contains("put back to its safety copy"), to_us, "{head}: {text}");
    }
    estate.finish().await;
}

#[tokio::test]
async fn restore_08_a_damaged_backup_is_refused_and_the_target_untouched() {
    let mut estate = Estate::new().await;
    let backup_id = made(&mut estate, "dc-2").await;
    let kept = estate.catalogue.services().backups().get(TENANT, &backup_id).await.unwrap().unwrap();
    let file = estate.path("backups").join(&kept.file);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let id = estate.submitted("data_center_restore", restore("dc-1", "backup", &backup_id)).await;
    let view = estate.run(&id).await;
    assert_eq!((view.record.place, &error(&view)["code"]), (Place::Dead, &json!("target_corrupt")));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book WHERE title LIKE 'books.db%'"), 3);
    estate.finish().await;
}

#[tokio::test]
async fn restore_09_ac_120_a_cancel_before_the_overwrite_is_heard() {
    let mut estate = Estate::new().await;
    let backup_id = made(&mut estate, "dc-2").await;
    estate.stage.hold("backup");
    let id = estate.submitted("data_center_restore", restore("dc-1", "backup", &backup_id)).await;
    estate.stage.began.notified().await;
    assert_eq!(estate.lab.store.cancel(&id, "{}", None).await.unwrap(), Cancelled::Requested);
    estate.stage.go_on.notify_one();
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Cancelled);
    assert!(!estate.stage.order().contains(&"restore".to_owned()));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book WHERE title LIKE 'books.db%'"), 3);
    estate.finish().await;
}

#[tokio::test]
async fn restore_09_ac_120_a_cancel_after_the_overwrite_began_is_refused() {
    let mut estate = Estate::new().await;
    let backup_id = made(&mut estate, "dc-2").await;
    estate.stage.hold("restore");
    let id = estate.submitted("data_center_restore", restore("dc-1", "backup", &backup_id)).await;
    estate.stage.began.notified().await;
    assert_eq!(estate.lab.store.cancel(&id, "{}", None).await.unwrap(), Cancelled::TooLate(Place::Running));
    let view = estate.lab.job(&id).await;
    let now = estate.lab.store.now().await.unwrap();
    assert_eq!(estate.catalogue.too_late(&view, leasehold_jobs::What::Cancel, now).rule, "RESTORE-09");
    assert_eq!(estate.catalogue.status(&view).name, "恢复中");
    estate.stage.go_on.notify_one();
    assert_eq!(estate.run(&id).await.record.place, Place::Succeeded);
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book WHERE title LIKE 'archive.db%'"), 5);
    estate.finish().await;
}

#[tokio::test]
async fn eng_12_ac_199_a_backup_of_another_tenant_is_not_found() {
    let mut estate = Estate::new().await;
    let backup_id = made(&mut estate, "dc-1").await;
    let mut ask = estate.ask("data_center_restore", restore("dc-1", "backup", &backup_id)).await;
    assert!(estate.catalogue.admit(&ask).await.is_ok());
    ask.tenant.id = "t-002".into();
    assert_eq!(estate.refused(&ask).await.code, ErrorCode::NotFound);
    assert!(estate.catalogue.services().backups().list("t-002").await.unwrap().is_empty());
    estate.finish().await;
}

#[tokio::test]
async fn restore_08_a_revived_restore_does_not_put_back_what_was_there_days_ago() {
    let mut estate = Estate::new().await;
    let backup_id = made(&mut estate, "dc-2").await;
    let kept = estate.catalogue.services().backups().get(TENANT, &backup_id).await.unwrap().unwrap();
    let file = estate.path("backups").join(&kept.file);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, "damaged").unwrap();
    let id = estate.submitted("data_center_restore", restore("dc-1", "backup", &backup_id)).await;
    assert_eq!(estate.run(&id).await.record.place, Place::Dead);
    // Days later: people went on working, and the file was mended.
    estate.sql("books.db", "INSERT INTO book (title) VALUES ('later')");
    std::fs::write(&file, bytes).unwrap();
    estate.stage.break_restores(1);
    estate.lab.store.revive(&id, "{}").await.unwrap();
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Dead);
    assert!(error(&view)["message"].as_str().unwrap().contains("put back"), "{}", error(&view));
    assert_eq!(estate.count("books.db", "SELECT count(*) FROM book WHERE title = 'later'"), 1);
    estate.lab.store.revive(&id, "{}").await.unwrap();
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    let safety = result(&view)["safety_backup_id"].as_str().unwrap().to_owned();
    let safety = estate.catalogue.services().backups().get(TENANT, &safety).await.unwrap().unwrap();
    let safety = rusqlite::Connection::open(estate.path("backups").join(safety.file)).unwrap();
    let later: i64 = safety.query_row("SELECT count(*) FROM book WHERE title = 'later'", [], |row| row.get(0)).unwrap();
    assert_eq!(later, 1, "the safety copy holds what was overwritten");
    estate.finish().await;
}
