//! Webhooks against real local receivers: what arrives, what is refused, and what a hostile receiver can do to us.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
#![expect(unreachable_pub, reason = "the modules of a test are its own")]

#[path = "webhooks/lab.rs"]
mod lab;

#[path = "webhooks/delivery.rs"]
mod delivery;
#[path = "webhooks/hostile.rs"]
mod hostile;
#[path = "webhooks/on_redis.rs"]
mod on_redis;
#[path = "webhooks/ssrf.rs"]
mod ssrf;
#[path = "webhooks/verifiers.rs"]
mod verifiers;
