//! Crashes at every boundary of an SQL update. The judge is the data center: each statement leaves a trace of its own,
//! and whatever was killed, each trace must be there exactly once.

mod api;
mod execute;
mod judge;
mod service;
mod sql_update;
mod table;
mod update;
mod zombie;
