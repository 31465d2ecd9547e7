//! Demand of a service from what is forecast at the front doors, so that it is there before the load arrives.

/// Front doors whose upper quantiles may be added: the sum of many is far above the quantile of the sum.
const ADDED_MOST: usize = 3;
/// Largest relative change of a visit ratio in an hour.
const CHANGE_HOURLY: f64 = 0.2;

/// A forecast at a front door, and how often a request there visits the service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrontDoor {
    /// Requests per second that are expected.
    pub mean: f64,
    /// Upper quantile of the same.
    pub upper: f64,
    /// Visits per request, retries not counted.
    pub visits: f64,
}

/// A visit ratio that follows measurements no faster than calls really change: a storm of retries must not pass for demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisitRatio {
    value: f64,
}

/// Requests per second at a service that the front doors will cause, at the quantile whose normal deviate is `z`. Up to three
/// upper quantiles are added; of more doors, the means, and `z` times the root of the summed variances that the quantiles stand
/// for. `None` without doors or for senseless figures.
#[must_use]
pub fn cascade(doors: &[FrontDoor], z: f64) -> Option<f64> {
    let valid = |door: &FrontDoor| {
        let sensible = door.mean >= 0.0 && door.upper >= door.mean && door.visits >= 0.0;
        sensible && door.upper.is_finite() && door.visits.is_finite()
    };
    if doors.is_empty() || !doors.iter().all(valid) || !(z > 0.0 && z.is_finite()) {
        return None;
    }
    if doors.len() <= ADDED_MOST {
        return Some(doors.iter().map(|door| door.upper * door.visits).sum());
    }
    let mean: f64 = doors.iter().map(|door| door.mean * door.visits).sum();
    let variance: f64 = doors.iter().map(|door| ((door.upper - door.mean) / z * door.visits).powi(2)).sum();
    Some(mean + z * variance.sqrt())
}

// === impl VisitRatio ===

impl VisitRatio {
    /// A ratio as first measured. `None` when it is negative or unbounded.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        (value >= 0.0 && value.is_finite()).then_some(Self { value })
    }

    /// Visits per request.
    #[must_use]
    pub fn value(self) -> f64 {
        self.value
    }

    /// Follows a measurement made `seconds` later, by at most a fifth per hour. A ratio of zero has nothing to be a fifth of and
    /// takes the measurement. Senseless measurements change nothing.
    #[must_use]
    pub fn follow(self, measured: f64, seconds: f64) -> Self {
        if !(measured >= 0.0 && measured.is_finite() && seconds >= 0.0) {
            return self;
        }
        if self.value <= 0.0 {
            return Self { value: measured };
        }
        let most = (1.0 + CHANGE_HOURLY).powf((seconds / 3600.0).min(24.0));
        Self { value: measured.clamp(self.value / most, self.value * most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: up to three doors add their upper quantiles; four of them add variances: 4 * 50 + 2 * sqrt(4 * 25²) = 300.
    #[test]
    fn few_and_many_doors() {
        let door = FrontDoor { mean: 50.0, upper: 100.0, visits: 1.0 };
        assert_eq!(cascade(&[door; 3], 2.0), Some(300.0));
        assert_eq!(cascade(&[door; 4], 2.0), Some(300.0));
        assert_eq!(cascade(&[FrontDoor { visits: 0.5, ..door }], 2.0), Some(50.0));
        assert_eq!(cascade(&[], 2.0), None);
        assert_eq!(cascade(&[FrontDoor { upper: 1.0, ..door }], 2.0), None);
    }

    /// Guarantees: a ratio follows by a fifth per hour and no faster, in both directions.
    #[test]
    fn ratios_follow_slowly() {
        let ratio = VisitRatio::new(2.0).unwrap();
        assert!((ratio.follow(9.0, 3600.0).value() - 2.4).abs() < 1e-12);
        assert!((ratio.follow(0.1, 3600.0).value() - 2.0 / 1.2).abs() < 1e-12);
        assert!((ratio.follow(2.01, 3600.0).value() - 2.01).abs() < 1e-12);
        assert!((ratio.follow(f64::NAN, 3600.0).value() - 2.0).abs() < 1e-12);
        assert_eq!(VisitRatio::new(-1.0), None);
    }
}
