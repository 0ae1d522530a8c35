//! What only one engine can do wrong.

use std::time::Duration;

use leasehold_targets::Secrets;
use leasehold_targets::database::{self, BackupPlan, DatabaseUrl, ExecuteOptions, Progress, RestorePlan, quiet};
use tokio_util::sync::CancellationToken;

use crate::lab::{Case, Lab, cases, codes};

/// The connection limit by which a restore knows the databases that it has made.
const MARK: i32 = 1_279_607_123;

pub(crate) fn sqlite() -> Vec<Case> {
    cases![
        the_last_row_id_is_the_scripts_own,
        a_backup_of_a_busy_file_is_one_snapshot,
        rows_without_their_parents_are_copied_as_they_are,
        a_restore_does_not_wait_for_ever_for_a_writer,
    ]
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
        a_restore_drops_no_database_of_somebody_else,
        a_restored_database_is_set_up_as_before,
        objects_of_roles_that_are_gone_go_to_the_owner,
        what_a_plain_login_may_not_set_is_named,
        tables_whose_names_look_alike_are_told_apart,
        a_script_that_ends_its_own_session_goes_on_in_the_last_attempt,
        what_speaks_with_a_client_is_refused_in_clear_words,
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

async fn rows_without_their_parents_are_copied_as_they_are(lab: Lab) {
    let text = "CREATE TABLE a (x INTEGER PRIMARY KEY); CREATE TABLE b (x INTEGER REFERENCES a (x))";
    lab.green("j", 1, text).await;
    // As most programs open a file: SQLite looks at foreign keys only where it is told to.
    let link = rusqlite::Connection::open(lab.url.strip_prefix("sqlite:").unwrap()).unwrap();
    link.execute_batch("PRAGMA foreign_keys = OFF; INSERT INTO b VALUES (7)").unwrap();
    drop(link);
    let restore = restoring(&lab, 2).await;
    lab.db.verify(&restore.source, restore.sha256.as_deref()).await.unwrap();
    lab.green("k", 1, "DELETE FROM b").await;
    let facts = lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert_eq!(facts.notes, ["1 rows refer to rows that do not exist, as in the backup"]);
    assert_eq!(lab.count("SELECT 1 FROM b").await, 1);
}

async fn a_restore_does_not_wait_for_ever_for_a_writer(lab: Lab) {
    lab.green("j", 1, "INSERT INTO effects VALUES (1, 'x')").await;
    let restore = restoring(&lab, 2).await;
    lab.green("k", 1, "DELETE FROM effects").await;
    let path = lab.url.strip_prefix("sqlite:").unwrap().to_owned();
    let writer = std::sync::Arc::new(std::sync::Mutex::new(None));
    let held = std::sync::Arc::clone(&writer);
    let progress = std::sync::Arc::new(move |step: Progress| {
        if step.text == "writing the new content" {
            let link = rusqlite::Connection::open(&path).unwrap();
            link.execute_batch("BEGIN IMMEDIATE; INSERT INTO effects VALUES (5, 'theirs')").unwrap();
            *held.lock().unwrap() = Some(link);
        }
    });
    let refused = lab.db.restore(&restore, progress, CancellationToken::new()).await.unwrap_err();
    assert!(refused.code() == "target_busy" && refused.is_transient(), "{refused}");
    writer.lock().unwrap().take().unwrap().execute_batch("COMMIT").unwrap();
    assert_eq!((lab.effects(1).await, lab.effects(5).await), (0, 1), "the old content is as it was");
    lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert_eq!((lab.effects(1).await, lab.effects(5).await), (1, 0));
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

/// A session of a database of the case's server, outside of all rules.
async fn session(url: &str) -> tokio_postgres::Client {
    let (link, work) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(work);
    link
}

fn name_of(lab: &Lab) -> String {
    lab.url.rsplit('/').next().unwrap().to_owned()
}

fn beside(lab: &Lab, database: &str) -> String {
    format!("{}/{database}", lab.url.rsplit_once('/').unwrap().0)
}

async fn restoring(lab: &Lab, fence: u64) -> RestorePlan {
    let plan = BackupPlan { dest: lab.path(&format!("b{fence}")), job: "b".to_owned() };
    let facts = lab.db.backup(&plan, quiet(), CancellationToken::new()).await.unwrap();
    RestorePlan { source: plan.dest, sha256: Some(facts.sha256), job: "r".to_owned(), fence }
}

async fn nothing_is_left_beside_a_restored_database(lab: Lab) {
    lab.green("j", 1, "INSERT INTO effects VALUES (1, 'x')").await;
    let restore = restoring(&lab, 2).await;
    // Somebody stays connected, and a paused older restore has left its databases, with our mark.
    let (idle, name) = (session(&lab.url).await, name_of(&lab));
    for left in ["__r_1", "__old_1"] {
        idle.batch_execute(&format!("CREATE DATABASE {name}{left} CONNECTION LIMIT {MARK}")).await.unwrap();
    }
    lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert!(idle.simple_query("SELECT 1").await.is_err(), "an old session reads the old database");
    let left = format!("SELECT 1 FROM pg_database WHERE datname LIKE '{name}\\_\\_%'");
    assert_eq!(lab.count(&left).await, 0);
    assert!(lab.server.is_some());
}

async fn a_restore_drops_no_database_of_somebody_else(lab: Lab) {
    lab.green("j", 1, "INSERT INTO effects VALUES (1, 'x')").await;
    let mut restore = restoring(&lab, 0x2024).await;
    lab.green("k", 2, "DELETE FROM effects").await;
    let (link, name) = (session(&lab.url).await, name_of(&lab));
    // As an administrator would name them; the last two are what this restore would make.
    let theirs = ["__old_2023", "__r_1", "__old_2024", "__r_2024"];
    for suffix in theirs {
        link.batch_execute(&format!("CREATE DATABASE {name}{suffix}")).await.unwrap();
        let inside = session(&beside(&lab, &format!("{name}{suffix}"))).await;
        inside.batch_execute("CREATE TABLE precious (x integer)").await.unwrap();
    }
    let refused = lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap_err();
    assert!(refused.code() == "target_busy" && refused.is_transient(), "{refused}");
    assert_eq!(lab.effects(1).await, 0);
    restore.fence += 1;
    lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert_eq!(lab.effects(1).await, 1);
    assert!(lab.db.destroy(0x2026).await.unwrap());
    for suffix in theirs {
        let inside = session(&beside(&lab, &format!("{name}{suffix}"))).await;
        inside.batch_execute("SELECT x FROM precious").await.unwrap();
        inside.batch_execute(&format!("ALTER DATABASE {name}{suffix} CONNECTION LIMIT -1")).await.unwrap();
    }
}

/// Everything about a database that its content does not tell.
const SET_UP: &str = "SELECT pg_catalog.concat_ws('|', pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype, \
    datlocprovider, daticulocale, pg_catalog.pg_get_userbyid(datdba), datconnlimit, datacl::text, \
    pg_catalog.shobj_description(d.oid, 'pg_database'), (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', \
    pg_catalog.pg_get_userbyid(setrole), setconfig::text), ', ' ORDER BY setrole) FROM pg_catalog.pg_db_role_setting \
    WHERE setdatabase = d.oid)) FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()";

async fn set_up(lab: &Lab) -> String {
    let shown: String = session(&lab.url).await.query_one(SET_UP, &[]).await.unwrap().get(0);
    // Each restore has a fence of its own.
    shown.split("leasehold.fence=").map(|piece| piece.trim_start_matches(|c: char| c.is_ascii_digit())).collect()
}

/// Makes the case's database anew, of another sort, with a role that owns it and one that may only read.
async fn make_particular(lab: &Lab) -> String {
    let (link, name) = (session(&beside(lab, "postgres")).await, name_of(lab));
    let statements = [
        format!("CREATE ROLE {name}_app LOGIN"),
        format!("CREATE ROLE {name}_reader LOGIN"),
        format!("DROP DATABASE {name} WITH (FORCE)"),
        format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'POSIX' LC_CTYPE 'POSIX' OWNER {name}_app"
        ),
        format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
        format!("GRANT CONNECT ON DATABASE {name} TO {name}_reader WITH GRANT OPTION"),
        format!("ALTER DATABASE {name} CONNECTION LIMIT 50"),
        format!("COMMENT ON DATABASE {name} IS 'it''s the shop''s \\ own'"),
        format!("ALTER DATABASE {name} SET search_path = \"$user\", public, \"odd, one\""),
        format!("ALTER DATABASE {name} SET work_mem = '7MB'"),
        format!("ALTER ROLE {name}_reader IN DATABASE {name} SET statement_timeout = '9s'"),
    ];
    for sql in statements {
        link.batch_execute(&sql).await.unwrap();
    }
    let app = session(&lab.url.replace("postgres@", &format!("{name}_app@"))).await;
    app.batch_execute(&format!(
        "CREATE TABLE goods (t text); INSERT INTO goods VALUES ('caf\u{e9}'); \
        GRANT SELECT ON goods TO {name}_reader"
    ))
    .await
    .unwrap();
    name
}

async fn a_restored_database_is_set_up_as_before(lab: Lab) {
    let name = make_particular(&lab).await;
    let restore = restoring(&lab, 7).await;
    lab.green("k", 1, "UPDATE goods SET t = 'changed'").await;
    let before = set_up(&lab).await;
    let facts = lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert_eq!((set_up(&lab).await, facts.notes), (before, Vec::<String>::new()));
    // Who could work with it can still do so, and who could only read can do no more.
    let app = session(&lab.url.replace("postgres@", &format!("{name}_app@"))).await;
    app.batch_execute("INSERT INTO goods VALUES ('new'); ALTER TABLE goods ADD COLUMN more integer").await.unwrap();
    let reader = session(&lab.url.replace("postgres@", &format!("{name}_reader@"))).await;
    let row = reader.query_one("SELECT t, current_setting('statement_timeout') FROM goods LIMIT 1", &[]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), ("caf\u{e9}", "9s"));
    assert!(reader.batch_execute("INSERT INTO goods VALUES ('mine')").await.is_err());
}

async fn objects_of_roles_that_are_gone_go_to_the_owner(lab: Lab) {
    let name = make_particular(&lab).await;
    let link = session(&lab.url).await;
    link.batch_execute(&format!(
        "CREATE ROLE {name}_gone; CREATE TABLE public.of_gone (x integer); \
        ALTER TABLE public.of_gone OWNER TO {name}_gone"
    ))
    .await
    .unwrap();
    let restore = restoring(&lab, 7).await;
    link.batch_execute(&format!("DROP TABLE public.of_gone; DROP ROLE {name}_gone")).await.unwrap();
    let facts = lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert!(facts.notes.len() == 1 && facts.notes[0].contains(&format!("{name}_gone")), "{:?}", facts.notes);
    let app = session(&lab.url.replace("postgres@", &format!("{name}_app@"))).await;
    app.batch_execute("INSERT INTO public.of_gone VALUES (1); INSERT INTO goods VALUES ('new')").await.unwrap();
}

async fn what_a_plain_login_may_not_set_is_named(lab: Lab) {
    let name = make_particular(&lab).await;
    let link = session(&beside(&lab, "postgres")).await;
    link.batch_execute(&format!(
        "GRANT SET ON PARAMETER leasehold.fence TO {name}_app; ALTER ROLE {name}_app CREATEDB; ALTER DATABASE {name} SET log_min_messages = 'error'"
    ))
    .await
    .unwrap();
    let url = lab.url.replace("postgres@", &format!("{name}_app@"));
    let db = database::open(&DatabaseUrl::parse(&url, &Secrets::default()).unwrap()).unwrap();
    let plan = BackupPlan { dest: lab.path("plain"), job: "b".to_owned() };
    let facts = db.backup(&plan, quiet(), CancellationToken::new()).await.unwrap();
    let restore = RestorePlan { source: plan.dest, sha256: Some(facts.sha256), job: "r".to_owned(), fence: 3 };
    let facts = db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    let named = |what: &str| facts.notes.iter().any(|note| note.contains(what));
    assert!(named("log_min_messages") && named("statement_timeout") && facts.notes.len() == 2, "{:?}", facts.notes);
    assert!(set_up(&lab).await.contains("search_path"));
}

async fn tables_whose_names_look_alike_are_told_apart(lab: Lab) {
    let text = r#"CREATE SCHEMA "a.b"; CREATE SCHEMA a; CREATE TABLE "a.b".c (x integer);
        CREATE TABLE a."b.c" (x integer, "y (z" integer); INSERT INTO "a.b".c VALUES (1);
        INSERT INTO a."b.c" VALUES (1, 1), (2, 2)"#;
    lab.green("j", 1, text).await;
    let restore = restoring(&lab, 2).await;
    let facts = lab.db.restore(&restore, quiet(), CancellationToken::new()).await.unwrap();
    assert_eq!((facts.tables[r#""a.b".c"#], facts.tables[r#"a."b.c""#]), (1, 2), "{:?}", facts.tables);
}

async fn a_script_that_ends_its_own_session_goes_on_in_the_last_attempt(lab: Lab) {
    let text = "INSERT INTO effects VALUES (1, 'x'); SET search_path = nowhere, public; \
        SELECT pg_terminate_backend(pg_backend_pid()); INSERT INTO effects VALUES (4, 'x'); \
        BEGIN; INSERT INTO effects VALUES (6, 'x'); SELECT pg_terminate_backend(pg_backend_pid()); COMMIT; \
        INSERT INTO effects SELECT 9, current_setting('search_path')";
    let script = lab.script(text);
    let first = ExecuteOptions::new("j", 1);
    let broken = lab.db.execute(&script, &first, database::unobserved(), CancellationToken::new()).await;
    assert!(broken.unwrap_err().is_transient());
    let report = lab.run(&ExecuteOptions::new("j", 2).last_attempt(true), text).await;
    let ended = "session_ended";
    assert_eq!(codes(&report.statements), ["ok", "ok", ended, "ok", ended, ended, ended, ended, "ok"]);
    assert_eq!((lab.effects(1).await, lab.effects(4).await, lab.effects(6).await), (1, 1, 0));
    assert_eq!(lab.count("SELECT 1 FROM effects WHERE n = 9 AND t = 'nowhere, public'").await, 1);
    assert_eq!(lab.db.recorded("j").await.unwrap(), report.statements);
}

async fn what_speaks_with_a_client_is_refused_in_clear_words(lab: Lab) {
    let text = "COPY effects TO STDOUT; SELECT $1::integer; INSERT INTO effects VALUES (3, 'x')";
    let report = lab.run(&ExecuteOptions::new("j", 1), text).await;
    assert_eq!(codes(&report.statements), ["copy_without_client", "parameters", "ok"]);
    let words = |at: usize| report.statements[at].error.as_ref().unwrap().text.clone();
    assert!(words(0).contains("write SELECT") && words(1).contains("write the value"), "{report:?}");
    assert_eq!(lab.effects(3).await, 1);
}
