//! Listens and serves: bounded connections, a limit on the time for a head, a graceful end.
//!
//! On stop the listener closes, event streams end, requests under way are answered, and after the grace the rest is cut.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{routes, state::ApiState};

/// Connections at the same time; the next one waits in the kernel's queue.
const CONNECTIONS: usize = 2048;
/// Time for the head of a request, also on a connection that is kept open.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Bytes of a head.
const HEAD_BYTES: usize = 32 * 1024;
/// Time for requests under way after the stop.
const GRACE: Duration = Duration::from_secs(10);

/// Serves the API until `stop` is cancelled and what was under way is answered.
///
/// # Errors
/// Never after it has begun; a listener that fails is tried again.
pub async fn serve(state: ApiState, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let router = routes::router(state.stopping_with(stop.clone()));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    while let Some(Ok(slot)) = stop.run_until_cancelled(Arc::clone(&slots).acquire_owned()).await {
        let stream = match stop.run_until_cancelled(listener.accept()).await {
            None => break,
            Some(Ok((stream, _))) => stream,
            Some(Err(error)) => {
                // Out of file descriptors, most likely: others have to close first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let connection = connection(router.clone(), stream);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::trace!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut after {} s of grace", GRACE.as_secs());
    }
    Ok(())
}

type Connection = hyper::server::conn::http1::Connection<TokioIo<tokio::net::TcpStream>, TowerToHyperService<Router>>;

fn connection(router: Router, stream: tokio::net::TcpStream) -> Connection {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}
