//! Who may send now: slots of one process, so that a receiver that hangs holds its own few and never another's.
//!
//! An endpoint has at most its own share, a tenant a quarter of all slots, a host (scheme, name and port) half of them:
//! each callback URL is an endpoint of its own, so that one dead host may be a hundred of them. What failed last, the
//! endpoint or another of its host, shares at most half, so the other half stays free for those that work; a degraded
//! endpoint gets one delivery now and then, as a probe.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::endpoint::{Endpoint, Health, State};

/// Endpoints that are remembered while nothing is under way to them. What is forgotten is learnt again at the next attempt.
const REMEMBERED: usize = 4096;

/// How many deliveries may be under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRules {
    /// Of one process.
    pub all: usize,
    /// Of one endpoint.
    pub endpoint: usize,
    /// Between probes of a degraded endpoint.
    pub probe_every: Duration,
}

/// Whose slots a delivery uses. It never changes for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    endpoint: String,
    /// Scheme, host and port.
    origin: String,
    /// Whose events go there; of a callback without a known tenant its API key.
    tenant: Option<String>,
}

impl Lane {
    /// The lane of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        let origin = url::Url::parse(&endpoint.url).map(|url| url.origin().ascii_serialization());
        Self { endpoint: endpoint.id.clone(), origin: origin.unwrap_or_default(), tenant: endpoint.on_behalf_of() }
    }

    /// Of an endpoint that is no more: nothing will be sent.
    pub fn of_nobody(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), origin: String::new(), tenant: None }
    }
}

#[derive(Debug, Default)]
struct Slot {
    in_flight: usize,
    failures: u32,
    degraded: bool,
    /// Counted under "doubtful" when taken.
    doubtful: usize,
    last_begun: Option<Instant>,
}

impl Slot {
    fn is_doubtful(&self) -> bool {
        self.failures > 0 || self.degraded
    }
}

#[derive(Debug, Default)]
struct Origin {
    in_flight: usize,
    /// The last exchange with any of its endpoints failed.
    failing: bool,
}

#[derive(Debug, Default)]
struct Book {
    lanes: HashMap<String, Lane>,
    endpoints: HashMap<String, Slot>,
    origins: HashMap<String, Origin>,
    tenants: HashMap<String, usize>,
    all: usize,
    doubtful: usize,
}

impl Book {
    fn is_doubtful(&self, lane: &Lane) -> bool {
        self.endpoints.get(&lane.endpoint).is_some_and(Slot::is_doubtful)
            || self.origins.get(&lane.origin).is_some_and(|origin| origin.failing)
    }

    /// Keeps the book small: those that failed and are never heard of again would stay for ever.
    fn forget_idle(&mut self) {
        if self.endpoints.len() > REMEMBERED {
            self.endpoints.retain(|_, slot| slot.in_flight > 0);
        }
        if self.origins.len() > REMEMBERED {
            self.origins.retain(|_, origin| origin.in_flight > 0);
        }
    }

    fn leave_tenant(&mut self, tenant: &str) {
        let Some(held) = self.tenants.get_mut(tenant) else { return };
        *held = held.saturating_sub(1);
        if *held == 0 {
            self.tenants.remove(tenant);
        }
    }

    fn leave_origin(&mut self, name: &str, health: Option<&Health>) {
        let Some(origin) = self.origins.get_mut(name) else { return };
        origin.in_flight = origin.in_flight.saturating_sub(1);
        if let Some(health) = health {
            origin.failing = health.failures > 0;
        }
        if origin.in_flight == 0 && !origin.failing {
            self.origins.remove(name);
        }
    }
}

/// The slots.
#[derive(Debug)]
pub struct Slots {
    rules: SlotRules,
    book: Mutex<Book>,
}

impl Slots {
    /// All free.
    pub fn new(rules: SlotRules) -> Self {
        Self { rules, book: Mutex::default() }
    }

    /// The lane of an endpoint, if it is remembered.
    pub fn lane(&self, endpoint: &str) -> Option<Lane> {
        self.book().lanes.get(endpoint).cloned()
    }

    /// Remembers the lane of an endpoint.
    pub fn keep_lane(&self, lane: &Lane) {
        let mut book = self.book();
        if book.lanes.len() >= REMEMBERED {
            book.lanes.clear();
        }
        book.lanes.insert(lane.endpoint.clone(), lane.clone());
    }

    /// Whether nothing may begin now, whoever it is for.
    pub fn is_full(&self) -> bool {
        self.book().all >= self.rules.all
    }

    /// How many deliveries of the endpoint may begin now.
    pub fn room(&self, lane: &Lane) -> usize {
        let book = self.book();
        let shared = self.shared_room(&book, lane);
        let Some(slot) = book.endpoints.get(&lane.endpoint) else {
            return shared.min(self.rules.endpoint);
        };
        if slot.degraded {
            let rested = slot.last_begun.is_none_or(|begun| begun.elapsed() >= self.rules.probe_every);
            return usize::from(rested && slot.in_flight == 0).min(shared);
        }
        self.rules.endpoint.saturating_sub(slot.in_flight).min(shared)
    }

    /// What all, the host, the tenant and those in doubt leave.
    fn shared_room(&self, book: &Book, lane: &Lane) -> usize {
        let half = self.rules.all.div_ceil(2);
        let of_origin = book.origins.get(&lane.origin).map_or(0, |origin| origin.in_flight);
        let mut room = self.rules.all.saturating_sub(book.all).min(half.saturating_sub(of_origin));
        if let Some(tenant) = &lane.tenant {
            let held = book.tenants.get(tenant).copied().unwrap_or(0);
            room = room.min(self.rules.all.div_ceil(4).saturating_sub(held));
        }
        if book.is_doubtful(lane) { room.min(half.saturating_sub(book.doubtful)) } else { room }
    }

    /// A delivery begins.
    pub fn take(&self, lane: &Lane) {
        let mut book = self.book();
        let doubtful = usize::from(book.is_doubtful(lane));
        book.all += 1;
        book.doubtful += doubtful;
        book.origins.entry(lane.origin.clone()).or_default().in_flight += 1;
        if let Some(tenant) = &lane.tenant {
            *book.tenants.entry(tenant.clone()).or_default() += 1;
        }
        let slot = book.endpoints.entry(lane.endpoint.clone()).or_default();
        slot.in_flight += 1;
        slot.doubtful += doubtful;
        slot.last_begun = Some(Instant::now());
    }

    /// A delivery ended; `health` is what is known of the endpoint now, `None` when nothing was learnt.
    pub fn give_back(&self, lane: &Lane, health: Option<&Health>) {
        let mut book = self.book();
        book.all = book.all.saturating_sub(1);
        book.leave_origin(&lane.origin, health);
        if let Some(tenant) = &lane.tenant {
            book.leave_tenant(tenant);
        }
        let Some(slot) = book.endpoints.get_mut(&lane.endpoint) else { return };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        if let Some(health) = health {
            slot.failures = health.failures;
            slot.degraded = health.state == State::Degraded;
        }
        let released = usize::from(slot.doubtful > 0);
        slot.doubtful -= released;
        let forget = slot.in_flight == 0 && !slot.is_doubtful();
        book.doubtful = book.doubtful.saturating_sub(released);
        if forget {
            book.endpoints.remove(&lane.endpoint);
        }
        book.forget_idle();
    }

    /// Failures in a row, as far as this process has seen.
    pub fn failures(&self, endpoint: &str) -> u32 {
        self.book().endpoints.get(endpoint).map_or(0, |slot| slot.failures)
    }

    /// Deliveries under way.
    pub fn in_flight(&self) -> usize {
        self.book().all
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots {
        Slots::new(SlotRules { all: 10, endpoint: 4, probe_every: Duration::from_secs(30) })
    }

    /// Each on a host of its own.
    fn lane(endpoint: &str) -> Lane {
        Lane { endpoint: endpoint.to_owned(), origin: format!("https://{endpoint}"), tenant: None }
    }

    fn health(state: State, failures: u32) -> Health {
        Health { state, failures, ..Health::default() }
    }

    #[tokio::test]
    async fn an_endpoint_holds_its_share_and_no_more() {
        let slots = slots();
        for left in [4, 3, 2, 1] {
            assert_eq!(slots.room(&lane("a")), left);
            slots.take(&lane("a"));
        }
        assert_eq!((slots.room(&lane("a")), slots.room(&lane("b"))), (0, 4));
        slots.give_back(&lane("a"), None);
        assert_eq!(slots.room(&lane("a")), 1);
    }

    #[tokio::test]
    async fn endpoints_that_fail_share_half_of_the_slots() {
        let slots = slots();
        for bad in ["a", "b", "c"] {
            slots.take(&lane(bad));
            slots.give_back(&lane(bad), Some(&health(State::Enabled, 1)));
        }
        (0..4).for_each(|_| slots.take(&lane("a")));
        assert_eq!(slots.room(&lane("b")), 1);
        slots.take(&lane("b"));
        assert_eq!((slots.room(&lane("c")), slots.room(&lane("healthy"))), (0, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_degraded_endpoint_gets_a_probe_now_and_then() {
        let slots = slots();
        slots.take(&lane("a"));
        slots.give_back(&lane("a"), Some(&health(State::Degraded, 10)));
        assert_eq!(slots.room(&lane("a")), 0);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(slots.room(&lane("a")), 1);
        slots.take(&lane("a"));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(slots.room(&lane("a")), 0, "one at a time");
        slots.give_back(&lane("a"), Some(&health(State::Enabled, 0)));
        assert_eq!((slots.room(&lane("a")), slots.in_flight()), (4, 0));
    }

    #[tokio::test]
    async fn a_host_holds_half_a_tenant_a_quarter_and_doubt_is_the_hosts() {
        let slots = Slots::new(SlotRules { all: 16, endpoint: 4, probe_every: Duration::from_secs(30) });
        let at = |endpoint: &str, host: &str, tenant: &str| Lane {
            endpoint: endpoint.to_owned(),
            origin: format!("https://{host}"),
            tenant: Some(tenant.to_owned()),
        };
        (0..4).for_each(|n| slots.take(&at(&format!("a{n}"), "dead", "t-001")));
        assert_eq!((slots.room(&at("b", "other", "t-001")), slots.room(&at("b", "dead", "t-002"))), (0, 4));
        (0..4).for_each(|n| slots.take(&at(&format!("b{n}"), "dead", "t-002")));
        assert_eq!((slots.room(&at("c", "dead", "t-003")), slots.room(&at("c", "fine", "t-003"))), (0, 4));
        for n in 0..4 {
            slots.give_back(&at(&format!("a{n}"), "dead", "t-001"), Some(&health(State::Enabled, 1)));
        }
        for n in 0..4 {
            slots.take(&at(&format!("fresh{n}"), "dead", "t-001"));
        }
        assert_eq!(slots.book().doubtful, 4, "a fresh URL of a host that fails is in doubt");
    }

    #[tokio::test]
    async fn what_failed_and_is_never_heard_of_again_is_forgotten() {
        let slots = slots();
        for n in 0..=REMEMBERED {
            let lane = lane(&n.to_string());
            slots.keep_lane(&lane);
            slots.take(&lane);
            slots.give_back(&lane, Some(&health(State::Enabled, 1)));
        }
        let book = slots.book();
        assert!(book.endpoints.len().max(book.origins.len()).max(book.lanes.len()) <= REMEMBERED);
    }
}
