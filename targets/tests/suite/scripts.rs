//! Policies for failures, limits, cancelling, and scripts that try to break out.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leasehold_targets::database::{self, ExecuteOptions, OnError, StatementOutcome, Stopped};
use tokio_util::sync::CancellationToken;

use crate::lab::{Case, Engine, Lab, cases, codes};

pub(crate) fn cases() -> Vec<Case> {
    cases![
        sql_13_ac_084_continue_goes_on_after_a_failure,
        sql_13_stop_runs_nothing_after_a_failure,
        sql_13_transaction_is_all_or_nothing,
        sql_13_transaction_refuses_what_cannot_be_undone,
        a_stale_fence_runs_nothing,
        a_newer_holder_ends_the_run_of_an_older_one,
        a_changed_script_is_refused,
        a_slow_statement_is_ended_by_its_limit,
        cancel_between_statements_stops_and_reports,
        cancel_ends_a_long_statement_and_undoes_it,
        a_block_of_the_script_fails_as_one,
        a_savepoint_of_the_script_can_be_gone_back_to,
        a_transaction_without_commit_is_undone_and_red,
        control_words_without_a_transaction_are_red,
        too_many_rows_are_refused,
        outcomes_say_line_rows_and_error,
        sixty_mixed_statements_keep_their_order,
        a_script_cannot_touch_the_proof,
        a_deferred_failure_at_commit_is_the_statements_failure,
        markers_survive_and_can_be_forgotten,
    ]
}

fn alone(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "VACUUM",
        Engine::Postgres => "VACUUM effects",
    }
}

/// A statement that takes longer than any test waits.
fn endless(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => {
            "INSERT INTO effects WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000000000) \
             SELECT count(*), 'endless' FROM c"
        }
        Engine::Postgres => "INSERT INTO effects SELECT 1, pg_sleep(600)::text",
    }
}

async fn sql_13_ac_084_continue_goes_on_after_a_failure(lab: Lab) {
    let text =
        "INSERT INTO effects VALUES (1, 'x');\nINSERT INTO nowhere VALUES (2);\nINSERT INTO effects VALUES (3, 'x');";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    assert_eq!((report.colour(), report.stopped), ("red", None));
    assert_eq!(report.statements.iter().map(|s| s.ok).collect::<Vec<_>>(), [true, false, true]);
    let error = report.statements[1].error.clone().unwrap();
    assert!(error.text.contains("nowhere"), "{error:?}");
    assert_eq!((lab.effects(1).await, lab.effects(3).await), (1, 1));
}

async fn sql_13_stop_runs_nothing_after_a_failure(lab: Lab) {
    let text =
        "INSERT INTO effects VALUES (1, 'x'); INSERT INTO nowhere VALUES (2); INSERT INTO effects VALUES (3, 'x');";
    let options = ExecuteOptions::new("j", 1).on_error(OnError::Stop);
    for found in [0, 2] {
        let report = lab.run(&options, text).await;
        assert_eq!((report.statements.len(), report.stopped, report.found), (2, Some(Stopped::Failed), found));
        assert_eq!((lab.effects(1).await, lab.effects(3).await), (1, 0));
    }
}

async fn sql_13_transaction_is_all_or_nothing(lab: Lab) {
    let text = "INSERT INTO effects VALUES (1, 'x'); CREATE TABLE made (x INTEGER); INSERT INTO nowhere VALUES (2); \
                INSERT INTO effects VALUES (4, 'x');";
    let options = ExecuteOptions::new("j", 1).on_error(OnError::Transaction);
    for _ in 0..2 {
        let report = lab.run(&options, text).await;
        assert_eq!(report.stopped, Some(Stopped::Failed));
        let codes = codes(&report.statements);
        assert_eq!((codes.len(), &codes[0][..], &codes[1][..]), (3, "rolled_back", "rolled_back"));
        assert_eq!((lab.effects(1).await, lab.effects(4).await), (0, 0));
    }
    lab.run(
        &ExecuteOptions::new("k", 1).on_error(OnError::Transaction),
        "CREATE TABLE made (x INTEGER); INSERT INTO effects VALUES (7, 'x')",
    )
    .await;
    assert_eq!(lab.effects(7).await, 1);
}

async fn sql_13_transaction_refuses_what_cannot_be_undone(lab: Lab) {
    for (job, text, code) in [
        ("a", format!("INSERT INTO effects VALUES (1, 'x'); {}", alone(lab.engine)), "not_in_transaction"),
        ("b", "INSERT INTO effects VALUES (1, 'x'); COMMIT".to_owned(), "nested_transaction"),
    ] {
        let report = lab.run(&ExecuteOptions::new(job, 1).on_error(OnError::Transaction), &text).await;
        assert_eq!(codes(&report.statements), [code]);
        assert_eq!(report.statements[0].index, 2);
        assert_eq!(lab.effects(1).await, 0);
    }
}

async fn a_stale_fence_runs_nothing(lab: Lab) {
    lab.green("j", 5, "INSERT INTO effects VALUES (1, 'x')").await;
    let script = lab.script("INSERT INTO effects VALUES (2, 'x')");
    let old = ExecuteOptions::new("k", 4);
    let error = lab.db.execute(&script, &old, database::unobserved(), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("fence 4") && error.to_string().contains('5'), "{error}");
    assert_eq!((error.code(), error.is_transient()), ("target_stale_fence", false));
    assert_eq!(lab.effects(2).await, 0);
}

/// The older run is in the middle of its script when the newer one comes; whatever it does next must not count.
async fn a_newer_holder_ends_the_run_of_an_older_one(lab: Lab) {
    let text: String = (1..=5).map(|n| format!("INSERT INTO effects VALUES ({n}, 'x');")).collect();
    let script = lab.script(&text);
    let (db, newer) = (Arc::clone(&lab.db), script.clone());
    let handle = tokio::runtime::Handle::current();
    // After its second statement the older run pauses, as a stopped process would, until the newer one is done.
    let paused: database::OnStatement = Arc::new(move |outcome: &StatementOutcome| {
        if outcome.index == 2 {
            let (db, script) = (Arc::clone(&db), newer.clone());
            let other = handle.spawn(async move {
                db.execute(&script, &ExecuteOptions::new("j", 2), database::unobserved(), CancellationToken::new())
                    .await
            });
            let report = tokio::task::block_in_place(|| handle.block_on(other)).unwrap().unwrap();
            assert!(report.is_green() && report.found == 2, "{report:?}");
        }
    });
    let older = lab.db.execute(&script, &ExecuteOptions::new("j", 1), paused, CancellationToken::new()).await;
    let error = older.unwrap_err();
    assert!(["target_stale_fence", "target_unreachable"].contains(&error.code()), "{error}");
    for n in 1..=5 {
        assert_eq!(lab.effects(n).await, 1);
    }
}

async fn a_changed_script_is_refused(lab: Lab) {
    lab.green("j", 1, "INSERT INTO effects VALUES (1, 'x')").await;
    let script = lab.script("INSERT INTO effects VALUES (2, 'x')");
    let options = ExecuteOptions::new("j", 2);
    let error = lab.db.execute(&script, &options, database::unobserved(), CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.code(), "target_script_changed");
    assert_eq!(lab.effects(2).await, 0);
}

async fn a_slow_statement_is_ended_by_its_limit(lab: Lab) {
    let text = format!("{}; INSERT INTO effects VALUES (2, 'x');", endless(lab.engine));
    let options = ExecuteOptions::new("j", 1).statement_timeout(Duration::from_millis(300));
    let report = lab.run(&options, &text).await;
    assert_eq!(codes(&report.statements), ["statement_timeout", "ok"]);
    assert_eq!((lab.count("SELECT 1 FROM effects").await, lab.effects(2).await), (1, 1));
}

async fn cancel_between_statements_stops_and_reports(lab: Lab) {
    let text: String = (1..=5).map(|n| format!("INSERT INTO effects VALUES ({n}, 'x');")).collect();
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let observer: database::OnStatement = Arc::new(move |outcome: &StatementOutcome| {
        if outcome.index == 2 {
            stop.cancel();
        }
    });
    let report = lab.db.execute(&lab.script(&text), &ExecuteOptions::new("j", 1), observer, cancel).await.unwrap();
    assert_eq!((report.statements.len(), report.stopped, report.colour()), (2, Some(Stopped::Cancelled), "red"));
    assert_eq!((lab.effects(2).await, lab.effects(3).await), (1, 0));
}

async fn cancel_ends_a_long_statement_and_undoes_it(lab: Lab) {
    let text =
        format!("INSERT INTO effects VALUES (7, 'x'); {}; INSERT INTO effects VALUES (8, 'x');", endless(lab.engine));
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let observer: database::OnStatement = Arc::new(move |_: &StatementOutcome| {
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            stop.cancel();
        });
    });
    let started = Instant::now();
    let report = lab.db.execute(&lab.script(&text), &ExecuteOptions::new("j", 1), observer, cancel).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!((report.statements.len(), report.stopped), (1, Some(Stopped::Cancelled)));
    assert_eq!((lab.effects(7).await, lab.count("SELECT 1 FROM effects").await), (1, 1));
    assert_eq!(lab.db.recorded("j").await.unwrap().len(), 1);
}

async fn a_block_of_the_script_fails_as_one(lab: Lab) {
    let text = "BEGIN; INSERT INTO effects VALUES (2, 'x'); INSERT INTO nowhere VALUES (3); \
                INSERT INTO effects VALUES (4, 'x'); COMMIT; INSERT INTO effects VALUES (6, 'x');";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    let codes = codes(&report.statements);
    assert_eq!((&codes[0][..], &codes[1][..], &codes[3][..]), ("rolled_back", "rolled_back", "skipped"));
    assert_eq!((&codes[4][..], &codes[5][..]), ("rolled_back", "ok"));
    assert_eq!((lab.effects(2).await, lab.effects(4).await, lab.effects(6).await), (0, 0, 1));
    let undone = lab.run(&ExecuteOptions::new("k", 1), "BEGIN; INSERT INTO effects VALUES (8, 'x'); ROLLBACK;").await;
    assert!(undone.is_green());
    assert_eq!(lab.effects(8).await, 0);
}

async fn a_savepoint_of_the_script_can_be_gone_back_to(lab: Lab) {
    let text = "BEGIN; INSERT INTO effects VALUES (2, 'x'); SAVEPOINT a; INSERT INTO nowhere VALUES (4); \
                ROLLBACK TO SAVEPOINT a; INSERT INTO effects VALUES (6, 'x'); RELEASE SAVEPOINT a; COMMIT;";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    assert_eq!(report.statements.iter().filter(|s| !s.ok).map(|s| s.index).collect::<Vec<_>>(), [4], "{report:#?}");
    assert_eq!((lab.effects(2).await, lab.effects(6).await), (1, 1));
}

async fn a_transaction_without_commit_is_undone_and_red(lab: Lab) {
    let report = lab.run(&ExecuteOptions::new("j", 1), "BEGIN; INSERT INTO effects VALUES (2, 'x');").await;
    assert_eq!(codes(&report.statements), ["no_commit", "no_commit"]);
    assert_eq!(lab.effects(2).await, 0);
}

async fn control_words_without_a_transaction_are_red(lab: Lab) {
    let text = "COMMIT; ROLLBACK; SAVEPOINT a; RELEASE a; INSERT INTO effects VALUES (5, 'x'); \
                BEGIN; BEGIN; INSERT INTO effects VALUES (8, 'x'); COMMIT";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    let codes = codes(&report.statements);
    assert!(codes[..4].iter().all(|code| code == "no_transaction"), "{codes:?}");
    assert_eq!((&codes[4][..], &codes[6][..]), ("ok", "nested_transaction"));
    assert_eq!((lab.effects(5).await, lab.effects(8).await), (1, 0));
}

async fn too_many_rows_are_refused(lab: Lab) {
    let text = "INSERT INTO effects VALUES (1, 'a'), (1, 'b'), (1, 'c'); SELECT * FROM effects; SELECT 1;";
    let report = lab.run(&ExecuteOptions::new("j", 1).max_rows(2), text).await;
    let codes = codes(&report.statements);
    assert_eq!((&codes[1][..], &codes[2][..]), ("too_many_rows", "ok"), "{report:?}");
}

async fn outcomes_say_line_rows_and_error(lab: Lab) {
    let text = "-- first\nINSERT INTO effects\nVALUES (1, 'a'), (2, 'b');\n\nUPDATE effects SET t = 'z';\nSELECT * FROM effects;\n\
                CREATE TABLE made (x INTEGER);\nSELECT n,\n  nothing\nFROM effects;";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    let facts: Vec<_> = report.statements.iter().map(|s| (s.index, s.line, s.rows)).collect();
    assert_eq!(facts, [(1, 2, Some(2)), (2, 5, Some(2)), (3, 6, Some(2)), (4, 7, None), (5, 8, None)]);
    assert_eq!(report.statements[4].error.as_ref().unwrap().line, Some(9), "{report:?}");
    assert_eq!(report.statements[0].head, "INSERT INTO effects VALUES (1, 'a'), (2, 'b')");
}

async fn sixty_mixed_statements_keep_their_order(lab: Lab) {
    let text: String = (1..=60)
        .map(|n| match n % 6 {
            1 => format!("CREATE TABLE t{n} (x INTEGER);\n"),
            2 => format!("INSERT INTO t{} VALUES ({n});\n", n - 1),
            3 => format!("INSERT INTO missing{n} VALUES (1);\n"),
            4 => format!("ALTER TABLE t{} ADD COLUMN y INTEGER;\n", n - 3),
            5 => format!("UPDATE t{} SET y = x;\n", n - 4),
            _ => format!("{};\n", alone(lab.engine)),
        })
        .collect();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    let observer: database::OnStatement =
        Arc::new(move |outcome: &StatementOutcome| all.lock().unwrap().push(outcome.index));
    let options = ExecuteOptions::new("j", 1);
    let report = lab.db.execute(&lab.script(&text), &options, observer, CancellationToken::new()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), (1..=60).collect::<Vec<u32>>());
    for outcome in &report.statements {
        assert_eq!(outcome.ok, outcome.index % 6 != 3, "{outcome:?}");
    }
}

async fn a_script_cannot_touch_the_proof(lab: Lab) {
    let attacks: &[&str] = match lab.engine {
        Engine::Sqlite => &[
            "DELETE FROM leasehold_statements",
            "CREATE TEMP TABLE leasehold_statements (job TEXT)",
            "CREATE TRIGGER x AFTER INSERT ON [leasehold_statements] BEGIN SELECT 1; END",
            "PRAGMA writable_schema = ON",
            "PRAGMA journal_mode = OFF",
            "PRAGMA query_only = ON",
            "ATTACH 'other.db' AS other",
            "SELECT load_extension('x')",
            "ROLLBACK TO leasehold_statement",
        ],
        Engine::Postgres => &[
            "DELETE FROM leasehold.statements",
            "DROP SCHEMA leasehold CASCADE",
            "SET search_path = leasehold",
            "DO $$ BEGIN DELETE FROM leasehold.statements; END $$",
            "SELECT set_config('search_path', 'leasehold', false)",
            "TRUNCATE \"leasehold\".fence",
            "PREPARE TRANSACTION 'x'",
            "SELECT 1/0",
        ],
    };
    for (at, attack) in attacks.iter().enumerate() {
        let job = format!("attack {at}");
        let text = format!(
            "INSERT INTO effects VALUES ({at}, 'before'); {attack}; INSERT INTO effects VALUES ({at}, 'after');"
        );
        let report = lab.run(&ExecuteOptions::new(&job, 1), &text).await;
        assert!(report.statements.iter().any(|s| !s.ok), "{attack} was run: {report:?}");
        let again = lab.run(&ExecuteOptions::new(&job, 1), &text).await;
        assert_eq!(again.found, again.total, "{attack}");
        assert_eq!(lab.effects(u32::try_from(at).unwrap()).await, 2, "{attack}: {report:?}");
    }
}

async fn a_deferred_failure_at_commit_is_the_statements_failure(lab: Lab) {
    let on = if lab.engine == Engine::Sqlite { "PRAGMA foreign_keys = ON;" } else { "SELECT 1;" };
    let text = format!(
        "{on} CREATE TABLE a (x INTEGER PRIMARY KEY); \
         CREATE TABLE b (x INTEGER REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED); \
         INSERT INTO b VALUES (1); INSERT INTO effects VALUES (5, 'x');"
    );
    let report = lab.run(&ExecuteOptions::new("j", 1), &text).await;
    assert_eq!(report.statements.iter().filter(|s| !s.ok).map(|s| s.index).collect::<Vec<_>>(), [4], "{report:#?}");
    assert_eq!((lab.count("SELECT 1 FROM b").await, lab.effects(5).await), (0, 1));
}

async fn markers_survive_and_can_be_forgotten(lab: Lab) {
    let report = lab.green("j", 1, "INSERT INTO effects VALUES (1, 'x'); INSERT INTO effects VALUES (2, 'y')").await;
    assert_eq!(lab.db.recorded("j").await.unwrap(), report.statements);
    assert_eq!(lab.db.recorded("other").await.unwrap(), []);
    assert_eq!(lab.db.clear_markers("j").await.unwrap(), 2);
    assert_eq!(lab.db.recorded("j").await.unwrap(), []);
}
