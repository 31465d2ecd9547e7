//! What capacity will be there when it is needed: how far ahead an order must look, and who serves by then.

use super::startup::Startups;
pub use crate::queue::overload::catch_up_servers;

/// Shortest and longest time in which a backlog is worked off, in seconds.
const DRAIN: (f64, f64) = (15.0, 600.0);

/// Replicas of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Supply {
    /// Replicas that serve and stay.
    pub ready: u32,
    /// Replicas that were ordered and do not serve yet.
    pub starting: Vec<Starting>,
    /// Replicas that still finish requests but take no new ones. They are no supply.
    pub draining: u32,
}

/// Replicas that were ordered together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Starting {
    /// How many.
    pub count: u32,
    /// Seconds since the order.
    pub age: f64,
}

/// Seconds from something happening until replicas that are ordered because of it serve: until it is seen, until the next
/// decision, and until nine of ten replicas are up. `None` when one is negative or unbounded.
#[must_use]
pub fn lead_time(pipeline_delay: f64, interval: f64, startup_p90: f64) -> Option<f64> {
    let sum = [pipeline_delay, interval, startup_p90].into_iter().try_fold(0.0, |sum, part| (part >= 0.0).then_some(sum + part))?;
    sum.is_finite().then_some(sum)
}

/// Seconds in which a backlog is best worked off, when `work` replica-seconds of it are left, replicas for it are paid for `lead`
/// seconds before they serve, and a minute of violation is worth `price` replica-minutes: the price of waiting rises with the
/// time, that of waiting replicas falls with it, and `sqrt(work * lead / price)` is where they balance. Between 15 s and ten minutes.
#[must_use]
pub fn drain_time(work: f64, lead: f64, price: f64) -> f64 {
    let best = (work * lead / price).sqrt();
    if best.is_nan() { DRAIN.1 } else { best.clamp(DRAIN.0, DRAIN.1) }
}

// === impl Supply ===

impl Supply {
    /// Replicas that will serve `ahead` seconds from now if nothing is ordered: those that are ready, and those that start and are
    /// expected by then. What is overdue by far is lost and does not count.
    #[must_use]
    pub fn at(&self, ahead: f64, starts: &Startups) -> u32 {
        let coming = |group: &&Starting| !starts.is_lost(group.age) && (starts.p90() - group.age).max(0.0) <= ahead;
        self.starting.iter().filter(coming).map(|group| group.count).sum::<u32>() + self.ready
    }

    /// All replicas that are paid for and will stay.
    #[must_use]
    pub fn ordered(&self) -> u32 {
        self.ready + self.starting.iter().map(|group| group.count).sum::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: delays add up, and a senseless one gives no answer.
    #[test]
    fn lead_times_add_up() {
        assert_eq!(lead_time(10.0, 15.0, 120.0), Some(145.0));
        assert_eq!(lead_time(-1.0, 15.0, 120.0), None);
        assert_eq!(lead_time(1.0, 15.0, f64::INFINITY), None);
    }

    /// Guarantees: starting replicas count when they are expected in time, lost and draining ones never.
    #[test]
    fn expected_readiness() {
        let starts = Startups::default();
        let group = |count, age| Starting { count, age };
        let supply = Supply { ready: 4, starting: vec![group(2, 100.0), group(3, 10.0), group(5, 400.0)], draining: 7 };
        // Of the prior's 120 s, 20 are left for the first group and 110 for the second; the third is lost.
        assert_eq!([10.0, 20.0, 110.0].map(|ahead| supply.at(ahead, &starts)), [4, 6, 9]);
        assert_eq!(supply.ordered(), 14);
    }

    /// Guarantees: 6,000 replica-seconds, a lead of ten minutes and a price of 100 replica-minutes are worked off in the time that
    /// costs least (190 s: what is a little shorter or longer costs more).
    #[test]
    fn best_drain_time() {
        let cost = |seconds: f64| 100.0 * seconds / 60.0 + 6_000.0 / seconds * 600.0 / 60.0;
        let best = drain_time(6_000.0, 600.0, 100.0);
        assert!([0.9, 0.99, 1.01, 1.1].iter().all(|factor| cost(best) < cost(best * factor)), "{best}");
        assert!((drain_time(1e12, 600.0, 1.0) - 600.0).abs() < 1e-9 && (drain_time(0.0, 600.0, 1.0) - 15.0).abs() < 1e-9);
    }

    /// Guarantees: 600 requests of 0.1 s within a minute keep one server busy.
    #[test]
    fn catching_up() {
        assert_eq!(catch_up_servers(600.0, 0.1, 60.0), Some(1.0));
        assert_eq!(catch_up_servers(600.0, 0.1, 0.0), None);
        assert_eq!(catch_up_servers(-1.0, 0.1, 60.0), None);
    }
}
