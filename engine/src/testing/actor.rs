//! A kind made of a closure, for tests whose script is code.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use crate::{Ctx, JobError, NewJob, Runner, Store, Verdict};

type Acting = Pin<Box<dyn Future<Output = Result<Verdict, JobError>> + Send>>;

/// Runs a closure for each attempt of the kind `actor`.
pub struct Actor {
    act: Box<dyn Fn(Ctx) -> Acting + Send + Sync>,
    steps: Vec<String>,
}

impl Actor {
    /// A runner of this closure.
    pub fn new<F, Fut>(act: F) -> Arc<Self>
    where
        F: Fn(Ctx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Verdict, JobError>> + Send + 'static,
    {
        Self::declaring(&[], act)
    }

    /// The same, declaring these steps.
    pub fn declaring<F, Fut>(steps: &[&str], act: F) -> Arc<Self>
    where
        F: Fn(Ctx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Verdict, JobError>> + Send + 'static,
    {
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        Arc::new(Self { act: Box::new(move |ctx| Box::pin(act(ctx))), steps })
    }

    /// A job for it; what it says is for the closure to read.
    #[must_use]
    pub fn job(store: &Store, says: &str) -> NewJob {
        NewJob::new(store.new_id("t-001"), "actor", "t-001", says.as_bytes().to_vec())
    }
}

#[async_trait]
impl Runner for Actor {
    fn kinds(&self) -> Vec<String> {
        vec!["actor".to_owned()]
    }

    fn steps(&self) -> Vec<(String, Vec<String>)> {
        vec![("actor".to_owned(), self.steps.clone())]
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        (self.act)(ctx.clone()).await
    }
}

/// What was done, in its order; shared between clones.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<String>>>);

impl Ledger {
    /// Writes an effect down.
    pub fn write(&self, what: impl Into<String>) {
        self.0.lock().expect("no panic while held").push(what.into());
    }

    /// The same as the body of a step that gives nothing.
    ///
    /// # Errors
    /// None: a step's body may fail, this one does not.
    pub fn done(&self, what: impl Into<String>) -> Result<(), JobError> {
        self.write(what);
        Ok(())
    }

    /// Everything, in its order.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic while held").clone()
    }

    /// How often each thing was done.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for what in self.all() {
            *counts.entry(what).or_default() += 1;
        }
        counts
    }
}
