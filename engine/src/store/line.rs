//! The line to Redis. Guards that one which does not answer is left, with all that was sent over it and is not yet read.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::error::StoreError;

/// A connection that is made anew when it breaks, and when an answer does not come in time.
pub(crate) struct Line {
    client: Client,
    config: ConnectionManagerConfig,
    current: Mutex<Current>,
}

struct Current {
    nth: u64,
    connection: ConnectionManager,
}

impl Line {
    pub(crate) async fn open(client: &Client, response_timeout: Duration) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(response_timeout))
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_number_of_retries(2)
            .set_min_delay(Duration::from_millis(20));
        let opened = client.get_connection_manager_with_config(config.clone()).await;
        let connection = opened.map_err(|e| StoreError::of("open", e))?;
        Ok(Self { client: client.clone(), config, current: Mutex::new(Current { nth: 0, connection }) })
    }

    /// The connection, and which one it is.
    pub(crate) fn current(&self) -> (u64, ConnectionManager) {
        let current = self.lock();
        (current.nth, current.connection.clone())
    }

    /// Leaves the `nth` connection, unless another did: who asks again asks over a new one. The machine behind it may be gone
    /// without a word, and the system would try to reach it for a quarter of an hour.
    pub(crate) fn leave(&self, nth: u64) {
        let mut current = self.lock();
        if current.nth != nth {
            return;
        }
        if let Ok(connection) = ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone()) {
            *current = Current { nth: nth + 1, connection };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
