//! What happened in the demo: one entry a scene, and the table at the end.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::error::Result;
use super::show::{Going, Show};
use crate::cli::Table;

/// One thing that was to be shown.
#[derive(Debug, Serialize)]
pub(super) struct Scene {
    name: String,
    good: bool,
    outcome: String,
    ended_ms: u64,
    took_ms: u64,
}

/// All of them, in the order in which they ended.
#[derive(Debug, Default)]
pub(super) struct Scenes(Vec<Scene>);

impl Scenes {
    /// Notes the end of a scene; whether it was as expected.
    pub(super) fn note(&mut self, going: Going, outcome: Result<String>, show: &Show) -> bool {
        let (good, outcome) = match outcome {
            Ok(outcome) => (true, outcome),
            Err(error) => (false, error.to_string()),
        };
        let name = going.name().to_owned();
        let took = going.end(good, &outcome);
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.0.push(Scene { name, good, outcome, ended_ms: ms(show.elapsed()), took_ms: ms(took) });
        good
    }

    /// Scenes that were not as expected.
    pub(super) fn failed(&self) -> usize {
        self.0.iter().filter(|scene| !scene.good).count()
    }

    pub(super) fn to_json(&self, totals: &[(String, String)]) -> Value {
        let totals: serde_json::Map<_, _> = totals.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({ "ok": self.failed() == 0, "scenes": self.0, "totals": totals })
    }

    pub(super) fn to_text(&self, totals: &[(String, String)]) -> String {
        let mut table = Table::new(&["at", "took", "", "what", "outcome"], "");
        let seconds = |ms: u64| format!("{:.1}s", ms as f64 / 1000.0);
        for scene in &self.0 {
            let mark = if scene.good { "✓" } else { "✗" };
            table.row([
                seconds(scene.ended_ms),
                seconds(scene.took_ms),
                mark.to_owned(),
                scene.name.clone(),
                scene.outcome.clone(),
            ]);
        }
        let mut sums = Table::new(&["total", ""], "");
        for (name, value) in totals {
            sums.row([name.as_str(), value.as_str()]);
        }
        format!("\n{table}\n\n{sums}\n")
    }
}
