//! What a request takes when it does not wait: followed window by window, slowly while nothing is certain, at once where it is.
//!
//! Bursts make requests longer as a slower service does. What tells them apart: a burst that is over before its window is leaves some
//! requests as quick as ever, a slower service does not. Requests that are shorter wait for the median: errors may be, too.

use super::{Posterior, Recent};

/// How far apart (as a logarithm) the service times behind a latency may be, depending on how the balancer pools, for a window to
/// count half: what is read from a busy window depends on what is believed of the balancer.
const DOUBT: f64 = 0.05;
/// Requests that a window counts for at most: what quiet windows taught is to outlast the busy hours after them.
const WINDOW_SAMPLES: f64 = 200.0;
/// By how much (as a logarithm) a service time must be out of what any balancer explains for the service to be another than before,
/// and by how many of its own standard errors.
const SURPRISE: f64 = 0.15;
const SURPRISE_ERRORS: f64 = 3.0;
/// Part of a slowdown (as a logarithm) that quick requests must show to rule out a burst.
const SHARED: f64 = 0.5;
/// What was known before counts for so much of a window that is certain to show another service.
const BEFORE: f64 = 0.25;
/// Seconds after a change of the service in which what was known before it counts as in such a window, and
const RENEWAL: f64 = 900.0;
/// how many windows are then compared, to pass over bursts.
const RENEWED_WINDOWS: usize = 3;

/// The service time of a service. Plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Mean service time in seconds.
    pub time: Posterior,
    /// Squared coefficient of variation of the service time.
    pub scv: Posterior,
    /// Service times of the last windows.
    recent: Recent,
    /// The same of their quick requests.
    quick: Recent,
    /// When the service became another one, in seconds.
    renewed_at: Option<f64>,
}

/// The service time behind the latency of a window, in seconds ([`crate::sizing::service_time_behind`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behind {
    /// As the balancer is believed to pool the replicas.
    pub service_time: f64,
    /// If they were one pool.
    pub pooled: f64,
    /// If requests were split at random.
    pub split: f64,
    /// Of quick requests: a low quantile of the latency, over the factor by which waiting made requests longer in the mean. Absent
    /// where it is not known.
    pub quick: Option<f64>,
}

// === impl Work ===

impl Work {
    /// What is believed at first: a mean in seconds until one is measured, and a squared coefficient of variation.
    #[must_use]
    pub fn new(seconds: f64, scv: f64) -> Self {
        let (recent, quick) = (Recent::default(), Recent::default());
        Self { time: Posterior::placeholder(seconds), scv: Posterior::new(scv), recent, quick, renewed_at: None }
    }

    /// The service is another one from `at` seconds on: a version, or a size of its replicas.
    pub fn renew(&mut self, at: f64) {
        self.renewed_at = Some(at);
        (self.recent, self.quick) = (Recent::default(), Recent::default());
    }

    /// Learns from a window that ended at `at` seconds, of so many effective requests: the more, the less it depends on what is believed
    /// of the balancer, which is in quiet windows, or with many servers. Says whether it did.
    pub fn observe(&mut self, at: f64, behind: &Behind, scv: f64, samples: f64) -> bool {
        let doubt = (behind.pooled / behind.split).ln() / DOUBT;
        let weight = samples.min(WINDOW_SAMPLES) / (1.0 + doubt * doubt);
        let valid = behind.service_time > 0.0 && weight > 0.0 && weight.is_finite();
        if !valid {
            return false;
        }
        let limit = SURPRISE + SURPRISE_ERRORS * (scv / samples).sqrt();
        let is_slower = self.is_slower(behind, limit);
        if is_slower {
            (self.recent, self.quick) = (Recent::default(), Recent::default());
        }
        let is_new = self.renewed_at.is_some_and(|since| (since..since + RENEWAL).contains(&at));
        let windows = if is_new { RENEWED_WINDOWS } else { Recent::COUNT };
        let usual = self.recent.observe(behind.service_time, windows);
        if let Some(quick) = behind.quick {
            let _ = self.quick.observe(quick, windows);
        }
        let known = self.time.value();
        let surprise = (known / behind.pooled).ln().max((usual.min(behind.split) / known).ln());
        if is_slower || is_new {
            self.time.samples = self.time.samples.min(BEFORE * weight);
        } else if surprise > limit {
            self.time.samples = self.time.samples.min(weight);
        }
        self.time.observe(usual, weight) && self.scv.observe(scv, weight)
    }

    /// Whether a window can only be explained by a service that takes longer: all requests do, the quick ones too.
    fn is_slower(&self, behind: &Behind, limit: f64) -> bool {
        let rise = (behind.service_time.min(behind.split) / self.time.value()).ln();
        let shared = behind.quick.zip(self.quick.middle()).map(|(quick, usual)| (quick / usual).ln());
        rise > limit && shared.is_some_and(|shared| shared >= SHARED * rise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: f64 = 60.0;

    /// A window that says the same whatever is believed of the balancer.
    fn plain(seconds: f64, quick: f64) -> Behind {
        Behind { service_time: seconds, pooled: seconds, split: seconds, quick: Some(quick) }
    }

    /// A service that was seen for an hour.
    fn known(seconds: f64) -> Work {
        let mut work = Work::new(seconds, 1.0);
        (0..60).for_each(|minute| assert!(work.observe(MINUTE * f64::from(minute), &plain(seconds, 0.2 * seconds), 1.0, 4000.0)));
        work
    }

    /// The service time after each of so many minutes of windows.
    fn after(work: &mut Work, minutes: usize, window: &Behind) -> Vec<f64> {
        let next = |minute| {
            assert!(work.observe(MINUTE * (60.0 + f64::from(minute)), window, 1.0, 4000.0));
            work.time.value()
        };
        (0..u32::try_from(minutes).unwrap()).map(next).collect()
    }

    /// Guarantees: a service that is a third slower is followed within two windows when quick requests are slower too, and after
    /// some minutes when they are not, as in a burst; one that is quicker after some minutes.
    #[test]
    fn a_slower_service_is_no_burst() {
        let slower = after(&mut known(0.05), 2, &plain(0.066, 0.0132));
        assert!(slower[0] > 0.062 && slower[1] > 0.064, "{slower:?}");
        let burst = after(&mut known(0.05), 12, &plain(0.066, 0.0105));
        assert!(burst[3] < 0.0501 && burst[11] > 0.06, "{burst:?}");
        let long = after(&mut known(0.05), 4, &Behind { quick: None, ..plain(1.0, 0.01) });
        assert!(long[3] < 0.0501, "{long:?}");
        let quicker = after(&mut known(0.05), 12, &plain(0.03, 0.006));
        assert!(quicker[3] > 0.0499 && quicker[11] < 0.035, "{quicker:?}");
    }

    /// Guarantees: after a deployment a service is known anew within three minutes, quicker or slower, one burst passed over.
    #[test]
    fn a_new_version_is_known_soon() {
        for seconds in [0.03, 0.055, 0.1] {
            let mut work = known(0.05);
            work.renew(60.0 * MINUTE);
            let first = plain(seconds, 0.2 * seconds);
            let burst = plain(20.0 * seconds, 0.2 * seconds);
            assert!(work.observe(60.0 * MINUTE, &first, 1.0, 4000.0) && work.observe(61.0 * MINUTE, &burst, 1.0, 4000.0));
            let found = after(&mut work, 2, &first);
            assert!((found[1] / seconds - 1.0).abs() < 0.05, "{seconds}: {found:?}");
        }
    }

    /// Guarantees: a window counts by how little its service time depends on the balancer, and one without a service time not.
    #[test]
    fn service_times_count_by_their_certainty() {
        let quiet = Behind { service_time: 0.065, pooled: 0.065, split: 0.065, quick: None };
        let busy = Behind { service_time: 0.03, pooled: 0.06, split: 0.03, quick: None };
        let mut work = Work::new(0.05, 1.0);
        assert!(!work.observe(0.0, &Behind { service_time: f64::NAN, ..quiet }, 1.0, 1000.0));
        assert!(!work.observe(0.0, &Behind { split: 0.0, ..quiet }, 1.0, 1000.0));
        assert!((work.time.value() - 0.05).abs() < 1e-12);
        (0..20).for_each(|_| assert!(work.observe(0.0, &quiet, 2.0, 4000.0)));
        assert!((work.time.value() - 0.065).abs() < 0.0005 && (work.scv.value() - 2.0).abs() < 0.06);
        // An hour of them changes little; with nothing else to learn from, they are what there is.
        (0..60).for_each(|_| assert!(work.observe(0.0, &busy, 2.0, 4000.0)));
        assert!((work.time.value() - 0.063).abs() < 0.002, "{}", work.time.value());
        (0..20_000).for_each(|_| assert!(work.observe(0.0, &busy, 2.0, 4000.0)));
        assert!((work.time.value() - 0.031).abs() < 0.001);
        // Another service in its place is known within minutes.
        let other = Behind { service_time: 0.2, pooled: 0.2, split: 0.2, quick: None };
        (0..4).for_each(|_| assert!(work.observe(0.0, &other, 2.0, 4000.0)));
        assert!((work.time.value() - 0.031).abs() < 0.001, "a burst");
        (0..8).for_each(|_| assert!(work.observe(0.0, &other, 2.0, 4000.0)));
        assert!((work.time.value() - 0.2).abs() < 0.01, "{}", work.time.value());
        // So is one with a few requests a minute, if it is slower by more than chance.
        let mut rare = Work::new(0.01, 1.0);
        let slow = Behind { service_time: 0.1, pooled: 0.1, split: 0.1, quick: None };
        (0..200).for_each(|_| assert!(rare.observe(0.0, &Behind { service_time: 0.01, pooled: 0.01, split: 0.01, quick: None }, 1.0, 5.0)));
        (0..10).for_each(|_| assert!(rare.observe(0.0, &slow, 1.0, 5.0)));
        assert!((rare.time.value() - 0.1).abs() < 0.015, "{}", rare.time.value());
    }
}
