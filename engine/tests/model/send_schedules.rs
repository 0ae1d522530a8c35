//! Sends the verbs of schedules, and plays the process that fires them: one that looks, and decides on what it saw.

use async_trait::async_trait;
use leasehold_engine::{
    JobId,
    model::{Dropped, NewJob, Schedule, Timetable},
    store::{Slot, Store, StoreError},
    upkeep::{self, SlotJobs, SlotRefusal},
};

use crate::{
    claims::Complaint,
    model::Model,
    schedules::Look,
    seen_schedules::compare_schedule,
    send::{Far, new_job, text},
    slots::{plan, spec_of, what_of},
    verbs::{Asks, Rules, TENANTS, Verb},
};

/// What a schedule asks for, by what is written in it.
fn asks_of(schedule: &Schedule) -> Asks {
    let all = [Asks::Plain, Asks::Refused, Asks::NotNow, Asks::Scarce];
    all.into_iter().find(|asks| schedule.spec.job == format!("{asks:?}")).expect("what a sequence wrote")
}

fn tenant_of(schedule: &Schedule) -> usize {
    TENANTS.iter().position(|tenant| *tenant == schedule.spec.tenant).expect("a schedule of a tenant")
}

/// As many decisions, or as if there were as many, mean that there is more to decide.
const PIECE: usize = 500;

/// Makes the jobs of slots.
struct Maker {
    now: i64,
}

#[async_trait]
impl SlotJobs for Maker {
    async fn job(&self, schedule: &Schedule, _: i64) -> Result<NewJob, SlotRefusal> {
        match asks_of(schedule) {
            Asks::Refused => Err(SlotRefusal::Refused { code: "no".to_owned(), detail: "no".to_owned() }),
            Asks::NotNow => Err(SlotRefusal::NotNow("not now".to_owned())),
            asks => Ok(new_job(self.now, JobId::new(0), &what_of(tenant_of(schedule), asks))),
        }
    }
}

/// A process that decides on a schedule as it saw it.
struct Deciding<'a> {
    store: &'a Store,
    schedule: &'a Schedule,
    rules: Rules,
    table: Timetable,
    of: (usize, u32),
    again: bool,
}

impl Far {
    pub(crate) async fn schedule(&self, verb: &Verb, model: &Model) -> String {
        let store = &self.store;
        let expected = |of: usize, said| model.schedules.expected(of, said);
        match verb {
            Verb::SchedulePut { of, rules, expected: said } => {
                let spec = spec_of(*of, *rules);
                let table = spec.rules.timetable().expect("a good expression");
                text(store.put_schedule(&spec, &table, expected(*of, *said)).await)
            }
            Verb::SchedulePause { of, paused, expected: said } => {
                text(store.pause_schedule(TENANTS[*of], "s", *paused, expected(*of, *said)).await)
            }
            Verb::ScheduleRemove { of, expected: said } => {
                text(store.remove_schedule(TENANTS[*of], "s", expected(*of, *said)).await)
            }
            _ => String::new(),
        }
    }

    pub(crate) async fn fire(&self, now: i64, most: u64) -> String {
        // What is decided in pieces says that there is more.
        for _ in 0..20 {
            match upkeep::fire(&self.store, &Maker { now }, most).await {
                Ok(decisions) if decisions < PIECE => return String::new(),
                Ok(_) => {}
                Err(error) => return format!("error: {error:?}"),
            }
        }
        "there is no end to it".to_owned()
    }

    /// A process reads what is due.
    pub(crate) async fn fire_look(&self, model: &mut Model, process: usize) -> Complaint {
        let seen = self.store.due_schedules(self.shard, model.now, 100).await;
        let schedules = seen.map_err(|error| format!("error: {error:?}"))?;
        let due = model.schedules.due(model.now);
        let found: Vec<usize> = schedules.iter().map(tenant_of).collect();
        if found != due {
            return Err(format!("the schedules {due:?} should be due, and {found:?} are"));
        }
        schedules.iter().try_for_each(|schedule| compare_schedule(model, tenant_of(schedule), Some(schedule)))?;
        let rules = due.iter().map(|of| model.schedules.kept[of].rules);
        let schedules = schedules.into_iter().zip(rules).collect();
        model.schedules.looked[process] = Some(Look { now: model.now, schedules });
        Ok(())
    }

    /// It decides on at most so many slots of each schedule that it saw.
    pub(crate) async fn fire_seen(
        &self,
        model: &mut Model,
        process: usize,
        (decisions, again): (usize, bool),
    ) -> Complaint {
        model.nth += 1;
        let Some(look) = model.schedules.looked[process].clone() else { return Ok(()) };
        for (schedule, rules) in &look.schedules {
            let table = schedule.spec.rules.timetable().map_err(|error| error.to_string())?;
            let of = (tenant_of(schedule), schedule.revision);
            let deciding = Deciding { store: &self.store, schedule, rules: *rules, table, of, again };
            deciding.on(model, look.now, decisions).await?;
        }
        Ok(())
    }
}

fn same(what: &str, meant: &Slot, is: Result<Slot, StoreError>) -> Result<Slot, String> {
    match is {
        Ok(is) if is == *meant => Ok(is),
        other => Err(format!("{what} should answer {meant:?}, and answered {other:?}")),
    }
}

impl Deciding<'_> {
    async fn on(&self, model: &mut Model, now: i64, decisions: usize) -> Complaint {
        let planned = self.schedule.plan(&self.table, now);
        if planned.more {
            // Decided in pieces, by a process that nothing disturbs.
            return Ok(());
        }
        let (dropped, fire) = plan(self.rules, self.schedule.cursor, now);
        let meant = dropped.first().zip(dropped.last());
        let meant = meant.map(|(first, last)| Dropped { slots: dropped.len() as u32, first: *first, last: *last });
        if (meant, &fire) != (planned.dropped, &planned.fire) {
            return Err(format!("the plan should drop {meant:?} and fire {fire:?}, and is {planned:?}"));
        }
        let (mut before, mut left) = (self.schedule.cursor, decisions);
        if let Some(dropped) = planned.dropped {
            if self.skip(model, before, dropped).await? == Slot::Overtaken {
                return Ok(());
            }
            (before, left) = (dropped.last, left - 1);
        }
        for slot in planned.fire.into_iter().take(left) {
            if !self.decide(model, before, slot).await? {
                return Ok(());
            }
            before = slot;
        }
        Ok(())
    }

    /// How often each call is sent: twice, when its first reply is lost.
    fn times(&self) -> usize {
        1 + usize::from(self.again)
    }

    async fn skip(&self, model: &mut Model, before: i64, dropped: Dropped) -> Result<Slot, String> {
        let mut said = Slot::Overtaken;
        for _ in 0..self.times() {
            let (last, many) = (dropped.last, u64::from(dropped.slots));
            let meant = model.schedules.skip(self.of, before, (last, many), model.now);
            let is =
                self.store.skip_slots(self.schedule, &self.table, before, dropped, ("no", Some(String::new()))).await;
            said = same("a skip", &meant, is)?;
        }
        Ok(said)
    }

    /// Whether the next slot's turn has come.
    async fn decide(&self, model: &mut Model, before: i64, slot: i64) -> Result<bool, String> {
        let asks = self.rules.asks;
        let said = match asks {
            Asks::Refused => Slot::Spent(0),
            Asks::NotNow => Slot::Full(0),
            _ => self.fire(model, asks, before, slot).await?,
        };
        match said {
            Slot::Fired(_) => Ok(true),
            Slot::Spent(_) => {
                let dropped = Dropped { slots: 1, first: slot, last: slot };
                Ok(self.skip(model, before, dropped).await? == Slot::Skipped)
            }
            Slot::Full(_) => {
                model.schedules.stick(self.of, (before, slot), 1000, model.now);
                let stuck = self.store.stick_slot(self.schedule, (before, slot), 1000, ("not now", None)).await;
                stuck.map(|()| false).map_err(|error| format!("error: {error:?}"))
            }
            _ => Ok(false),
        }
    }

    async fn fire(&self, model: &mut Model, asks: Asks, before: i64, slot: i64) -> Result<Slot, String> {
        let mut said = Slot::Overtaken;
        for _ in 0..self.times() {
            let job = new_job(model.now, JobId::new(0), &what_of(self.of.0, asks));
            let meant = model.fire_slot(self.of, asks, (before, slot), 1000);
            let is = self.store.fire_slot(self.schedule, &self.table, before, (slot, job), 1000).await;
            said = same("a slot", &meant, is)?;
        }
        Ok(said)
    }
}
