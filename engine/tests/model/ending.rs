//! The end of a sequence. Guards that everything can come to its end, whatever was done before, and that all that was told
//! reaches those who hear it.

use leasehold_engine::{Place, store::Outcome};

use crate::{
    deliveries::Delivery,
    run::Play,
    verbs::{Arrival, ENDPOINTS, Expected, FREEZES, Fence, J, KINDS, Part, QUEUES, SIGNALS, STEPS, TENANTS, Verb},
};

/// The key of the last signals, which no sequence has.
const LAST_KEY: u8 = 99;

impl Play<'_> {
    /// Takes away what stops jobs (limits stay), and lets workers do what there is, until all have ended.
    async fn bring_to_the_end(&mut self) -> Result<(), String> {
        self.compare()?;
        self.audit().await?;
        for verb in self.openings() {
            self.plain(&verb).await.map_err(|text| format!("{verb:?}: {text}"))?;
        }
        for _ in 0..30 {
            for verb in self.round() {
                self.verb(&verb, false).await.map_err(|text| format!("at the end, {verb:?}: {text}"))?;
            }
            if self.model.jobs.values().all(|job| job.place.is_final()) {
                self.deliver_all().await?;
                return self.audit().await;
            }
        }
        let left = self.model.jobs.iter().filter(|(_, job)| !job.place.is_final());
        let left: Vec<_> = left.map(|(j, job)| (j, job.place, job.hold.as_deref())).collect();
        Err(format!("these cannot come to an end: {left:?}"))
    }

    /// The end of a sequence: all is compared, and brought to its end or at least read by who hears of it.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        if self.care.to_the_end {
            return self.bring_to_the_end().await;
        }
        self.verb(&Verb::OutboxRead { sender: 0, most: 1000 }, false).await.map(|_| ())
    }

    /// A sender that nothing stops: all that was told reaches all who hear it.
    async fn deliver_all(&mut self) -> Result<(), String> {
        let mut verbs = vec![Verb::OutboxRead { sender: 0, most: 1000 }, Verb::OutboxRoute { sender: 0 }];
        while !verbs.is_empty() {
            for verb in verbs {
                self.verb(&verb, false).await.map_err(|text| format!("at the end, {verb:?}: {text}"))?;
            }
            let due = self.model.outbox.pending().map(|delivery| delivery.due).max();
            let ms = due.map_or(0, |due| (due - self.model.now).max(0));
            let settle =
                |delivery: &Delivery| Verb::DeliverySettle { parcel: delivery.parcel, how: Arrival::Delivered };
            verbs = due.map_or(Vec::new(), |_| {
                let claims = (0..ENDPOINTS.len()).map(|to| Verb::DeliveryClaim { to, most: 1000, lease_ms: 1000 });
                let settles = self.model.outbox.pending().map(settle);
                [Verb::Advance { ms }].into_iter().chain(claims).chain(settles).collect()
            });
        }
        self.compare()?;
        if self.model.outbox.told() > 0 { Err("something is told to nobody".to_owned()) } else { Ok(()) }
    }

    pub(crate) async fn audit(&mut self) -> Result<(), String> {
        let report = self.bench.far.store.audit().await.map_err(|error| format!("error: {error:?}"))?;
        if report.findings.is_empty() { Ok(()) } else { Err(format!("the audit found {:#?}", report.findings)) }
    }

    fn openings(&self) -> Vec<Verb> {
        let parts = (0..QUEUES.len()).map(Part::Queue).chain((0..KINDS.len()).map(Part::Kind));
        let parts: Vec<Part> = parts.chain((0..TENANTS.len()).map(Part::Tenant)).chain([Part::All]).collect();
        let gates = &self.model.gates;
        let stops = parts.into_iter().filter(|part| gates.is_stopped(*part));
        let mut verbs: Vec<Verb> = stops.flat_map(|part| [Verb::Resume(part), Verb::Unkill(part)]).collect();
        verbs.extend((0..FREEZES.len()).filter(|n| gates.freezes.contains_key(n)).map(|name| Verb::Unfreeze { name }));
        let schedules = self.model.schedules.kept.keys();
        verbs.extend(schedules.map(|of| Verb::ScheduleRemove { of: *of, expected: Expected::Any }));
        verbs.extend(gates.clock_jumped.then_some(Verb::ClockJumped(false)));
        verbs
    }

    /// One round of a world without people: time goes on, what ran is done, what waits is cancelled.
    fn round(&self) -> Vec<Verb> {
        let jobs = |place: Place| self.model.jobs.iter().filter(move |(_, job)| job.place == place).map(|(j, _)| *j);
        let planned = self.model.jobs.values().filter(|job| job.place == Place::Scheduled).map(|job| job.run_at);
        let ms = planned.min().map_or(2000, |at| (at - self.model.now).max(2000));
        let mut verbs: Vec<Verb> = jobs(Place::Running).collect::<Vec<J>>().into_iter().map(done).collect();
        verbs.extend([Verb::Advance { ms }, Verb::Promote]);
        verbs.extend(jobs(Place::Unknown).map(|job| {
            let step = self.model.open_once_steps(job).first().and_then(|name| STEPS.iter().position(|s| s.0 == *name));
            Verb::Resolve { job, step, happened: true }
        }));
        let answers = (0..SIGNALS.len())
            .flat_map(|name| jobs(Place::Waiting).map(move |job| Verb::Signal { job, name, key: LAST_KEY }));
        verbs.extend(answers);
        verbs.extend(jobs(Place::Waiting).map(|job| Verb::Cancel { job, lead_ms: None }));
        let parked = |j: &J| self.model.jobs[j].reason == leasehold_engine::model::BlockedBy::CodeChanged;
        verbs.extend(jobs(Place::Blocked).filter(parked).map(|job| Verb::Revive { job }));
        verbs.extend([Verb::Cascade, Verb::Claim { worker: 0, want: 20, queues: vec![0, 1], only: None }]);
        verbs
    }
}

fn done(job: J) -> Verb {
    Verb::Settle { jobs: vec![job], fence: Fence::Last, outcome: Outcome::Done, plain: true }
}
