//! Who waits for a job's end outlives a restart of the API.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal::SIGKILL;

use crate::lab::{Lab, Program, WHO, text};

const BACKUP: &str = r#"{"data_center":"dc","name":"n"}"#;

/// An address that stays while the API behind it comes and goes on other ports; while there is none, it hangs up.
struct Front {
    url: String,
    behind: Arc<Mutex<String>>,
}

impl Front {
    fn of(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            behind: Arc::new(Mutex::new(url.to_owned())),
        };
        let behind = front.behind.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let address = behind.lock().unwrap().trim_start_matches("http://").to_owned();
                if let Ok(far) = TcpStream::connect(address) {
                    join(near.try_clone().unwrap(), far.try_clone().unwrap());
                    join(far, near);
                }
            }
        });
        front
    }

    fn moves_to(&self, url: &str) {
        url.clone_into(&mut self.behind.lock().unwrap());
    }
}

fn join(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Asks for a backup that no worker does yet, and waits for it; with its id.
fn waiter(lab: &Lab, url: &str, more: &[&str]) -> (Program, String) {
    let ask = ["enqueue", "data_center_backup", "--args", BACKUP, "--wait", "--url", url];
    let mut waiter = lab.start(&[&ask[..], WHO, more].concat());
    let accepted = waiter.hear("accepted ");
    let id = accepted.split_whitespace().nth(1).unwrap().to_owned();
    (waiter, id)
}

#[test]
fn who_waits_for_a_job_outlives_a_restart_of_the_api() {
    let lab = Lab::new();
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--no-worker"]);
    let url = up.ready();
    lab.tenant(&url);
    let front = Front::of(&url);
    let (mut waiter, id) = waiter(&lab, &front.url, &["--patience", "600"]);
    let mut watcher = lab.start(&["job", "watch", &id, "--patience", "600", "--url", &front.url]);
    watcher.hear("accepted");
    up.signal(SIGKILL);
    up.end();
    waiter.hear("the API is away; asking again for 600 s");
    watcher.hear("the API is away");
    let (_up, url) = lab.up();
    front.moves_to(&url);
    for program in [&mut waiter, &mut watcher] {
        program.hear(&format!("{id} succeeded"));
        assert!(program.end().success(), "{}", program.heard());
    }
}

#[test]
fn a_job_whose_end_cannot_be_learnt_has_not_failed() {
    let lab = Lab::new();
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--no-worker"]);
    let url = up.ready();
    lab.tenant(&url);
    let (mut waiter, id) = waiter(&lab, &url, &["--patience", "0"]);
    up.signal(SIGKILL);
    up.end();
    waiter.hear(&format!("job {id} was accepted and goes on by itself"));
    assert_eq!(waiter.end().code(), Some(4), "{}", waiter.heard());
    let nothing_there = lab.ask("http://127.0.0.1:1", &["job", "watch", &id]);
    assert_eq!(nothing_there.status.code(), Some(1), "{}", text(&nothing_there));
    assert!(text(&nothing_there).contains("api_unreachable"), "{}", text(&nothing_there));
}
