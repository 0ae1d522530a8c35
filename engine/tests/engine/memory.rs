//! What a finished job costs in Redis' memory besides its arguments and result (E7).

use leasehold_engine::{
    Effect, NewJob,
    store::{Opening, Outcome, Settlement},
    testing::{Lab, Puppet},
};

use crate::{claim, claim_one, settle};

const ARGS: &[u8] = &[b'a'; 200];
const RESULT: &[u8] = br#"{"colour":"green","statements":[{"index":0,"line":1,"ok":true,"rows":1,"ms":12}]}"#;

fn used_memory(lab: &Lab) -> f64 {
    let mut connection = redis::Client::open(lab.redis.url()).unwrap().get_connection().unwrap();
    let info: String = redis::cmd("INFO").arg("memory").query(&mut connection).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}

/// Runs so many jobs to their end, each with so many steps.
async fn run(lab: &Lab, jobs: usize, steps: u16) {
    let jobs: Vec<_> = (0..jobs).map(|_| NewJob { args: ARGS.into(), ..Puppet::job(&lab.store, "") }).collect();
    for some in jobs.chunks(250) {
        lab.store.enqueue(some, 1 << 40).await.unwrap();
        let claimed = claim(lab, "w", 250).await.jobs;
        for (job, ordinal) in claimed.iter().flat_map(|job| (0..steps).map(move |ordinal| (job, ordinal))) {
            let (name, how) = (format!("step_{ordinal}"), Opening { ordinal, ..Opening::of(Effect::Idempotent) });
            lab.store.step_begin(&job.id, job.fence, &name, how).await.unwrap();
            lab.store.step_end(&job.id, job.fence, &name, b"12345678").await.unwrap();
        }
        let ending = |id: &leasehold_engine::JobId, fence| Settlement {
            id: id.clone(),
            fence,
            outcome: Outcome::Done,
            wait_ms: 0,
            result: RESULT.to_vec(),
            error: Vec::new(),
            note: Vec::new(),
        };
        let endings: Vec<_> = claimed.iter().map(|job| ending(&job.id, job.fence)).collect();
        lab.store.settle(0, &endings).await.unwrap();
    }
}

/// Bytes of a finished job besides its arguments and result; of so many that what else Redis does does not show.
async fn bytes_a_job(jobs: usize, steps: u16) -> f64 {
    let lab = Lab::new().await;
    run(&lab, 250, steps).await;
    let before = used_memory(&lab);
    run(&lab, jobs, steps).await;
    let each = (used_memory(&lab) - before) / jobs as f64 - (ARGS.len() + RESULT.len()) as f64;
    lab.finish().await;
    each
}

#[tokio::test]
async fn e7_a_finished_job_takes_less_than_400_bytes_besides_its_arguments_and_result() {
    let each = bytes_a_job(5000, 0).await;
    assert!(each < 400.0, "{each:.0} bytes");
}

#[tokio::test]
async fn e7_five_steps_of_a_finished_job_take_less_than_400_bytes_more() {
    let each = bytes_a_job(1000, 5).await;
    assert!(each < 800.0, "{each:.0} bytes");
}

#[tokio::test]
async fn e7_the_results_of_steps_go_when_their_job_succeeded_and_stay_when_it_may_be_revived() {
    for (outcome, left) in [(Outcome::Done, 0), (Outcome::Dead, 20_000)] {
        let lab = Lab::new().await;
        lab.enqueue(Puppet::job(&lab.store, "")).await;
        let (id, fence) = claim_one(&lab, "w").await;
        for (ordinal, name) in (0..).zip(["first", "second"]) {
            let how = Opening { ordinal, ..Opening::of(Effect::Fenced) };
            lab.store.step_begin(&id, fence, name, how).await.unwrap();
            lab.store.step_end(&id, fence, name, &[b'1'; 10_000]).await.unwrap();
        }
        let before = lab.job(&id).await.steps;
        settle(&lab, &id, fence, outcome).await;
        let mut after = lab.job(&id).await.steps;
        assert_eq!(after.iter().map(|step| step.result.len()).sum::<usize>(), left);
        for (step, was) in after.iter_mut().zip(&before) {
            step.result.clone_from(&was.result);
        }
        assert_eq!(after, before, "nothing else of them is forgotten");
        lab.finish().await;
    }
}

#[tokio::test]
async fn e7_many_and_large_results_of_steps_go_when_their_job_succeeded_and_the_names_stay() {
    let lab = Lab::new().await;
    lab.enqueue(Puppet::job(&lab.store, "")).await;
    let (id, fence) = claim_one(&lab, "w").await;
    let small = (0..1100).map(|n| (n, vec![b'1'; 500]));
    let large = (1100..1110).map(|n| (n, vec![b'1'; 300_000]));
    for (ordinal, result) in small.chain(large) {
        let (name, how) = (format!("step_{ordinal}"), Opening { ordinal, ..Opening::of(Effect::Fenced) });
        lab.store.step_begin(&id, fence, &name, how).await.unwrap();
        lab.store.step_end(&id, fence, &name, &result).await.unwrap();
    }
    let before = lab.job(&id).await.steps;
    settle(&lab, &id, fence, Outcome::Done).await;
    let after = lab.job(&id).await.steps;
    assert_eq!(after.iter().map(|step| step.result.len()).sum::<usize>(), 0);
    let names = |steps: &[leasehold_engine::model::Step]| {
        steps.iter().map(|step| step.name.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&after), names(&before));
    assert_eq!(
        after.iter().filter(|step| before.iter().any(|b| b.name == step.name && b.ordinal == step.ordinal)).count(),
        1101
    );
    lab.finish().await;
}
