//! Breaks a run at each point, and asks that nothing was done twice.

use std::sync::Arc;
use std::time::Duration;

use leasehold_targets::Secrets;
use leasehold_targets::database::{self, DatabaseUrl, ExecuteOptions, OnError};
use leasehold_targets::script::Script;
use leasehold_targets::testing::FaultPoint;
use tokio_util::sync::CancellationToken;

use crate::lab::{Case, Engine, Lab, cases, codes};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        sql_15_a_break_at_any_point_repeats_nothing,
        sql_15_ac_085_a_resumed_run_goes_on_after_what_is_recorded,
        sql_15_ac_086_begun_without_end_is_unknown_and_not_repeated,
        sql_15_a_broken_block_is_done_once_as_a_whole,
        sql_15_a_broken_transaction_is_done_once_as_a_whole,
        sql_15_a_killed_process_never_repeats_a_statement,
        settings_of_a_broken_run_hold_in_the_next_one,
        temporary_tables_of_a_broken_run_are_missed_not_guessed,
    ]
}

/// Statements of all sorts; each leaves its own trace.
fn mixed(engine: Engine) -> String {
    let alone = match engine {
        Engine::Sqlite => "VACUUM",
        Engine::Postgres => "CREATE INDEX CONCURRENTLY i ON effects (n)",
    };
    format!(
        "INSERT INTO effects VALUES (1, 'a');
         CREATE TABLE made (x INTEGER);
         INSERT INTO nowhere VALUES (3);
         BEGIN; INSERT INTO effects VALUES (5, 'b'); INSERT INTO effects VALUES (6, 'c'); COMMIT;
         {alone};
         INSERT INTO effects VALUES (9, 'd');
         INSERT INTO effects VALUES (10, 'e');"
    )
}

async fn sql_15_a_break_at_any_point_repeats_nothing(lab: Lab) {
    let script = lab.script(&mixed(lab.engine));
    let mut fence = 1;
    for point in FaultPoint::ALL {
        for index in 1..=10_u32 {
            let job = format!("{point:?}-{index}");
            lab.green(
                &format!("clean {job}"),
                fence,
                "DELETE FROM effects; DROP TABLE IF EXISTS made; DROP INDEX IF EXISTS i;",
            )
            .await;
            let mut options = ExecuteOptions::new(&job, fence + 1);
            options.faults = Some(Arc::new(move |at, statement| at == point && statement == index));
            let broken = lab.db.execute(&script, &options, database::unobserved(), CancellationToken::new()).await;
            let options = ExecuteOptions::new(&job, fence + 2);
            let report =
                lab.db.execute(&script, &options, database::unobserved(), CancellationToken::new()).await.unwrap();
            fence += 2;
            assert_eq!(report.statements.len(), 10, "{job}");
            for effect in [1, 5, 6, 9, 10] {
                assert_eq!(lab.effects(effect).await, 1, "effect {effect} of {job}: {report:#?}");
            }
            let unknown = broken.is_err() && matches!(point, FaultPoint::MarkedBegun | FaultPoint::RanAlone);
            for outcome in &report.statements {
                let expected = outcome.index != 3 && !(outcome.unknown && unknown);
                assert_eq!(outcome.ok, expected, "{job}: {outcome:?}");
            }
            assert_eq!(report.has_unknown(), unknown, "{job}");
            assert_eq!(lab.db.recorded(&job).await.unwrap(), report.statements, "{job}");
            // Asked once more, it only tells what is recorded.
            let again = lab.run(&ExecuteOptions::new(&job, fence), &mixed(lab.engine)).await;
            assert_eq!((again.found, &again.statements), (10, &report.statements), "{job}");
        }
    }
}

async fn sql_15_ac_085_a_resumed_run_goes_on_after_what_is_recorded(lab: Lab) {
    let text: String = (1..=5).map(|n| format!("INSERT INTO effects VALUES ({n}, 'x');\n")).collect();
    let script = lab.script(&text);
    let mut options = ExecuteOptions::new("j", 1);
    options.faults = Some(Arc::new(|at, statement| at == FaultPoint::Committed && statement == 2));
    let broken = lab.db.execute(&script, &options, database::unobserved(), CancellationToken::new()).await;
    assert!(broken.unwrap_err().is_transient());
    let report = lab.green("j", 2, &text).await;
    assert_eq!(report.found, 2);
    for n in 1..=5 {
        assert_eq!(lab.effects(n).await, 1);
    }
    let lines: Vec<u32> = report.statements.iter().map(|outcome| outcome.line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5]);
}

async fn sql_15_ac_086_begun_without_end_is_unknown_and_not_repeated(lab: Lab) {
    let alone = match lab.engine {
        Engine::Sqlite => "VACUUM",
        Engine::Postgres => "CREATE INDEX CONCURRENTLY i ON effects (n)",
    };
    let text = format!("INSERT INTO effects VALUES (1, 'x'); {alone}; INSERT INTO effects VALUES (3, 'x');");
    for (point, on_error) in [(FaultPoint::MarkedBegun, OnError::Continue), (FaultPoint::RanAlone, OnError::Stop)] {
        lab.green(&format!("clean {point:?}"), 1, "DELETE FROM effects; DROP INDEX IF EXISTS i;").await;
        let job = format!("{point:?}");
        let mut options = ExecuteOptions::new(&job, 1).on_error(on_error);
        options.faults = Some(Arc::new(move |at, _| at == point));
        let broken =
            lab.db.execute(&lab.script(&text), &options, database::unobserved(), CancellationToken::new()).await;
        assert!(broken.is_err());
        assert!(lab.db.recorded(&job).await.unwrap()[1].unknown);
        let report = lab.run(&ExecuteOptions::new(&job, 1).on_error(on_error), &text).await;
        assert_eq!(report.colour(), "red");
        assert!(report.statements[1].unknown && !report.statements[1].ok);
        if lab.engine == Engine::Postgres {
            let made = lab.count("SELECT 1 FROM pg_class WHERE relname = 'i'").await;
            assert_eq!(made, u64::from(point == FaultPoint::RanAlone), "it was repeated");
        }
        let went_on = on_error == OnError::Continue;
        assert_eq!(lab.effects(3).await, u64::from(went_on));
        assert_eq!(report.statements.len(), if went_on { 3 } else { 2 });
    }
}

async fn sql_15_a_broken_block_is_done_once_as_a_whole(lab: Lab) {
    let text = "BEGIN; INSERT INTO effects VALUES (2, 'x'); INSERT INTO effects VALUES (3, 'x'); COMMIT; \
                INSERT INTO effects VALUES (5, 'x');";
    for (point, index) in [(FaultPoint::Ran, 2), (FaultPoint::Ran, 3), (FaultPoint::Recorded, 4)] {
        let job = format!("{point:?}-{index}");
        lab.green(&format!("clean {job}"), 1, "DELETE FROM effects;").await;
        let mut options = ExecuteOptions::new(&job, 1);
        options.faults = Some(Arc::new(move |at, statement| at == point && statement == index));
        let broken =
            lab.db.execute(&lab.script(text), &options, database::unobserved(), CancellationToken::new()).await;
        assert!(broken.is_err());
        assert_eq!(lab.db.recorded(&job).await.unwrap(), []);
        assert_eq!(lab.effects(2).await, 0);
        lab.green(&job, 2, text).await;
        for n in [2, 3, 5] {
            assert_eq!(lab.effects(n).await, 1);
        }
        lab.db.clear_markers(&job).await.unwrap();
        lab.green("lower", 2, "DELETE FROM effects").await;
        lab.db.clear_markers("lower").await.unwrap();
        lab.db.clear_markers(&format!("clean {job}")).await.unwrap();
        // The next round starts with the same fences on purpose: equal is the same holder.
        let reset = match lab.engine {
            Engine::Sqlite => "UPDATE leasehold_fence SET fence = 0",
            Engine::Postgres => "UPDATE leasehold.fence SET fence = 0",
        };
        raw(&lab, reset).await;
    }
}

/// Runs SQL by a session of its own, outside of all rules.
async fn raw(lab: &Lab, sql: &str) {
    match lab.engine {
        Engine::Sqlite => {
            let link = rusqlite::Connection::open(lab.url.strip_prefix("sqlite:").unwrap()).unwrap();
            link.busy_timeout(Duration::from_secs(10)).unwrap();
            link.execute_batch(sql).unwrap();
        }
        Engine::Postgres => {
            let (link, work) = tokio_postgres::connect(&lab.url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(work);
            link.batch_execute(sql).await.unwrap();
        }
    }
}

async fn sql_15_a_broken_transaction_is_done_once_as_a_whole(lab: Lab) {
    let text: String = (1..=4).map(|n| format!("INSERT INTO effects VALUES ({n}, 'x');")).collect();
    for (round, point) in [FaultPoint::Ran, FaultPoint::Recorded, FaultPoint::Committed].into_iter().enumerate() {
        let fence = 10 * round as u64 + 1;
        let job = format!("{point:?}");
        lab.green(&format!("clean {job}"), fence, "DELETE FROM effects;").await;
        let mut options = ExecuteOptions::new(&job, fence).on_error(OnError::Transaction);
        options.faults = Some(Arc::new(move |at, statement| at == point && statement == 4));
        let broken =
            lab.db.execute(&lab.script(&text), &options, database::unobserved(), CancellationToken::new()).await;
        assert!(broken.is_err());
        let report = lab.run(&ExecuteOptions::new(&job, fence + 1).on_error(OnError::Transaction), &text).await;
        assert!(report.is_green(), "{report:?}");
        for n in 1..=4 {
            assert_eq!(lab.effects(n).await, 1, "{job}");
        }
    }
}

async fn settings_of_a_broken_run_hold_in_the_next_one(lab: Lab) {
    let text = match lab.engine {
        Engine::Sqlite => {
            "PRAGMA foreign_keys = ON; CREATE TABLE a (x INTEGER PRIMARY KEY); \
             CREATE TABLE b (x INTEGER REFERENCES a (x)); INSERT INTO b VALUES (1);"
        }
        Engine::Postgres => {
            "CREATE SCHEMA other; SET search_path = other; CREATE TABLE other.t (x INTEGER); INSERT INTO t VALUES (1);"
        }
    };
    let mut options = ExecuteOptions::new("j", 1);
    options.faults = Some(Arc::new(|at, statement| at == FaultPoint::Committed && statement == 3));
    let broken = lab.db.execute(&lab.script(text), &options, database::unobserved(), CancellationToken::new()).await;
    assert!(broken.is_err());
    let report = lab.run(&ExecuteOptions::new("j", 2), text).await;
    let expected = if lab.engine == Engine::Sqlite { "SQLITE_CONSTRAINT" } else { "ok" };
    assert_eq!(codes(&report.statements)[3], expected, "{report:?}");
}

async fn temporary_tables_of_a_broken_run_are_missed_not_guessed(lab: Lab) {
    let text = "CREATE TEMP TABLE effects (n INTEGER, t TEXT); INSERT INTO effects VALUES (2, 'temporary');";
    let mut options = ExecuteOptions::new("j", 1);
    options.faults = Some(Arc::new(|at, statement| at == FaultPoint::Committed && statement == 1));
    let broken = lab.db.execute(&lab.script(text), &options, database::unobserved(), CancellationToken::new()).await;
    assert!(broken.is_err());
    let report = lab.run(&ExecuteOptions::new("j", 2), text).await;
    assert_eq!(codes(&report.statements), ["ok", "session_lost"]);
    assert_eq!(lab.effects(2).await, 0, "it went to the lasting table of the same name");
}

const KILLED: u32 = 120;

fn killed_script(engine: Engine) -> String {
    let alone = match engine {
        Engine::Sqlite => "VACUUM".to_owned(),
        Engine::Postgres => "VACUUM effects".to_owned(),
    };
    (1..=KILLED)
        .map(|n| match n % 10 {
            0 => format!("{alone};\n"),
            _ => format!("INSERT INTO effects VALUES ({n}, 'x');\n"),
        })
        .collect()
}

/// The killed process: runs the script of its environment.
pub(crate) fn child() {
    let Ok(url) = std::env::var("KILLED_URL") else { return };
    let fence: u64 = std::env::var("KILLED_FENCE").unwrap().parse().unwrap();
    let engine = if url.starts_with("sqlite") { Engine::Sqlite } else { Engine::Postgres };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let db = database::open(&DatabaseUrl::parse(&url, &Secrets::default()).unwrap()).unwrap();
        let script = Script::parse(db.dialect(), &killed_script(engine)).unwrap();
        let options = ExecuteOptions::new("killed", fence);
        db.execute(&script, &options, database::unobserved(), CancellationToken::new()).await.unwrap();
    });
}

async fn sql_15_a_killed_process_never_repeats_a_statement(lab: Lab) {
    let mut fence = 0;
    let mut kills = 0;
    // Each round kills the child a few statements further on.
    for round in 1..=8_u64 {
        fence += 1;
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child_that_is_killed", "--ignored", "--nocapture"])
            .env("KILLED_URL", &lab.url)
            .env("KILLED_FENCE", fence.to_string())
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut ended = false;
        while lab.count("SELECT 1 FROM effects").await < round * 12 {
            if child.try_wait().unwrap().is_some() {
                ended = true;
                break;
            }
        }
        if !ended {
            child.kill().await.unwrap();
            kills += 1;
        }
    }
    let report = lab.run(&ExecuteOptions::new("killed", fence + 1), &killed_script(lab.engine)).await;
    assert!(kills >= 2, "only {kills} kills hit a running child");
    assert_eq!(report.statements.len(), KILLED as usize);
    for outcome in &report.statements {
        let times = lab.effects(outcome.index).await;
        let expected = u64::from(outcome.index % 10 != 0);
        assert_eq!(times, expected, "statement {}: {outcome:?}", outcome.index);
        assert!(outcome.ok || (outcome.unknown && outcome.index % 10 == 0), "{outcome:?}");
    }
}
