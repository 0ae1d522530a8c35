//! The floor: bare Lua scripts that store, claim under a lease and settle, and do nothing else.
//!
//! No fence, event, index, counter or hand-over to a job's code: what is left is what Redis itself costs.

use std::time::Instant;

use redis::Script;
use redis::aio::MultiplexedConnection;

use crate::measure::{Rate, payload};
use crate::server::Server;

const BATCH: usize = 100;
const IN_FLIGHT: usize = 2;
const LEASE_MS: u64 = 15_000;

/// The three scripts and their keys.
struct Bare {
    enqueue: Script,
    claim: Script,
    settle: Script,
}

impl Bare {
    fn new() -> Self {
        Self {
            enqueue: Script::new(include_str!("bare/enqueue.lua")),
            claim: Script::new(include_str!("bare/claim.lua")),
            settle: Script::new(include_str!("bare/settle.lua")),
        }
    }

    /// Loads the scripts, so that pipelines may name them by digest.
    async fn load(&self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        for script in [&self.enqueue, &self.claim, &self.settle] {
            script.load_async(connection).await?;
        }
        Ok(())
    }

    async fn enqueue(&self, connection: &mut MultiplexedConnection, from: usize, to: usize) -> anyhow::Result<()> {
        let record = payload();
        let keys: Vec<String> = (from..to).map(|n| format!("r:{n:016}")).collect();
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.enqueue.get_hash()).arg(1).arg("ready").arg(keys.len());
        for key in &keys {
            call.arg(key).arg(record.as_slice());
        }
        for key in &keys {
            call.arg(key);
        }
        let _: i64 = call.query_async(connection).await?;
        Ok(())
    }

    /// One round trip: settles what the last one claimed and claims the next batch.
    async fn turn(&self, connection: &mut MultiplexedConnection, done: &[String]) -> anyhow::Result<Vec<String>> {
        let mut pipe = redis::pipe();
        if !done.is_empty() {
            let settle = pipe.cmd("EVALSHA").arg(self.settle.get_hash()).arg(1).arg("leases").arg(done.len());
            for key in done {
                settle.arg(key).arg("d0123456789012345");
            }
            for key in done {
                settle.arg(key);
            }
            settle.ignore();
        }
        pipe.cmd("EVALSHA").arg(self.claim.get_hash()).arg(2).arg("ready").arg("leases").arg(BATCH).arg(LEASE_MS);
        let (claimed,): ((Vec<String>, Vec<Vec<u8>>),) = pipe.query_async(connection).await?;
        let (keys, records) = claimed;
        anyhow::ensure!(records.iter().all(|record| record.len() == payload().len()), "a record came back changed");
        Ok(keys)
    }
}

/// Enqueues `count` jobs in batches, four in flight.
pub(crate) async fn fill(server: &Server, count: usize) -> anyhow::Result<Rate> {
    let mut connection = server.connect().await?;
    Bare::new().load(&mut connection).await?;
    let started = Instant::now();
    let lanes = 4;
    let producers = (0..lanes).map(|lane| {
        let mut connection = connection.clone();
        tokio::spawn(async move {
            let bare = Bare::new();
            for from in (lane * BATCH..count).step_by(lanes * BATCH) {
                bare.enqueue(&mut connection, from, (from + BATCH).min(count)).await?;
            }
            anyhow::Ok(())
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await??;
    }
    Ok(Rate::since(started, count))
}

/// Claims and settles `count` jobs.
pub(crate) async fn drain(server: &Server, count: usize) -> anyhow::Result<Rate> {
    let mut connection = server.connect().await?;
    Bare::new().load(&mut connection).await?;
    let started = Instant::now();
    let loops = (0..IN_FLIGHT).map(|_| {
        let mut connection = connection.clone();
        tokio::spawn(async move {
            let bare = Bare::new();
            let mut settled = 0;
            let mut held = Vec::new();
            loop {
                let claimed = bare.turn(&mut connection, &held).await?;
                settled += held.len();
                if claimed.is_empty() {
                    return anyhow::Ok(settled);
                }
                held = claimed;
            }
        })
    });
    let mut settled = 0;
    for each in loops.collect::<Vec<_>>() {
        settled += each.await??;
    }
    anyhow::ensure!(settled == count, "the bare scripts settled {settled} of {count} jobs");
    Ok(Rate::since(started, count))
}
