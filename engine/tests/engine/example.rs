//! The example of `docs/workflow-kind.md`: the page shows the file that runs here.

#[expect(unreachable_pub, reason = "it stands there as its reader would write it")]
#[path = "../../../docs/workflow-kind/lease_end.rs"]
mod lease_end;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lease_end::LeaseEnd;
use leasehold_engine::{
    Ctx, JobError, JobId, NewJob, Place, Runner, Verdict, Worker, args_sha256,
    model::{Answer, Choice},
    store::Cancelled,
    testing::{Lab, Ledger},
};

/// A tenant's site, as the example needs it.
#[async_trait]
trait Site: Send + Sync {
    async fn close(&self) -> Result<(), JobError>;
    async fn open(&self) -> Result<(), JobError>;
    async fn destroy(&self, fence: u64) -> Result<(), JobError>;
}

struct Written(Ledger);

#[async_trait]
impl Site for Written {
    async fn close(&self) -> Result<(), JobError> {
        self.0.write("closed");
        Ok(())
    }

    async fn open(&self) -> Result<(), JobError> {
        self.0.write("opened");
        Ok(())
    }

    async fn destroy(&self, _: u64) -> Result<(), JobError> {
        self.0.write("destroyed");
        Ok(())
    }
}

/// The example beside the kind of its child.
struct Kinds(LeaseEnd, Ledger);

#[async_trait]
impl Runner for Kinds {
    fn kinds(&self) -> Vec<String> {
        vec!["lease_end".to_owned(), "copy".to_owned()]
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        if ctx.kind() == "lease_end" {
            return self.0.run(ctx).await;
        }
        self.1.write("copied");
        Verdict::done("copied")
    }
}

async fn begun(lab: &Lab) -> (JobId, Ledger, Worker) {
    let did = Ledger::default();
    let kinds = Kinds(LeaseEnd(Arc::new(Written(did.clone()))), did.clone());
    let id = lab.store.new_id("t-001");
    lab.enqueue(NewJob::new(id.clone(), "lease_end", "t-001", &b"user:u1"[..])).await;
    let worker = lab.quick_worker(Arc::new(kinds)).await;
    lab.until(&id, Place::Scheduled).await;
    (id, did, worker)
}

async fn agree(lab: &Lab, id: &JobId, user: &str) {
    let by = format!("user:{user}");
    let grants = vec![by.clone(), "role:it_ops".to_owned()];
    let args_sha256 = args_sha256(&"user:u1".into());
    let answer = Answer { decision: Choice::Approve, by, grants, args_sha256, comment: String::new(), payload: None };
    let answer = serde_json::to_vec(&answer).unwrap();
    lab.store.signal(id, "destroy", "", &answer, "").await.unwrap();
}

#[tokio::test]
async fn a_lease_ends() {
    let lab = Lab::new().await;
    let (id, did, mut worker) = begun(&lab).await;
    assert_eq!(did.all(), ["closed", "copied"]);
    lab.at(31 * 86_400_000);
    lab.until(&id, Place::Waiting).await;
    for user in ["u1", "u2", "u3"] {
        agree(&lab, &id, user).await;
    }
    let record = lab.until(&id, Place::Succeeded).await.record;
    assert_eq!(&record.result[..], br#"{"agreed":["user:u2","user:u3"]}"#);
    assert_eq!((did.all().pop().unwrap().as_str(), record.attempt), ("destroyed", 1));
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[tokio::test]
async fn a_lease_that_goes_on_after_all_opens_the_site_again() {
    let lab = Lab::new().await;
    let (id, did, mut worker) = begun(&lab).await;
    assert_eq!(lab.store.cancel(&id, "", None).await.unwrap(), Cancelled::Requested);
    lab.until(&id, Place::Cancelled).await;
    assert_eq!(did.all(), ["closed", "copied", "opened"]);
    worker.drain(Duration::from_secs(5)).await;
    lab.finish().await;
}

#[test]
fn the_page_shows_the_file_that_runs_here() {
    let page = include_str!("../../../docs/workflow-kind.md");
    let file = include_str!("../../../docs/workflow-kind/lease_end.rs");
    assert!(
        page.contains(&format!("```rust\n{file}```\n")),
        "docs/workflow-kind.md does not show lease_end.rs as it is"
    );
    assert!(file.lines().count() <= 40, "{} lines", file.lines().count());
}
