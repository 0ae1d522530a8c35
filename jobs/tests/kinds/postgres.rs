//! The same kinds on a PostgreSQL data center.

use leasehold_engine::Place;
use leasehold_jobs::ErrorCode;
use leasehold_targets::Secrets;
use leasehold_targets::database::{self, Database, DatabaseUrl};
use leasehold_targets::testing::TestServer;
use serde_json::json;
use std::sync::Arc;

use crate::estate::{Estate, TENANT, error, result};

fn open(url: &str) -> Arc<dyn Database> {
    database::open(&DatabaseUrl::parse(url, &Secrets::default()).unwrap()).unwrap()
}

/// An estate whose `dc-1` and `dc-2` are two databases of a PostgreSQL server.
async fn estate(server: &TestServer) -> (Estate, [Arc<dyn Database>; 2]) {
    let mut estate = Estate::new().await;
    let mut databases = Vec::new();
    for (id, name) in [("dc-1", "books"), ("dc-2", "archive")] {
        let url = server.url(&format!("{name}_{}", std::process::id()));
        let database = open(&url);
        database.create().await.unwrap();
        estate.move_data_center(id, url).await;
        databases.push(database);
    }
    (estate, databases.try_into().ok().unwrap())
}

#[tokio::test]
async fn sql_12_restore_03_an_update_on_postgres_is_undone_by_restoring_its_backup() {
    let Some(server) = TestServer::start() else { return };
    let (mut estate, [books, _]) = estate(&server).await;
    let script = "CREATE TABLE led (n int);\nINSERT INTO led SELECT generate_series(1, 10);\nSELECT * FROM nowhere;\n\
                  DO $$ BEGIN PERFORM 1; END $$;";
    let id = estate.submitted("sql_update", json!({"data_center": "dc-1", "script": script})).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    let first = result(&view);
    assert_eq!((&first["colour"], &first["statements"][1]["rows"]), (&json!("red"), &json!(10)), "{first}");
    assert_eq!(first["statements"][2]["error_code"], "42P01");
    let after_first = books.checksum().await.unwrap();

    let args = json!({"data_center": "dc-1", "script": "DELETE FROM led; DROP TABLE led"});
    let id = estate.submitted("sql_update", args).await;
    let second = result(&estate.run(&id).await);
    assert_eq!(second["colour"], "green", "{second}");
    assert_ne!(books.checksum().await.unwrap(), after_first);

    let source = json!({"type": "backup", "id": second["backup_id"]});
    let id = estate.submitted("data_center_restore", json!({"data_center": "dc-1", "source": source})).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    assert_eq!(books.checksum().await.unwrap(), after_first);
    assert_eq!(result(&view)["checksum"], json!(after_first));
    estate.finish().await;
}

#[tokio::test]
async fn restore_07_a_source_of_another_engine_is_refused() {
    let Some(server) = TestServer::start() else { return };
    let (mut estate, [books, archive]) = estate(&server).await;
    let args = json!({"data_center": "dc-1", "source": {"type": "data_center", "id": "dc-test"}});
    let refusal = estate.refused(&estate.ask("data_center_restore", args).await).await;
    assert_eq!((refusal.code, refusal.rule), (ErrorCode::InvalidArgument, "RESTORE-07"));

    let args =
        json!({"data_center": "dc-2", "script": "CREATE TABLE a (x int); INSERT INTO a VALUES (7)", "backup": false});
    let id = estate.submitted("sql_update", args).await;
    estate.run(&id).await;
    let args = json!({"data_center": "dc-1", "source": {"type": "data_center", "id": "dc-2"}});
    let id = estate.submitted("data_center_restore", args).await;
    let view = estate.run(&id).await;
    assert_eq!(view.record.place, Place::Succeeded, "{}", error(&view));
    assert_eq!(books.checksum().await.unwrap(), archive.checksum().await.unwrap());
    assert_eq!(estate.catalogue.services().backups().list(TENANT).await.unwrap().len(), 1, "the safety copy");
    estate.finish().await;
}

#[tokio::test]
async fn sql_12_sql_13_a_script_that_ends_its_own_session_is_told_statement_by_statement() {
    let Some(server) = TestServer::start() else { return };
    let (mut estate, [books, _]) = estate(&server).await;
    let script = "CREATE TABLE a (n int);\nSELECT pg_terminate_backend(pg_backend_pid());\nCREATE TABLE b (n int)";
    let args = json!({"data_center": "dc-1", "script": script, "backup": false});
    let id = estate.submitted("sql_update", args).await;
    let view = estate.run(&id).await;
    assert_eq!((view.record.place, view.record.attempt), (Place::Succeeded, 3), "{}", error(&view));
    let result = result(&view);
    let oks: Vec<_> = result["statements"].as_array().unwrap().iter().map(|one| &one["ok"]).collect();
    assert_eq!((&result["colour"], oks), (&json!("red"), vec![&json!(true), &json!(false), &json!(true)]), "{result}");
    assert_eq!(result["statements"][1]["error_code"], "session_ended");
    assert_eq!(books.estimate().await.unwrap().tables, 2);
    estate.finish().await;
}
