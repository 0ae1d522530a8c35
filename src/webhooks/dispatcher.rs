//! The loop that routes changes and sends deliveries.
//!
//! `tick` routes what is in the outbox and begins what is due; it never waits for a receiver. At least once: a delivery
//! is claimed under a lease that outlives the exchange, and ends only by a settle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{self, Judgement};
use super::body::BodyRules;
use super::client::Sender;
use super::directory::{Directory, DirectoryError};
use super::endpoint::{Health, HealthRules};
use super::outbox::{DeliveryAttempt, DeliveryOutcome, Outbox, UnixMs};
use super::router;
use super::schedule::Schedule;
use super::slots::{Lane, SlotRules, Slots};

/// Due endpoints looked at in one tick, a shard. Far above the number that can hang at once.
const DUE_LIMIT: usize = 4096;

/// The wall clock that receivers compare `webhook-timestamp` with.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970 UTC.
    fn now_ms(&self) -> UnixMs;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> UnixMs {
        chrono::Utc::now().timestamp_millis()
    }
}

/// How the dispatcher works.
#[derive(Debug, Clone)]
pub struct DispatcherRules {
    /// When to try again.
    pub schedule: Schedule,
    /// When an endpoint is held back or given up.
    pub health: HealthRules,
    /// Deliveries at once to one endpoint.
    pub endpoint_concurrency: usize,
    /// Deliveries at once of this process.
    pub concurrency: usize,
    /// The longest pause between two looks.
    pub poll: Duration,
    /// By how much a lease outlives the longest exchange.
    pub lease_margin: Duration,
    /// Outbox entries a look, a shard.
    pub batch: usize,
    /// How long `stop` waits for deliveries under way. Those that are cut are sent again when their lease ends.
    pub grace: Duration,
    /// How bodies are made.
    pub body: BodyRules,
}

impl DispatcherRules {
    /// The defaults, with this way to make bodies.
    pub fn new(body: BodyRules) -> Self {
        Self {
            schedule: Schedule::default(),
            health: HealthRules::default(),
            endpoint_concurrency: 4,
            concurrency: 256,
            poll: Duration::from_millis(200),
            lease_margin: Duration::from_secs(10),
            batch: 256,
            grace: Duration::from_secs(5),
            body,
        }
    }
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticked {
    /// Deliveries that began.
    pub begun: usize,
    /// The outbox may hold more: the next tick is due at once.
    pub more: bool,
}

/// What has happened since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Outbox entries routed.
    pub routed: u64,
    /// Deliveries that a receiver took.
    pub delivered: u64,
    /// Attempts that will be made again.
    pub retried: u64,
    /// Deliveries given up.
    pub exhausted: u64,
    /// Deliveries under way.
    pub in_flight: u64,
}

#[derive(Debug, Default)]
struct Counters {
    routed: AtomicU64,
    delivered: AtomicU64,
    retried: AtomicU64,
    exhausted: AtomicU64,
}

struct Inner {
    outbox: Arc<dyn Outbox>,
    directory: Directory,
    sender: Sender,
    clock: Arc<dyn Clock>,
    rules: DispatcherRules,
    slots: Slots,
    counters: Counters,
    ticking: Mutex<()>,
    freed: Notify,
    under_way: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

/// Routes and sends. Cheap to clone: the clones are one dispatcher.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

impl Dispatcher {
    /// A dispatcher that does nothing until it is started or ticked.
    pub fn new(
        outbox: Arc<dyn Outbox>,
        directory: Directory,
        sender: Sender,
        clock: Arc<dyn Clock>,
        rules: DispatcherRules,
    ) -> Self {
        let slots = SlotRules {
            all: rules.concurrency.max(1),
            endpoint: rules.endpoint_concurrency.max(1),
            probe_every: rules.health.probe_every,
        };
        Self(Arc::new(Inner {
            outbox,
            directory,
            sender,
            clock,
            slots: Slots::new(slots),
            rules,
            counters: Counters::default(),
            ticking: Mutex::default(),
            freed: Notify::new(),
            under_way: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        }))
    }

    /// Starts the loop on a task of its own. Never blocks.
    pub fn start(&self) -> DispatcherHandle {
        let dispatcher = self.clone();
        let driver = tokio::spawn(async move { dispatcher.drive().await });
        DispatcherHandle { dispatcher: self.clone(), driver: Mutex::new(Some(driver)) }
    }

    /// Routes a batch of each shard's outbox and begins what is due.
    pub async fn tick(&self) -> Result<Ticked, DirectoryError> {
        let _one_at_a_time = self.0.ticking.lock().await;
        let inner = &self.0;
        let (mut begun, mut more) = (0, false);
        for shard in 0..inner.outbox.shards() {
            // One batch, then those that are due: a burst of events must not hold up what can be sent by now.
            let rules = &inner.rules;
            let n = router::route(&*inner.outbox, &inner.directory, &rules.body, shard, rules.batch).await?;
            inner.counters.routed.fetch_add(n as u64, Ordering::Relaxed);
            more |= n >= rules.batch;
        }
        let now = inner.outbox.now().await?;
        for shard in 0..inner.outbox.shards() {
            begun += self.begin_due(shard, now).await?;
        }
        Ok(Ticked { begun, more })
    }

    /// Waits until no delivery is under way.
    pub async fn idle(&self) {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            // Registered before the look, so that an end between the look and the wait is not missed.
            freed.as_mut().enable();
            if self.0.slots.in_flight() == 0 {
                return;
            }
            freed.await;
        }
    }

    /// What has happened since the start.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        Counts {
            routed: read(&counters.routed),
            delivered: read(&counters.delivered),
            retried: read(&counters.retried),
            exhausted: read(&counters.exhausted),
            in_flight: self.0.slots.in_flight() as u64,
        }
    }

    async fn begin_due(&self, shard: u16, now: UnixMs) -> Result<usize, DirectoryError> {
        let inner = &self.0;
        let lease = inner.sender.deadline() + inner.rules.lease_margin;
        let mut begun = 0;
        for (endpoint, due) in inner.outbox.deliveries_due(shard, DUE_LIMIT).await? {
            if due > now || inner.stop.is_cancelled() {
                break;
            }
            if inner.slots.is_full() {
                break;
            }
            let lane = self.lane(&endpoint).await?;
            let room = inner.slots.room(&lane);
            if room == 0 {
                continue;
            }
            for delivery in inner.outbox.delivery_claim(shard, &endpoint, room, lease).await? {
                self.begin(shard, lane.clone(), delivery);
                begun += 1;
            }
        }
        Ok(begun)
    }

    /// Whose slots an endpoint uses.
    async fn lane(&self, endpoint: &str) -> Result<Lane, DirectoryError> {
        let inner = &self.0;
        if let Some(lane) = inner.slots.lane(endpoint) {
            return Ok(lane);
        }
        let Some(known) = inner.directory.endpoint(endpoint).await? else { return Ok(Lane::of_nobody(endpoint)) };
        let lane = Lane::of(&known);
        inner.slots.keep_lane(&lane);
        Ok(lane)
    }

    fn begin(&self, shard: u16, lane: Lane, delivery: DeliveryAttempt) {
        self.0.slots.take(&lane);
        let mut held = Held { dispatcher: self.clone(), lane, known: None };
        self.0.under_way.spawn(async move {
            let dispatcher = held.dispatcher.clone();
            let attempt = dispatcher.attempt(shard, &delivery);
            held.learn(dispatcher.0.abort.run_until_cancelled(attempt).await.flatten());
        });
    }

    /// Makes one attempt; gives what is known of the endpoint afterwards.
    async fn attempt(&self, shard: u16, delivery: &DeliveryAttempt) -> Option<Health> {
        let inner = &self.0;
        let endpoint = match attempt::receiver(&inner.directory, &delivery.endpoint).await {
            Ok(endpoint) => endpoint,
            Err(error) => {
                // The lease runs out and the delivery is due again.
                tracing::warn!(endpoint = delivery.endpoint, code = error.code(), "webhook endpoint could not be read");
                return None;
            }
        };
        let began = inner.clock.now_ms();
        let judgement = match endpoint {
            Err(code) => attempt::withheld(delivery, code, self.store_now(began).await),
            Ok(endpoint) => {
                let parcel = attempt::parcel(&endpoint, delivery, began);
                let exchange = inner.sender.send(&endpoint.url, parcel).await;
                let now = self.store_now(inner.clock.now_ms()).await;
                attempt::judge(&exchange, delivery, &inner.rules.schedule, (began, now), draw())
            }
        };
        let now = self.store_now(began).await;
        self.settle(shard, delivery, &judgement).await;
        self.count(judgement.outcome);
        let verdict = judgement.verdict?;
        let seen = inner.slots.failures(&delivery.endpoint);
        let noted =
            attempt::note_health(&inner.directory, &delivery.endpoint, verdict, seen, now, &inner.rules.health).await;
        noted.inspect_err(|e| tracing::warn!(code = e.code(), "health of a webhook endpoint is not noted")).ok()
    }

    /// The store's clock decides; when it cannot be asked, the machine's is near enough for a retry time.
    async fn store_now(&self, otherwise: UnixMs) -> UnixMs {
        self.0.outbox.now().await.unwrap_or(otherwise)
    }

    async fn settle(&self, shard: u16, delivery: &DeliveryAttempt, judgement: &Judgement) {
        let log = serde_json::to_vec(&judgement.log).unwrap_or_default();
        let (outbox, endpoint) = (&self.0.outbox, &delivery.endpoint);
        let mut tries = 0;
        while let Err(error) = outbox.delivery_settle(shard, endpoint, &delivery.id, judgement.outcome, &log).await {
            let Some(pause) = attempt::settle_pause(tries) else {
                tracing::warn!(delivery = delivery.id, %error, "webhook delivery is not settled; it will be sent again");
                return;
            };
            tokio::time::sleep(pause).await;
            tries += 1;
        }
    }

    fn count(&self, outcome: DeliveryOutcome) {
        let counters = &self.0.counters;
        let counter = match outcome {
            DeliveryOutcome::Delivered => &counters.delivered,
            DeliveryOutcome::Retry { .. } => &counters.retried,
            DeliveryOutcome::Exhausted => &counters.exhausted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    async fn drive(&self) {
        const BREATH: Duration = Duration::from_millis(5);
        const STORE_DOWN: Duration = Duration::from_secs(1);
        let inner = &self.0;
        while !inner.stop.is_cancelled() {
            let pause = match self.tick().await {
                Ok(Ticked { more: true, .. }) => continue,
                Ok(_) => inner.rules.poll,
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, "webhooks wait for the store");
                    STORE_DOWN
                }
            };
            let hinted = async {
                tokio::select! {
                    () = inner.outbox.changed() => {}
                    () = inner.freed.notified() => {}
                }
                // Many hints come together: let them.
                tokio::time::sleep(BREATH).await;
            };
            tokio::select! {
                () = inner.stop.cancelled() => {}
                () = hinted, if pause != STORE_DOWN => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// A slot that is taken; given back however the attempt ends, by a panic too.
struct Held {
    dispatcher: Dispatcher,
    lane: Lane,
    known: Option<Health>,
}

impl Held {
    /// Keeps what the attempt found out until the slot is given back.
    fn learn(&mut self, known: Option<Health>) {
        self.known = known;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let inner = &self.dispatcher.0;
        inner.slots.give_back(&self.lane, self.known.as_ref());
        // All that wait for idleness, and the loop: it takes the stored one if it is not waiting now.
        inner.freed.notify_waiters();
        inner.freed.notify_one();
    }
}

/// A running dispatcher.
pub struct DispatcherHandle {
    dispatcher: Dispatcher,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl DispatcherHandle {
    /// Ends the loop: nothing new begins, what is under way gets `grace`, and on return nothing runs. May be called twice.
    pub async fn stop(&self) {
        let inner = &self.dispatcher.0;
        inner.stop.cancel();
        if let Some(driver) = self.driver.lock().await.take() {
            let _ = driver.await;
        }
        inner.under_way.close();
        if tokio::time::timeout(inner.rules.grace, inner.under_way.wait()).await.is_err() {
            inner.abort.cancel();
            inner.under_way.wait().await;
        }
    }

    /// What has happened since the start.
    pub fn counts(&self) -> Counts {
        self.dispatcher.counts()
    }
}

/// Uniform in `0.0..1.0`; in the middle when the operating system has no randomness.
fn draw() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0,
        Err(_) => 0.5,
    }
}
