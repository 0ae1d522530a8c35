//! Notices: e-mail, SMS and instant messages to people.
//!
//! Invariant: a notice's id is its identity. Sent twice, it is there once.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::TargetError;

mod mailbox;

/// By which way a notice goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// An e-mail.
    Email,
    /// A text message to a mobile.
    Sms,
    /// An instant message (Yunzhijia).
    Im,
}

/// One notice to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its identity: the same id is the same notice.
    pub id: String,
    /// By which way.
    pub channel: Channel,
    /// An e-mail address, a mobile number or a user id, by the channel.
    pub to: String,
    /// The subject; shown by e-mail, first line elsewhere.
    pub subject: String,
    /// Plain text.
    pub body: String,
}

/// One way to reach people.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Hands a notice over. Sending the same id again changes nothing that the receiver sees.
    async fn send(&self, notice: &Notice) -> Result<(), TargetError>;
}

/// Opens `file:DIR`, a mailbox folder with `email/`, `sms/` and `im/` in it.
pub fn open(url: &str) -> Result<Arc<dyn Notices>, TargetError> {
    Ok(Arc::new(mailbox::Mailbox::new(crate::folder::of_address(url, "notices")?)))
}
