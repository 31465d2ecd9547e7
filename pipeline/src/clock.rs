//! The one place that reads a clock. Everything else gets the time as an argument, so that a replay is the same code.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracescale_core::time::{Timestamp, nanos};

/// A source of the present time, as the receiver takes it.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The wall clock. A clock set before 1970 reads as the epoch.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of the wall clock")]
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_nanos(nanos(since_epoch))
}

/// The wall clock as a shareable source.
#[must_use]
pub fn system() -> Now {
    Arc::new(now)
}

/// Waits until the wall clock reads `deadline`; returns at once when it has passed. A clock that steps while we wait is
/// noticed within a second.
pub async fn sleep_until(deadline: Timestamp) {
    loop {
        let left = deadline.since(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(Duration::from_secs(1))).await;
    }
}
