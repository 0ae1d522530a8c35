//! The tenants' documents, read when a command is accepted and again when a job starts.

use async_trait::async_trait;
use leasehold_engine::{JobError, Store};

use crate::policy::Tenant;

/// The registry of the store that holds the tenants' documents.
pub const TENANTS: &str = "tenants";

/// Where the tenants' documents are.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The tenant's document; `None` when there is no such tenant.
    ///
    /// # Errors
    /// Transient when it cannot be read now, permanent when it is not a tenant's document.
    async fn tenant(&self, id: &str) -> Result<Option<Tenant>, JobError>;
}

#[async_trait]
impl Directory for Store {
    async fn tenant(&self, id: &str) -> Result<Option<Tenant>, JobError> {
        let held = self
            .document(TENANTS, id)
            .await
            .map_err(|error| JobError::transient(error.code(), format!("the tenant's document: {error}")))?;
        let Some(document) = held else { return Ok(None) };
        let tenant = Tenant::parse(id, &document.bytes)
            .map_err(|refusal| JobError::permanent("internal", format!("the document of tenant {id}: {refusal}")))?;
        Ok(Some(tenant))
    }
}
