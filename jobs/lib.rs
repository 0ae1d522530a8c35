//! The job kinds, one file each beside this one, and the policies that they obey.
//!
//! Adding a kind touches two files: the kind's own, and the list `kinds` below. A rule is data in `policy`; a kind checks it
//! when a command is accepted and again when the job starts.

pub mod catalogue;
pub mod policy;
pub mod services;

pub mod data_center_backup;
pub mod data_center_restore;
pub mod notification_send;
pub mod sql_update;
pub mod verification_code;

pub use catalogue::{
    Admitted, Ask, Catalogue, Ctx, Envelope, Kind, KindCard, Limits, Submission, Verification, What, schema_of,
};
pub use policy::{Actor, ErrorCode, Refusal, Rules, Status, Tenant};
pub use services::{Backup, Backups, Directory, OpenDatabase, Origin, Services, ServicesError, ServicesOptions};

use catalogue::{AnyKind, kind};

/// The names of all kinds that this program knows.
#[must_use]
pub fn kind_names() -> Vec<&'static str> {
    kinds().iter().map(|kind| kind.name()).collect()
}

/// Every kind that this program knows. Workers look into the queues in this order: somebody waits for a code.
fn kinds() -> Vec<Box<dyn AnyKind>> {
    vec![
        kind::<verification_code::VerificationCode>(),
        kind::<sql_update::SqlUpdate>(),
        kind::<data_center_backup::DataCenterBackup>(),
        kind::<data_center_restore::DataCenterRestore>(),
        kind::<notification_send::NotificationSend>(),
    ]
}
