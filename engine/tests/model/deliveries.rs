//! The outbox and the deliveries in the model: what is told of a job is routed once, to each endpoint that hears it, and is
//! due until it is settled.
//!
//! Invariant: what a sender read, and when, changes nothing: of two that read the same entry, one makes its deliveries.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use bytes::Bytes;
use leasehold_engine::{
    Place,
    model::EventWord,
    store::{OutboxEntry, Routed},
};

use crate::{
    claims::Complaint,
    model::Model,
    send_deliveries::{body_of, new_delivery},
    verbs::{Arrival, ENDPOINTS, J, KINDS, Parcel, TENANTS, Verb},
};

/// An entry as a sender read it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    name: String,
    job: J,
    seq: u32,
    tenant: usize,
}

impl Entry {
    fn parcels(&self) -> impl Iterator<Item = Parcel> {
        let hears = |to: &usize| ENDPOINTS[*to].1.is_none_or(|only| only == self.tenant);
        (0..ENDPOINTS.len()).filter(hears).map(|to| Parcel { to, job: self.job, seq: self.seq })
    }

    pub(crate) fn routed(&self) -> Routed {
        let deliveries = self.parcels().map(|parcel| new_delivery(&parcel)).collect();
        Routed { entry: self.name.clone(), deliveries }
    }
}

/// What a sender says of an attempt; sent again after a lost reply, it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) how: Arrival,
    attempt: u16,
    pub(crate) at: i64,
}

impl Said {
    /// Its line in the log.
    pub(crate) fn line(&self) -> String {
        format!("{:?} by attempt {} at {}", self.how, self.attempt, self.at)
    }
}

/// A delivery.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) parcel: Parcel,
    pub(crate) state: &'static str,
    /// When it is to be sent, while it is pending.
    pub(crate) due: i64,
    pub(crate) attempt: u16,
    pub(crate) first_at: i64,
    pub(crate) log: Vec<Said>,
}

impl Delivery {
    pub(crate) fn is_pending(&self) -> bool {
        self.state == "pending"
    }
}

/// What is told, and what is made of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox {
    /// Seqs of what is told and not yet routed, and the job's tenant.
    told: BTreeMap<J, (usize, VecDeque<u32>)>,
    /// What each sender read last.
    pub(crate) read: [Vec<Entry>; 2],
    /// Of each endpoint, in the order in which they were made.
    pub(crate) kept: [Vec<Delivery>; 2],
    /// Whether there ever was one.
    pub(crate) began: bool,
}

impl Outbox {
    pub(crate) fn tell(&mut self, job: J, tenant: usize, seqs: RangeInclusive<u32>) {
        if !seqs.is_empty() {
            self.told.entry(job).or_insert((tenant, VecDeque::new())).1.extend(seqs);
        }
    }

    /// How many entries wait for a sender.
    pub(crate) fn told(&self) -> u64 {
        self.told.values().map(|(_, seqs)| seqs.len() as u64).sum()
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = &Delivery> {
        self.kept.iter().flatten().filter(|delivery| delivery.is_pending())
    }

    /// When the next delivery to an endpoint is to be sent.
    pub(crate) fn next_due(&self, to: usize) -> Option<i64> {
        self.kept[to].iter().filter(|delivery| delivery.is_pending()).map(|delivery| delivery.due).min()
    }

    fn find(&mut self, parcel: Parcel) -> Option<&mut Delivery> {
        self.kept[parcel.to].iter_mut().find(|delivery| delivery.parcel == parcel)
    }

    fn known(&self, parcel: Parcel) -> Option<&Delivery> {
        self.kept[parcel.to].iter().find(|delivery| delivery.parcel == parcel)
    }

    /// What a sender says of it now.
    pub(crate) fn said(&self, parcel: Parcel, how: Arrival, at: i64) -> Said {
        Said { how, attempt: self.known(parcel).map_or(0, |delivery| delivery.attempt), at }
    }

    /// What was said of it first.
    pub(crate) fn said_first(&self, parcel: Parcel) -> Option<&Said> {
        self.known(parcel)?.log.first()
    }

    /// Makes the deliveries of an entry, unless somebody was first; whether it made them.
    fn route(&mut self, entry: &Entry, now: i64) -> bool {
        let Some((_, seqs)) = self.told.get_mut(&entry.job) else { return false };
        let Some(at) = seqs.iter().position(|seq| *seq == entry.seq) else { return false };
        seqs.remove(at);
        for parcel in entry.parcels() {
            let new = Delivery { parcel, state: "pending", due: now, attempt: 0, first_at: now, log: Vec::new() };
            self.kept[parcel.to].push(new);
            self.began = true;
        }
        true
    }

    /// The soonest first; of several at once, by id.
    fn claim(&mut self, (to, most): (usize, usize), lease_ms: i64, now: i64) -> Vec<(String, Bytes, u16, i64)> {
        let mut due: Vec<&mut Delivery> =
            self.kept[to].iter_mut().filter(|delivery| delivery.is_pending() && delivery.due <= now).collect();
        due.sort_by_key(|delivery| (delivery.due, delivery.parcel.id()));
        let take = |delivery: &mut Delivery| {
            (delivery.due, delivery.attempt) = (now + lease_ms, delivery.attempt + 1);
            let body = Bytes::from(body_of(&delivery.parcel));
            (delivery.parcel.id(), body, delivery.attempt, delivery.first_at)
        };
        due.into_iter().take(most).map(take).collect()
    }

    /// Whether it is known. What has ended stays as it is, and what was said already is not said twice.
    fn settle(&mut self, parcel: Parcel, said: Said) -> bool {
        let Some(delivery) = self.find(parcel) else { return false };
        if !delivery.is_pending() || delivery.log.contains(&said) {
            return true;
        }
        match said.how {
            Arrival::Delivered => delivery.state = "delivered",
            Arrival::Exhausted => delivery.state = "exhausted",
            Arrival::Retry { ms } => delivery.due = said.at + ms,
        }
        delivery.log.push(said);
        true
    }

    fn replay(&mut self, parcel: Parcel, now: i64) -> bool {
        let Some(delivery) = self.find(parcel) else { return false };
        (delivery.state, delivery.attempt, delivery.due) = ("pending", 0, now);
        true
    }

    /// The oldest go; whether any is left.
    fn forget(&mut self, to: usize, most: usize) -> bool {
        let kept = &mut self.kept[to];
        kept.drain(..most.min(kept.len()));
        !kept.is_empty()
    }
}

/// Where a job may be when something is told of it: where it goes, not where it was.
fn fits(event: EventWord, place: Place) -> bool {
    use Place::{Blocked, Cancelled, Dead, Ready, Running, Scheduled, Succeeded, Unknown, Waiting};
    let places: &[Place] = match event.as_str() {
        "accepted" | "edited" | "revived" => &[Scheduled, Ready],
        "scheduled" | "retrying" => &[Scheduled],
        "blocked" => &[Blocked],
        "started" | "progress" => &[Running],
        "waiting" => &[Waiting],
        "succeeded" => &[Succeeded],
        "failed" => &[Dead],
        "cancelled" => &[Cancelled],
        "unknown" => &[Unknown],
        "rescued" | "released" => &[Ready],
        "undoing" => &[Ready, Running],
        "resolved" => &[Ready, Unknown],
        "cancelling" => &[Ready, Running, Unknown],
        _ => return true,
    };
    places.contains(&place)
}

impl Model {
    /// A sender reads: of each job what was told of it, without a gap and in its order.
    pub(crate) fn judge_read(&mut self, sender: usize, most: usize, entries: &[OutboxEntry]) -> Complaint {
        let meant = self.outbox.told().min(most as u64);
        if entries.len() as u64 != meant {
            return Err(format!("{meant} entries should be read, and {} were", entries.len()));
        }
        let mut waiting = self.outbox.told.clone();
        let mut read = Vec::new();
        for entry in entries {
            let at = self.ids.iter().position(|id| *id == entry.job).ok_or("an entry of a job of nobody")?;
            let job = J(at as u8);
            let next = waiting.get_mut(&job).and_then(|(tenant, seqs)| Some((*tenant, seqs.pop_front()?)));
            let Some((tenant, seq)) = next.filter(|(_, seq)| *seq == entry.seq) else {
                return Err(format!("seq {} of {job:?} was read, and {next:?} comes next", entry.seq));
            };
            self.judge_entry(job, entry, tenant)?;
            read.push(Entry { name: entry.entry.clone(), job, seq, tenant });
        }
        self.outbox.read[sender] = read;
        Ok(())
    }

    fn judge_entry(&self, job: J, entry: &OutboxEntry, tenant: usize) -> Complaint {
        let (event, place) = (entry.event, entry.place);
        if entry.tenant != TENANTS[tenant] || !fits(event, place) {
            return Err(format!("of {job:?} of {} it is told that it {event:?} and is {place}", entry.tenant));
        }
        let Some(known) = self.jobs.get(&job) else { return Ok(()) };
        if entry.kind != KINDS[known.what.kind] || entry.at > self.now {
            return Err(format!("of {job:?} it is told that it is a {} at {}", entry.kind, entry.at));
        }
        // To become ready is no news.
        if entry.seq == known.seq && known.place != place && known.place != Place::Ready {
            return Err(format!("the last news of {job:?} is that it is {place}; it is {}", known.place));
        }
        Ok(())
    }

    pub(crate) fn apply_delivery(&mut self, verb: &Verb) -> String {
        let now = self.now;
        match verb {
            Verb::Listen(on) => {
                self.listening = *on;
                "()".to_owned()
            }
            Verb::OutboxRoute { sender } => {
                let read = self.outbox.read[*sender].clone();
                let routed = read.iter().filter(|entry| self.outbox.route(entry, now)).count();
                routed.to_string()
            }
            Verb::DeliveryClaim { to, most, lease_ms } => {
                format!("{:?}", self.outbox.claim((*to, *most), *lease_ms, now))
            }
            Verb::DeliverySettle { parcel, how } => {
                let said = self.outbox.said(*parcel, *how, now);
                self.outbox.settle(*parcel, said).to_string()
            }
            Verb::DeliverySettleAgain { parcel } => {
                let said = self.outbox.said_first(*parcel).cloned();
                said.map_or(String::new(), |said| self.outbox.settle(*parcel, said).to_string())
            }
            Verb::DeliveryReplay { parcel } => self.outbox.replay(*parcel, now).to_string(),
            Verb::DeliveriesForget { to, most } => self.outbox.forget(*to, *most).to_string(),
            _ => String::new(),
        }
    }
}
