//! The bridge to apalis; the only file that names it.
//!
//! An apalis worker runs the attempts (its loop, its events, its shutdown); our own `Backend` feeds it from a channel.
//! The backend never returns an error, since apalis would end the worker and drop what runs; claims, settlements,
//! renewals and cancels go on in tasks of their own, also while apalis drains.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use apalis::prelude::{BoxDynError, Task, TaskBuilder, WorkerBuilder, WorkerContext};
use apalis_core::backend::{Backend, BackendConfig, finalize::Ephemeral};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::layer::util::Identity;

use super::{attempt, ctx::Ctx};

/// For how long attempts may go on once all is over.
const LAST: Duration = Duration::from_secs(5);

/// Runs attempts as they come in, until told to stop and nothing runs.
pub(crate) async fn serve(name: String, jobs: mpsc::UnboundedReceiver<Ctx>, stop: CancellationToken) {
    let context = WorkerContext::new(&name);
    let worker = WorkerBuilder::new(&context).backend(Channel { jobs }).build(handle);
    let mut run = tokio::spawn(worker.run());
    tokio::select! {
        ended = &mut run => tracing::error!(?ended, "the apalis worker ended by itself"),
        () = stop.cancelled() => {
            let _ = context.stop();
            // What is left by now was told to stop long ago, and waits for a store that does not answer.
            if tokio::time::timeout(LAST, &mut run).await.is_err() {
                run.abort();
            }
        }
    }
}

/// An attempt runs in a task of its own, so that one that blocks its thread holds up no other.
async fn handle(ctx: Ctx) -> Result<(), BoxDynError> {
    AbortOnDrop(tokio::spawn(attempt::run(ctx))).await;
    Ok(())
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Future for AbortOnDrop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Channel {
    jobs: mpsc::UnboundedReceiver<Ctx>,
}

impl Backend for Channel {
    type Task = Task<Ctx>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Task<Ctx>, Infallible>>> {
        match self.jobs.poll_recv(cx) {
            Poll::Ready(Some(ctx)) => Poll::Ready(Some(Ok(TaskBuilder::new(ctx).build()))),
            // All claims have ended; apalis expects the end only after a stop.
            Poll::Ready(None) if worker.is_shutting_down() => Poll::Ready(None),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Channel {
    type Args = Ctx;
    type Id = u64;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
