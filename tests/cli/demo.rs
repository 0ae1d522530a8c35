//! The demo: every scene as expected, left running when told to, nothing left behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

use crate::lab::{Lab, PATIENCE};

#[test]
fn the_demo_succeeds_and_with_keep_goes_on_until_it_is_told_to_end() {
    let lab = Lab::new();
    let mut demo = lab.start(&["demo", "--keep"]);
    // It may take a minute by its contract, on a machine that does nothing else.
    let line = demo.hear_within(Duration::from_secs(120), "Left running: http://");
    for words in [
        "too_late_to_cancel",
        "maintenance_window",
        "quota_exceeded",
        "green, 4 of 4",
        "red; line 2",
        "kill -9",
        "equals the backup's",
        "every signature verified",
        "in exactly one place",
    ] {
        demo.hear(words);
    }
    assert!(!demo.heard().contains('✗'), "{}", demo.heard());
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    assert!(lab.json(url, &["jobs", "--tenant", "t-huaxin"])["jobs"].as_array().unwrap().len() > 5);
    demo.signal(SIGTERM);
    assert!(demo.end().success(), "{}", demo.heard());
    assert!(!lab.data().join("redis/redis.pid").exists(), "redis-server did not end in order");
}

#[test]
fn the_demo_does_not_write_into_a_folder_that_has_something_in_it() {
    let lab = Lab::new();
    std::fs::create_dir(lab.data()).unwrap();
    std::fs::write(lab.data().join("precious"), "x").unwrap();
    let output = lab.run(&["demo"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(crate::lab::text(&output).contains("is not empty"), "{}", crate::lab::text(&output));
    assert_eq!(std::fs::read_dir(lab.data()).unwrap().count(), 1);
}

/// The workers on this lab's data folder.
fn workers(lab: &Lab) -> Vec<i32> {
    let data = lab.data().display().to_string();
    let is_worker = |pid: &i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word)).collect();
        words.iter().any(|word| word == "worker") && words.iter().any(|word| *word == data)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_worker).collect()
}

#[test]
fn the_workers_of_the_demo_end_with_it_even_when_it_is_killed() {
    if !std::path::Path::new("/proc/self/cmdline").exists() {
        return; // only Linux shows processes this way
    }
    let lab = Lab::new();
    let mut demo = lab.start(&["demo"]);
    let begun = Instant::now();
    while workers(&lab).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "no worker came: {}", demo.heard());
        std::thread::yield_now();
    }
    demo.signal(SIGKILL);
    demo.end();
    let begun = Instant::now();
    while !workers(&lab).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "still there: {:?}", workers(&lab));
        std::thread::yield_now();
    }
}
