//! The processes of the program: `up`, `api`, `worker`, `upkeep`, and what they stand on: the data folder, the private
//! Redis, the log, signals.
//!
//! Guards two promises: nothing starts on a store that would lose jobs unless told to, and whatever was started is
//! stopped again in the reverse order.

mod admin_key;
mod boot;
mod data_folder;
mod error;
mod keeping;
mod leftovers;
mod log;
mod redis_child;
mod redis_files;
mod redis_pulse;
mod sender;
mod service;
mod settings;
mod signals;
mod start_limits;

pub use boot::{Opened, look_at_store, open_store, private_redis_url};
pub use data_folder::DataFolder;
pub use error::BootError;
pub use log::init as init_log;
pub use redis_child::{RedisChild, RedisOptions};
pub use redis_files::find_program;
pub use service::{Parts, Service, ServiceOptions};
pub(crate) use settings::catalogue;
pub use signals::Signals;

/// The file in the data folder that holds the first key.
pub const ADMIN_KEY_FILE: &str = "admin.key";
