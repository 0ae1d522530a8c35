//! The archive by itself: what is put is listed once, in pages, by whoever may see it, whatever lies beside it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use leasehold_engine::{
    Effect, JobId, JobView, Place, Step, UnixMs, model::JobRecord, model::Sort, upkeep::Archive as _,
};

use leasehold_targets::{
    TargetError,
    files::{FileFacts, Files, Stored},
};

use super::{ArchiveQuery, Shelf, ShelfError};

/// 2026-11-22T04:00:00Z.
const NOON: UnixMs = 1_795_320_000_000;
const DAY: UnixMs = 86_400_000;

struct Lab {
    shelf: Shelf,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file:{}", folder.path().join("archive").display());
        Self { shelf: Shelf::open(&url, folder.path().join("scratch")).unwrap(), folder }
    }

    /// Pages through all that fits; the ids in the order of the listing.
    async fn all(&self, query: &ArchiveQuery, limit: usize) -> Vec<JobId> {
        let (mut ids, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = self.shelf.page(query, cursor.as_deref(), limit).await.unwrap();
            assert!(page.jobs.len() <= limit);
            ids.extend(page.jobs.into_iter().map(|job| job.record.id));
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    }

    fn objects(&self) -> Vec<std::path::PathBuf> {
        fn walk(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => walk(&entry.path(), found),
                    false => found.push(entry.path()),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder.path().join("archive"), &mut found);
        found.sort();
        found
    }
}

fn job(tenant: &str, kind: &str, ended_at: UnixMs) -> JobView {
    let mut record = JobRecord::empty(JobId::new(0)).unwrap();
    (record.tenant, record.kind, record.queue) = (tenant.to_owned(), kind.to_owned(), "default".to_owned());
    (record.place, record.finished_at, record.seq) = (Place::Succeeded, ended_at, 7);
    (record.args, record.result) = (b"{\"a\":1}"[..].into(), b"\"well\""[..].into());
    JobView { record, steps: Vec::new(), progress: Default::default() }
}

fn of(tenant: &str) -> ArchiveQuery {
    ArchiveQuery { tenant: Some(tenant.to_owned()), ..ArchiveQuery::default() }
}

fn ids(jobs: &[JobView]) -> Vec<JobId> {
    jobs.iter().map(|job| job.record.id.clone()).collect()
}

#[tokio::test]
async fn a_job_comes_back_as_it_was() {
    let lab = Lab::new();
    let mut put = job("租户/1", "sql_update", NOON);
    put.record.meta = b"not json"[..].into();
    put.record.has_journal = true;
    put.progress.text = "half".to_owned();
    put.steps.push(Step {
        name: "execute".to_owned(),
        sort: Sort::Step,
        effect: Effect::Once,
        done: true,
        undoable: true,
        wait: None,
        ordinal: 4,
        begun_at: 1,
        done_at: 2,
        fence: 3,
        result: b"{\"rows\":1}".to_vec(),
    });
    lab.shelf.put(std::slice::from_ref(&put)).await.unwrap();
    let got = lab.shelf.find(&put.record.id, None).await.unwrap().unwrap();
    assert_eq!(format!("{put:?}"), format!("{got:?}"));
    let text = zstd::decode_all(std::fs::File::open(&lab.objects()[0]).unwrap()).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (&line["args"]["a"], &line["steps"][0]["result"]["rows"]),
        (&1.into(), &1.into()),
        "plain JSON for others"
    );
}

#[tokio::test]
async fn everything_is_listed_once_newest_first_in_pages_of_any_size() {
    let lab = Lab::new();
    let mut all = Vec::new();
    for day in 0..3 {
        for n in 0..7 {
            all.push(job("t-1", "a", NOON + day * DAY + n));
        }
        lab.shelf.put(&all[all.len() - 7..all.len() - 3]).await.unwrap();
        lab.shelf.put(&all[all.len() - 3..]).await.unwrap();
    }
    let meant: Vec<_> = ids(&all).into_iter().rev().collect();
    for limit in [1, 2, 3, 7, 100] {
        assert_eq!(lab.all(&of("t-1"), limit).await, meant, "{limit} a page");
        assert_eq!(lab.all(&ArchiveQuery::default(), limit).await, meant, "{limit} a page");
    }
}

#[tokio::test]
async fn a_filter_finds_its_own_by_tenant_kind_place_and_time() {
    let lab = Lab::new();
    let mut all: Vec<_> = [("t-1", "a"), ("t-1", "b"), ("t-2", "a")]
        .into_iter()
        .flat_map(|(tenant, kind)| (0..4).map(move |n| job(tenant, kind, NOON + n * DAY / 2)))
        .collect();
    all[0].record.place = Place::Dead;
    lab.shelf.put(&all).await.unwrap();
    let queries = [
        of("t-1"),
        of("t-3"),
        ArchiveQuery { kind: Some("a".to_owned()), ..ArchiveQuery::default() },
        ArchiveQuery { kind: Some("b".to_owned()), ..of("t-1") },
        ArchiveQuery { place: Some(Place::Dead), ..ArchiveQuery::default() },
        ArchiveQuery { since: Some(NOON + DAY / 2), until: Some(NOON + DAY + 1), ..ArchiveQuery::default() },
        ArchiveQuery { until: Some(NOON), ..ArchiveQuery::default() },
        ArchiveQuery { queue: Some("other".to_owned()), ..ArchiveQuery::default() },
    ];
    for (query, many) in queries.iter().zip([8, 0, 8, 4, 1, 6, 0, 0]) {
        let found = lab.all(query, 3).await;
        assert_eq!(found.len(), many, "{query:?}");
        let meant = all.iter().filter(|job| query.admits(job)).map(|job| job.record.id.clone());
        assert_eq!(BTreeSet::from_iter(found), meant.collect(), "{query:?}");
    }
}

#[tokio::test]
async fn jobs_that_were_put_twice_are_listed_once() {
    let lab = Lab::new();
    let jobs: Vec<_> = (0..6).map(|n| job("t-1", "a", NOON + n)).collect();
    lab.shelf.put(&jobs[..3]).await.unwrap(); // then a crash, before they were forgotten
    lab.shelf.put(&jobs).await.unwrap();
    lab.shelf.put(&jobs).await.unwrap();
    assert_eq!(lab.objects().len(), 2, "the same jobs are the same object");
    let meant: Vec<_> = ids(&jobs).into_iter().rev().collect();
    for limit in [1, 2, 4, 10] {
        assert_eq!(lab.all(&of("t-1"), limit).await, meant, "{limit} a page");
    }
}

#[tokio::test]
async fn a_tenant_finds_its_own_job_by_id_and_no_other() {
    let lab = Lab::new();
    let jobs = [job("t-1", "a", NOON), job("t-2", "a", NOON + 40 * DAY)];
    lab.shelf.put(&jobs).await.unwrap();
    let find = async |n: usize, tenant| lab.shelf.find(&jobs[n].record.id, tenant).await.unwrap().is_some();
    assert!(find(0, None).await && find(0, Some("t-1")).await && find(1, Some("t-2")).await);
    assert!(!find(0, Some("t-2")).await && !find(1, Some("t-1")).await);
    assert!(lab.shelf.find(&JobId::new(0), None).await.unwrap().is_none());
}

#[tokio::test]
async fn an_object_that_lies_in_another_tenants_folder_shows_it_nothing() {
    let lab = Lab::new();
    let put = job("t-1", "a", NOON);
    lab.shelf.put(std::slice::from_ref(&put)).await.unwrap();
    let object = lab.objects()[0].clone();
    let text = object.to_string_lossy().replace("/t-1/", "/t-2/");
    let strange = std::path::Path::new(&text);
    std::fs::create_dir_all(strange.parent().unwrap()).unwrap();
    std::fs::copy(&object, strange).unwrap();
    assert!(lab.all(&of("t-2"), 10).await.is_empty());
    assert!(lab.shelf.find(&put.record.id, Some("t-2")).await.unwrap().is_none());
}

/// A place that loses the last byte of what it is given, and says that all is well.
struct Forgetful(Arc<dyn Files>);

#[async_trait::async_trait]
impl Files for Forgetful {
    fn shown(&self) -> String {
        self.0.shown()
    }
    async fn put(&self, name: &str, source: &Path) -> Result<Stored, TargetError> {
        self.0.put(name, source).await
    }
    async fn put_bytes(&self, name: &str, content: &[u8]) -> Result<Stored, TargetError> {
        self.0.put_bytes(name, &content[..content.len() - 1]).await
    }
    async fn get(&self, name: &str, dest: &Path) -> Result<Stored, TargetError> {
        self.0.get(name, dest).await
    }
    /// As a place on another machine.
    async fn local_path(&self, _: &str) -> Result<Option<PathBuf>, TargetError> {
        Ok(None)
    }
    async fn list(&self, prefix: &str) -> Result<Vec<FileFacts>, TargetError> {
        self.0.list(prefix).await
    }
    async fn folders(&self, folder: &str) -> Result<Vec<String>, TargetError> {
        self.0.folders(folder).await
    }
    async fn stat(&self, name: &str) -> Result<Option<FileFacts>, TargetError> {
        self.0.stat(name).await
    }
    async fn delete(&self, name: &str) -> Result<bool, TargetError> {
        self.0.delete(name).await
    }
    async fn sweep(&self, older_than: std::time::Duration) -> Result<u64, TargetError> {
        self.0.sweep(older_than).await
    }
}

#[tokio::test]
async fn what_does_not_read_back_is_not_put() {
    let mut lab = Lab::new();
    lab.shelf.files = Arc::new(Forgetful(lab.shelf.files.clone()));
    let error = lab.shelf.put(&[job("t-1", "a", NOON)]).await.unwrap_err();
    assert_eq!(error.code, "archive_damaged", "{error}");
}

#[tokio::test]
async fn what_lies_beside_the_objects_is_passed_over_and_a_damaged_one_is_said() {
    let lab = Lab::new();
    lab.shelf.put(&[job("t-1", "a", NOON)]).await.unwrap();
    let object = lab.objects()[0].clone();
    std::fs::write(object.with_file_name("readme.txt"), "x").unwrap();
    std::fs::create_dir(lab.folder.path().join("archive/lost+found")).unwrap();
    assert_eq!(lab.all(&ArchiveQuery::default(), 10).await.len(), 1);
    let whole = std::fs::read(&object).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for broken in [&whole[..whole.len() - 3], &flipped, b"", b"junk"] {
        std::fs::write(&object, broken).unwrap();
        let error = lab.shelf.page(&ArchiveQuery::default(), None, 10).await.unwrap_err();
        assert_eq!(error.code(), "archive_damaged", "{error}");
    }
}

#[tokio::test]
async fn a_cursor_of_nobody_is_refused() {
    let lab = Lab::new();
    lab.shelf.put(&[job("t-1", "a", NOON)]).await.unwrap();
    for cursor in ["", "x", "../..", "0:../../etc/passwd", "-1:x", "0:2026-11-22/t/a/b.jsonl.zst", "2026-13-01"] {
        let refused = lab.shelf.page(&ArchiveQuery::default(), Some(cursor), 10).await.unwrap_err();
        assert!(matches!(refused, ShelfError::BadCursor(_)), "{cursor}");
    }
    assert!(lab.shelf.page(&ArchiveQuery::default(), Some("2026-11-21"), 10).await.unwrap().jobs.is_empty());
}

#[tokio::test]
async fn e6_a_page_reads_a_bounded_number_of_objects() {
    let lab = Lab::new();
    let jobs: Vec<_> = (0..150).map(|n| job(&format!("t-{n}"), "a", NOON)).collect();
    lab.shelf.put(&jobs).await.unwrap();
    assert_eq!(lab.objects().len(), 150);
    let nobody = ArchiveQuery { queue: Some("none".to_owned()), ..ArchiveQuery::default() };
    let first = lab.shelf.page(&nobody, None, 10).await.unwrap();
    assert!(first.jobs.is_empty() && first.next.is_some());
    assert!(lab.all(&nobody, 10).await.is_empty());
    assert_eq!(BTreeSet::from_iter(lab.all(&ArchiveQuery::default(), 10).await), BTreeSet::from_iter(ids(&jobs)));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    let url = format!("file:{}", folder.path().join("file/archive").display());
    let shelf = Shelf::open(&url, folder.path()).unwrap();
    let error = shelf.put(&[job("t-1", "a", NOON)]).await.unwrap_err();
    assert!(error.code.starts_with("target_") && error.text.contains("archive"), "{error}");
    assert!(Shelf::open("s3://bucket/x", folder.path()).is_err());
}
