//! Over a real socket: large bodies, slow and rude callers, the graceful end.

use std::time::Duration;

use leasehold::api::serve::serve;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::stand::Stand;

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start(stand: &Stand) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let running = tokio::spawn(serve(stand.state.clone(), listener, stop.clone()));
        Self { address, stop, running }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    read.expect("the connection ends").unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn head(stand: &Stand, more: &str) -> String {
    let key = &stand.admin;
    format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\nconnection: close\r\n{more}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_body_of_100_mb_is_told_413_and_the_connection_does_not_hang() {
    let stand = Stand::new().await;
    let server = Server::start(&stand).await;
    let size = 100 << 20;
    let chunk = vec![b' '; 1 << 20];
    for announced in [true, false] {
        let mut stream = server.connect().await;
        let length =
            if announced { format!("content-length: {size}") } else { "transfer-encoding: chunked".to_owned() };
        stream.write_all(head(&stand, &length).as_bytes()).await.unwrap();
        for _ in 0..100 {
            if !announced {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(&chunk).await.expect("the server reads on until the caller has finished");
            if !announced {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if !announced {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let answer = all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("payload_too_large"), "{answer}");
    }
}

#[tokio::test]
async fn a_caller_who_asks_first_is_told_413_before_it_sends() {
    let stand = Stand::new().await;
    let server = Server::start(&stand).await;
    let mut stream = server.connect().await;
    stream.write_all(head(&stand, "content-length: 104857600\r\nexpect: 100-continue").as_bytes()).await.unwrap();
    let answer = all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn rude_heads_are_refused_and_others_are_still_served() {
    let stand = Stand::new().await;
    let server = Server::start(&stand).await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    for rude in ["\u{16}\u{3}\u{1}", "GET / HTTP/9.9\r\n\r\n", "GET\r\n\r\n", long.as_str()] {
        let mut stream = server.connect().await;
        let _ = stream.write_all(rude.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut sink = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut sink)).await.expect("it ends");
    }
    let mut stream = server.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(all(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_stops_half_way_is_given_up_after_the_time_limit() {
    let stand = Stand::with(&[("LEASEHOLD__SERVER__REQUEST_TIMEOUT_SECONDS", "1")]).await;
    let server = Server::start(&stand).await;
    let mut stream = server.connect().await;
    stream.write_all(head(&stand, "content-length: 100").as_bytes()).await.unwrap();
    stream.write_all(b"{\"kind\"").await.unwrap();
    let answer = all(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"),
        "it is the caller who is late: {answer}"
    );
}

#[tokio::test]
async fn a_stop_ends_streams_and_idle_connections_and_closes_the_listener() {
    let stand = Stand::new().await;
    let id = stand.held(stand.plain("t-001")).await;
    let server = Server::start(&stand).await;
    let mut watching = server.connect().await;
    let ask = format!("GET /v1/jobs/{id}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", stand.admin);
    watching.write_all(ask.as_bytes()).await.unwrap();
    let mut first = [0; 2048];
    let mut seen = String::new();
    while !seen.contains("job.accepted") {
        let n = watching.read(&mut first).await.unwrap();
        assert!(n > 0);
        seen.push_str(&String::from_utf8_lossy(&first[..n]));
    }
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut first).await.unwrap() > 0);
    server.stop.cancel();
    assert!(!all(&mut watching).await.contains("job."));
    assert!(all(&mut idle).await.is_empty());
    tokio::time::timeout(Duration::from_secs(20), server.running).await.expect("it ends").unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
