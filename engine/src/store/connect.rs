//! The store's handle: connection, shards, the call of a script and its repetition after a lost reply.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use redis::{Client, Cmd, FromRedisValue, Pipeline};

use super::{
    error::StoreError,
    line::Line,
    scripts::{Script, Scripts},
};
use crate::model::{JobId, UnixMs};

/// How to reach a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// `redis://…`, `rediss://…` or `redis+unix:///path`.
    pub url: String,
    /// Put before every key, so that stores can share a Redis; usually empty.
    pub namespace: String,
    /// Number of shards; fixed when the store is made.
    pub shards: u16,
    /// How long a verb may take before its reply counts as lost.
    pub response_timeout: Duration,
    /// How often a verb is sent again after a lost reply.
    pub resends: u32,
}

impl StoreOptions {
    /// One shard, 5 s a verb, five more tries.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: String::new(),
            shards: 1,
            response_timeout: Duration::from_secs(5),
            resends: 5,
        }
    }
}

/// A store of jobs. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Store {
    pub(crate) client: Client,
    line: Arc<Line>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) shards: u16,
    namespace: Arc<str>,
    resends: u32,
    /// How long a verb may take with all its resends.
    patience: Option<Duration>,
    given_time: Arc<AtomicI64>,
}

impl Store {
    /// Connects, checks the number of shards and loads the scripts.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when Redis does not answer; [`StoreError::OtherShards`] when the store was made otherwise.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let client = Client::open(options.url.as_str()).map_err(|e| StoreError::of("open", e))?;
        let line = Arc::new(Line::open(&client, options.response_timeout).await?);
        let mut store = Self {
            client,
            line,
            scripts: Arc::new(Scripts::new(true)),
            shards: options.shards.clamp(1, 1024),
            namespace: options.namespace.into(),
            resends: options.resends,
            patience: None,
            given_time: Arc::default(),
        };
        let mut ask = redis::cmd("INFO");
        ask.arg("server");
        let about: String = store.query("open", ask).await?;
        store.scripts = Arc::new(Scripts::new(knows_flags(&about)));
        store.agree_on_shards().await?;
        store.load_scripts().await?;
        Ok(store)
    }

    /// The same store over a connection of its own, for a loop that must not wait behind others.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`].
    pub async fn with_own_connection(&self, response_timeout: Duration, resends: u32) -> Result<Self, StoreError> {
        let mut own = self.clone();
        own.line = Arc::new(self.connect_again(response_timeout).await?);
        own.resends = resends;
        Ok(own)
    }

    /// The same store for somebody who waits for an answer: a verb gives up after `most`, all its resends included.
    #[must_use]
    pub fn with_patience(mut self, most: Duration) -> Self {
        self.patience = Some(most);
        self
    }

    /// Connects once more; as patient as a verb whose reply was lost, because Redis may be just starting again.
    async fn connect_again(&self, response_timeout: Duration) -> Result<Line, StoreError> {
        let mut tried = 0;
        loop {
            tried += 1;
            match Line::open(&self.client, response_timeout).await {
                Err(StoreError::Unreachable(_)) if tried <= self.resends => {
                    tokio::time::sleep(Duration::from_millis(50 << tried.min(5))).await;
                }
                answered => return answered,
            }
        }
    }

    async fn agree_on_shards(&self) -> Result<(), StoreError> {
        let key = format!("{}:store", self.prefix(0));
        let mut read = redis::cmd("HGET");
        read.arg(&key).arg("shards");
        // Read first: a full Redis refuses even a write that would change nothing, and must be opened to be looked at.
        let recorded: Option<u16> = self.query("open", read).await?;
        let recorded = match recorded {
            Some(recorded) => recorded,
            None => {
                let mut pipe = redis::pipe();
                pipe.cmd("HSETNX")
                    .arg(&key)
                    .arg("shards")
                    .arg(self.shards)
                    .ignore()
                    .cmd("HGET")
                    .arg(&key)
                    .arg("shards");
                let (recorded,) = self.pipe("open", &pipe).await?;
                recorded
            }
        };
        if recorded == self.shards { Ok(()) } else { Err(StoreError::OtherShards { recorded, asked: self.shards }) }
    }

    pub(crate) async fn load_scripts(&self) -> Result<(), StoreError> {
        let mut pipe = redis::pipe();
        for script in self.scripts.all() {
            pipe.cmd("SCRIPT").arg("LOAD").arg(&script.text).ignore();
        }
        self.pipe("script_load", &pipe).await
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard of a tenant: all its jobs lie in one, so that locks and allowances change in the same script.
    #[must_use]
    pub fn shard_of(&self, tenant: &str) -> u16 {
        let hash =
            tenant.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        (hash % u64::from(self.shards)) as u16
    }

    /// A new id for a job of `tenant`.
    #[must_use]
    pub fn new_id(&self, tenant: &str) -> JobId {
        JobId::new(self.shard_of(tenant))
    }

    /// Sets the time for every later verb of all clones (tests); 0 gives the store's own clock back.
    pub fn set_time(&self, now: UnixMs) {
        self.given_time.store(now, Ordering::SeqCst);
    }

    /// The store's time, in ms.
    ///
    /// # Errors
    /// [`StoreError`] when Redis does not answer.
    pub async fn now(&self) -> Result<UnixMs, StoreError> {
        let given = self.given_time.load(Ordering::SeqCst);
        if given > 0 {
            return Ok(given);
        }
        let (seconds, micros): (i64, i64) = self.query("time", redis::cmd("TIME")).await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    pub(crate) fn prefix(&self, shard: u16) -> String {
        format!("{}{{lh:{shard}}}", self.namespace)
    }

    pub(crate) fn key(&self, shard: u16, rest: &str) -> String {
        format!("{}{{lh:{shard}}}:{rest}", self.namespace)
    }

    /// Begins the call of a script: sha, prefix, time; the caller adds its arguments.
    pub(crate) fn begin(&self, script: &Script, shard: u16) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&script.sha).arg(1).arg(self.prefix(shard)).arg(self.given_time.load(Ordering::SeqCst));
        cmd
    }

    /// Sends a command; again after a lost reply (E10), with the scripts loaded if Redis forgot them.
    pub(crate) async fn query<T: FromRedisValue>(&self, verb: &'static str, cmd: Cmd) -> Result<T, StoreError> {
        let mut pipe = redis::pipe();
        pipe.add_command(cmd);
        let (one,) = self.pipe::<(T,)>(verb, &pipe).await?;
        Ok(one)
    }

    /// Sends commands in one round trip, with the same care.
    pub(crate) async fn pipe<T: FromRedisValue>(&self, verb: &'static str, pipe: &Pipeline) -> Result<T, StoreError> {
        let Some(most) = self.patience else { return self.send(verb, pipe).await };
        tokio::time::timeout(most, self.send(verb, pipe)).await.unwrap_or_else(|_| {
            let silence = std::io::Error::new(std::io::ErrorKind::TimedOut, "Redis does not answer");
            Err(StoreError::Unreachable(silence.into()))
        })
    }

    async fn send<T: FromRedisValue>(&self, verb: &'static str, pipe: &Pipeline) -> Result<T, StoreError> {
        let (mut sent, mut loaded) = (0, false);
        loop {
            let (nth, mut connection) = self.line.current();
            let error = match pipe.query_async(&mut connection).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.is_timeout() {
                self.line.leave(nth);
            }
            // It did nothing yet, so it is no lost reply: who sends nothing twice sends this again, too.
            if error.code() == Some("NOSCRIPT") && !loaded {
                loaded = true;
                Box::pin(self.load_scripts()).await?;
                continue;
            }
            sent += 1;
            let error = StoreError::of(verb, error);
            if sent > self.resends || !matches!(error, StoreError::Unreachable(_)) {
                return Err(error);
            }
            tracing::warn!(verb, code = error.code(), %error, "sending again");
            tokio::time::sleep(Duration::from_millis(50 << sent.min(5))).await;
        }
    }
}

/// Whether this Redis reads the flags at the head of a script; before 7.0 it refuses such a script.
fn knows_flags(about: &str) -> bool {
    let version = about.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default();
    version.split('.').next().and_then(|major| major.trim().parse::<u32>().ok()).is_none_or(|major| major >= 7)
}
