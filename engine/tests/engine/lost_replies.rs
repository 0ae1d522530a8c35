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
    NewJob, Place, Store, StoreOptions, Worker, WorkerOptions,
    testing::{Puppet, RedisServer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// Loses every `nth` reply: the connection breaks instead. Chance is not needed, since the interleaving gives enough of it.
async fn losing(listen: PathBuf, redis: PathBuf, nth: u64, lost: Arc<AtomicU64>) {
    let listener = UnixListener::bind(listen).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (redis, seen, lost) = (redis.clone(), seen.clone(), lost.clone());
        tokio::spawn(async move { pass(client, &redis, nth, &seen, &lost).await });
    }
}

async fn pass(client: UnixStream, redis: &Path, nth: u64, seen: &AtomicU64, lost: &AtomicU64) -> Option<()> {
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
        if seen.fetch_add(1, Ordering::SeqCst) % nth == nth - 1 {
            lost.fetch_add(1, Ordering::SeqCst);
            asking.abort();
            return None;
        }
        to_client.write_all(&bytes[..n]).await.ok()?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e10_lost_replies_lose_no_job_and_double_no_effect() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (socket, lost) = (folder.path().join("p.sock"), Arc::new(AtomicU64::new(0)));
    tokio::spawn(losing(socket.clone(), redis.socket(), 7, lost.clone()));
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    let direct = Store::open(StoreOptions::new(redis.url())).await.unwrap();
    let mut options = StoreOptions::new(format!("redis+unix://{}", socket.display()));
    options.resends = 50;
    let store = Store::open(options).await.unwrap();
    let puppet = Puppet::new();
    let mut worker =
        Worker::start(&store, puppet.clone(), WorkerOptions { slots: 4, ..WorkerOptions::default() }).await.unwrap();
    let jobs: Vec<NewJob> = (0..100)
        .map(|_| {
            let mut job = Puppet::job(&store, "two_steps");
            job.retry.max_attempts = 1;
            job
        })
        .collect();
    for job in &jobs {
        store.enqueue(std::slice::from_ref(job), 1000).await.unwrap();
    }
    let done = async {
        while direct.counts().await.unwrap().iter().find(|c| c.place == Place::Succeeded).map_or(0, |c| c.jobs) < 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.expect("all are done");
    assert!(lost.load(Ordering::SeqCst) > 50, "the proxy lost {}", lost.load(Ordering::SeqCst));
    assert_eq!((puppet.times("attempt"), puppet.times("first"), puppet.times("second")), (100, 100, 100));
    worker.drain(Duration::from_secs(10)).await;
    assert!(direct.audit().await.unwrap().findings.is_empty());
}
