//! The verb of families: the children of a job that was cancelled or failed are cancelled too.
//!
//! Invariant: whoever ends a parent notes it in the same script, so that a crash before its children are reached forgets none.

use super::{connect::Store, error::StoreError};

/// Told with the end of a child whose parent did not succeed.
const PARENT_ENDED: &str = r#"{"reason":"parent_ended"}"#;

impl Store {
    /// Cancels the children of one job of a shard that was cancelled or failed; how many such jobs are left.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn cascade(&self, shard: u16) -> Result<usize, StoreError> {
        self.query("cascade", self.cascade_cmd(shard)).await
    }

    pub(crate) fn cascade_cmd(&self, shard: u16) -> redis::Cmd {
        let mut cmd = self.begin(&self.scripts.cascade, shard);
        cmd.arg(PARENT_ENDED);
        cmd
    }
}
