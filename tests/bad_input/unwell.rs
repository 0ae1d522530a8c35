//! Targets that are unwell: the job says so, nothing half is left behind, and it is done when they are well again.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use leasehold_targets::testing::TestServer;
use rusqlite::Connection;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::estate::{Arrival, CONFIG, Center, Estate, TENANT, center, sql_update, tenant};

/// Longer than the 5 s that an update waits before its second attempt.
const PATIENCE: Duration = Duration::from_secs(60);

fn code(one: &Arrival) -> &str {
    one.body["data"]["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_down_is_told_and_the_update_is_done_when_it_is_back() {
    let Some(server) = TestServer::start() else {
        eprintln!("skipped: PostgreSQL is not installed here");
        return;
    };
    let database = server.database().await;
    let name = database.to_string().rsplit('/').next().unwrap().to_owned();
    let socket = server.url("").split_once('@').unwrap().1.replace("%2F", "/");
    // A port that is ours, and on which nothing listens yet.
    let gate = TcpSocket::new_v4().unwrap();
    gate.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = gate.local_addr().unwrap().port();
    let estate = Estate::start().await;
    let center = json!([{"id": "production", "kind": "production", "data_centers": [
        {"id": "dc-pg", "name": "PG", "database": format!("postgres://postgres@127.0.0.1:{port}/{name}?sslmode=disable")}]}]);
    estate.portal.put("/v1/tenants/t-002", &tenant(center)).await;
    let script = "create table ledger (n int); insert into ledger values (1);";
    let id = estate.portal.ask(&sql_update("t-002", "dc-pg", script)).await;
    let mut worker = estate.worker("first", &estate.redis_url());
    let retrying = |one: &Arrival| one.word() == "job.retrying" && code(one) == "target_unreachable";
    let told = estate.receiver.wait(&id, PATIENCE, |told| told.values().any(retrying)).await;
    told.unwrap_or_else(|why| panic!("{why}\n{}", estate.logs()));
    let job = estate.portal.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(
        (job["place"].as_str().unwrap(), job["error"]["retryable"].as_bool().unwrap()),
        ("scheduled", true),
        "{job}"
    );
    let _back = forward(gate, format!("{socket}.s.PGSQL.5432"));
    let told = estate.receiver.wait(&id, PATIENCE, |told| told.values().any(|one| one.word() == "job.succeeded")).await;
    told.unwrap_or_else(|why| panic!("{why}\n{}", estate.logs()));
    let job = estate.portal.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(job["result"]["colour"], "green", "{job}");
    worker.stop().await;
}

/// Brings the database back: what comes to the gate goes to its socket.
fn forward(gate: TcpSocket, socket: String) -> tokio::task::JoinHandle<()> {
    let listener = gate.listen(64).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move {
                let client: &mut TcpStream = &mut client;
                let _ = tokio::io::copy_bidirectional(client, &mut server).await;
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_14_a_disk_that_is_full_during_the_backup_stops_the_update_before_its_first_statement() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let disk = Disk::default();
    let estate = Estate::start_with(CONFIG, |folder| {
        disk.mount(&folder.join("data"));
        Center::sqlite(&folder.join("dc-1.db"))
    })
    .await;
    let big = Connection::open(estate.folder().join("dc-1.db")).unwrap();
    big.execute_batch("create table big as select randomblob(4000000) as bytes").unwrap();
    let id = estate.portal.ask(&sql_update(TENANT, "dc-1", center::SCRIPT)).await;
    let mut worker = estate.worker("first", &estate.redis_url());
    let full = |one: &Arrival| one.word() == "job.retrying" && code(one) == "target_no_space";
    let told = estate.receiver.wait(&id, PATIENCE, |told| told.values().any(full)).await;
    told.unwrap_or_else(|why| panic!("{why}\n{}", estate.logs()));
    assert_eq!(estate.center.effects().await, center::Effects::default(), "no statement ran");
    let store = estate.store().await;
    assert!(store.documents(&format!("backups/{TENANT}")).await.unwrap().is_empty(), "no backup is shown");
    disk.grow();
    let told = estate.receiver.wait(&id, PATIENCE, |told| told.values().any(|one| one.word() == "job.succeeded")).await;
    told.unwrap_or_else(|why| panic!("{why}\n{}", estate.logs()));
    assert_eq!(estate.center.effects().await, center::Effects::once());
    assert_eq!(store.documents(&format!("backups/{TENANT}")).await.unwrap().len(), 1);
    worker.stop().await;
    // Before the estate, whose folder could not be removed while a disk is mounted in it.
    drop(disk);
}

/// A disk of 3 MB, in memory.
#[derive(Default)]
struct Disk {
    place: std::sync::Mutex<std::path::PathBuf>,
}

impl Disk {
    fn mount(&self, at: &Path) {
        std::fs::create_dir(at).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs"]).arg(at).status().unwrap();
        assert!(status.success());
        at.clone_into(&mut self.place.lock().unwrap());
    }

    fn grow(&self) {
        let at = self.place.lock().unwrap();
        let status = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&*at).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    /// Lazily: whoever still has a file open on it keeps it, and it goes with the last of them.
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&*self.place.lock().unwrap()).status();
    }
}
