//! Up to which event time a stream is taken to be complete.
//!
//! `watermark = max(newest event − lateness, now − lateness − idle)`, and it never goes back by itself. The newest event counts
//! at most `received + skew`, so a sender whose clock is ahead cannot close everybody's windows; the wall clock takes over
//! when nothing comes, so windows close without traffic. When the wall clock itself steps back, [`Watermark::step_back`]
//! takes the watermark back with it: a clock that was ahead for a while must not stall windows until it is reached again.

use std::time::Duration;

use tracescale_core::time::Timestamp;

/// The watermark of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Watermark {
    lateness: Duration,
    idle: Duration,
    newest: Option<Timestamp>,
    current: Timestamp,
}

// === impl Watermark ===

impl Watermark {
    pub(crate) fn new(lateness: Duration, idle: Duration) -> Self {
        Self { lateness, idle, newest: None, current: Timestamp::MIN }
    }

    /// Learns of an event time, already bounded by the receiver's clock.
    pub(crate) fn observe(&mut self, event: Timestamp) {
        self.newest = self.newest.max(Some(event));
        self.current = self.current.max(event - self.lateness);
    }

    /// Learns the time.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.current = self.current.max(now - self.lateness - self.idle);
    }

    /// The wall clock stepped back to `now`.
    pub(crate) fn step_back(&mut self, now: Timestamp, skew: Duration) {
        self.newest = self.newest.map(|newest| newest.min(now + skew));
        self.current = self.newest.map_or(Timestamp::MIN, |newest| newest - self.lateness).max(now - self.lateness - self.idle);
    }

    /// Everything before this time is taken to have arrived.
    pub(crate) fn current(&self) -> Timestamp {
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watermark() -> Watermark {
        Watermark::new(Duration::from_secs(10), Duration::from_secs(5))
    }

    /// Guarantees: the watermark follows the newest event, never goes back on older ones, and the clock moves it when idle.
    #[test]
    fn follows_events_then_the_clock() {
        let mut watermark = watermark();
        watermark.observe(Timestamp::from_secs(100));
        watermark.observe(Timestamp::from_secs(40));
        assert_eq!(watermark.current(), Timestamp::from_secs(90));
        watermark.advance(Timestamp::from_secs(104));
        assert_eq!(watermark.current(), Timestamp::from_secs(90));
        watermark.advance(Timestamp::from_secs(120));
        assert_eq!(watermark.current(), Timestamp::from_secs(105));
    }

    /// Guarantees: after the wall clock steps back, windows close at the corrected time and not an hour later.
    #[test]
    fn steps_back_with_the_clock() {
        let mut watermark = watermark();
        watermark.observe(Timestamp::from_secs(3_700));
        watermark.step_back(Timestamp::from_secs(100), Duration::from_secs(5));
        assert_eq!(watermark.current(), Timestamp::from_secs(95));
    }
}
