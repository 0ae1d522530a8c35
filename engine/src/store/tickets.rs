//! Tickets: one-use codes with a binding, an end and a number of tries (VERIFY-02). Only digests are stored.

use std::time::Duration;

use super::{connect::Store, error::StoreError};
use crate::model::UnixMs;

/// What came of issuing a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// Issued; it ends at this time, ms.
    Ok {
        /// The end.
        expires_at: UnixMs,
    },
    /// The last one for the same binding is too recent.
    Wait {
        /// For this long.
        ms: u64,
    },
}

impl Store {
    /// Issues a ticket on a tenant's shard; issuing the same id again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn ticket_issue(
        &self,
        tenant: &str,
        (id, digest, binding): (&str, &str, &str),
        tries: u32,
        ttl: Duration,
        gap: Duration,
    ) -> Result<Issued, StoreError> {
        let mut cmd = self.begin(&self.scripts.ticket_issue, self.shard_of(tenant));
        cmd.arg(id).arg(digest).arg(binding).arg(tries).arg(ttl.as_millis() as u64).arg(gap.as_millis() as u64);
        let (word, ms): (String, String) = self.query("ticket_issue", cmd).await?;
        let ms: i64 = ms.parse().unwrap_or(0);
        match word.as_str() {
            "issued" => Ok(Issued::Ok { expires_at: ms }),
            "wait" => Ok(Issued::Wait { ms: ms.unsigned_abs() }),
            _ => Err(StoreError::UnknownAnswer { verb: "ticket_issue", answer: word }),
        }
    }

    /// From when on another ticket may be issued for a binding; `None` when none was issued of late.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn ticket_open_at(&self, tenant: &str, binding: &str) -> Result<Option<UnixMs>, StoreError> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.key(self.shard_of(tenant), &format!("ticketgate:{binding}")));
        self.query("ticket_open_at", cmd).await
    }

    /// Units used of an allowance of a tenant.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn allowance_used(&self, tenant: &str, name: &str) -> Result<u32, StoreError> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.key(self.shard_of(tenant), &format!("allowance:{name}")));
        let used: Option<i64> = self.query("allowance_used", cmd).await?;
        Ok(used.unwrap_or(0).clamp(0, i64::from(u32::MAX)) as u32)
    }
}
