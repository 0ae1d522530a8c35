//! E10 under fire: a proxy between the engine and Redis that loses replies after Redis has done the work.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use leasehold_engine::{
    ChildFailure, Ctx, Effect, JobError, NewJob, Place, Store, StoreOptions, Verdict, Worker, WorkerOptions,
    store::{Outcome, Resolution, Resolved, Revived},
    testing::{Actor, Ledger, Puppet, RedisServer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// Loses every `nth` reading of replies (0 none yet): the connection breaks instead. Chance is not needed, since the interleaving gives
/// enough of it. On a busy machine several replies are read at once; how many are lost at least follows from the calls that
/// wait for one another.
async fn losing(listen: PathBuf, redis: PathBuf, nth: Arc<AtomicU64>, lost: Arc<AtomicU64>) {
    let listener = UnixListener::bind(listen).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (redis, nth, seen, lost) = (redis.clone(), nth.clone(), seen.clone(), lost.clone());
        tokio::spawn(async move { pass(client, &redis, &nth, &seen, &lost).await });
    }
}

async fn pass(client: UnixStream, redis: &Path, nth: &AtomicU64, seen: &AtomicU64, lost: &AtomicU64) -> Option<()> {
    let server = UnixStream::connect(redis).await.ok()?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let mut asking = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut bytes = vec![0; 1 << 16];
    loop {
        let n = tokio::select! { n = from_server.read(&mut bytes) => n.ok()?, _ = &mut asking => return None };
        if n == 0 {
            return None;
        }
        let nth = nth.load(Ordering::SeqCst);
        if nth > 0 && seen.fetch_add(1, Ordering::SeqCst) % nth == nth - 1 {
            lost.fetch_add(1, Ordering::SeqCst);
            asking.abort();
            return None;
        }
        to_client.write_all(&bytes[..n]).await.ok()?;
    }
}

/// A store that hears every reply, and one that loses every `nth`.
async fn stores(redis: &RedisServer, folder: &Path, nth: u64, lost: &Arc<AtomicU64>) -> (Store, Store) {
    let socket = folder.join("p.sock");
    let every = Arc::new(AtomicU64::new(0));
    tokio::spawn(losing(socket.clone(), redis.socket(), every.clone(), lost.clone()));
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let mut options = StoreOptions::new(format!("redis+unix://{}", socket.display()));
    options.resends = 50;
    let losing = Store::open(options).await.unwrap();
    // Now only: the scripts are loaded in one call, whose many replies would be lost again and again.
    every.store(nth, Ordering::SeqCst);
    (Store::open(StoreOptions::new(redis.url())).await.unwrap(), losing)
}

/// Waits until so many jobs have succeeded and died; told by the store.
pub(crate) async fn until_ended(store: &Store, goal: (u64, u64)) {
    let changes = store.changes(true);
    let mut hints = changes.listen();
    let ended = || async {
        // A Redis that is just starting again does not answer.
        let counts = store.counts().await.unwrap_or_default();
        let at = |place| counts.iter().filter(|c| c.place == place).map(|c| c.jobs).sum::<u64>();
        (at(Place::Succeeded), at(Place::Dead))
    };
    let wait = async {
        while ended().await != goal {
            let _ = tokio::time::timeout(Duration::from_millis(100), hints.recv()).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(in_time.is_ok(), "{:?}, not {goal:?}", ended().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_lost_replies_lose_no_job_and_double_no_effect() {
    let (redis, folder, lost) = (RedisServer::start(), tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
    let (direct, store) = stores(&redis, folder.path(), 7, &lost).await;
    let puppet = Puppet::new();
    let mut worker =
        Worker::start(&store, puppet.clone(), WorkerOptions { slots: 4, ..WorkerOptions::default() }).await.unwrap();
    let jobs: Vec<NewJob> = (0..40)
        .map(|_| {
            let mut job = Puppet::job(&store, "two_steps");
            job.retry.max_attempts = 1;
            job
        })
        .collect();
    for job in &jobs {
        store.enqueue(std::slice::from_ref(job), 1000).await.unwrap();
    }
    until_ended(&direct, (40, 0)).await;
    assert!(lost.load(Ordering::SeqCst) > 10, "the proxy lost {}", lost.load(Ordering::SeqCst));
    assert_eq!((puppet.times("attempt"), puppet.times("first"), puppet.times("second")), (40, 40, 40));
    worker.drain(Duration::from_secs(10)).await;
    assert!(direct.audit().await.unwrap().findings.is_empty());
}

/// Spawns a child, waits for it and for a signal, and takes back what it did when it is told to.
async fn workflow(ctx: Ctx, did: Ledger) -> Result<Verdict, JobError> {
    if &ctx.args()[..] == b"child" {
        return Verdict::done("child");
    }
    let (id, undone) = (ctx.id().to_string(), did.clone());
    let undo = move |_: Ctx, _: Option<()>| async move {
        undone.write(format!("undo {id}"));
        Ok(())
    };
    let make = || async { did.done(format!("make {}", ctx.id())) };
    ctx.step_with_undo("make", Effect::Idempotent, make, undo).await?;
    let child = ctx.spawn_child("spawn", Actor::job(ctx.store(), "child")).await?;
    ctx.wait_all("child", &[child], ChildFailure::Fail).await?;
    let first = ctx.wait_signal_as("first", "tell", None).await?;
    let second = ctx.wait_signal_as("second", "tell", None).await?;
    match &ctx.args()[..] {
        b"undo" => Err(JobError::permanent("told_to", "as it was told")),
        _ => Verdict::done((first.map(|s| s.payload), second.map(|s| s.payload))),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_lost_replies_double_no_child_no_signal_and_no_undo() {
    let (redis, folder, lost) = (RedisServer::start(), tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
    let (direct, store) = stores(&redis, folder.path(), 7, &lost).await;
    let did = Ledger::default();
    let ledger = did.clone();
    let actor = Actor::new(move |ctx| workflow(ctx, ledger.clone()));
    let mut worker =
        Worker::start(&store, actor, WorkerOptions { slots: 4, ..WorkerOptions::default() }).await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..20 {
        let job = Actor::job(&store, if n % 4 == 0 { "undo" } else { "done" });
        store.enqueue(std::slice::from_ref(&job), 1000).await.unwrap();
        for payload in [&b"1"[..], b"2"] {
            store.signal(&job.id, "tell", "", payload, "").await.unwrap();
        }
        jobs.push(job.id);
    }
    until_ended(&direct, (35, 5)).await;
    assert!(lost.load(Ordering::SeqCst) > 10, "the proxy lost {}", lost.load(Ordering::SeqCst));
    for id in &jobs {
        assert_eq!(direct.children(id).await.unwrap().len(), 1, "one child each");
        let job = direct.job(id).await.unwrap().unwrap();
        let told = job.record.events.iter().filter(|event| event.word.as_str() == "signalled").count();
        assert_eq!(told, 2, "each signal counts once");
        if job.record.place == Place::Succeeded {
            assert_eq!(&job.record.result[..], b"[1,2]");
        }
    }
    let twice: Vec<_> = did.counts().into_iter().filter(|(_, many)| *many != 1).collect();
    assert!(twice.is_empty() && did.all().len() == 25, "{twice:?}");
    worker.drain(Duration::from_secs(10)).await;
    assert!(direct.audit().await.unwrap().findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_what_a_person_says_is_answered_alike_when_it_is_sent_again() {
    let (redis, folder, lost) = (RedisServer::start(), tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(0)));
    let (direct, store) = stores(&redis, folder.path(), 7, &lost).await;
    for n in 0..40 {
        let job = Puppet::job(&direct, "done");
        direct.enqueue(std::slice::from_ref(&job), 100).await.unwrap();
        direct.cancel(&job.id, "", None).await.unwrap();
        assert_eq!(store.revive(&job.id, "").await.unwrap(), Revived::Ok(Place::Ready), "{n}");
        let fence = crate::claim_in(&direct, "w", 1).await.jobs[0].fence;
        let doubt = crate::ending(&job.id, fence, Outcome::Unknown);
        direct.settle(0, &[doubt]).await.unwrap();
        assert!(
            matches!(store.resolve(&job.id, Resolution::of_the_only(true, b"1"), "").await.unwrap(), Resolved::Ok(_)),
            "{n}"
        );
        direct.cancel(&job.id, "", None).await.unwrap();
    }
    assert!(lost.load(Ordering::SeqCst) > 5, "the proxy lost {}", lost.load(Ordering::SeqCst));
    assert!(direct.audit().await.unwrap().findings.is_empty());
}
