//! `doctor`: what is wrong with this set-up. Looks at the store itself, so that it works when the API does not, and
//! changes nothing.

mod audit;
mod places;
mod stops;
mod store;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::serve::named;
use super::{Failure, Global, Out, Table};
use crate::config::Config;
use crate::roles::look_at_store;

/// What is wrong with this set-up.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leasehold doctor\n  leasehold doctor --redis redis://10.0.0.5:6379 --audit\n\nExit status 1 when something is wrong."
)]
pub(crate) struct Doctor {
    /// Redis to look at (store.redis_url); without one, the private Redis of the data folder
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Compare every job with every index, counter, lock and limit too; reads the whole store
    #[arg(long)]
    audit: bool,
    /// Leave out the tenants' databases: for health checks of a worker, which a tenant's trouble should not restart
    #[arg(long)]
    skip_targets: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warning,
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    text: String,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn ok(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.add(name, State::Ok, text);
    }

    fn warning(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.add(name, State::Warning, text);
    }

    fn wrong(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.add(name, State::Wrong, text);
    }

    fn add(&mut self, name: impl Into<String>, state: State, text: impl Into<String>) {
        self.0.push(Check { name: name.into(), state, text: text.into() });
    }
}

impl Doctor {
    pub(crate) async fn run(self, global: &Global, out: &Out) -> Result<(), Failure> {
        let mut findings = Findings::default();
        let redis = named(self.redis.as_deref())?;
        match Config::load(global.config.as_deref()) {
            Err(error) => findings.wrong("configuration", error.to_string()),
            Ok(mut config) => {
                findings.ok("configuration", "sound");
                if let Some(folder) = &global.data_dir {
                    config.store.data_dir.clone_from(folder);
                }
                if let Some(url) = redis {
                    config.store.redis_url = url.into();
                }
                self.look(&config, out, &mut findings).await;
            }
        }
        let wrong = findings.0.iter().filter(|check| check.state == State::Wrong).count();
        out.show(&json!({ "ok": wrong == 0, "checks": findings.0 }), |_| text(&findings, wrong));
        if wrong == 0 { Ok(()) } else { Err(Failure::Shown) }
    }

    async fn look(&self, config: &Config, out: &Out, findings: &mut Findings) {
        places::data_folder(config, findings);
        places::tools(config, findings);
        match look_at_store(config).await {
            Err(error) => findings.wrong("redis", format!("{error} ({})", error.code())),
            Ok(store) => store::look(config, &store, self, out, findings).await,
        }
    }
}

fn text(findings: &Findings, wrong: usize) -> String {
    let mut table = Table::new(&["", "what", "found"], "");
    for check in &findings.0 {
        let mark = match check.state {
            State::Ok => "ok",
            State::Warning => "warn",
            State::Wrong => "WRONG",
        };
        for (n, line) in check.text.lines().enumerate() {
            table.row(if n == 0 { [mark, check.name.as_str(), line] } else { ["", "", line] });
        }
    }
    let summary = match wrong {
        0 => "nothing is wrong".to_owned(),
        1 => "one thing is wrong".to_owned(),
        n => format!("{n} things are wrong"),
    };
    let warnings = match findings.0.iter().filter(|check| check.state == State::Warning).count() {
        0 => String::new(),
        1 => "; one warning".to_owned(),
        n => format!("; {n} warnings"),
    };
    format!("{table}\n\n{summary}{warnings}")
}
