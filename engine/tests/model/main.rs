//! The model test: random sequences of every verb on a small reference model and on a real Redis, side by side. What differs
//! is shrunk to the fewest lines that still show it.
//!
//! `LEASEHOLD_SEED=n` plays a sequence of an earlier run again; `LEASEHOLD_SEQUENCES=n` says how many each test plays. Where `CI`
//! is set, the same ones are played each time.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a test may panic, and says its seed")]

mod apply;
mod claims;
mod control;
mod deliveries;
mod ending;
mod gates;
mod generate;
mod generate_deliveries;
mod generate_gates;
mod generate_schedules;
mod life;
mod model;
mod nouns;
mod order;
mod resources;
mod returning;
mod run;
mod schedules;
mod seed;
mod seen;
mod seen_deliveries;
mod seen_schedules;
mod send;
mod send_deliveries;
mod send_gates;
mod send_schedules;
mod shrink;
mod slots;
mod tickets;
mod upkeep;
mod verbs;
mod workflow;

use std::time::Instant;

use generate::{Generator, Theme};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use run::{Bench, Care};
use verbs::Line;

/// Sequences that each test plays.
const SEQUENCES: u64 = 2000;
/// Every so many sequences one is brought to its end and audited.
const TO_THE_END: u64 = 5;
/// In every so many somebody listens to all that happens.
const LISTENING: u64 = 4;
/// Every so many are played on a store of several shards.
const SHARDED: u64 = 3;

/// Makes and plays one sequence; on a difference, its lines and what differs.
async fn sequence(bench: &mut Bench, theme: Theme, seed: u64, care: Care) -> Result<usize, (Vec<Line>, String)> {
    let mut chance = StdRng::seed_from_u64(seed);
    let many = chance.random_range(15..=30);
    let mut lines = Vec::with_capacity(many);
    let mut play = bench.play(care).await;
    for _ in 0..many {
        let line = Generator { chance: &mut chance, model: &play.model, theme }.line();
        lines.push(line.clone());
        if let Err(text) = play.line(&line).await {
            return Err((lines, text));
        }
    }
    play.end().await.map(|()| many).map_err(|text| (lines, text))
}

async fn play(theme: Theme) {
    let (seed, many) = seed::sequences(SEQUENCES);
    println!("{theme:?}: {many} sequences from LEASEHOLD_SEED={seed} on");
    let (mut bench, began, mut verbs) = (Bench::new().await, Instant::now(), 0);
    for seed in seed..seed + many {
        let is_one_of = |every: u64| seed % every == 0;
        let care = Care {
            every: 3,
            to_the_end: is_one_of(TO_THE_END),
            listening: is_one_of(LISTENING),
            sharded: is_one_of(SHARDED),
        };
        match sequence(&mut bench, theme, seed, care).await {
            Ok(played) => verbs += played,
            Err((lines, text)) => {
                let (fewest, why) = shrink::shrink(&mut bench, lines, text, care).await;
                let listed: Vec<_> = fewest.iter().map(|line| format!("  {line:?}")).collect();
                panic!(
                    "the store does otherwise than the model (LEASEHOLD_SEED={seed} plays it again)\n{}\n=> {why}",
                    listed.join("\n")
                );
            }
        }
    }
    println!("{many} sequences, {verbs} verbs in {:.1} s", began.elapsed().as_secs_f64());
}

#[tokio::test]
async fn the_store_lives_a_jobs_life_as_the_model_says() {
    play(Theme::Life).await;
}

#[tokio::test]
async fn the_store_obeys_gates_as_the_model_says() {
    play(Theme::Gates).await;
}

#[tokio::test]
async fn the_store_keeps_workflows_as_the_model_says() {
    play(Theme::Workflow).await;
}

#[tokio::test]
async fn the_store_delivers_as_the_model_says() {
    play(Theme::Deliveries).await;
}

#[tokio::test]
async fn the_store_fires_schedules_as_the_model_says() {
    play(Theme::Schedules).await;
}

#[tokio::test]
async fn the_store_does_all_of_it_as_the_model_says() {
    play(Theme::All).await;
}
