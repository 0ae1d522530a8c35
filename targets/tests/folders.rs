//! Files and notices in folders: whole or not at all, once, and never elsewhere.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a test says what it skips")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use leasehold_targets::database::{self, BackupPlan, DatabaseUrl, ExecuteOptions};
use leasehold_targets::files::{self, Files};
use leasehold_targets::notices::{self, Channel, Notice};
use leasehold_targets::script::{Dialect, Script};
use leasehold_targets::{Secrets, TargetError};
use tokio_util::sync::CancellationToken;

fn directory() -> (tempfile::TempDir, Arc<dyn Files>) {
    let folder = tempfile::tempdir().unwrap();
    let files = files::open(&format!("file:{}", folder.path().join("store").display())).unwrap();
    (folder, files)
}

#[tokio::test]
async fn what_is_put_is_listed_got_and_deleted() {
    let (folder, files) = directory();
    let stored = files.put_bytes("a/b.txt", b"abc").await.unwrap();
    assert_eq!(stored.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    files.put_bytes("a/c", b"").await.unwrap();
    files.put_bytes("d", b"12").await.unwrap();
    files.put_bytes("d", b"123").await.unwrap();
    let names = |found: Vec<files::FileFacts>| found.into_iter().map(|facts| facts.name).collect::<Vec<_>>();
    assert_eq!(names(files.list("").await.unwrap()), ["a/b.txt", "a/c", "d"]);
    assert_eq!(names(files.list("a/").await.unwrap()), ["a/b.txt", "a/c"]);
    assert_eq!(names(files.list("a/b").await.unwrap()), ["a/b.txt"]);
    assert_eq!(files.stat("d").await.unwrap().unwrap().bytes, 3);
    let got = files.get("a/b.txt", &folder.path().join("got")).await.unwrap();
    assert_eq!(got, stored);
    let again = files.put("e", &folder.path().join("got")).await.unwrap();
    assert_eq!(again, stored);
    assert!(files.local_path("e").await.unwrap().unwrap().is_file());
    assert!(files.delete("e").await.unwrap());
    assert!(!files.delete("e").await.unwrap());
    assert_eq!(files.stat("e").await.unwrap(), None);
    assert_eq!(files.get("e", &folder.path().join("x")).await.unwrap_err().code(), "target_not_found");
    assert!(!folder.path().join("x").exists());
}

#[tokio::test]
async fn folders_are_listed_one_level_at_a_time() {
    let (folder, files) = directory();
    for name in ["2026-11-22/t-1/a", "2026-11-22/t-2/a", "2026-11-21/t-1/a", "b"] {
        files.put_bytes(name, b"1").await.unwrap();
    }
    std::fs::create_dir(folder.path().join("store/.hidden")).unwrap();
    assert_eq!(files.folders("").await.unwrap(), ["2026-11-21", "2026-11-22"]);
    assert_eq!(files.folders("2026-11-22/").await.unwrap(), ["t-1", "t-2"]);
    for nothing in ["2026-11-23/", "2026-11-22/t-1/", "../", "/", "x/../"] {
        assert_eq!(files.folders(nothing).await.unwrap(), [""; 0], "{nothing}");
        assert!(nothing.contains("t-1") || files.list(nothing).await.unwrap().is_empty(), "{nothing}");
    }
}

#[tokio::test]
async fn a_name_never_leaves_the_folder() {
    let (folder, files) = directory();
    files.put_bytes("a", b"1").await.unwrap();
    for name in ["", "/etc/x", "../x", "a/../../x", "a//b", ".part-x", "a/.hidden", "x\0", "x\\..\\y", "x\ny", "./x"] {
        assert_eq!(files.put_bytes(name, b"x").await.unwrap_err().code(), "target_bad_name", "{name:?}");
        assert_eq!(files.delete(name).await.unwrap_err().code(), "target_bad_name", "{name:?}");
        assert_eq!(files.stat(name).await.unwrap_err().code(), "target_bad_name", "{name:?}");
    }
    std::os::unix::fs::symlink(folder.path(), folder.path().join("store/link")).unwrap();
    assert_eq!(files.put_bytes("link/x", b"x").await.unwrap_err().code(), "target_bad_name");
    assert!(files.list("").await.unwrap().iter().all(|facts| facts.name == "a"));
}

#[tokio::test]
async fn leftovers_are_not_seen_and_are_swept() {
    let (folder, files) = directory();
    files.put_bytes("a/b", b"1").await.unwrap();
    std::fs::write(folder.path().join("store/a/.part-0123"), b"half").unwrap();
    assert_eq!(files.list("").await.unwrap().len(), 1);
    assert_eq!(files.sweep(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(files.sweep(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(files.list("").await.unwrap().len(), 1);
}

#[test]
fn places_without_a_driver_are_refused() {
    assert_eq!(files::open("s3://bucket/x").map(|_| ()).unwrap_err().code(), "target_no_driver");
    assert_eq!(notices::open("smtp://host").map(|_| ()).unwrap_err().code(), "target_no_driver");
    assert_eq!(files::open("file:").map(|_| ()).unwrap_err().code(), "target_bad_url");
}

fn notice(id: &str, channel: Channel) -> Notice {
    let to = if channel == Channel::Email { "ops@example.com" } else { "13800000000" };
    Notice {
        id: id.to_owned(),
        channel,
        to: to.to_owned(),
        subject: "环境到期提醒".to_owned(),
        body: "您的环境将于 2026-12-31 到期。\n.".to_owned(),
    }
}

#[tokio::test]
async fn a_notice_sent_twice_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let way = notices::open(&format!("file:{}", folder.path().display())).unwrap();
    for channel in [Channel::Email, Channel::Sms, Channel::Im] {
        for _ in 0..2 {
            way.send(&notice("job-1.notify", channel)).await.unwrap();
        }
    }
    way.send(&notice("../../odd/编号", Channel::Email)).await.unwrap();
    let count = |name: &str| std::fs::read_dir(folder.path().join(name)).unwrap().count();
    assert_eq!((count("email"), count("sms"), count("im")), (2, 1, 1));
    let mail = std::fs::read_to_string(folder.path().join("email/job-1.notify.eml")).unwrap();
    for line in
        ["To: ops@example.com\r\n", "Message-ID: <job-1.notify@leasehold>\r\n", "Subject: =?UTF-8?B?", "\r\n\r\n"]
    {
        assert!(mail.contains(line), "{mail}");
    }
    assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 78));
    let sms = std::fs::read_to_string(folder.path().join("sms/job-1.notify.json")).unwrap();
    assert_eq!(serde_json::from_str::<Notice>(&sms).unwrap(), notice("job-1.notify", Channel::Sms));
}

#[tokio::test]
async fn a_receiver_cannot_add_headers() {
    let folder = tempfile::tempdir().unwrap();
    let way = notices::open(&format!("file:{}", folder.path().display())).unwrap();
    for to in ["", "a@b\r\nBcc: c@d", "a@b, c@d", "nobody"] {
        let mut notice = notice("x", Channel::Email);
        notice.to = to.to_owned();
        assert_eq!(way.send(&notice).await.unwrap_err().code(), "target_bad_name", "{to:?}");
    }
}

/// A disk of one megabyte.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_with_its_numbers_and_leaves_nothing() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(_mounted) = SmallDisk::mount(disk.path()) else {
        println!("skipped: no small disk can be mounted here");
        return;
    };
    let big = folder.path().join("big");
    std::fs::write(&big, vec![7; 3 << 20]).unwrap();
    let files = files::open(&format!("file:{}", disk.path().display())).unwrap();
    match files.put("big", &big).await.unwrap_err() {
        TargetError::NoSpace { needed, free, .. } => assert!(needed == Some(3 << 20) && free.unwrap() <= 1 << 20),
        other => panic!("{other}"),
    }
    assert_eq!(files.list("").await.unwrap(), []);

    let url = format!("sqlite:{}", folder.path().join("live.db").display());
    let db = database::open(&DatabaseUrl::parse(&url, &Secrets::default()).unwrap()).unwrap();
    db.create().await.unwrap();
    let text = "CREATE TABLE t (x); WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000) \
                INSERT INTO t SELECT randomblob(1000) FROM c;";
    let script = Script::parse(Dialect::Sqlite, text).unwrap();
    let none = CancellationToken::new();
    let report = db.execute(&script, &ExecuteOptions::new("j", 1), database::unobserved(), none.clone()).await.unwrap();
    assert!(report.statements[0].ok, "{report:?}");
    let plan = BackupPlan { dest: disk.path().join("b"), job: "b".to_owned() };
    let error = db.backup(&plan, database::quiet(), none).await.unwrap_err();
    assert_eq!((error.code(), error.is_transient()), ("target_no_space", true), "{error}");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
}
