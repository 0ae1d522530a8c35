#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::super::Script;
