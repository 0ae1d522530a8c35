//! One connection through the proxy: requests up, replies down, each in its order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::super::resp;
use super::calls::{Sent, Verdict};
use super::{Fault, Inner, clock};

type Pending = Arc<Mutex<VecDeque<Sent>>>;

/// One connection, until either side or a fault ends it.
pub async fn serve(inner: Arc<Inner>, client: UnixStream) {
    let Ok(server) = UnixStream::connect(&inner.upstream).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (pending, raw) = (Pending::default(), Arc::new(AtomicBool::new(false)));
    tokio::select! {
        () = requests(&inner, from_client, to_server, &pending, &raw) => {}
        () = replies(&inner, from_server, to_client, &pending, &raw) => {}
    }
}

async fn requests(
    inner: &Arc<Inner>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pending: &Pending,
    raw: &AtomicBool,
) {
    let mut held = Vec::new();
    while from.read_buf(&mut held).await.is_ok_and(|read| read > 0) {
        while let Some(len) = resp::frame_len(&held) {
            let frame: Vec<u8> = held.drain(..len).collect();
            let words = resp::words(&frame);
            if words.first().is_some_and(|word| word.to_ascii_uppercase().ends_with(b"SUBSCRIBE")) {
                raw.store(true, Ordering::SeqCst);
            }
            let verdict = inner.state().hear(&words);
            match verdict {
                Verdict::Strike(fault) => return inner.strike(fault).await,
                Verdict::Pass(sent) => {
                    if sent.frozen {
                        inner.strike(Fault::Frozen).await;
                        inner.thaw.notified().await;
                    }
                    pending.lock().unwrap().push_back(sent);
                }
            }
            let moved = clock::in_call(&resp::words(&frame), inner.ahead());
            if to.write_all(moved.as_ref().unwrap_or(&frame)).await.is_err() {
                return;
            }
        }
    }
}

async fn replies(
    inner: &Arc<Inner>,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    pending: &Pending,
    raw: &AtomicBool,
) {
    let mut held = Vec::new();
    while from.read_buf(&mut held).await.is_ok_and(|read| read > 0) {
        if raw.load(Ordering::SeqCst) {
            if to.write_all(&std::mem::take(&mut held)).await.is_err() {
                return;
            }
            continue;
        }
        while let Some(len) = resp::frame_len(&held) {
            let frame: Vec<u8> = held.drain(..len).collect();
            let sent = if frame[0] == b'>' { None } else { pending.lock().unwrap().pop_front() };
            if let Some(sent) = &sent {
                let by_reply = inner.state().hear_reply(sent, &frame);
                if let Some(fault) = sent.strike.or(by_reply) {
                    return inner.strike(fault).await;
                }
            }
            let moved = clock::in_reply(&frame, inner.ahead());
            if to.write_all(moved.as_ref().unwrap_or(&frame)).await.is_err() {
                return;
            }
            if sent.is_some_and(|sent| sent.frozen) {
                inner.state().passed = true;
                inner.passed.notify_waiters();
            }
        }
    }
}
