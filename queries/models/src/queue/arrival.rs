//! GI/M/1: exponential service, any arrivals. Exact, and so the measure of what approximations make of irregular arrivals.

/// Gaps between arrivals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// All alike.
    Deterministic,
    /// Sums of exponential phases; squared coefficient of variation 1 / phases.
    Erlang {
        /// Number of phases, at least 1.
        phases: u32,
    },
    /// One of two exponential phases with balanced means.
    Hyperexponential {
        /// Squared coefficient of variation, at least 1.
        scv: f64,
    },
}

/// One exponential server of mean service time 1 at a load that it can carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeneralArrivals {
    wait_probability: f64,
}

// === impl Arrivals ===

impl Arrivals {
    /// Squared coefficient of variation of the gaps.
    #[must_use]
    pub fn scv(&self) -> f64 {
        match self {
            Self::Deterministic => 0.0,
            Self::Erlang { phases } => 1.0 / f64::from(*phases),
            Self::Hyperexponential { scv } => *scv,
        }
    }

    /// E[e^(-s gap)] for gaps of mean 1.
    fn transform(&self, s: f64) -> f64 {
        match self {
            Self::Deterministic => (-s).exp(),
            Self::Erlang { phases } => {
                let count = f64::from(*phases);
                (-count * (s / count).ln_1p()).exp()
            }
            Self::Hyperexponential { scv } => {
                let p = 0.5 * (1.0 + ((scv - 1.0) / (scv + 1.0)).sqrt());
                let phase = |p: f64| p * 2.0 * p / (2.0 * p + s);
                phase(p) + phase(1.0 - p)
            }
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Deterministic => true,
            Self::Erlang { phases } => *phases > 0,
            Self::Hyperexponential { scv } => *scv >= 1.0 && scv.is_finite(),
        }
    }
}

// === impl GeneralArrivals ===

impl GeneralArrivals {
    /// `None` when the server cannot carry the load, or for senseless input.
    #[must_use]
    pub fn new(arrivals: Arrivals, utilization: f64) -> Option<Self> {
        if !(arrivals.is_valid() && utilization > 0.0 && utilization < 1.0) {
            return None;
        }
        // The root below the trivial one at 1.
        let (mut low, mut high) = (0.0, 1.0 - 1e-9);
        for _ in 0..100 {
            let middle: f64 = 0.5 * (low + high);
            if arrivals.transform((1.0 - middle) / utilization) > middle { low = middle } else { high = middle }
        }
        Some(Self { wait_probability: 0.5 * (low + high) })
    }

    /// Probability of waiting.
    #[must_use]
    pub fn wait_probability(&self) -> f64 {
        self.wait_probability
    }

    /// Mean wait.
    #[must_use]
    pub fn mean_wait(&self) -> f64 {
        self.wait_probability / (1.0 - self.wait_probability)
    }

    /// P(W > t).
    #[must_use]
    pub fn wait_tail(&self, t: f64) -> f64 {
        if t < 0.0 { 1.0 } else { self.wait_probability * (-(1.0 - self.wait_probability) * t).exp() }
    }

    /// The wait that the share `1 - quantile` of the requests exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn wait_quantile(&self, quantile: f64) -> Option<f64> {
        let valid = quantile > 0.0 && quantile < 1.0;
        let over = self.wait_probability.ln() - (-quantile).ln_1p();
        valid.then(|| (over / (1.0 - self.wait_probability)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::erlang::Pool;
    use crate::queue::general::{Variability, allen_cunneen, kraemer_langenbach_belz};

    /// Arrivals, utilization; probability, mean and P99 of the wait; known errors of Allen and Cunneen and of Krämer and
    /// Langenbach-Belz in per cent.
    const TABLE: [(Arrivals, f64, [f64; 3], f64, f64); 16] = [
        (Arrivals::Deterministic, 0.5, [0.203_187_87, 0.255_000_975, 3.779_493_1], 96.0, 0.7),
        (Arrivals::Deterministic, 0.8, [0.628_629_796, 1.692_730_84, 11.150_484], 18.0, 0.0),
        (Arrivals::Deterministic, 0.95, [0.901_695_11, 9.172_433_95, 45.793_158], 3.6, 0.0),
        (Arrivals::Erlang { phases: 4 }, 0.5, [0.301_931_087, 0.432_523_324, 4.881_486_1], 45.0, 7.0),
        (Arrivals::Erlang { phases: 4 }, 0.8, [0.693_944_722, 2.267_383_61, 13.853_077], 10.0, 2.3),
        (Arrivals::Erlang { phases: 4 }, 0.95, [0.920_816_429, 11.628_882_3, 57.116_338], 2.1, 0.5),
        (Arrivals::Erlang { phases: 2 }, 0.7, [0.615_476_742, 1.600_622_93, 10.714_078], 9.3, 4.2),
        (Arrivals::Erlang { phases: 2 }, 0.9, [0.868_217_894, 6.588_283_63, 33.873_018], 2.5, 1.2),
        (Arrivals::Erlang { phases: 2 }, 0.99, [0.986_681_548, 74.083_799_3, 344.766_96], 0.2, 0.1),
        (Arrivals::Hyperexponential { scv: 2.0 }, 0.5, [0.591_751_71, 1.449_489_74, 9.995_147_9], 3.5, -4.8),
        (Arrivals::Hyperexponential { scv: 2.0 }, 0.9, [0.930_958_424, 13.484_026_3, 65.665_209], 0.1, -1.5),
        (Arrivals::Hyperexponential { scv: 4.0 }, 0.5, [0.683_772_234, 2.162_277_66, 13.360_749], 16.0, -4.1),
        (Arrivals::Hyperexponential { scv: 4.0 }, 0.8, [0.907_571_663, 9.819_192_77, 48.774_949], 1.8, -5.5),
        (Arrivals::Hyperexponential { scv: 4.0 }, 0.99, [0.995_975_709, 247.490_983, 1_143.341_2], 0.0, -0.4),
        (Arrivals::Hyperexponential { scv: 10.0 }, 0.8, [0.954_904_493, 21.175_158_1, 101.097_13], 3.9, -8.6),
        (Arrivals::Hyperexponential { scv: 10.0 }, 0.95, [0.990_504_229, 104.310_037, 483.965_86], 0.2, -3.0),
    ];

    /// Guarantees: probability, mean and P99 of the wait agree with the reference to all its digits.
    #[test]
    fn matches_the_reference() {
        for (arrivals, utilization, [probability, mean, p99], ..) in TABLE {
            let server = GeneralArrivals::new(arrivals, utilization).unwrap();
            let found = [server.wait_probability(), server.mean_wait(), server.wait_quantile(0.99).unwrap()];
            for (found, expected) in found.into_iter().zip([probability, mean, p99]) {
                assert!((found / expected - 1.0).abs() < 5e-8, "{arrivals:?} {utilization}: {found} is not {expected}");
            }
            assert!((server.wait_tail(p99) / 0.01 - 1.0).abs() < 1e-6);
        }
    }

    /// Guarantees: approximations of the mean are off by as many per cent as they are known to be.
    #[test]
    fn approximations_are_as_good_as_known() {
        for (arrivals, utilization, [_, mean, _], allen, kraemer) in TABLE {
            let pool = Pool::new(1.0, utilization).unwrap();
            let variability = Variability::new(arrivals.scv(), 1.0).unwrap();
            let error = |found: f64| 100.0 * (found / mean - 1.0);
            let close = |found: f64, expected: f64| {
                let tolerance = if expected.abs() < 10.0 { 0.06 } else { 0.6 };
                assert!((found - expected).abs() < tolerance, "{arrivals:?} {utilization}: {found} is not {expected}");
            };
            close(error(allen_cunneen(&pool, variability)), allen);
            close(error(kraemer_langenbach_belz(&pool, variability)), kraemer);
        }
    }

    /// Guarantees: one Erlang phase is M/M/1; overload and senseless arrivals have no answer.
    #[test]
    fn poisson_and_senseless() {
        let server = GeneralArrivals::new(Arrivals::Erlang { phases: 1 }, 0.7).unwrap();
        assert!((server.wait_probability() - 0.7).abs() < 1e-9);
        assert_eq!(GeneralArrivals::new(Arrivals::Deterministic, 1.0), None);
        assert_eq!(GeneralArrivals::new(Arrivals::Erlang { phases: 0 }, 0.5), None);
        assert_eq!(GeneralArrivals::new(Arrivals::Hyperexponential { scv: 0.5 }, 0.5), None);
    }
}
