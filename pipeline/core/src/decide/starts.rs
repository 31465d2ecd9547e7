//! How long replicas take to start: from a confirmed order of more of them until so many serve, as sinks see it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::capacity::Observed;
use crate::time::Timestamp;

/// Start-up that is assumed until enough starts were seen.
pub const STARTUP: Duration = Duration::from_secs(60);
/// Starts from which on they are believed.
const STARTS_MIN: usize = 3;
/// Starts that are remembered.
const STARTS: usize = 20;
/// Orders that are waited for at a time.
const ORDERS: usize = 16;
/// An order that is not complete after so long teaches nothing: it never will be, or what kept it has little to do with starting.
const ORDER_LIMIT: Duration = Duration::from_secs(3600);

/// The last starts of a target's replicas, and those under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Starts {
    /// Seconds that the last starts took, rounded up, the oldest first.
    pub seconds: Vec<u32>,
    /// Orders of replicas that do not all serve yet, by the replicas they lead to.
    pub orders: Vec<Order>,
}

/// More replicas were ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// When.
    pub at: Timestamp,
    /// Replicas that there are when all of them serve.
    pub to: u32,
}

// === impl Starts ===

impl Starts {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A change to `to` replicas was confirmed that was ordered `at`. What a scale-down takes away will not serve.
    pub(super) fn ordered(&mut self, at: Timestamp, from: u32, to: u32) {
        self.orders.retain(|order| order.to < to || (order.to == to && to < from));
        if to > from {
            self.orders.push(Order { at, to });
        }
        if self.orders.len() > ORDERS {
            let _ = self.orders.remove(0);
        }
    }

    /// Takes note of what a sink saw: orders that are complete, and those that somebody took back.
    pub(super) fn see(&mut self, observed: &Observed) {
        let (seen_at, ready) = (observed.observed_at, observed.ready);
        for order in std::mem::take(&mut self.orders) {
            let is_seen = seen_at >= order.at;
            let took = seen_at.since(order.at);
            if is_seen && ready.is_some_and(|ready| ready >= order.to) {
                self.record(took);
            } else if !is_seen || (observed.desired >= order.to && took < ORDER_LIMIT) {
                self.orders.push(order);
            }
        }
    }

    /// Times cannot be told apart from the clock's jump: nothing is learned from what is under way.
    pub(super) fn interrupt(&mut self) {
        self.orders.clear();
    }

    /// Nine of ten starts take at most so long; `None` until three were seen.
    #[must_use]
    pub fn p90(&self) -> Option<Duration> {
        let mut sorted = self.seconds.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * 9).div_ceil(10).checked_sub(1).filter(|_| sorted.len() >= STARTS_MIN)?;
        sorted.get(place).map(|seconds| Duration::from_secs(u64::from(*seconds)))
    }

    fn record(&mut self, took: Duration) {
        let seconds = took.as_millis().div_ceil(1000).max(1);
        self.seconds.push(u32::try_from(seconds).unwrap_or(u32::MAX));
        if self.seconds.len() > STARTS {
            let _ = self.seconds.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + second)
    }

    fn seen(second: i64, desired: u32, ready: u32) -> Observed {
        Observed::replicas(desired, Some(ready), at(second))
    }

    /// Guarantees: a start lasts from its order until so many serve; orders on top of each other are told apart.
    #[test]
    fn orders_are_followed_until_they_serve() {
        let mut starts = Starts::default();
        starts.ordered(at(0), 2, 4);
        starts.ordered(at(30), 4, 5);
        starts.see(&seen(40, 5, 3));
        assert_eq!((starts.seconds.len(), starts.orders.len()), (0, 2));
        starts.see(&seen(50, 5, 4));
        starts.see(&seen(100, 5, 5));
        assert_eq!((&starts.seconds[..], starts.orders.len()), (&[50, 70][..], 0));
        assert_eq!(starts.p90(), None, "two starts are few");
        starts.ordered(at(200), 5, 6);
        starts.see(&seen(220, 6, 6));
        assert_eq!(starts.p90(), Some(Duration::from_secs(70)));
    }

    /// Guarantees: what was taken back, by us or by others, teaches nothing; nor does what was seen before the order, what takes
    /// for ever, and what a clock's jump lies in.
    #[test]
    fn what_was_taken_back_teaches_nothing() {
        let mut starts = Starts::default();
        starts.ordered(at(0), 2, 6);
        starts.ordered(at(10), 6, 3);
        starts.ordered(at(20), 3, 4);
        starts.see(&seen(15, 9, 9));
        assert_eq!((starts.seconds.len(), starts.orders.len()), (0, 1), "seen before it was ordered");
        starts.see(&seen(30, 3, 3));
        starts.ordered(at(40), 3, 4);
        starts.see(&seen(5000, 4, 3));
        starts.ordered(at(6000), 4, 5);
        starts.interrupt();
        starts.see(&seen(9000, 5, 5));
        assert_eq!(starts, Starts::default());
    }

    /// Guarantees: memory is bounded, and old starts make room for new ones.
    #[test]
    fn the_last_starts_count() {
        let mut starts = Starts::default();
        for number in 0..100 {
            starts.ordered(at(number * 1000), 1, 2);
            starts.see(&seen(number * 1000 + if number < 80 { 500 } else { 40 }, 2, 2));
            starts.ordered(at(number * 1000 + 600), 2, 1);
        }
        assert_eq!((starts.seconds.len(), starts.p90()), (STARTS, Some(Duration::from_secs(40))));
        (0..100).for_each(|number| starts.ordered(at(200_000), number, number + 1));
        assert_eq!(starts.orders.len(), ORDERS);
    }
}
