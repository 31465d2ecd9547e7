//! M/G/1: one server, first come, first served, any service (Pollaczek and Khinchine). The moments of the wait are exact; its tail
//! is an approximation, too low by up to a quarter for very irregular service at low load.

use crate::special::gamma_p;

/// One server with Poisson arrivals at a load that it can carry. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeneralService {
    arrival_rate: f64,
    service_time: f64,
    service_scv: f64,
}

/// The highest utilization of one server at which the mean wait is at most `wait` service times. `None` for senseless input.
#[must_use]
pub fn utilization_for_mean_wait(wait: f64, service_scv: f64) -> Option<f64> {
    let valid = wait >= 0.0 && wait.is_finite() && service_scv >= 0.0 && service_scv.is_finite();
    valid.then(|| 2.0 * wait / (2.0 * wait + 1.0 + service_scv))
}

// === impl GeneralService ===

impl GeneralService {
    /// `None` when the server cannot carry the load, or for senseless input.
    #[must_use]
    pub fn new(arrival_rate: f64, service_time: f64, service_scv: f64) -> Option<Self> {
        let carried = arrival_rate >= 0.0 && service_time > 0.0 && arrival_rate * service_time < 1.0;
        (carried && service_scv >= 0.0 && service_scv.is_finite()).then_some(Self { arrival_rate, service_time, service_scv })
    }

    /// Share of the time that the server is busy, which is also the probability of waiting.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        self.arrival_rate * self.service_time
    }

    /// Mean wait; exact.
    #[must_use]
    pub fn mean_wait(&self) -> f64 {
        let utilization = self.utilization();
        utilization * self.service_time * (1.0 + self.service_scv) / (2.0 * (1.0 - utilization))
    }

    /// Mean of the squared wait for a mean cubed service time; exact.
    #[must_use]
    pub fn mean_square_wait(&self, service_cubed: f64) -> f64 {
        2.0 * self.mean_wait().powi(2) + self.arrival_rate * service_cubed / (3.0 * (1.0 - self.utilization()))
    }

    /// P(W > t), exponential beyond zero; exact for exponential service.
    #[must_use]
    pub fn wait_tail(&self, t: f64) -> f64 {
        let (utilization, mean) = (self.utilization(), self.mean_wait());
        if t < 0.0 {
            1.0
        } else if mean <= 0.0 {
            0.0
        } else {
            utilization * (-utilization * t / mean).exp()
        }
    }

    /// P(W > t), of the gamma law that has the first two moments of the wait of those who wait. Better where the mean cubed service
    /// time is known well, which takes many samples.
    #[must_use]
    pub fn wait_tail_by_moments(&self, t: f64, service_cubed: f64) -> f64 {
        let utilization = self.utilization();
        let mean = self.mean_wait() / utilization;
        let variance = self.mean_square_wait(service_cubed) / utilization - mean * mean;
        if t < 0.0 {
            1.0
        } else if utilization <= 0.0 {
            0.0
        } else if variance > 0.0 {
            utilization * (1.0 - gamma_p(mean * mean / variance, t * mean / variance))
        } else {
            self.wait_tail(t)
        }
    }

    /// P(T > t) over `(seconds, weight)` points of the service time.
    #[must_use]
    pub fn sojourn_tail(&self, points: &[(f64, f64)], t: f64) -> f64 {
        points.iter().map(|(service, weight)| weight * self.wait_tail(t - service)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::root::falling;
    use crate::queue::single::SingleServer;

    /// Squared coefficients of variation of the columns of [`MEANS`].
    const SCVS: [f64; 8] = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0];
    /// Utilization, mean waits.
    const MEANS: [(f64, [f64; 8]); 7] = [
        (0.5, [0.5, 0.625, 0.75, 1.0, 1.5, 2.5, 5.5, 50.5]),
        (0.7, [1.166_666_667, 1.458_333_333, 1.75, 2.333_333_333, 3.5, 5.833_333_333, 12.833_333_33, 117.833_333_3]),
        (0.8, [2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 22.0, 202.0]),
        (0.9, [4.5, 5.625, 6.75, 9.0, 13.5, 22.5, 49.5, 454.5]),
        (0.95, [9.5, 11.875, 14.25, 19.0, 28.5, 47.5, 104.5, 959.5]),
        (0.99, [49.5, 61.875, 74.25, 99.0, 148.5, 247.5, 544.5, 4999.5]),
        (0.999, [499.5, 624.375, 749.25, 999.0, 1498.5, 2497.5, 5494.5, 50_449.5]),
    ];
    /// Squared coefficient of variation, utilization; exact P95, P99 and P99.9 of the wait.
    const QUANTILES: [(f64, f64, [f64; 3]); 23] = [
        (0.0, 0.5, [2.050_638_4, 3.336_256, 5.168_385]),
        (0.0, 0.9, [14.128_674, 21.898_237, 33.013_97]),
        (0.25, 0.5, [2.701_978_5, 4.456_696_2, 6.967_119_1]),
        (0.25, 0.9, [17.822_639, 27.671_952, 41.763_133]),
        (0.5, 0.5, [3.341_858_7, 5.579_736_9, 8.781_225_4]),
        (0.5, 0.9, [21.516_44, 33.446_789, 50.515_261]),
        (2.0, 0.5, [7.482_346_4, 13.414_068, 21.901_718]),
        (2.0, 0.9, [44.319_66, 69.321_314, 105.090_59]),
        (4.0, 0.5, [13.228_263, 24.108_704, 39.675_097]),
        (4.0, 0.9, [75.097_269, 117.841_83, 178.995_47]),
        (10.0, 0.5, [30.341_949, 55.777_462, 92.167_453]),
        (10.0, 0.9, [167.358_9, 263.244_1, 400.424_8]),
        (0.0, 0.8, [6.620_325, 10.355_887, 15.700_268]),
        (0.25, 0.99, [186.356_29, 286.744_17, 430.366_76]),
        (0.25, 0.8, [8.431_907_1, 13.242_206, 20.124_188]),
        (0.5, 0.99, [223.760_26, 344.333_38, 516.834_53]),
        (0.5, 0.8, [10.242_757, 16.130_583, 24.554_159]),
        (2.0, 0.99, [448.847_56, 691.073_35, 1_037.620_1]),
        (2.0, 0.8, [21.704_559, 34.693_873, 53.277_379]),
        (4.0, 0.99, [749.400_36, 1_154.183_6, 1_733.297_6]),
        (4.0, 0.8, [37.296_392, 60.012_607, 92.512_164]),
        (10.0, 0.99, [1_651.050_2, 2_543.496_6, 3_820.298_8]),
        (10.0, 0.8, [83.958_355, 135.692_91, 209.708_33]),
    ];

    /// Mean cubed service time of mean 1: deterministic, Erlang or balanced hyperexponential.
    fn cubed(scv: f64) -> f64 {
        if scv <= 1.0 {
            return (1.0 + scv) * (1.0 + 2.0 * scv);
        }
        let p = 0.5 * (1.0 + ((scv - 1.0) / (scv + 1.0)).sqrt());
        6.0 * (p / (2.0 * p).powi(3) + (1.0 - p) / (2.0 * (1.0 - p)).powi(3))
    }

    /// Guarantees: the mean wait is exact for all variations, and its inverse finds the utilization again.
    #[test]
    fn means_match_the_reference() {
        for (utilization, means) in MEANS {
            for (scv, mean) in SCVS.into_iter().zip(means) {
                let found = GeneralService::new(utilization, 1.0, scv).unwrap().mean_wait();
                assert!((found / mean - 1.0).abs() < 1e-8, "{utilization} {scv}: {found} is not {mean}");
                assert!((utilization_for_mean_wait(mean, scv).unwrap() - utilization).abs() < 1e-8);
            }
        }
    }

    /// Guarantees: the P99 of the exponential tail is off by no more than is known for each variation: too high for regular and too
    /// low for irregular service; moments bring all quantiles within 8 %.
    #[test]
    fn tails_are_as_good_as_known() {
        for (scv, utilization, [p95, p99, p999]) in QUANTILES {
            let server = GeneralService::new(utilization, 1.0, scv).unwrap();
            let simple = falling(|t| server.wait_tail(t), 0.01, 0.0, 1e-9).unwrap() / p99 - 1.0;
            let (low, high) = match scv {
                scv if scv < 0.1 => (0.025, 0.175),
                scv if scv < 0.3 => (0.001, 0.105),
                scv if scv < 1.0 => (0.0, 0.105),
                scv if scv < 3.0 => (-0.135, -0.002),
                scv if scv < 5.0 => (-0.195, -0.002),
                _ => (-0.235, -0.005),
            };
            assert!((low..=high).contains(&simple), "{scv} {utilization}: {simple}");
            for (q, exact) in [(0.95, p95), (0.99, p99), (0.999, p999)] {
                let better = falling(|t| server.wait_tail_by_moments(t, cubed(scv)), 1.0 - q, 0.0, 1e-9).unwrap() / exact - 1.0;
                assert!(better.abs() < 0.08, "{scv} {utilization} {q}: {better}");
            }
        }
    }

    /// Guarantees: for exponential service both tails are those of M/M/1, the sojourn included, and overload has no answer.
    #[test]
    fn exponential_service_is_exact() {
        let (server, exact) = (GeneralService::new(0.8, 1.0, 1.0).unwrap(), SingleServer::new(0.8, 1.0).unwrap());
        let points: Vec<(f64, f64)> = (0..20_000).map(|place| (-((f64::from(place) + 0.5) / 20_000.0).ln(), 5e-5)).collect();
        for t in [0.1, 1.0, 10.0, 20.0] {
            assert!((server.wait_tail(t) / exact.wait_tail(t) - 1.0).abs() < 1e-12);
            assert!((server.wait_tail_by_moments(t, 6.0) / exact.wait_tail(t) - 1.0).abs() < 1e-9);
            assert!((server.sojourn_tail(&points, t) / exact.sojourn_tail(t) - 1.0).abs() < 1e-3);
        }
        assert_eq!(GeneralService::new(1.0, 1.0, 1.0), None);
        assert_eq!(GeneralService::new(0.5, 1.0, -1.0), None);
        assert_eq!(utilization_for_mean_wait(-1.0, 1.0), None);
    }
}
