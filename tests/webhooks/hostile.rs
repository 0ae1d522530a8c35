//! Receivers that hang, drip, flood or redirect: they cost themselves, not us and not their neighbours.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use leasehold::webhooks::body::callback_meta;
use leasehold::webhooks::client::{Exchange, Limits, Parcel, SystemResolver};
use leasehold::webhooks::directory::NewCallback;
use leasehold::webhooks::signature::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::lab::{
    LOCAL, Lab, Receiver, dispatcher_rules, endless_limits, nobody, quick_limits, sender, status, url_rules,
};

/// Whatever is cut by a limit of [`quick_limits`] is cut before, on a slow machine too.
const SOON: Duration = Duration::from_secs(20);

/// A server that reads the request's start and then writes `head`, and `again` for ever with these pauses.
async fn raw(head: &'static [u8], again: &'static [u8], pause: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(head).await;
                while !again.is_empty() && socket.write_all(again).await.is_ok() {
                    count.fetch_add(again.len(), Ordering::SeqCst);
                    tokio::time::sleep(pause).await;
                }
                std::future::pending::<()>().await;
            });
        }
    });
    (address, written)
}

/// To a receiver that works.
pub async fn send_to(url: &str) -> Exchange {
    send_within(endless_limits(), url).await
}

async fn send_within(limits: Limits, url: &str) -> Exchange {
    let parcel = Parcel {
        id: "msg_1".into(),
        timestamp: 1,
        signature: "v1,x".into(),
        body: Bytes::from_static(b"{\"type\":\"job.x\"}"),
    };
    sender(url_rules(&["127.0.0.0/8"]), limits, Arc::new(SystemResolver)).send(url, parcel).await
}

fn code(exchange: &Exchange) -> &'static str {
    exchange.result.as_ref().map_or_else(|error| error.code(), |_| "answered")
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_cut() {
    let (address, _) = raw(b"", b"", Duration::ZERO).await;
    let exchange = send_within(quick_limits(), &format!("http://{address}/")).await;
    assert_eq!(code(&exchange), "timed_out");
    assert!(exchange.took < SOON, "{:?}", exchange.took);
}

#[tokio::test]
async fn a_head_that_drips_is_cut() {
    let (address, _) = raw(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", Duration::from_millis(50)).await;
    let exchange = send_within(quick_limits(), &format!("http://{address}/")).await;
    assert_eq!(code(&exchange), "timed_out");
    assert!(exchange.took < SOON, "{:?}", exchange.took);
}

#[tokio::test]
async fn a_body_that_drips_is_cut_and_the_status_counts() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n";
    let (address, _) = raw(head, b"z", Duration::from_millis(20)).await;
    let exchange = send_within(quick_limits(), &format!("http://{address}/")).await;
    assert!(exchange.took < SOON, "{:?}", exchange.took);
    let reply = exchange.result.unwrap();
    assert_eq!((reply.status, reply.cut), (200, true));
    assert!(reply.head.starts_with('z') && reply.head.len() < 2048, "cut by time, not by size: {}", reply.head.len());
}

#[tokio::test]
async fn an_endless_body_is_cut_after_16_kib_and_2_are_kept() {
    static FLOOD: [u8; 4096] = [b'z'; 4096];
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n";
    let (address, written) = raw(head, &FLOOD, Duration::ZERO).await;
    let exchange = send_to(&format!("http://{address}/")).await;
    let reply = exchange.result.unwrap();
    assert_eq!((reply.status, reply.cut), (200, true));
    assert!(reply.head.len() <= 2048);
    assert!(exchange.took < SOON, "cut by size, not by time: {:?}", exchange.took);
    // What the receiver could write is bounded by the socket buffers of both ends, not by its will.
    assert!(written.load(Ordering::SeqCst) < 32 << 20);
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    static LINE: &[u8] = b"a-header-that-comes-again: and again and again and again and again and again\r\n";
    let (address, written) = raw(b"HTTP/1.1 200 OK\r\n", LINE, Duration::ZERO).await;
    let exchange = send_to(&format!("http://{address}/")).await;
    assert!(exchange.result.is_err());
    assert!(written.load(Ordering::SeqCst) < 32 << 20);
}

#[tokio::test]
async fn a_receiver_that_is_not_there_or_hangs_up_is_a_failure() {
    let (_held, address) = nobody();
    assert_eq!(code(&send_to(&format!("http://{address}/")).await), "connect_failed");

    let listener = tokio::net::TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
        }
    });
    assert_eq!(code(&send_to(&format!("http://{address}/")).await), "connection_broken");
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_failure() {
    let (address, _) = raw(b"+PONG\r\n-ERR unknown\r\n", b"", Duration::ZERO).await;
    assert_eq!(code(&send_to(&format!("http://{address}/")).await), "connection_broken");
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_four_slots_and_delays_nobody() {
    let mut rules = dispatcher_rules();
    rules.grace = Duration::ZERO;
    let lab = Lab::with(rules, endless_limits(), 0);
    let (hung, quick) = (Receiver::reacting(|_| None).await, Receiver::fine().await);
    lab.register(&hung.url()).await;
    lab.register(&quick.url()).await;
    for n in 0..20 {
        lab.succeed(&format!("job{n}"));
    }
    let handle = lab.dispatcher.start();
    // None of those that hang ends before the test does, and the others arrive all the same.
    hung.arrivals(4).await;
    quick.arrivals(20).await;
    assert_eq!(hung.seen().len(), 4);
    handle.stop().await;
}

#[tokio::test]
async fn ac_195_many_hung_endpoints_leave_slots_to_those_that_work() {
    let mut rules = dispatcher_rules();
    rules.concurrency = 8;
    let lab = Lab::with(rules, endless_limits(), 0);
    // Each fails once, so that it is known to fail; from then on it hangs, for longer than the test takes.
    let fails_first = || Receiver::reacting(|n| (n < 5).then(|| status(500)));
    let (hung, quick) = ([fails_first().await, fails_first().await], Receiver::fine().await);
    for n in 0..10 {
        lab.register(&format!("{}/{n}", hung[n % 2].url())).await;
    }
    lab.succeed("old1");
    while lab.memory.deliveries().len() < 10 || lab.memory.deliveries().iter().any(|(_, _, kept)| kept.attempt == 0) {
        lab.round().await;
    }
    (2..8).for_each(|n| lab.succeed(&format!("old{n}")));
    lab.memory.advance(Duration::from_mins(2));
    lab.dispatcher.tick().await.unwrap();
    assert_eq!(lab.dispatcher.counts().in_flight, 4, "those that fail share half of the slots");
    lab.register(&quick.url()).await;
    lab.succeed("new");
    lab.dispatcher.tick().await.unwrap();
    quick.arrivals(1).await;
}

#[tokio::test]
async fn ac_195_hung_callbacks_of_one_tenant_or_one_host_leave_slots_to_the_others() {
    let mut rules = dispatcher_rules();
    (rules.concurrency, rules.grace) = (16, Duration::ZERO);
    let lab = Lab::with(rules, endless_limits(), 0);
    let (hung, quick) = (Receiver::reacting(|_| None).await, Receiver::fine().await);
    let secret = Secret::generate().unwrap();
    let tell = async |n: u32, url: &str, tenant: &str| {
        let ask = NewCallback { key: "key-1", url, secret: &secret, tenant };
        let id = lab.directory.callback(ask, &lab.rules, lab.memory.time()).await.unwrap();
        lab.memory.change(&format!("job{n}"), 1, "accepted", &serde_json::json!({"callback": callback_meta(&id)}));
        lab.dispatcher.tick().await.unwrap();
    };
    // Each URL is an endpoint of its own.
    for n in 0..20 {
        tell(n, &format!("{}/{n}", hung.url()), "t-001").await;
    }
    assert_eq!(lab.dispatcher.counts().in_flight, 4, "a tenant holds a quarter");
    for n in 20..40 {
        tell(n, &format!("{}/{n}", hung.url()), &format!("t-{n}")).await;
    }
    assert_eq!(lab.dispatcher.counts().in_flight, 8, "a host holds half");
    tell(40, &quick.url(), "t-002").await;
    quick.arrivals(1).await;
    lab.dispatcher.start().stop().await;
}

#[tokio::test]
async fn a_degraded_endpoint_is_probed_and_comes_back() {
    let mut rules = dispatcher_rules();
    rules.health.degrade_after_failures = 3;
    rules.health.degrade_after = Duration::ZERO;
    rules.health.probe_every = Duration::ZERO;
    rules.schedule.overload_wait = Duration::from_secs(1);
    rules.schedule.waits = vec![Duration::from_secs(1); 50];
    let lab = Lab::with(rules, Limits::default(), 0);
    let receiver = Receiver::reacting(|n| Some(status(if n < 6 { 500 } else { 200 }))).await;
    let (id, _) = lab.register(&receiver.url()).await;
    for n in 0..4 {
        lab.succeed(&format!("job{n}"));
    }
    lab.round().await;
    assert_eq!(receiver.seen().len(), 4);
    let state = async || serde_json::to_value(lab.directory.view(&id).await.unwrap().unwrap().state).unwrap();
    assert_eq!(state().await, "degraded");
    for probes in [5, 6, 7] {
        lab.memory.advance(Duration::from_secs(1));
        lab.round().await;
        assert_eq!(receiver.seen().len(), probes, "one probe at a time");
    }
    assert_eq!(state().await, "enabled");
    lab.round().await;
    assert_eq!(receiver.seen().len(), 10, "the rest follows at once");
}
