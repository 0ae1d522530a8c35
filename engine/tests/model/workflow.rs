//! What the verbs of a running job do in the model: steps, waits, signals, children, undo.

use std::collections::BTreeSet;

use leasehold_engine::{
    Place,
    store::{Begun, Signalled},
};

use crate::{
    model::{Child, Job, Letter, Model, Step},
    verbs::{J, JOBS, SIGNALS, STEPS, Wait, What},
};

/// The name of the step that spawns a child.
pub(crate) fn spawn_step(child: J) -> String {
    format!("spawn {child:?}")
}

/// The name of the step that waits.
pub(crate) fn wait_step(wait: &Wait) -> String {
    match wait {
        Wait::Time { .. } => "nap".to_owned(),
        Wait::Signal { name, second, .. } => format!("mail {}{}", SIGNALS[*name], if *second { " again" } else { "" }),
        Wait::Children { .. } => "children".to_owned(),
    }
}

fn starts_nothing(job: &Job) -> bool {
    job.cancel || job.undoing
}

impl Model {
    pub(crate) fn step_begin(
        &mut self,
        (j, fence): (J, u64),
        step: usize,
        (again, seal, inside): (bool, bool, bool),
    ) -> Begun {
        let Some(job) = self.running(j, fence) else { return Begun::Stale };
        let (name, effect, undo) = STEPS[step];
        let once = effect == leasehold_engine::Effect::Once;
        match job.steps.get(name) {
            Some(Step::Done(result)) => return Begun::Done(result.clone().into()),
            Some(Step::Open { begun_by, .. }) if once && *begun_by != fence && !again => return Begun::Open,
            _ => {}
        }
        if starts_nothing(job) && !inside {
            if once && again && matches!(job.steps.get(name), Some(Step::Open { .. })) {
                job.steps.remove(name);
                self.job(j).once_open = !self.open_once_steps(j).is_empty();
            }
            return Begun::Cancelled;
        }
        job.steps.insert(name.to_owned(), Step::Open { once, begun_by: fence });
        job.journal = true;
        job.once_open |= once;
        job.sealed |= seal;
        job.undo |= undo;
        job.fenced |= effect == leasehold_engine::Effect::Fenced;
        Begun::Run
    }

    pub(crate) fn step_end(&mut self, (j, fence): (J, u64), step: usize) -> &'static str {
        let Some(job) = self.running(j, fence) else { return "Stale" };
        let (name, effect, _) = STEPS[step];
        match job.steps.get(name) {
            None => "not_begun",
            Some(Step::Done(result)) if result == "said" => "Already(b\"said\")",
            Some(Step::Done(_)) => "Already(b\"1\")",
            Some(_) => {
                job.steps.insert(name.to_owned(), Step::Done("1".to_owned()));
                if effect == leasehold_engine::Effect::Once {
                    self.job(j).once_open = !self.open_once_steps(j).is_empty();
                }
                "Ok"
            }
        }
    }

    pub(crate) fn undo_begin(&mut self, j: J, fence: u64) -> bool {
        let Some(job) = self.running(j, fence) else { return false };
        if !job.undoing {
            (job.undoing, job.attempt, job.result, job.error) = (true, 1, "", "undoing");
        }
        true
    }

    pub(crate) fn suspend(&mut self, (j, fence): (J, u64), wait: &Wait, children: &[J]) -> String {
        let now = self.now;
        let Some(job) = self.running(j, fence) else { return "stale".to_owned() };
        let name = wait_step(wait);
        let until = match job.steps.get(&name) {
            Some(Step::Done(result)) => return format!("done {result}"),
            Some(Step::Waits { until }) => *until,
            _ => wait.ms().map_or(0, |ms| now + ms),
        };
        if starts_nothing(job) {
            return "cancelled".to_owned();
        }
        let is_over = until > 0 && until <= now;
        let found = match wait {
            Wait::Time { .. } => None,
            Wait::Signal { name, .. } => Self::read_letter(job, *name),
            Wait::Children { all, fail, .. } => match Self::look_at_children(job, children, *all, *fail) {
                Ok(found) => found,
                Err(stranger) => return format!("not_child {}", self.id_of(stranger)),
            },
        };
        let found = found.map(|text| self.with_ids(&text));
        let job = self.job(j);
        job.journal = true;
        if let Some(result) = found.or(is_over.then(|| "null".to_owned())) {
            job.steps.insert(name, Step::Done(result.clone()));
            return format!("done {result}");
        }
        job.steps.insert(name, Step::Waits { until });
        match wait {
            Wait::Time { .. } => {}
            Wait::Signal { name, .. } => add_line(job, &format!("signal {}", SIGNALS[*name])),
            Wait::Children { .. } => add_line(job, "children"),
        }
        format!("waits {until}")
    }

    fn read_letter(job: &mut Job, name: usize) -> Option<String> {
        let letter = job.letters.iter_mut().find(|letter| letter.name == name && !letter.used)?;
        letter.used = true;
        Some(format!("{{\"at\":{},\"payload\":1}}", letter.at))
    }

    /// Which ended, when that is enough; else they are marked as waited for.
    fn look_at_children(job: &mut Job, ids: &[J], all: bool, fail: bool) -> Result<Option<String>, J> {
        if let Some(stranger) = ids.iter().find(|id| !job.children.contains_key(id)) {
            return Err(*stranger);
        }
        // One that is named twice ends once.
        let mut asked = BTreeSet::new();
        let ids: Vec<J> = ids.iter().copied().filter(|id| asked.insert(*id)).collect();
        let ended: Vec<(J, Place)> = ids
            .iter()
            .filter_map(|id| if let Child::Ended(place) = job.children[id] { Some((*id, place)) } else { None })
            .collect();
        let pending: Vec<J> = ids.iter().filter(|id| !matches!(job.children[id], Child::Ended(_))).copied().collect();
        let spoiled = ended.iter().any(|(_, place)| *place != Place::Succeeded);
        if pending.is_empty() || (!all && !ended.is_empty()) || (all && fail && spoiled) {
            let one = |(id, place): &(J, Place)| format!("{{\"id\":\"{id:?}\",\"place\":\"{place}\"}}");
            return Ok(Some(format!("[{}]", ended.iter().map(one).collect::<Vec<_>>().join(","))));
        }
        for id in &pending {
            job.children.insert(*id, Child::WaitedFor);
        }
        let alone = !job.hold.as_ref().is_some_and(|hold| hold.lines().any(|line| line == "children"));
        let left = if all { pending.len() as i64 } else { 1 };
        job.left = Some(if alone { left } else { left.min(job.left.unwrap_or(left)) });
        if fail && all {
            job.fails = true;
        } else if alone {
            job.fails = false;
        }
        Ok(None)
    }

    pub(crate) fn id_of(&self, j: J) -> String {
        self.id(j).to_string()
    }

    fn with_ids(&self, text: &str) -> String {
        (0..JOBS)
            .map(J)
            .fold(text.to_owned(), |text, j| text.replace(&format!("\"{j:?}\""), &format!("\"{}\"", self.id(j))))
    }

    /// What a running job says stands in its log once.
    pub(crate) fn progress(&mut self, (j, fence): (J, u64), line: &str) -> bool {
        let now = self.now;
        let Some(job) = self.running(j, fence) else { return false };
        let line = format!("{now} {line}");
        job.said.push(line);
        true
    }

    pub(crate) fn signal(&mut self, j: J, name: usize, key: u8) -> Signalled {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&j) else { return Signalled::Gone };
        if job.letters.iter().any(|letter| letter.name == name && letter.key == key) {
            return Signalled::Duplicate;
        }
        if job.place.is_final() {
            return Signalled::Final(job.place);
        }
        job.letters.push(Letter { used: false, at: now, name, key });
        let line = format!("signal {}", SIGNALS[name]);
        if !job.hold.as_ref().is_some_and(|hold| hold.lines().any(|held| held == line)) {
            return Signalled::Kept;
        }
        self.wake(j);
        Signalled::Woken
    }

    pub(crate) fn spawn(&mut self, (j, fence): (J, u64), child: J, what: &What) -> String {
        let id = self.id(child).clone();
        let Some(job) = self.running(j, fence) else { return "stale".to_owned() };
        if let Some(Step::Done(result)) = job.steps.get(&spawn_step(child)) {
            return format!("spawned {}", result.trim_matches('"'));
        }
        if starts_nothing(job) {
            return "cancelled".to_owned();
        }
        if self.jobs.contains_key(&child) {
            return "refused exists".to_owned();
        }
        self.take_in(child, what, Some(j));
        let job = self.job(j);
        job.children.insert(child, Child::Pending);
        job.steps.insert(spawn_step(child), Step::Done(format!("\"{id}\"")));
        job.journal = true;
        format!("spawned {id}")
    }
}

fn add_line(job: &mut Job, line: &str) {
    match &mut job.hold {
        None => job.hold = Some(line.to_owned()),
        Some(hold) if hold.lines().any(|held| held == line) => {}
        Some(hold) => {
            hold.push('\n');
            hold.push_str(line);
        }
    }
}
