//! E10 when an answer comes late or not at all: nothing is left that runs nowhere, and nothing is taken for who is gone.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leasehold_engine::{
    Place, Store, StoreOptions, Worker, WorkerOptions,
    store::Claim,
    testing::{Lab, Puppet},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::claim_of;

/// What a wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Pass,
    /// Redis does what it is told, and the connection breaks instead of an answer.
    LoseAnswers,
    /// Answers wait until the wire passes them.
    HoldAnswers,
    /// What is asked waits, also when nobody is there any more who asked.
    HoldAsked,
    /// Connections made before say nothing for ever; others pass.
    LoseOld,
}

/// A wire between the engine and Redis.
#[derive(Clone)]
struct Tap {
    wire: Arc<watch::Sender<Wire>>,
    /// Answers lost, or claims held.
    kept: Arc<watch::Sender<usize>>,
    made: Arc<AtomicUsize>,
    open: Arc<watch::Sender<usize>>,
}

impl Tap {
    /// A tap, and where to reach Redis through it.
    async fn before(lab: &Lab, folder: &Path) -> (Self, String) {
        let tap = Self {
            wire: Arc::new(watch::Sender::new(Wire::Pass)),
            kept: Arc::default(),
            made: Arc::default(),
            open: Arc::default(),
        };
        let (socket, redis) = (folder.join("t.sock"), lab.redis.socket());
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(tap.clone().listen(listener, redis));
        (tap, format!("redis+unix://{}", socket.display()))
    }

    async fn listen(self, listener: UnixListener, redis: PathBuf) {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&redis).await.unwrap();
            self.made.fetch_add(1, Ordering::SeqCst);
            self.open.send_modify(|open| *open += 1);
            let (tap, is_old) = (self.clone(), *self.wire.borrow() != Wire::LoseOld);
            tokio::spawn(async move {
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let asked = tokio::spawn(tap.clone().carry_asked(from_client, to_server, is_old));
                tap.carry_answers(from_server, to_client).await;
                asked.abort();
                tap.open.send_modify(|open| *open -= 1);
            });
        }
    }

    async fn carry_asked(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_old: bool) {
        let (mut wire, mut bytes) = (self.wire.subscribe(), vec![0; 1 << 16]);
        while let Ok(n @ 1..) = from.read(&mut bytes).await {
            let is_held = |now: &Wire| *now == Wire::HoldAsked || (*now == Wire::LoseOld && is_old);
            // The kinds that it knows stand so in a claim alone.
            let is_claim = bytes[..n].windows(8).any(|part| part == b" puppet ");
            if is_claim && is_held(&wire.borrow()) {
                self.kept.send_modify(|kept| *kept += 1);
            }
            if wire.wait_for(|now| !is_held(now)).await.is_err() || to.write_all(&bytes[..n]).await.is_err() {
                return;
            }
        }
    }

    async fn carry_answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut wire, mut bytes) = (self.wire.subscribe(), vec![0; 1 << 16]);
        while let Ok(n @ 1..) = from.read(&mut bytes).await {
            if wire.wait_for(|now| *now != Wire::HoldAnswers).await.is_err() {
                return;
            }
            if *wire.borrow() == Wire::LoseAnswers {
                self.kept.send_modify(|kept| *kept += 1);
                return;
            }
            // Who is gone reads nothing; Redis does the rest of what it was told all the same.
            let _ = to.write_all(&bytes[..n]).await;
        }
    }

    fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    async fn until_kept(&self, more: usize) {
        let goal = *self.kept.borrow() + more;
        let _ = in_time(self.kept.subscribe().wait_for(|kept| *kept >= goal)).await;
    }

    async fn until_closed(&self) {
        let _ = in_time(self.open.subscribe().wait_for(|open| *open == 0)).await;
    }
}

async fn in_time<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("in time")
}

/// An idle worker behind a tap, which asks for work often, and for nothing else for now.
async fn worker_behind(url: &str, lab: &Lab) -> Worker {
    let store = Store::open(StoreOptions::new(url)).await.unwrap();
    let options =
        WorkerOptions { slots: 2, poll_ms: 10, lease_ms: 600_000, renew_ms: 300_000, ..WorkerOptions::default() };
    let worker = Worker::start(&store, Puppet::new(), options).await.unwrap();
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.until(&id, Place::Succeeded).await;
    worker
}

#[tokio::test]
async fn e10_a_claim_is_sent_under_one_name_until_it_is_answered() {
    let (lab, folder) = (Lab::with_running_clock().await, tempfile::tempdir().unwrap());
    let (tap, url) = Tap::before(&lab, folder.path()).await;
    let mut worker = worker_behind(&url, &lab).await;
    tap.set(Wire::LoseAnswers);
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.until(&id, Place::Running).await;
    tap.until_kept(5).await;
    tap.set(Wire::Pass);
    // Nobody rescues it: only who claimed it can run it.
    assert_eq!(lab.until(&id, Place::Succeeded).await.record.attempt, 1);
    worker.drain(Duration::from_secs(20)).await;
    lab.finish().await;
}

#[tokio::test]
async fn eng_11_what_a_late_claim_brings_to_a_worker_that_stops_goes_back_uncounted() {
    let (lab, folder) = (Lab::with_running_clock().await, tempfile::tempdir().unwrap());
    let (tap, url) = Tap::before(&lab, folder.path()).await;
    let mut worker = worker_behind(&url, &lab).await;
    tap.set(Wire::HoldAnswers);
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    lab.until(&id, Place::Running).await;
    let mut drained = tokio::spawn(async move { worker.drain(Duration::from_secs(20)).await });
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut drained).await.is_err(), "it waits for the claim");
    tap.set(Wire::Pass);
    in_time(drained).await.unwrap();
    let record = lab.job(&id).await.record;
    assert_eq!((record.place, record.attempt), (Place::Ready, 0));
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.finish().await;
}

#[tokio::test]
async fn e10_a_claim_that_redis_comes_to_after_its_worker_is_gone_takes_nothing() {
    let (lab, folder) = (Lab::with_running_clock().await, tempfile::tempdir().unwrap());
    let (tap, url) = Tap::before(&lab, folder.path()).await;
    let mut worker = worker_behind(&url, &lab).await;
    tap.set(Wire::HoldAsked);
    tap.until_kept(1).await;
    worker.drain(Duration::ZERO).await;
    drop(worker);
    let gone = lab.store.now().await.unwrap();
    while lab.store.now().await.unwrap() <= gone {}
    let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    tap.set(Wire::Pass);
    tap.until_closed().await;
    let record = lab.job(&id).await.record;
    assert_eq!((record.place, record.attempt), (Place::Ready, 0));
    lab.store.cancel(&id, "", None).await.unwrap();
    lab.finish().await;
}

#[tokio::test]
async fn e10_a_claim_of_long_ago_takes_nothing_and_the_last_one_gets_a_new_lease() {
    let lab = Lab::new().await;
    let (first, second) =
        (lab.enqueue(Puppet::job(&lab.store, "done")).await, lab.enqueue(Puppet::job(&lab.store, "done")).await);
    let now = lab.store.now().await.unwrap();
    let (claim, other) = (claim_of("w", 2, 1), claim_of("w", 1, 1));
    let late = lab.store.claim(0, &Claim { by: now - 1, ..claim.clone() }).await.unwrap();
    assert_eq!((late.jobs.len(), late.next_due), (0, Some(now)), "it is told to look again");
    let taken = lab.store.claim(0, &Claim { by: now, ..claim.clone() }).await.unwrap();
    assert_eq!((&taken.jobs[0].id, taken.jobs.len()), (&first, 1));
    assert!(lab.store.claim(0, &other).await.unwrap().jobs.is_empty(), "a copy of an earlier one");
    // Longer than a lease later, and nobody rescued the job.
    lab.at(100_000);
    assert_eq!(lab.store.claim(0, &claim).await.unwrap().jobs.len(), 1);
    assert!(lab.store.rescue(0, 10).await.unwrap().is_empty(), "its lease is new");
    for id in [&first, &second] {
        lab.store.cancel(id, "", None).await.unwrap();
    }
    lab.at(200_000);
    assert_eq!(lab.store.rescue(0, 10).await.unwrap().len(), 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_left() {
    let (lab, folder) = (Lab::with_running_clock().await, tempfile::tempdir().unwrap());
    let (tap, url) = Tap::before(&lab, folder.path()).await;
    let options = StoreOptions { response_timeout: Duration::from_millis(500), resends: 20, ..StoreOptions::new(url) };
    let store = Store::open(options).await.unwrap();
    let before = tap.made.load(Ordering::SeqCst);
    tap.set(Wire::LoseOld);
    in_time(store.now()).await.unwrap();
    assert!(tap.made.load(Ordering::SeqCst) > before, "over a new one");
    lab.finish().await;
}
