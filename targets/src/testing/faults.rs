//! Where a test breaks a run, as a crash would.

use std::sync::Arc;

/// A moment of a script's run at which a process can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// The transaction is open and nothing was done.
    Begun,
    /// The statement ran and its marker is not written.
    Ran,
    /// The marker is written and not committed.
    Recorded,
    /// All is committed, and nobody was told.
    Committed,
    /// The `begun` marker of a statement without transaction is committed, and it has not run.
    MarkedBegun,
    /// A statement without transaction ran, and its end is not recorded.
    RanAlone,
}

impl FaultPoint {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Begun, Self::Ran, Self::Recorded, Self::Committed, Self::MarkedBegun, Self::RanAlone];
}

/// Says whether to break at a point of the statement with an index.
pub type Faults = Arc<dyn Fn(FaultPoint, u32) -> bool + Send + Sync>;
