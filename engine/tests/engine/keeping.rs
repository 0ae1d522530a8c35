//! Finished jobs: put away, then forgotten, and never the other way round.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use leasehold_engine::{
    Effect, JobId, JobView, NewJob, Place,
    model::gate,
    store::{JobFilter, Opening, Outcome, Retention},
    testing::{
        Lab, NOON, Puppet,
        bare::{self, Awaiting},
    },
    upkeep::{self, Archive, ArchiveError, UpkeepOptions},
};

use crate::{claim, claim_one, settle};

/// An archive that counts what it is given, and fails when told to.
#[derive(Debug, Default)]
struct Shelf {
    given: Mutex<Vec<JobView>>,
    full: AtomicBool,
    puts: AtomicUsize,
}

impl Shelf {
    fn times(&self) -> BTreeMap<JobId, usize> {
        let mut times = BTreeMap::new();
        for view in &*self.given.lock().unwrap() {
            *times.entry(view.record.id.clone()).or_default() += 1;
        }
        times
    }
}

#[async_trait]
impl Archive for Shelf {
    async fn put(&self, jobs: &[JobView]) -> Result<(), ArchiveError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        // Others have their chance to put away the same.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        if self.full.load(Ordering::Relaxed) {
            return Err(ArchiveError { code: "target_no_space", text: "no space for it".to_owned() });
        }
        self.given.lock().unwrap().extend_from_slice(jobs);
        Ok(())
    }
}

const NONE: Retention = Retention { max_age_ms: 0, max_count: 0 };

/// Keeps nothing, and puts everything away at once.
fn keep_none(shelf: &Arc<Shelf>) -> UpkeepOptions {
    let (succeeded, cancelled, dead) = (NONE, NONE, NONE);
    UpkeepOptions {
        name: "a".to_owned(),
        succeeded,
        cancelled,
        dead,
        archive: Some(shelf.clone()),
        gather_ms: 0,
        ..UpkeepOptions::default()
    }
}

/// Jobs that ended one after the other, a second apart.
async fn ended(lab: &Lab, many: usize, outcome: Outcome) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..many {
        ids.push(lab.enqueue(Puppet::job(&lab.store, "done")).await);
        let (id, fence) = claim_one(lab, "w").await;
        settle(lab, &id, fence, outcome).await;
    }
    ids
}

async fn left(lab: &Lab) -> u64 {
    lab.store.counts().await.unwrap().iter().map(|count| count.jobs).sum()
}

#[tokio::test]
async fn jobs_are_put_away_whole_before_they_are_forgotten() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let ids = ended(&lab, 3, Outcome::Done).await;
    let before = lab.job(&ids[0]).await;
    upkeep::prune(&lab.store, &keep_none(&shelf)).await.unwrap();
    assert_eq!(left(&lab).await, 0);
    assert_eq!(shelf.times(), ids.iter().map(|id| (id.clone(), 1)).collect());
    let given = shelf.given.lock().unwrap()[0].clone();
    assert_eq!((given.record.args, given.record.result), (before.record.args, before.record.result));
    assert_eq!(given.record.events, before.record.events);
    assert_eq!(lab.store.archive_state().await.unwrap().jobs, 3);
    lab.finish().await;
}

#[tokio::test]
async fn what_cannot_be_put_away_stays_and_is_said() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let ids = ended(&lab, 3, Outcome::Dead).await;
    shelf.full.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(upkeep::prune(&lab.store, &keep_none(&shelf)).await.unwrap(), 0);
    }
    assert_eq!(left(&lab).await, 3, "nothing is lost");
    let state = lab.store.archive_state().await.unwrap();
    assert_eq!((state.jobs, state.failures, state.failing_since), (0, 2, Some(NOON)));
    assert!(state.last_error.contains("target_no_space") && state.last_error.contains("no space for it"), "{state:?}");
    let alerts = lab.store.alerts(0, 10).await.unwrap();
    assert_eq!(alerts.iter().map(|a| a.word.as_str()).collect::<Vec<_>>(), ["archive_failed"], "told once");

    shelf.full.store(false, Ordering::Relaxed);
    upkeep::prune(&lab.store, &keep_none(&shelf)).await.unwrap();
    assert_eq!(shelf.times().len(), ids.len());
    assert_eq!(left(&lab).await, 0);
    assert_eq!(lab.store.archive_state().await.unwrap().failing_since, None);
    lab.finish().await;
}

#[tokio::test]
async fn only_those_that_were_named_are_forgotten() {
    let lab = Lab::new().await;
    ended(&lab, 4, Outcome::Done).await;
    let expired = lab.store.expired(0, Place::Succeeded, "puppet", NONE, 10).await.unwrap().entries;
    assert_eq!(expired.len(), 4);
    let forget = async |entries| lab.store.forget(0, Place::Succeeded, "puppet", entries).await.unwrap().jobs;
    assert_eq!(forget(&expired[1..2]).await, 0, "its place is not at the head");
    let first_and_third = [expired[0].clone(), expired[2].clone()];
    assert_eq!(forget(&first_and_third).await, 1, "not the one between them");
    assert_eq!(left(&lab).await, 3);
    assert_eq!(forget(&expired[1..]).await, 3);
    assert_eq!(forget(&expired[1..]).await, 0, "the same again (a lost reply)");
    lab.finish().await;
}

#[tokio::test]
async fn a_job_that_changed_after_it_was_read_is_not_forgotten() {
    let lab = Lab::new().await;
    let ids = ended(&lab, 2, Outcome::Dead).await;
    let expired = async || lab.store.expired(0, Place::Dead, "puppet", NONE, 10).await.unwrap().entries;
    let forget = async |entries: Vec<_>| lab.store.forget(0, Place::Dead, "puppet", &entries).await.unwrap();
    let read = expired().await;
    lab.store.revive(&ids[0], "").await.unwrap();
    let forgotten = forget(read.clone()).await;
    assert_eq!((forgotten.entries, forgotten.jobs), (2, 1), "of the revived one its old entry alone");
    assert_eq!(lab.place(&ids[0]).await, Place::Ready);

    let (id, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Dead).await;
    let read = expired().await;
    lab.store.revive(&id, "").await.unwrap();
    let (id, fence) = claim_one(&lab, "w").await;
    settle(&lab, &id, fence, Outcome::Dead).await;
    assert_eq!(forget(read).await.jobs, 0, "it ended anew, and the archive has not seen that");
    assert_eq!(lab.place(&id).await, Place::Dead);
    assert_eq!(forget(expired().await).await.jobs, 1);
    lab.finish().await;
}

#[tokio::test]
async fn a_crash_between_putting_and_forgetting_puts_twice_and_loses_nothing() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let ids = ended(&lab, 2, Outcome::Done).await;
    let views = [lab.job(&ids[0]).await, lab.job(&ids[1]).await];
    shelf.put(&views).await.unwrap();
    let more = ended(&lab, 1, Outcome::Done).await;
    upkeep::prune(&lab.store, &keep_none(&shelf)).await.unwrap();
    let expected = [(ids[0].clone(), 2), (ids[1].clone(), 2), (more[0].clone(), 1)];
    assert_eq!(shelf.times(), BTreeMap::from(expected));
    assert_eq!(left(&lab).await, 0);
    lab.finish().await;
}

#[tokio::test]
async fn five_processes_put_each_job_away_once() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let mut all = ended(&lab, 20, Outcome::Done).await;
    for round in 1..=4 {
        let processes = (0..5).map(|n| {
            let (store, options) = (lab.store.clone(), UpkeepOptions { name: format!("{n}"), ..keep_none(&shelf) });
            tokio::spawn(async move { upkeep::prune(&store, &options).await.unwrap() })
        });
        for process in processes.collect::<Vec<_>>() {
            process.await.unwrap();
        }
        // Each round finds the turn of the one before at its end.
        lab.at(round * 60_001);
        all.extend(ended(&lab, 5, Outcome::Done).await);
    }
    upkeep::prune(&lab.store, &keep_none(&shelf)).await.unwrap();
    assert_eq!(shelf.times(), all.into_iter().map(|id| (id, 1)).collect());
    lab.finish().await;
}

#[tokio::test]
async fn a_turn_is_one_processes_until_it_ends() {
    let lab = Lab::new().await;
    let take = async |who| lab.store.take_turn(0, "prune", who, 1000).await.unwrap();
    assert!(take("a").await && !take("b").await && take("a").await);
    lab.at(999);
    assert!(!take("b").await);
    lab.at(1000);
    assert!(take("b").await && !take("a").await);
    lab.finish().await;
}

#[tokio::test]
async fn a_few_jobs_wait_for_others_before_they_are_put_away() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let keep = |max_age_ms, max_count| UpkeepOptions {
        succeeded: Retention { max_age_ms, max_count },
        gather_ms: 3_600_000,
        ..keep_none(&shelf)
    };
    ended(&lab, 3, Outcome::Done).await;
    lab.at(60_000);
    upkeep::prune(&lab.store, &keep(60_000, 1_000_000)).await.unwrap();
    upkeep::prune(&lab.store, &keep(1 << 40, 2)).await.unwrap_or(0);
    assert_eq!(shelf.puts.load(Ordering::Relaxed), 1, "of two that are kept, one more is enough");
    ended(&lab, 1, Outcome::Done).await;
    lab.at(60_000 + 3_599_999);
    upkeep::prune(&lab.store, &keep(60_000, 1_000_000)).await.unwrap();
    assert_eq!(shelf.puts.load(Ordering::Relaxed), 1);
    lab.at(60_000 + 3_600_000);
    upkeep::prune(&lab.store, &keep(60_000, 1_000_000)).await.unwrap();
    assert_eq!(
        (shelf.puts.load(Ordering::Relaxed), left(&lab).await),
        (2, 0),
        "all whose time is over go with the oldest"
    );
    lab.finish().await;
}

#[tokio::test]
async fn each_kind_is_kept_as_it_is_told() {
    let lab = Lab::new().await;
    for kind in ["a", "b"] {
        for _ in 0..3 {
            lab.enqueue(NewJob { kind: kind.to_owned(), ..Puppet::job(&lab.store, "done") }).await;
        }
    }
    for job in claim(&lab, "w", 10).await.jobs {
        settle(&lab, &job.id, job.fence, Outcome::Done).await;
    }
    let some = |max_count| Retention { max_age_ms: 1 << 40, max_count };
    let kinds = BTreeMap::from([(("b".to_owned(), Place::Succeeded), some(1))]);
    let options = UpkeepOptions { succeeded: some(2), kinds, ..UpkeepOptions::default() };
    upkeep::prune(&lab.store, &options).await.unwrap();
    let counts = lab.store.counts().await.unwrap();
    let counts: Vec<_> = counts.iter().filter(|c| c.jobs > 0).map(|c| (c.kind.as_str(), c.jobs)).collect();
    assert_eq!(counts, [("a", 2), ("b", 1)]);
    lab.finish().await;
}

#[tokio::test]
async fn e6_one_look_takes_in_a_bounded_amount_of_bytes() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let large = vec![b'x'; 3 << 20];
    for _ in 0..4 {
        lab.enqueue(NewJob { args: large.clone().into(), ..Puppet::job(&lab.store, "done") }).await;
        let (id, fence) = claim_one(&lab, "w").await;
        settle(&lab, &id, fence, Outcome::Done).await;
    }
    let options = keep_none(&shelf);
    assert_eq!(upkeep::prune(&lab.store, &options).await.unwrap(), 2);
    upkeep::prune(&lab.store, &options).await.unwrap();
    assert_eq!((shelf.times().len(), left(&lab).await), (4, 0));
    lab.finish().await;
}

#[tokio::test]
async fn the_usual_duration_of_a_kind_is_measured_from_its_newest_ends() {
    let lab = Lab::new().await;
    let run = async |from: i64, many: i64, ms: i64| {
        for n in 0..many {
            lab.at((from + n) * 10_000);
            lab.enqueue(Puppet::job(&lab.store, "done")).await;
            let (id, fence) = claim_one(&lab, "w").await;
            lab.at((from + n) * 10_000 + ms);
            settle(&lab, &id, fence, Outcome::Done).await;
        }
    };
    let known = async || lab.store.gates().await.unwrap().get("d puppet").map(|text| text.to_vec());
    run(0, 19, 500).await;
    assert_eq!((upkeep::measure(&lab.store).await.unwrap(), known().await), (0, None), "too few say nothing");
    run(19, 1, 500).await;
    assert_eq!((upkeep::measure(&lab.store).await.unwrap(), known().await), (1, Some(b"500".to_vec())));
    run(20, 30, 540).await;
    assert_eq!(upkeep::measure(&lab.store).await.unwrap(), 0, "a change of less than a tenth is no news");
    run(50, 20, 2000).await;
    assert_eq!((upkeep::measure(&lab.store).await.unwrap(), known().await), (1, Some(b"2000".to_vec())));
    assert!(gate::Gates::read(&lab.store.gates().await.unwrap()).takes_ms.contains_key("puppet"));
    assert!(lab.store.jobs(&JobFilter::default(), None, 1).await.unwrap().next.is_some());
    lab.finish().await;
}

#[tokio::test]
async fn the_usual_duration_of_a_kind_that_waits_is_that_of_its_longest_stretch() {
    let lab = Lab::new().await;
    for n in 0..20 {
        let begin = n * 86_400_000;
        lab.at(begin);
        let id = lab.enqueue(Puppet::job(&lab.store, "done")).await;
        let (_, fence) = claim_one(&lab, "w").await;
        lab.at(begin + 7_200_000);
        let (step, until) = (("go?", Opening::of(Effect::ReadOnly)), (Awaiting::Signal("go"), 0));
        let said = bare::suspend(&lab.store, (&id, fence), step, until).await.unwrap();
        assert!(said.starts_with("waits"), "{said}");
        settle(&lab, &id, fence, Outcome::Wait).await;
        lab.at(begin + 50_000_000);
        lab.store.signal(&id, "go", "", b"1", "").await.unwrap();
        let (_, fence) = claim_one(&lab, "w").await;
        lab.at(begin + 50_000_005);
        settle(&lab, &id, fence, Outcome::Done).await;
    }
    upkeep::measure(&lab.store).await.unwrap();
    assert_eq!(lab.store.standing().await.unwrap().takes_ms.get("puppet"), Some(&7_200_000));
    lab.finish().await;
}

/// Lets Redis use so many hundredths of what it uses now; 0 is no limit.
async fn give(lab: &Lab, percent: u64) {
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let most = lab.store.memory().await.unwrap().used * percent / 100;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(most).exec(&mut connection).unwrap();
}

/// What upkeep does without pressure: nothing for a week.
fn keep_long(shelf: &Arc<Shelf>) -> UpkeepOptions {
    UpkeepOptions { archive: Some(shelf.clone()), name: "a".to_owned(), ..UpkeepOptions::default() }
}

async fn large(lab: &Lab, many: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..many {
        let job = NewJob { args: vec![b'x'; 200_000].into(), ..Puppet::job(&lab.store, "done") };
        ids.push(lab.enqueue(job).await);
        let (id, fence) = claim_one(lab, "w").await;
        settle(lab, &id, fence, Outcome::Done).await;
    }
    ids
}

#[tokio::test]
async fn e7_when_memory_is_short_the_oldest_finished_jobs_go_early_and_only_as_many_as_needed() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let ids = large(&lab, 20).await;
    give(&lab, 111).await;
    assert_eq!(upkeep::prune(&lab.store, &keep_long(&shelf)).await.unwrap(), 0, "somebody may still wait for them");
    lab.at(120_000);
    shelf.full.store(true, Ordering::Relaxed);
    assert_eq!(upkeep::prune(&lab.store, &keep_long(&shelf)).await.unwrap(), 0, "the archive does not take them");
    shelf.full.store(false, Ordering::Relaxed);
    while upkeep::prune(&lab.store, &keep_long(&shelf)).await.unwrap() > 0 {}
    assert!(!lab.store.memory().await.unwrap().is_above(80), "there is room again");
    let given = shelf.times().len();
    assert!((1..15).contains(&given), "{given} of 20 went");
    assert_eq!(left(&lab).await as usize, 20 - given);
    assert!(lab.store.job(&ids[19]).await.unwrap().is_some(), "the newest stays");
    give(&lab, 0).await;
    lab.finish().await;
}

#[tokio::test]
async fn e7_a_child_stays_while_its_parent_may_want_its_result() {
    let (lab, shelf) = (Lab::new().await, Arc::new(Shelf::default()));
    let parent = lab.enqueue(Puppet::job(&lab.store, "done")).await;
    let (_, parents_fence) = claim_one(&lab, "w").await;
    let mut child = Puppet::job(&lab.store, "done");
    child.parent = Some(parent.clone());
    let child = lab.enqueue(child).await;
    let (_, fence) = claim_one(&lab, "w").await;
    settle(&lab, &child, fence, Outcome::Done).await;
    lab.at(120_000);
    give(&lab, 100).await;
    upkeep::prune(&lab.store, &keep_long(&shelf)).await.unwrap();
    assert!(lab.store.job(&child).await.unwrap().is_some());
    settle(&lab, &parent, parents_fence, Outcome::Done).await;
    upkeep::prune(&lab.store, &keep_long(&shelf)).await.unwrap();
    assert!(lab.store.job(&child).await.unwrap().is_none());
    give(&lab, 0).await;
    lab.finish().await;
}
