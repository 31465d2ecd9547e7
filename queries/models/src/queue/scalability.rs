//! The universal scalability law (Gunther): throughput of N workers that contend for something and wait for each other.
//!
//! Per replica, with N the requests in it, it says how many servers a replica really is; per service, with N its replicas, it
//! finds what they all share, such as a database.

mod fit;

pub use fit::{Fit, fit};

/// Part of the throughput of the first worker below which one more worker is futile.
const FUTILE: f64 = 0.2;

/// Throughput by number of workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalability {
    /// Throughput of one worker.
    pub single: f64,
    /// Share of the work that workers cannot do at the same time (α).
    pub contention: f64,
    /// Cost of each pair of workers keeping each other up to date (β).
    pub coherence: f64,
}

// === impl Scalability ===

impl Scalability {
    /// `None` unless the throughput is positive and both costs are in [0, 1].
    #[must_use]
    pub fn new(single: f64, contention: f64, coherence: f64) -> Option<Self> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        (single > 0.0 && single.is_finite() && share(contention) && share(coherence)).then_some(Self { single, contention, coherence })
    }

    /// Throughput of `workers`; zero for none.
    #[must_use]
    pub fn throughput(&self, workers: f64) -> f64 {
        if workers <= 0.0 {
            return 0.0;
        }
        self.single * workers / self.slowdown(workers)
    }

    /// What one more worker adds at `workers`: the derivative of the throughput.
    #[must_use]
    pub fn marginal(&self, workers: f64) -> f64 {
        let slowdown = self.slowdown(workers);
        self.single * (1.0 - self.contention - self.coherence * workers * workers) / (slowdown * slowdown)
    }

    /// The number of workers beyond which throughput falls. `None` when it never does.
    #[must_use]
    pub fn peak(&self) -> Option<f64> {
        (self.coherence > 0.0).then(|| ((1.0 - self.contention) / self.coherence).sqrt())
    }

    /// The throughput that no number of workers exceeds. `None` when there is no bound.
    #[must_use]
    pub fn limit(&self) -> Option<f64> {
        match self.peak() {
            Some(peak) => Some(self.throughput(peak.max(1.0))),
            None => self.contention_limit(),
        }
    }

    /// The bound that contention alone sets (Amdahl). `None` without contention.
    #[must_use]
    pub fn contention_limit(&self) -> Option<f64> {
        (self.contention > 0.0).then(|| self.single / self.contention)
    }

    /// Whether one more than `workers` adds less than a fifth of what the first one does: then the work waits for something that
    /// all of them share, and that is what has to grow.
    #[must_use]
    pub fn is_futile(&self, workers: f64) -> bool {
        self.marginal(workers + 1.0) < FUTILE * self.single
    }

    fn slowdown(&self, workers: f64) -> f64 {
        1.0 + self.contention * (workers - 1.0) + self.coherence * workers * (workers - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: peak, limits and throughput of known laws, and where another worker is futile.
    #[test]
    fn peaks_and_limits() {
        let law = Scalability::new(100.0, 0.02, 0.0005).unwrap();
        assert!((law.peak().unwrap() - 44.271_887).abs() < 1e-6 && (law.limit().unwrap() - 1_568.089_081).abs() < 1e-5);
        assert!((law.throughput(16.0) - 1_126.760_563).abs() < 1e-6 && (law.throughput(0.0)).abs() < 1e-12);
        assert!(!law.is_futile(4.0) && law.is_futile(30.0) && law.is_futile(60.0) && law.marginal(60.0) < 0.0);
        let amdahl = Scalability::new(100.0, 0.05, 0.0).unwrap();
        assert_eq!((amdahl.peak(), amdahl.limit()), (None, amdahl.contention_limit()));
        assert!((amdahl.limit().unwrap() - 2000.0).abs() < 1e-9);
        let linear = Scalability::new(100.0, 0.0, 0.0).unwrap();
        assert!(linear.limit().is_none() && !linear.is_futile(1e6));
        let step = (law.throughput(20.001) - law.throughput(20.0)) / 0.001;
        assert!((law.marginal(20.0) / step - 1.0).abs() < 1e-3);
        for (single, contention, coherence) in [(0.0, 0.1, 0.1), (1.0, -0.1, 0.0), (1.0, 0.0, 1.1), (f64::NAN, 0.0, 0.0)] {
            assert_eq!(Scalability::new(single, contention, coherence), None);
        }
    }
}
