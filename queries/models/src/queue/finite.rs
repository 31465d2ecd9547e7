//! M/M/c/K: servers with a queue of bounded length that turns away what does not fit. In equilibrium at any load.

use super::root::falling;

/// Most places that are answered; sums run over them.
const PLACES_MAX: u32 = 10_000_000;

/// Servers with a bounded number of places, those in service included. Rates are per mean service time, times in service times.
#[derive(Clone, Debug, PartialEq)]
pub struct FiniteQueue {
    servers: u32,
    load: f64,
    /// Probability that so many requests wait, from none to all places of the queue, with all servers busy.
    waiting: Vec<f64>,
}

// === impl FiniteQueue ===

impl FiniteQueue {
    /// `None` without servers, load or places for all servers, or with more than ten million places.
    #[must_use]
    pub fn new(servers: u32, places: u32, load: f64) -> Option<Self> {
        if !(servers > 0 && (servers..=PLACES_MAX).contains(&places) && load > 0.0 && load.is_finite()) {
            return None;
        }
        // 1 / B by its own recursion: every term is positive.
        let inverse = (1..=servers).fold(1.0, |inverse: f64, server| 1.0 + inverse * f64::from(server) / load);
        let utilization = load / f64::from(servers);
        let queue = places - servers;
        // Relative to the likelier end, so that neither end of a long queue overflows.
        let ratio = if utilization <= 1.0 { utilization } else { 1.0 / utilization };
        let mut weights: Vec<f64> = std::iter::successors(Some(1.0), |weight| Some(weight * ratio)).take(1 + length(queue)).collect();
        let most: f64 = weights.iter().sum();
        let below = if utilization <= 1.0 {
            inverse - 1.0
        } else {
            weights.reverse();
            (inverse - 1.0) * weights.first()?
        };
        let total = most + below;
        let waiting = weights.into_iter().map(|weight| weight / total).collect();
        Some(Self { servers, load, waiting })
    }

    /// Probability that a request finds no place.
    #[must_use]
    pub fn blocked(&self) -> f64 {
        self.waiting.last().copied().unwrap_or(1.0)
    }

    /// Requests served per mean service time, which is also the mean number of busy servers.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.load * (1.0 - self.blocked())
    }

    /// Mean number of requests present.
    #[must_use]
    pub fn mean_present(&self) -> f64 {
        self.throughput() + self.mean_waiting()
    }

    /// Mean wait of the requests that find a place.
    #[must_use]
    pub fn mean_wait(&self) -> f64 {
        self.mean_waiting() / self.throughput()
    }

    /// Mean sojourn of the requests that find a place.
    #[must_use]
    pub fn mean_sojourn(&self) -> f64 {
        1.0 + self.mean_wait()
    }

    /// P(W > t) of the requests that find a place.
    #[must_use]
    pub fn wait_tail(&self, t: f64) -> f64 {
        if t < 0.0 {
            return 1.0;
        }
        // Who finds i waiting leaves the queue after i + 1 departures: sum over the departures that happen within t.
        let (departures, admitted) = (f64::from(self.servers) * t, 1.0 - self.blocked());
        let finding = &self.waiting[..self.waiting.len() - 1];
        let mut behind: f64 = finding.iter().sum();
        let (mut sum, mut log_chance, mut count) = (0.0, -departures, 0.0);
        for probability in finding {
            sum += f64::exp(log_chance) * behind;
            behind -= probability;
            count += 1.0;
            log_chance += departures.ln() - f64::ln(count);
        }
        if admitted > 0.0 { (sum / admitted).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The wait that the share `1 - quantile` of the requests that find a place exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn wait_quantile(&self, quantile: f64) -> Option<f64> {
        let valid = quantile > 0.0 && quantile < 1.0;
        valid.then(|| falling(|t| self.wait_tail(t), 1.0 - quantile, 0.0, 1e-10)).flatten()
    }

    fn mean_waiting(&self) -> f64 {
        let mut count = -1.0;
        let weigh = |probability: &f64| {
            count += 1.0;
            count * probability
        };
        self.waiting.iter().map(weigh).sum()
    }
}

/// A number of places as a length.
fn length(places: u32) -> usize {
    usize::try_from(places).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::erlang::erlang_b;

    /// Servers, places, utilization offered; blocking, number present, throughput, mean sojourn, mean and P99 of the wait.
    const TABLE: [(u32, u32, f64, [f64; 6]); 20] = [
        (1, 1, 0.5, [0.333_333_333_3, 0.333_333_333, 0.333_333_333, 1.0, 0.0, 0.0]),
        (1, 10, 0.8, [0.023_492_857_58, 2.966_314_27, 0.781_205_714, 3.797_097_5, 2.797_097_5, 12.392_18]),
        (1, 10, 1.0, [0.090_909_090_91, 5.0, 0.909_090_909, 5.5, 4.5, 14.272_473]),
        (1, 10, 2.0, [0.500_244_259_9, 9.005_373_72, 0.999_511_48, 9.009_775_17, 8.009_775_17, 16.607_291]),
        (1, 100, 0.999, [0.009_413_872_096, 49.149_719_4, 0.989_595_542, 49.666_472_2, 48.666_472_2, 108.116_81]),
        (2, 4, 0.9, [0.182_498_400_6, 2.039_275_68, 1.471_502_88, 1.385_845_53, 0.385_845_526, 2.600_240_1]),
        (4, 4, 0.7, [0.183_724_222_4, 2.285_572_18, 2.285_572_18, 1.0, 0.0, 0.0]),
        (4, 20, 0.9, [0.016_804_982_3, 7.769_208_14, 3.539_502_06, 2.195_000_31, 1.195_000_31, 4.935_351_2]),
        (4, 20, 1.2, [0.171_910_280_9, 15.599_857_1, 3.974_830_65, 3.924_659_57, 2.924_659_57, 6.050_426_4]),
        (10, 10, 0.8, [0.121_661_064_3, 7.026_711_49, 7.026_711_49, 1.0, 0.0, 0.0]),
        (10, 30, 0.95, [0.020_586_079_43, 15.480_538_7, 9.304_432_25, 1.663_781_12, 0.663_781_124, 2.467_594_1]),
        (10, 100, 1.0, [0.010_564_100_16, 53.154_349_2, 9.894_359, 5.372_187_24, 4.372_187_24, 9.906_775_9]),
        (32, 64, 1.05, [0.055_728_407_88, 50.683_197_4, 31.727_525_5, 1.597_451_95, 0.597_451_947, 1.281_881_8]),
        (100, 100, 0.9, [0.026_957_380_46, 87.573_835_8, 87.573_835_8, 1.0, 0.0, 0.0]),
        (100, 120, 0.99, [0.025_316_552_72, 102.166_254, 96.493_661_3, 1.058_787_2, 0.058_787_203_4, 0.249_636_99]),
        (100, 200, 1.5, [0.333_333_333_3, 198.0, 100.0, 1.98, 0.98, 1.230_543_9]),
        (1000, 1000, 0.95, [0.003_649_293_689, 946.533_171, 946.533_171, 1.0, 0.0, 0.0]),
        (1000, 1000, 0.999, [0.024_199_178_6, 974.825_021, 974.825_021, 1.0, 0.0, 0.0]),
        (1000, 1100, 0.999, [0.006_631_605_65, 1_026.998_56, 992.375_026, 1.034_889_57, 0.034_889_569_9, 0.107_035_63]),
        (1000, 1100, 1.1, [0.090_909_607_03, 1_090.000_67, 999.999_432, 1.090_001_29, 0.090_001_287_7, 0.119_362_4]),
    ];

    /// Guarantees: all measures agree with sums of 50 digits to the printed digits, in underload, balance and overload.
    #[test]
    fn matches_the_reference() {
        for (servers, places, utilization, expected) in TABLE {
            let queue = FiniteQueue::new(servers, places, utilization * f64::from(servers)).unwrap();
            let wait = queue.wait_quantile(0.99).unwrap();
            let found = [queue.blocked(), queue.mean_present(), queue.throughput(), queue.mean_sojourn(), queue.mean_wait(), wait];
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() <= 1e-7 * expected, "{servers} {places} {utilization}: {found} is not {expected}");
            }
        }
    }

    /// Guarantees: without a queue blocking is Erlang's, a long queue in underload hardly blocks, and senseless input has no answer.
    #[test]
    fn limits_and_senseless() {
        assert!((FiniteQueue::new(30, 30, 25.0).unwrap().blocked() / erlang_b(30, 25.0) - 1.0).abs() < 1e-12);
        assert!(FiniteQueue::new(2, 5000, 1.0).unwrap().blocked() < 1e-300);
        assert!((FiniteQueue::new(2, 5000, 4.0).unwrap().throughput() - 2.0).abs() < 1e-9);
        for (servers, places, load) in [(0, 4, 1.0), (4, 3, 1.0), (1, 4, 0.0), (1, 4, f64::NAN), (1, u32::MAX, 1.0)] {
            assert_eq!(FiniteQueue::new(servers, places, load), None);
        }
    }
}
