//! How processes begin, and why they refuse to.

use std::os::unix::fs::PermissionsExt as _;

use crate::lab::{Lab, Redis, text};

#[test]
fn up_makes_an_admin_key_for_its_owner_alone_and_is_ready() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    let key = std::fs::metadata(lab.data().join("admin.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(lab.json(&url, &["key", "list"])["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn with_json_the_ready_line_is_a_document() {
    let lab = Lab::new();
    let mut up = lab.start(&["up", "--listen", "127.0.0.1:0", "--json"]);
    let listening = up.hear("\"listening\"");
    let url = listening.split('"').find(|word| word.starts_with("http://")).unwrap();
    lab.json(url, &["jobs"]);
    let mut worker = lab.start(&["worker", "--json"]);
    worker.hear("\"listening\": null");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let lab = Lab::new();
    let output = lab.run(&["up", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("address_in_use") && said.contains(&address) && said.contains("--listen"), "{said}");
}

#[test]
fn a_data_folder_in_use_names_its_holder() {
    let lab = Lab::new();
    let (_up, url) = lab.up();
    let output = lab.run(&["up", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("data_folder_in_use") && said.contains("leasehold up") && said.contains(&url), "{said}");
}

#[test]
fn a_configuration_with_three_mistakes_names_all_three() {
    let lab = Lab::new();
    let file = lab.folder.path().join("wrong.toml");
    std::fs::write(&file, "[server]\nlisten = 5\n\n[worker]\nslotz = 3\n\n[log]\nformat = \"loud\"\n").unwrap();
    for command in [&["up"][..], &["config", "check"]] {
        let output = lab.run(&[command, &["--config", file.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let said = text(&output);
        for word in ["3 mistakes", "server.listen", "worker.slotz", "worker.slots", "log.format", "wrong.toml:2"] {
            assert!(said.contains(word), "{command:?} does not say {word}: {said}");
        }
    }
}

#[test]
fn a_redis_that_would_lose_jobs_is_refused_until_that_is_accepted() {
    let settings: [(&str, &[&str]); 2] = [
        ("redis_without_aof", &["--appendonly", "no"]),
        ("redis_evicts", &["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"]),
    ];
    for (code, settings) in settings {
        let lab = Lab::new();
        let redis = Redis::start(lab.folder.path(), settings);
        let up = ["up", "--listen", "127.0.0.1:0", "--redis", &redis.url()];
        let output = lab.run(&up);
        assert_eq!(output.status.code(), Some(1), "{code}");
        let said = text(&output);
        for word in [code, "redis_would_lose_jobs", "--accept-data-loss"] {
            assert!(said.contains(word), "{code}: {word} is not said: {said}");
        }
        let doctor = lab.run(&["doctor", "--redis", &redis.url()]);
        assert_eq!(doctor.status.code(), Some(1), "{code}");
        assert!(text(&doctor).contains(code), "{}", text(&doctor));
        let mut accepted = lab.start(&[&up[..], &["--accept-data-loss"]].concat());
        accepted.ready();
        accepted.hear("accepted_data_loss");
    }
}

#[test]
fn a_worker_without_any_redis_says_where_one_could_come_from() {
    let output = Lab::new().run(&["worker"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("no_redis") && said.contains("--redis") && said.contains("leasehold up"), "{said}");
}

#[test]
fn api_worker_and_upkeep_apart_do_a_job_with_the_key_that_the_first_api_made() {
    let lab = Lab::new();
    let redis = Redis::start(lab.folder.path(), &["--appendonly", "yes", "--appendfsync", "always"]);
    let on_redis = ["--redis", &redis.url()];
    let mut api = lab.start(&[&["api", "--listen", "127.0.0.1:0"], &on_redis[..]].concat());
    let url = api.ready();
    let mut others = ["worker", "upkeep"].map(|role| lab.start(&[&[role], &on_redis[..]].concat()));
    others.iter_mut().for_each(|other| drop(other.ready()));
    lab.tenant(&url);
    let id = lab.insert(&url);
    lab.job(&url, &id, |job| job["place"] == "succeeded");
    let mut second = lab.start(&[&["api", "--listen", "127.0.0.1:0"], &on_redis[..]].concat());
    let url = second.ready();
    assert_eq!(
        lab.json(&url, &["key", "list"])["keys"].as_array().unwrap().len(),
        1,
        "a second API makes no second key"
    );
    for program in others.iter_mut().chain([&mut api, &mut second]) {
        program.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(program.end().success(), "{}", program.heard());
    }
}

#[test]
fn a_missing_redis_server_says_how_to_install_it() {
    let lab = Lab::new();
    let output = lab
        .command(&["up", "--listen", "127.0.0.1:0"])
        .env("LEASEHOLD__STORE__REDIS_SERVER", "no-such-redis")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("redis_not_found") && said.contains("apt-get install redis-server"), "{said}");
}

#[test]
fn a_data_folder_with_a_long_path_works_too() {
    let mut lab = Lab::new();
    let deep = lab.folder.path().join("a folder with a name that is long ".repeat(3)).join("and \"quoted\" 数据");
    std::fs::create_dir_all(&deep).unwrap();
    let (outer, inner) = (lab.folder, tempfile::TempDir::new_in(&deep).unwrap());
    lab.folder = inner;
    let (mut up, url) = lab.up();
    lab.json(&url, &["queue", "list"]);
    let mut worker = lab.start(&["worker"]);
    worker.ready();
    drop(worker);
    up.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(up.end().success());
    let socket = std::fs::read_to_string(lab.data().join("redis/socket")).unwrap();
    std::fs::remove_dir_all(std::path::Path::new(&socket).parent().unwrap()).unwrap();
    drop(outer);
}
