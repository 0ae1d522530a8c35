//! Nothing that a caller, a DNS server or a receiver says makes us speak to an address that is not allowed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use leasehold::webhooks::address::{AddressPolicy, own_addresses};
use leasehold::webhooks::client::{Exchange, Limits, Parcel, Resolver, Sender, SystemResolver};
use leasehold::webhooks::endpoint_url::UrlRules;

use super::hostile::send_to;
use super::lab::{Answers, LOCAL, Lab, Receiver, nobody, quick_limits, sender, status_with, url_rules};

fn parcel() -> Parcel {
    let body = Bytes::from_static(b"{\"type\":\"job.x\"}");
    Parcel { id: "msg_1".into(), timestamp: 1, signature: "v1,x".into(), body }
}

fn code(exchange: &Exchange) -> &'static str {
    exchange.result.as_ref().map_or_else(|error| error.code(), |_| "answered")
}

/// A listener that counts who connects.
async fn trap() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind(LOCAL).await.unwrap();
    let address = listener.local_addr().unwrap();
    let caught = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&caught);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, caught)
}

/// Any port, so that only the address can be the reason of a refusal.
fn any_port(port: u16, allow: &[&str]) -> UrlRules {
    UrlRules { allow_http: true, ports: vec![port], ..url_rules(allow) }
}

#[tokio::test]
async fn no_spelling_of_the_loopback_reaches_a_listener_there() {
    let (address, caught) = trap().await;
    let port = address.port();
    let sender = sender(any_port(port, &[]), Limits::default(), Arc::new(SystemResolver));
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "0177.1",
        "2130706433",
        "127.0.0.1.",
        "localhost",
        "localhost.",
        "a.localhost",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "0",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ] {
        for scheme in ["http", "https"] {
            let exchange = sender.send(&format!("{scheme}://{host}:{port}/"), parcel()).await;
            assert_eq!(code(&exchange), "address_refused", "{scheme}://{host}");
        }
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_with_a_private_address_is_refused_whatever_stands_beside_it() {
    let (address, caught) = trap().await;
    for answer in [
        &["127.0.0.1"][..],
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1", "8.8.8.8"],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["2606:4700:4700::1111", "::1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["fd00:ec2::254"],
        &["100.100.100.200"],
        &["168.63.129.16"],
        &["0.0.0.0"],
        &["fe80::1"],
    ] {
        let sender = sender(any_port(address.port(), &[]), Limits::default(), Answers::new(&[answer]));
        for scheme in ["http", "https"] {
            let exchange = sender.send(&format!("{scheme}://evil.example:{}/", address.port()), parcel()).await;
            assert_eq!(code(&exchange), "address_refused", "{answer:?}");
        }
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

/// DNS rebinding: the check sees one address, the connection must not see another.
#[tokio::test]
async fn a_name_is_looked_up_once_and_what_was_approved_is_what_is_dialled() {
    let receiver = Receiver::fine().await;
    let port = receiver.address.port();
    // Listed first, then something else: a second look-up would fail or go elsewhere.
    let answers = Answers::new(&[&["127.0.0.1"], &["127.0.0.9"]]);
    let listed = sender(any_port(port, &["127.0.0.1"]), Limits::default(), answers.clone());
    let exchange = listed.send(&format!("http://rebind.example:{port}/"), parcel()).await;
    assert_eq!((code(&exchange), answers.asked()), ("answered", 1));
    assert_eq!(receiver.seen()[0].header("host"), format!("rebind.example:{port}"));

    // Each attempt is judged anew.
    let exchange = listed.send(&format!("http://rebind.example:{port}/"), parcel()).await;
    assert_eq!((code(&exchange), answers.asked()), ("address_refused", 2));
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_dial_that_fails_is_not_repeated_with_another_answer() {
    let (trapped, caught) = trap().await;
    let (_held, nobody) = nobody();
    let answers = Answers::new(&[&["127.0.0.1"], &["::1"], &["127.0.0.9"]]);
    let sender = sender(any_port(trapped.port(), &["127.0.0.1"]), Limits::default(), answers.clone());
    let exchange = sender.send(&format!("http://rebind.example:{}/", nobody.port()), parcel()).await;
    assert_eq!((code(&exchange), answers.asked()), ("connect_failed", 1));
    let exchange = sender.send(&format!("http://rebind.example:{}/", trapped.port()), parcel()).await;
    assert_eq!((code(&exchange), caught.load(Ordering::SeqCst)), ("address_refused", 0));
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let (trapped, caught) = trap().await;
    for status_code in [301, 302, 303, 307, 308] {
        for to in
            [format!("http://{trapped}/"), "file:///etc/passwd".into(), format!("//{trapped}/"), "/elsewhere".into()]
        {
            let location = to.clone();
            let receiver = Receiver::reacting(move |_| Some(status_with(status_code, "location", &location))).await;
            let reply = send_to(&receiver.url()).await.result.unwrap();
            assert_eq!(reply.status, status_code);
            assert_eq!(receiver.seen().len(), 1, "{status_code} to {to}");
        }
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_a_failure_of_the_delivery_and_its_query_is_not_logged() {
    let lab = Lab::new();
    let receiver =
        Receiver::reacting(|_| Some(status_with(302, "location", "https://example.com/in?session=hunter2"))).await;
    lab.register(&receiver.url()).await;
    lab.succeed("job1");
    lab.round().await;
    let log = &lab.memory.only().log[0];
    assert_eq!(log.error.as_deref(), Some("redirect_refused"));
    assert_eq!(log.detail.as_deref(), Some("not followed: https://example.com/in"));
}

#[tokio::test]
async fn our_own_ports_are_refused_inside_an_allowed_network() {
    let (own, caught) = trap().await;
    let other = Receiver::fine().await;
    let networks = ["127.0.0.0/8".parse().unwrap()];
    for listener in [own, SocketAddr::from(([0, 0, 0, 0], own.port()))] {
        let addresses =
            AddressPolicy::new(&networks).with_own_addresses(own_addresses()).with_own_listeners([listener]);
        let rules = UrlRules { addresses, has_listed_networks: true, ..UrlRules::default() };
        let sender = sender(rules, Limits::default(), Answers::new(&[&["127.0.0.1"]]));
        for host in ["127.0.0.1", "localhost", "named.example"] {
            let exchange = sender.send(&format!("http://{host}:{}/", own.port()), parcel()).await;
            assert_eq!(code(&exchange), "address_refused", "{host}");
        }
        assert_eq!(code(&sender.send(&other.url(), parcel()).await), "answered");
    }
    assert_eq!(caught.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_path_cannot_carry_a_second_request() {
    let receiver = Receiver::fine().await;
    let address = receiver.address;
    for path in ["\r\nSET%20x%20y", "\nGET /x", "%0d%0aSET%20x%20y"] {
        let exchange = send_to(&format!("http://{address}/{path}")).await;
        let refused = path.contains('\n');
        assert_eq!(code(&exchange), if refused { "url_refused" } else { "answered" }, "{path:?}");
    }
    assert_eq!(receiver.seen().len(), 1, "one request, its line ends still written as %0d%0a");
}

#[tokio::test]
async fn a_slow_look_up_is_cut() {
    struct Never;
    #[async_trait::async_trait]
    impl Resolver for Never {
        async fn lookup(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
            std::future::pending().await
        }
    }
    let exchange =
        sender(url_rules(&[]), quick_limits(), Arc::new(Never)).send("https://slow.example/", parcel()).await;
    assert_eq!(code(&exchange), "timed_out");
}

/// SNI, the certificate's name and the `Host` header come from the URL although an address is dialled.
#[tokio::test]
async fn https_is_checked_against_the_name_of_the_url() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let issued = rcgen::generate_simple_self_signed(vec!["hooks.example".to_owned()]).unwrap();
    let root = issued.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![root.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(LOCAL).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(socket).await {
                let _ = tls.read(&mut [0; 4096]).await;
                let _ = tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = tls.shutdown().await;
            }
        }
    });
    let trusting = |roots| {
        let answers = Answers::new(&[&["127.0.0.1"]]);
        Sender::new(url_rules(&["127.0.0.0/8"]), Limits::default(), answers, roots).unwrap()
    };
    let (known, unknown) = (trusting(vec![root]), trusting(vec![]));
    assert_eq!(known.send(&format!("https://hooks.example:{port}/"), parcel()).await.result.unwrap().status, 204);
    assert_eq!(code(&known.send(&format!("https://other.example:{port}/"), parcel()).await), "tls_failed");
    assert_eq!(code(&unknown.send(&format!("https://hooks.example:{port}/"), parcel()).await), "tls_failed");
}
