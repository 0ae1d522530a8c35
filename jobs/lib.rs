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

/// The names of all queues that jobs of these kinds wait in.
#[must_use]
pub fn queue_names() -> Vec<&'static str> {
    let mut names: Vec<_> = kinds().iter().map(|kind| kind.queue()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether there is a kind of this name that may be asked for, and whether the arguments have its form. No rule is asked.
///
/// # Errors
/// As [`Catalogue::admit`] for the same.
pub fn check_form(name: &str, args: serde_json::Value) -> Result<(), Refusal> {
    let kinds = kinds();
    let asked: Vec<_> = kinds.iter().filter(|kind| !kind.internal()).collect();
    match asked.iter().find(|kind| kind.name() == name) {
        Some(kind) => kind.check_form(args),
        None => {
            let known: Vec<_> = asked.iter().map(|kind| kind.name()).collect();
            Err(catalogue::unknown(ErrorCode::UnknownKind, "kind", name, &known))
        }
    }
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
