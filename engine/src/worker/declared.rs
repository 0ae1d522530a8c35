//! The steps that kinds declare. Guards that a worker does not start with a kind whose steps cannot be told apart.

use std::collections::{HashMap, HashSet};

use super::Runner;
use crate::store::StoreError;

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Two steps of a kind have one name.
    #[error("kind `{kind}` declares two steps named `{step}`: a step's name is its identity, give one of them another")]
    StepTwice {
        /// The kind.
        kind: String,
        /// The name.
        step: String,
    },
}

impl StartError {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::StepTwice { .. } => "step_name_twice",
        }
    }
}

/// Kind → its steps, for those that declare any.
pub(crate) type Declared = HashMap<String, Vec<String>>;

/// What a runner's kinds declare.
pub(super) fn steps_of(runner: &dyn Runner) -> Result<Declared, StartError> {
    let mut all = HashMap::new();
    for (kind, steps) in runner.steps() {
        let mut seen = HashSet::new();
        if let Some(step) = steps.iter().find(|step| !seen.insert(step.as_str())) {
            return Err(StartError::StepTwice { step: step.clone(), kind });
        }
        if !steps.is_empty() {
            all.insert(kind, steps);
        }
    }
    Ok(all)
}
