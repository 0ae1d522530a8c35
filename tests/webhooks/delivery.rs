//! What arrives, when, how often, and what becomes of the endpoint.

use std::collections::HashSet;
use std::time::Duration;

use leasehold::webhooks::client::Limits;
use leasehold::webhooks::directory::NewEndpoint;
use leasehold::webhooks::endpoint::State;
use leasehold::webhooks::outbox::{DeliveryOutcome, Outbox};
use leasehold::webhooks::signature::Secret;

use super::lab::{Lab, Receiver, Seen, WrongBy, dispatcher_rules, status, status_with};
use super::verifiers::is_genuine;

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn eng_06_a_change_reaches_the_endpoint_with_a_body_that_says_it_all() {
    let (lab, receiver) = (Lab::new(), Receiver::fine().await);
    let (_, secret) = lab.register(&receiver.url()).await;
    let meta = serde_json::json!({"labels": {"order": "42"}, "args": {"password": "hunter2"}});
    lab.memory.change("job1", 3, "succeeded", &meta);
    lab.round().await;

    let seen = &receiver.seen()[0];
    assert!(is_genuine(seen, &secret));
    assert_eq!(seen.header("content-type"), "application/json");
    assert!(seen.header("user-agent").starts_with("leasehold/"));
    let body = seen.json();
    assert_eq!(body["type"], "job.succeeded");
    assert_eq!(body["data"]["job_id"], "job1");
    assert_eq!(body["data"]["seq"], 3);
    assert_eq!(body["data"]["status"], "status of succeeded");
    assert_eq!(body["data"]["labels"]["order"], "42");
    assert_eq!(body["data"]["href"], "https://leasehold.example/v1/jobs/job1");
    assert!(!body.to_string().contains("hunter2"));
    let kept = lab.memory.only();
    assert_eq!((kept.outcome, kept.log[0].status), (Some(DeliveryOutcome::Delivered), Some(200)));
    assert_eq!(kept.log[0].ip.as_deref(), Some("127.0.0.1"));
}

#[tokio::test]
async fn ac_194_three_failures_then_success_keep_the_id_and_sign_each_attempt() {
    let lab = Lab::new();
    let receiver = Receiver::reacting(|n| Some(status(if n < 3 { 500 } else { 200 }))).await;
    let (_, secret) = lab.register(&receiver.url()).await;
    lab.succeed("job1");
    for wait in [0, 5, 300, 1800] {
        lab.memory.advance(Duration::from_secs(wait));
        lab.round().await;
    }

    let seen = receiver.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|one| is_genuine(one, &secret)));
    let ids: HashSet<&str> = seen.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1);
    assert!(seen.iter().all(|one| one.body == seen[0].body));
    let kept = lab.memory.only();
    let attempts: Vec<u16> = kept.log.iter().map(|log| log.attempt).collect();
    let statuses: Vec<Option<u16>> = kept.log.iter().map(|log| log.status).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    assert_eq!(statuses, [Some(500), Some(500), Some(500), Some(200)]);
    assert_eq!(kept.outcome, Some(DeliveryOutcome::Delivered));
}

#[tokio::test]
async fn ac_194_the_numbers_of_one_job_rise() {
    let (lab, receiver) = (Lab::new(), Receiver::fine().await);
    lab.register(&receiver.url()).await;
    for (seq, event) in [(1, "accepted"), (2, "started"), (3, "succeeded")] {
        lab.memory.change("job1", seq, event, &serde_json::json!({}));
        lab.round().await;
    }
    let numbers: Vec<u64> = receiver.seen().iter().map(|one| one.json()["data"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_retry_is_not_sent_before_its_time_and_not_after_the_last() {
    let mut rules = dispatcher_rules();
    rules.schedule.waits = [0, 5, 7].map(Duration::from_secs).to_vec();
    let lab = Lab::with(rules, Limits::default(), 0);
    let receiver = Receiver::reacting(|_| Some(status(500))).await;
    lab.register(&receiver.url()).await;
    lab.succeed("job1");
    lab.round().await;
    for (wait, attempts) in [(4999, 1), (1, 2), (6999, 2), (1, 3), (1_000_000_000, 3)] {
        lab.memory.advance(Duration::from_millis(wait));
        lab.round().await;
        assert_eq!(receiver.seen().len(), attempts, "after {wait} ms");
    }
    assert_eq!(lab.memory.only().outcome, Some(DeliveryOutcome::Exhausted));
}

#[tokio::test]
async fn retry_after_of_the_receiver_is_honoured() {
    let lab = Lab::new();
    let receiver =
        Receiver::reacting(|n| Some(if n == 0 { status_with(503, "retry-after", "120") } else { status(200) })).await;
    lab.register(&receiver.url()).await;
    lab.succeed("job1");
    lab.round().await;
    lab.memory.advance(Duration::from_millis(119_999));
    lab.round().await;
    assert_eq!(receiver.seen().len(), 1);
    lab.memory.advance(Duration::from_millis(1));
    lab.round().await;
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test]
async fn gone_disables_the_endpoint_until_a_person_enables_it() {
    let lab = Lab::new();
    let receiver = Receiver::reacting(|n| Some(status(if n == 0 { 410 } else { 200 }))).await;
    let (id, _) = lab.register(&receiver.url()).await;
    lab.succeed("job1");
    lab.round().await;
    assert_eq!(lab.memory.only().outcome, Some(DeliveryOutcome::Exhausted));
    let view = lab.directory.view(&id).await.unwrap().unwrap();
    assert_eq!((view.state, view.reason.is_some()), (State::DisabledAuto, true));

    lab.succeed("job2");
    lab.memory.advance(MINUTE);
    lab.round().await;
    assert_eq!(receiver.seen().len(), 1, "it is sent nothing more");

    lab.directory.switch(&id, true).await.unwrap();
    lab.succeed("job3");
    lab.round().await;
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test]
async fn what_happens_while_an_endpoint_is_given_up_is_kept_for_a_replay() {
    let lab = Lab::new();
    let receiver = Receiver::reacting(|n| Some(status(if n == 0 { 410 } else { 200 }))).await;
    let (id, _) = lab.register(&receiver.url()).await;
    for job in ["job1", "job2"] {
        lab.succeed(job);
        lab.round().await;
    }
    assert_eq!(receiver.seen().len(), 1);
    let kept = lab.memory.deliveries();
    let missed = kept.iter().find(|(_, _, kept)| kept.body.windows(4).any(|w| w == b"job2")).expect("it is kept");
    assert_eq!(missed.2.log[0].error.as_deref(), Some("endpoint_disabled"));

    lab.directory.switch(&id, true).await.unwrap();
    lab.memory.replay(&id, &missed.1);
    lab.round().await;
    assert_eq!(receiver.seen()[1].json()["data"]["job_id"], "job2");
}

#[tokio::test]
async fn a_callback_that_was_given_up_gets_another_chance_when_its_key_asks_anew() {
    let lab = Lab::new();
    let receiver = Receiver::reacting(|n| Some(status(if n == 0 { 410 } else { 200 }))).await;
    let secret = Secret::generate().unwrap();
    let meta = lab.callback(&receiver.url(), &secret).await;
    let id = meta["callback"]["endpoint"].as_str().unwrap();
    let state = async || lab.directory.view(id).await.unwrap().unwrap().state;
    lab.memory.change("job1", 1, "accepted", &meta);
    lab.round().await;
    assert_eq!(state().await, State::DisabledAuto);

    lab.callback(&receiver.url(), &secret).await;
    assert_eq!(state().await, State::Degraded, "on probation");
    lab.memory.change("job2", 1, "accepted", &meta);
    lab.round().await;
    assert_eq!((receiver.seen().len(), state().await), (2, State::Enabled));

    lab.directory.switch(id, false).await.unwrap();
    lab.callback(&receiver.url(), &secret).await;
    lab.memory.change("job3", 1, "accepted", &meta);
    lab.round().await;
    assert_eq!((receiver.seen().len(), state().await), (2, State::Disabled), "what a person switched off stays off");
}

#[tokio::test]
async fn a_burst_of_events_does_not_hold_up_what_is_due() {
    let mut rules = dispatcher_rules();
    (rules.batch, rules.poll) = (2, Duration::from_hours(1));
    let lab = Lab::with(rules, Limits::default(), 0);
    let receiver = Receiver::fine().await;
    lab.register(&receiver.url()).await;
    (0..9).for_each(|n| lab.succeed(&format!("job{n}")));
    let ticked = lab.dispatcher.tick().await.unwrap();
    assert_eq!(
        (ticked.begun, ticked.more, lab.memory.outbox_len()),
        (2, true, 7),
        "two are sent, seven are not routed"
    );
}

#[tokio::test]
async fn a_burst_that_nobody_hears_is_routed_without_a_pause() {
    let mut rules = dispatcher_rules();
    (rules.batch, rules.poll) = (2, Duration::from_hours(1));
    let lab = Lab::with(rules, Limits::default(), 0);
    let receiver = Receiver::fine().await;
    let events = vec!["job.failed".parse().unwrap()];
    let new = NewEndpoint { url: receiver.url(), events, tenant: None, owner: "key-1".into() };
    lab.directory.register(new, &lab.rules, 0).await.unwrap();
    (0..19).for_each(|n| lab.succeed(&format!("job{n}")));
    lab.memory.change("last", 4, "failed", &serde_json::json!({}));
    let handle = lab.dispatcher.start();
    receiver.arrivals(1).await;
    handle.stop().await;
}

#[tokio::test]
async fn five_days_of_failures_disable_the_endpoint_and_its_queue_ends() {
    let lab = Lab::new();
    let receiver = Receiver::reacting(|_| Some(status(500))).await;
    let (id, _) = lab.register(&receiver.url()).await;
    lab.succeed("job1");
    lab.round().await;
    assert!(lab.directory.view(&id).await.unwrap().unwrap().failing_since.is_some());
    lab.succeed("job2");
    lab.memory.advance(Duration::from_hours(120));
    lab.round().await;
    assert_eq!(lab.directory.view(&id).await.unwrap().unwrap().state, State::DisabledAuto);
    let before = receiver.seen().len();
    lab.memory.advance(Duration::from_hours(24));
    lab.round().await;
    assert_eq!(receiver.seen().len(), before);
    let deliveries = lab.memory.deliveries();
    assert!(deliveries.iter().all(|(_, _, kept)| kept.outcome == Some(DeliveryOutcome::Exhausted)));
    assert!(
        deliveries.iter().any(|(_, _, kept)| kept.log.last().unwrap().error.as_deref() == Some("endpoint_disabled"))
    );
}

#[tokio::test]
async fn a_removed_endpoint_gets_nothing_of_what_was_queued() {
    let lab = Lab::new();
    let receiver = Receiver::reacting(|_| Some(status(500))).await;
    let (id, _) = lab.register(&receiver.url()).await;
    assert!(lab.memory.is_listening());
    lab.succeed("job1");
    lab.round().await;
    assert!(lab.directory.remove(&id).await.unwrap());
    assert!(!lab.memory.is_listening());
    lab.memory.advance(MINUTE);
    lab.round().await;
    assert_eq!(receiver.seen().len(), 1);
    assert_eq!(lab.memory.only().log[1].error.as_deref(), Some("endpoint_removed"));
}

#[tokio::test]
async fn a_replay_keeps_the_id_and_gets_a_new_time_and_signature() {
    let (memory_lab, receiver) = (Lab::with(dispatcher_rules(), Limits::default(), -100_000), Receiver::fine().await);
    let (endpoint, secret) = memory_lab.register(&receiver.url()).await;
    memory_lab.succeed("job1");
    memory_lab.round().await;
    let id = receiver.seen()[0].header("webhook-id").to_owned();
    // A person replays it 100 s later, through another process with the right time.
    memory_lab.memory.replay(&endpoint, &id);
    let later = Lab::on(memory_lab.memory.clone(), dispatcher_rules(), Limits::default(), 0);
    later.round().await;

    let [first, second] = <[Seen; 2]>::try_from(receiver.seen()).unwrap();
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    let time = |seen: &Seen| seen.header("webhook-timestamp").parse::<i64>().unwrap();
    assert!(time(&second) - time(&first) >= 99);
    assert_ne!(first.header("webhook-signature"), second.header("webhook-signature"));
    assert!(is_genuine(&first, &secret) && is_genuine(&second, &secret));
}

#[tokio::test]
async fn a_delivery_of_a_killed_sender_is_sent_again_when_its_lease_ends() {
    let (lab, receiver) = (Lab::new(), Receiver::fine().await);
    let (endpoint, _) = lab.register(&receiver.url()).await;
    lab.succeed("job1");
    // Another sender routes, claims and dies.
    let dead = Lab::on(lab.memory.clone(), dispatcher_rules(), Limits::default(), 0);
    drop(dead);
    lab.dispatcher.tick().await.unwrap();
    lab.dispatcher.idle().await;
    let id = receiver.seen()[0].header("webhook-id").to_owned();
    lab.memory.replay(&endpoint, &id);
    let claimed = lab.memory.delivery_claim(0, &endpoint, 4, Duration::from_secs(30)).await.unwrap();
    assert_eq!(claimed.len(), 1);

    lab.memory.advance(Duration::from_millis(29_999));
    lab.round().await;
    assert_eq!(receiver.seen().len(), 1, "it is under the dead sender's lease");
    lab.memory.advance(Duration::from_millis(1));
    lab.round().await;
    assert_eq!(receiver.seen().len(), 2);
    assert_eq!(receiver.seen()[1].header("webhook-id"), id);
    assert_eq!(lab.memory.only().log.last().unwrap().attempt, 2);
}

#[tokio::test]
async fn two_senders_on_one_store_send_each_change_once() {
    let (one, receiver) = (Lab::new(), Receiver::fine().await);
    let two = Lab::on(one.memory.clone(), dispatcher_rules(), Limits::default(), 0);
    one.register(&receiver.url()).await;
    for n in 0..50 {
        one.succeed(&format!("job{n}"));
    }
    while one.memory.outbox_len() > 0 || one.memory.deliveries().iter().any(|(_, _, kept)| kept.outcome.is_none()) {
        tokio::join!(one.round(), two.round());
    }
    let ids: HashSet<String> = receiver.seen().iter().map(|seen| seen.header("webhook-id").to_owned()).collect();
    assert_eq!((ids.len(), receiver.seen().len()), (50, 50));
}

#[tokio::test]
async fn an_endpoint_hears_its_tenant_and_its_events_only() {
    let (lab, receiver) = (Lab::new(), Receiver::fine().await);
    for (tenant, events) in [(Some("t-002"), "*"), (Some("t-001"), "job.failed"), (Some("t-001"), "job.succeeded")] {
        let new = NewEndpoint {
            url: receiver.url(),
            events: vec![events.parse().unwrap()],
            tenant: tenant.map(str::to_owned),
            owner: "key-1".into(),
        };
        lab.directory.register(new, &lab.rules, 0).await.unwrap();
    }
    lab.succeed("job1");
    lab.round().await;
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_callback_url_is_signed_with_the_secret_of_the_key() {
    let (lab, receiver) = (Lab::new(), Receiver::fine().await);
    let secret = Secret::generate().unwrap();
    let meta = lab.callback(&receiver.url(), &secret).await;
    assert_eq!(meta, lab.callback(&receiver.url(), &secret).await, "one endpoint for the same key and URL");
    lab.memory.change("job1", 1, "accepted", &meta);
    lab.memory.change("job2", 1, "accepted", &serde_json::json!({}));
    lab.round().await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 1, "a job without a callback tells nobody");
    assert!(is_genuine(&seen[0], &secret));

    let fresh = Secret::generate().unwrap();
    lab.callback(&receiver.url(), &fresh).await;
    lab.memory.change("job1", 2, "succeeded", &meta);
    lab.round().await;
    let last = &receiver.seen()[1];
    assert!(is_genuine(last, &fresh) && is_genuine(last, &secret), "both sign after the key's secret changed");
}

#[tokio::test]
async fn every_progress_is_told_so_that_seq_has_no_gap() {
    let (lab, receiver) = (Lab::new(), Receiver::fine().await);
    lab.register(&receiver.url()).await;
    for seq in 2..6 {
        lab.memory.change("job1", seq, "progress", &serde_json::json!({}));
    }
    lab.round().await;
    let mut told: Vec<u64> = receiver.seen().iter().map(|one| one.json()["data"]["seq"].as_u64().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, [2, 3, 4, 5]);
}

#[tokio::test]
async fn a_started_dispatcher_sends_by_itself_and_stop_is_complete_on_return() {
    let (lab, receiver) = (Lab::new(), Receiver::reacting(|n| (n < 2).then(|| status(200))).await);
    lab.register(&receiver.url()).await;
    let mut rules = dispatcher_rules();
    rules.poll = Duration::from_hours(1);
    rules.grace = Duration::from_millis(50);
    let lab = Lab::on(lab.memory.clone(), rules, Limits::default(), 0);
    let handle = lab.dispatcher.start();
    for job in ["job1", "job2"] {
        lab.succeed(job);
        receiver.arrivals(1).await;
    }
    lab.memory.ended(2).await;
    // The third is never answered: stop cuts it, and nothing runs afterwards.
    lab.succeed("job3");
    receiver.arrivals(1).await;
    handle.stop().await;
    assert_eq!(handle.counts().in_flight, 0);
    handle.stop().await;
    lab.succeed("job4");
    let cut = lab.memory.deliveries().into_iter().filter(|(_, _, kept)| kept.outcome.is_none()).count();
    assert_eq!((cut, lab.memory.outbox_len()), (1, 1), "what was cut stays under its lease; nothing new begins");
}

#[tokio::test]
async fn a_wrong_clock_is_the_only_thing_that_makes_a_delivery_stale() {
    use leasehold::webhooks::dispatcher::Clock;
    assert!(WrongBy(-301_000).now_ms() < WrongBy(0).now_ms());
    for (wrong_by, genuine) in [(0, true), (-200_000, true), (290_000, true), (-302_000, false), (400_000, false)] {
        let lab = Lab::with(dispatcher_rules(), Limits::default(), wrong_by);
        let receiver = Receiver::fine().await;
        let (_, secret) = lab.register(&receiver.url()).await;
        lab.succeed("job1");
        lab.round().await;
        assert_eq!(is_genuine(&receiver.seen()[0], &secret), genuine, "{wrong_by} ms");
    }
}
