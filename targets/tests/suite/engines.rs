//! What only one engine can do wrong.

use std::time::Duration;

use leasehold_targets::database::{BackupPlan, ExecuteOptions, quiet};
use tokio_util::sync::CancellationToken;

use crate::lab::{Case, Lab, cases, codes};

pub(crate) fn sqlite() -> Vec<Case> {
    cases![the_last_row_id_is_the_scripts_own, a_backup_of_a_busy_file_is_one_snapshot]
}

pub(crate) fn postgres() -> Vec<Case> {
    cases![
        settings_of_a_script_do_not_reach_our_statements,
        a_search_path_cannot_lead_markers_elsewhere,
        what_says_25001_is_run_alone,
        a_deadlock_is_tried_again,
        a_read_only_block_is_green,
        two_statements_in_one_text_are_never_run,
        nothing_is_left_beside_a_restored_database,
    ]
}

async fn the_last_row_id_is_the_scripts_own(lab: Lab) {
    let text = "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (a INTEGER); INSERT INTO a VALUES (41); \
                INSERT INTO b VALUES (last_insert_rowid());";
    lab.green("j", 1, text).await;
    assert_eq!(lab.count("SELECT 1 FROM b WHERE a = 41").await, 1);
}

async fn a_backup_of_a_busy_file_is_one_snapshot(lab: Lab) {
    let many: String = (0..3000).map(|n| format!("INSERT INTO effects VALUES ({n}, '{}');", "x".repeat(500))).collect();
    lab.green("j", 1, &format!("BEGIN; {many} COMMIT;")).await;
    let path = lab.url.strip_prefix("sqlite:").unwrap().to_owned();
    let writer = std::sync::Mutex::new(rusqlite::Connection::open(path).unwrap());
    let progress = std::sync::Arc::new(move |_| {
        writer.lock().unwrap().execute("INSERT INTO effects VALUES (-1, 'late')", []).unwrap();
    });
    let plan = BackupPlan { dest: lab.path("b"), job: "b".to_owned() };
    let facts = lab.db.backup(&plan, progress, CancellationToken::new()).await.unwrap();
    assert_eq!(facts.tables["effects"], 3000);
    assert!(lab.count("SELECT 1 FROM effects WHERE n = -1").await > 0);
}

async fn settings_of_a_script_do_not_reach_our_statements(lab: Lab) {
    let text = "CREATE ROLE nobody_x; SET ROLE nobody_x; SELECT 1; RESET ROLE; \
        SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SELECT 2; \
        SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; \
        SET default_transaction_isolation = 'serializable'; SET statement_timeout = '1ms'; SET lock_timeout = '1ms'; \
        SET standard_conforming_strings = off; SET session_replication_role = replica; SET TRANSACTION READ ONLY; \
        SET client_min_messages = error; SET constraint_exclusion = off; RESET ALL; \
        SET SESSION AUTHORIZATION nobody_x; SELECT 3; RESET SESSION AUTHORIZATION; DROP ROLE nobody_x; \
        DISCARD ALL; INSERT INTO effects VALUES (1, 'x');";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    assert!(report.is_green(), "{report:#?}");
    assert_eq!(lab.db.recorded("j").await.unwrap().len(), report.statements.len());
    assert_eq!(lab.effects(1).await, 1);
}

async fn a_search_path_cannot_lead_markers_elsewhere(lab: Lab) {
    let text = "CREATE SCHEMA evil;
        CREATE TABLE evil.statements (job text, idx integer, fence bigint, state text, digest text, outcome text);
        CREATE TABLE evil.fence (one integer, fence bigint);
        CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR evil.<= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.eq);
        CREATE FUNCTION evil.convert_from(bytea, text) RETURNS text LANGUAGE sql AS $$SELECT 'fake'::text$$;
        CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$SELECT 'epoch'::timestamptz$$;
        SET search_path = evil, pg_catalog, public;
        CREATE TEMP TABLE statements (x integer);
        INSERT INTO effects VALUES (1, 'x');
        INSERT INTO public.effects VALUES (2, 'x');";
    let report = lab.green("j", 3, text).await;
    assert_eq!(lab.db.recorded("j").await.unwrap(), report.statements);
    assert_eq!(lab.count("SELECT 1 FROM evil.statements").await, 0);
    assert_eq!(lab.count("SELECT 1 FROM leasehold.statements WHERE job = 'j'").await, 11);
    let again = lab.run(&ExecuteOptions::new("j", 3), text).await;
    assert_eq!((again.found, lab.effects(2).await), (11, 1));
}

async fn what_says_25001_is_run_alone(lab: Lab) {
    let text = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO effects VALUES (1, 'x'); COMMIT; \
                INSERT INTO effects VALUES (2, 'x'); END $$; CALL p(); \
                DO $$ BEGIN INSERT INTO effects VALUES (3, 'x'); COMMIT; END $$; \
                CREATE DATABASE other_of_25001; DROP DATABASE other_of_25001; VACUUM; \
                BEGIN; VACUUM; COMMIT;";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    assert_eq!(codes(&report.statements)[..6], ["ok"; 6]);
    assert_eq!(codes(&report.statements)[7], "25001");
    for n in 1..=3 {
        assert_eq!(lab.effects(n).await, 1);
    }
}

async fn a_deadlock_is_tried_again(lab: Lab) {
    lab.green(
        "set",
        1,
        "CREATE TABLE a (x integer); CREATE TABLE b (x integer); INSERT INTO a VALUES (0); INSERT INTO b VALUES (0)",
    )
    .await;
    let (other, work) = tokio_postgres::connect(&lab.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(work);
    // The other session waits longer before it looks for a deadlock, so that ours is the victim.
    other.batch_execute("SET deadlock_timeout = '20s'; BEGIN; UPDATE b SET x = x + 100").await.unwrap();
    let text = "DO $$ BEGIN UPDATE a SET x = x + 1; UPDATE b SET x = x + 1; END $$";
    let (options, script) = (ExecuteOptions::new("j", 1), lab.script(text));
    let ours = lab.db.execute(&script, &options, leasehold_targets::database::unobserved(), CancellationToken::new());
    let theirs = async {
        while lab.count("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'").await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        other.batch_execute("UPDATE a SET x = x + 100; COMMIT").await.unwrap();
    };
    let (report, ()) = tokio::join!(ours, theirs);
    assert!(report.as_ref().unwrap().is_green(), "{report:?}");
    assert_eq!(lab.count("SELECT 1 FROM a JOIN b ON a.x = 101 AND b.x = 101").await, 1);
}

async fn a_read_only_block_is_green(lab: Lab) {
    let report = lab.green("j", 1, "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY; SELECT 1; COMMIT;").await;
    assert_eq!(report.statements[1].rows, Some(1));
    lab.green(
        "k",
        1,
        "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; INSERT INTO effects VALUES (1, 'x'); COMMIT;",
    )
    .await;
}

async fn two_statements_in_one_text_are_never_run(lab: Lab) {
    // The splitter keeps what lies in parentheses together; the server must not run its second half.
    let text = "SELECT (1; INSERT INTO effects VALUES (1, 'x'); COMMIT";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    assert_eq!(codes(&report.statements), ["42601"]);
    assert_eq!(lab.effects(1).await, 0);
}

async fn nothing_is_left_beside_a_restored_database(lab: Lab) {
    lab.green("j", 1, "INSERT INTO effects VALUES (1, 'x')").await;
    let plan = BackupPlan { dest: lab.path("b"), job: "b".to_owned() };
    let facts = lab.db.backup(&plan, quiet(), CancellationToken::new()).await.unwrap();
    // Somebody stays connected, and a paused older restore has left its database.
    let (idle, work) = tokio_postgres::connect(&lab.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(work);
    let name = lab.url.rsplit('/').next().unwrap().to_owned();
    idle.batch_execute(&format!("CREATE DATABASE {name}__r_1")).await.unwrap();
    let restore = leasehold_targets::database::RestorePlan {
        source: plan.dest.clone(),
        sha256: Some(facts.sha256),
        job: "r".to_owned(),
        fence: 2,
    };
    lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert!(idle.simple_query("SELECT 1").await.is_err(), "an old session reads the old database");
    let left = format!("SELECT 1 FROM pg_database WHERE datname LIKE '{name}\\_\\_%'");
    assert_eq!(lab.count(&left).await, 0);
    assert!(lab.server.is_some());
}
