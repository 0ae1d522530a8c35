//! What the kinds reach: the tenants' documents, databases, backups, notices. Opened once when the program starts.
//!
//! Invariant: secrets are resolved here, when a target is opened, and nowhere else.

mod backups;
mod directory;
mod scratch;
pub(crate) mod telling;
pub(crate) mod tickets;

use std::path::PathBuf;
use std::sync::Arc;

use leasehold_engine::Store;
use leasehold_targets::database::{self, Database, DatabaseUrl};
use leasehold_targets::files;
use leasehold_targets::notices::{self, Notices};
use leasehold_targets::{Secrets, TargetError};

pub use backups::{Backup, Backups, Origin};
pub(crate) use backups::{Held, Wanted};
pub use directory::{Directory, TENANTS};

use crate::policy::messages::TemplateError;
use crate::policy::{ErrorCode, Messages, Refusal, Rules, Tenant};

/// Where things are.
#[derive(Debug, Clone)]
pub struct ServicesOptions {
    /// Where backups are put: `file:DIR`.
    pub backups: String,
    /// Where notices go: `file:DIR`, a mailbox folder.
    pub notices: String,
    /// The values of `${secret:NAME}`.
    pub secrets: Secrets,
    /// A folder on this machine for files that are being made.
    pub scratch: PathBuf,
    /// Live jobs per shard beyond which no notice is enqueued.
    pub max_live: u64,
}

/// Why the services could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A target cannot be opened.
    #[error("could not open {what}")]
    Target {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: TargetError,
    },
    /// A template of a notice cannot be used.
    #[error("the texts of notices cannot be used")]
    Template(#[from] TemplateError),
}

/// Opens the database of an address.
pub type OpenDatabase = dyn Fn(&DatabaseUrl) -> Result<Arc<dyn Database>, TargetError> + Send + Sync;

/// What the kinds reach.
pub struct Services {
    store: Store,
    rules: Arc<Rules>,
    directory: Arc<dyn Directory>,
    secrets: Secrets,
    open_database: Box<OpenDatabase>,
    backups: Backups,
    notices: Arc<dyn Notices>,
    messages: Messages,
    max_live: u64,
}

impl Services {
    /// Opens everything; the tenants' documents are those of the store.
    ///
    /// # Errors
    /// [`ServicesError`] when a target or a template cannot be used.
    pub fn open(store: Store, rules: Arc<Rules>, options: ServicesOptions) -> Result<Self, ServicesError> {
        let failed = |what| move |source| ServicesError::Target { what, source };
        let files = files::open(&options.backups).map_err(failed("the place of backups"))?;
        let notices = notices::open(&options.notices).map_err(failed("the way of notices"))?;
        Ok(Self {
            directory: Arc::new(store.clone()),
            backups: Backups::new(store.clone(), files, options.scratch),
            messages: Messages::load()?,
            secrets: options.secrets,
            open_database: Box::new(database::open),
            max_live: options.max_live,
            store,
            rules,
            notices,
        })
    }

    /// The same with another way to open databases, such as one that watches or breaks them.
    #[must_use]
    pub fn opening_databases_by(mut self, open: Box<OpenDatabase>) -> Self {
        self.open_database = open;
        self
    }

    /// The engine's store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The tenants' documents.
    #[must_use]
    pub fn directory(&self) -> &dyn Directory {
        self.directory.as_ref()
    }

    /// The tenants' backups.
    #[must_use]
    pub fn backups(&self) -> &Backups {
        &self.backups
    }

    /// The way to people.
    #[must_use]
    pub fn notices(&self) -> &dyn Notices {
        self.notices.as_ref()
    }

    /// The texts of notices.
    #[must_use]
    pub fn messages(&self) -> &Messages {
        &self.messages
    }

    pub(crate) fn max_live(&self) -> u64 {
        self.max_live
    }

    /// The database of a data center, not yet connected.
    ///
    /// # Errors
    /// [`TargetError`] when the address cannot be used by this build.
    pub fn database(&self, tenant: &Tenant, data_center: &str) -> Result<Arc<dyn Database>, TargetError> {
        let (_, found) = tenant.data_center(data_center).ok_or_else(|| TargetError::NotFound {
            what: format!("data center {data_center} of tenant {}", tenant.id),
        })?;
        (self.open_database)(&DatabaseUrl::parse(&found.database, &self.secrets)?)
    }

    /// The same for a command that asks to be accepted: an address that this build cannot use is a refusal.
    ///
    /// # Errors
    /// The refusal, with the field at fault.
    pub fn database_for(&self, tenant: &Tenant, data_center: &str, field: &str) -> Result<Arc<dyn Database>, Refusal> {
        tenant.require_data_center(data_center, field)?;
        self.database(tenant, data_center).map_err(|error| {
            let code = match &error {
                TargetError::NoDriver { .. } | TargetError::BadUrl { .. } => ErrorCode::InvalidArgument,
                _ => ErrorCode::TargetUnreachable,
            };
            Refusal::new(code, "ENG-12", format!("data center `{data_center}`: {error}"))
                .with_field(field)
                .with_remedy("correct the data center's `database` in the tenant's document")
        })
    }
}
