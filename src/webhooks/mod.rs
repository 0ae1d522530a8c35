//! Tells callers of every change of their jobs by signed webhooks (ENG-06).
//!
//! The way of a change: outbox entry → [`router`] → a delivery for each endpoint that hears it → [`dispatcher`] claims,
//! [`signature`] signs, [`client`] sends, [`schedule`] says when again. At least once, in any order: receivers drop
//! doubles by `webhook-id` and order by `seq`.

pub mod address;
pub mod attempt;
pub mod body;
pub mod client;
pub mod directory;
pub mod dispatcher;
pub mod endpoint;
pub mod endpoint_url;
pub mod outbox;
pub mod redact;
pub mod router;
pub mod schedule;
pub mod signature;
pub mod slots;
pub mod store;
