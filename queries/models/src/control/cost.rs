//! What too much and too little capacity cost, and the share of cases to be ready for that follows.

/// What capacity and broken promises are worth, in one currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A replica for an hour.
    pub replica_hour: f64,
    /// A minute in which the promise is broken.
    pub violation_minute: f64,
}

/// The quantile of the required capacity to provide, when a unit too few costs `shortage` and a unit too many `excess` (the
/// newsvendor's solution): `shortage / (shortage + excess)`. `None` unless both are positive and bounded.
#[must_use]
pub fn newsvendor_quantile(shortage: f64, excess: f64) -> Option<f64> {
    let valid = |price: f64| price > 0.0 && price.is_finite();
    (valid(shortage) && valid(excess)).then(|| shortage / (shortage + excess))
}

/// Whether a change of replicas pays: what is saved (replicas, or what violations are worth in them, at `per_second` each) over the
/// seconds that it is likely to last must exceed what the change itself costs (a start later on, lost connections).
#[must_use]
pub fn is_saving_worth(replicas: f64, per_second: f64, seconds: f64, change: f64) -> bool {
    replicas * per_second * seconds > change
}

// === impl Prices ===

impl Prices {
    /// The price of a violation minute in replica-minutes: how many replicas it is worth to run for a minute to avoid one for
    /// sure. `None` unless both prices are positive and bounded.
    #[must_use]
    pub fn replica_minutes(&self) -> Option<f64> {
        let valid = |price: f64| price > 0.0 && price.is_finite();
        let worth = 60.0 * self.violation_minute / self.replica_hour;
        (valid(self.replica_hour) && valid(self.violation_minute) && worth.is_finite()).then_some(worth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the quantiles of the usual ratios of costs, and none for senseless prices.
    #[test]
    fn quantiles_of_cost_ratios() {
        for (ratio, expected) in [(1.0, 0.5), (10.0, 0.909), (20.0, 0.952), (50.0, 0.980), (100.0, 0.990)] {
            assert!((newsvendor_quantile(ratio, 1.0).unwrap() - expected).abs() < 5e-4);
        }
        assert_eq!(newsvendor_quantile(0.0, 1.0), None);
        assert_eq!(newsvendor_quantile(1.0, f64::INFINITY), None);
    }

    /// Guarantees: a violation minute of 2 at 0.04 per replica-hour is worth 3,000 replica-minutes; free capacity has no price.
    #[test]
    fn price_of_a_violation_minute() {
        let prices = Prices { replica_hour: 0.04, violation_minute: 2.0 };
        assert!((prices.replica_minutes().unwrap() - 3_000.0).abs() < 1e-9);
        assert_eq!(Prices { replica_hour: 0.0, ..prices }.replica_minutes(), None);
    }

    /// Guarantees: three replicas away for ten minutes save 1,800 replica seconds, and no more.
    #[test]
    fn saving_against_change() {
        assert!(is_saving_worth(3.0, 1.0, 600.0, 1_799.0));
        assert!(!is_saving_worth(3.0, 1.0, 600.0, 1_800.0));
    }
}
