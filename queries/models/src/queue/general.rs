//! G/G/c, first come, first served: any arrivals, any service. For worker pools that block, consumers of a queue and pools of
//! connections.
//!
//! Sources: Allen and Cunneen; Kimura (with Cosmetatos' M/D/c); Whitt, *Approximations for the GI/G/m queue* (1993). The mean is
//! good to a few per cent for squared coefficients of variation up to 4; tails are good to ± 20 % and optimistic for bursty ones.

use super::erlang::Pool;

/// Squared coefficients of variation of what enters a queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variability {
    /// Of the gaps between arrivals; 1 for Poisson arrivals.
    pub arrival: f64,
    /// Of the service times.
    pub service: f64,
}

/// Wait in a queue: nobody waits but for a share of the requests, whose wait is exponential.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wait {
    /// Share of the requests that wait.
    pub probability: f64,
    /// Mean wait of all requests, in service times.
    pub mean: f64,
}

// === impl Variability ===

impl Variability {
    /// Both as given. `None` when one is negative or unbounded.
    #[must_use]
    pub fn new(arrival: f64, service: f64) -> Option<Self> {
        let valid = arrival >= 0.0 && service >= 0.0 && arrival.is_finite() && service.is_finite();
        valid.then_some(Self { arrival, service })
    }

    fn half_sum(self) -> f64 {
        0.5 * (self.arrival + self.service)
    }
}

// === impl Wait ===

impl Wait {
    /// The wait in a pool by the best approximation of its mean.
    #[must_use]
    pub fn new(pool: &Pool, variability: Variability) -> Self {
        Self { probability: pool.wait_probability(), mean: mean_wait(pool, variability) }
    }

    /// P(W > t).
    #[must_use]
    pub fn tail(&self, t: f64) -> f64 {
        if t < 0.0 {
            1.0
        } else if self.mean <= 0.0 {
            0.0
        } else {
            self.probability * (-self.probability * t / self.mean).exp()
        }
    }

    /// The wait that the share `1 - quantile` of the requests exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let valid = quantile > 0.0 && quantile < 1.0;
        valid.then(|| {
            let level = 1.0 - quantile;
            if self.probability <= level { 0.0 } else { self.mean / self.probability * (self.probability / level).ln() }
        })
    }
}

/// Mean wait in service times: Kimura where neither arrivals nor service vary more than exponential ones, Whitt otherwise.
#[must_use]
pub fn mean_wait(pool: &Pool, variability: Variability) -> f64 {
    if variability.arrival <= 1.0 && variability.service <= 1.0 { kimura(pool, variability) } else { whitt(pool, variability) }
}

/// Mean wait in service times after Allen and Cunneen; exact for M/M/c and for M/G/1.
#[must_use]
pub fn allen_cunneen(pool: &Pool, variability: Variability) -> f64 {
    pool.mean_wait() * variability.half_sum()
}

/// Kingman's upper bound on the mean wait of one server, in service times.
#[must_use]
pub fn kingman_bound(utilization: f64, variability: Variability) -> Option<f64> {
    // λ(σa² + σs²) / 2(1 − ρ) with λ = ρ: the gaps have variance Ca² / ρ².
    let valid = utilization > 0.0 && utilization < 1.0;
    valid.then(|| (variability.arrival / utilization + variability.service * utilization) / (2.0 * (1.0 - utilization)))
}

/// Mean wait in service times after Kimura; Allen and Cunneen where its interpolation has no meaning.
#[must_use]
pub fn kimura(pool: &Pool, variability: Variability) -> f64 {
    let Variability { arrival, service } = variability;
    let both = arrival + service;
    if both <= 0.0 || pool.mean_wait() <= 0.0 {
        return 0.0;
    }
    let light = light_traffic(pool);
    let deterministic_arrivals = 0.5 * (1.0 - 4.0 * light) * damping(pool);
    let deterministic_service = 0.5 * (1.0 + light);
    let bracket = (1.0 - arrival) / deterministic_arrivals + (1.0 - service) / deterministic_service + 2.0 * (both - 1.0);
    if bracket.is_finite() && bracket > 0.0 { pool.mean_wait() * both / bracket } else { allen_cunneen(pool, variability) }
}

/// Mean wait of one server in service times after Krämer and Langenbach-Belz. Good where arrivals vary less than Poisson ones;
/// where they vary more its correction makes the mean worse than Allen and Cunneen's.
#[must_use]
pub fn kraemer_langenbach_belz(pool: &Pool, variability: Variability) -> f64 {
    let Variability { arrival, service } = variability;
    let (utilization, both) = (pool.utilization(), arrival + service);
    if both <= 0.0 || utilization <= 0.0 {
        return 0.0;
    }
    let exponent = if arrival <= 1.0 {
        2.0 * (1.0 - utilization) * (1.0 - arrival).powi(2) / (3.0 * utilization * both)
    } else {
        (1.0 - utilization) * (arrival - 1.0) / (arrival + 4.0 * service)
    };
    allen_cunneen(pool, variability) * (-exponent).exp()
}

/// Mean wait in service times after Whitt (1993).
#[must_use]
pub fn whitt(pool: &Pool, variability: Variability) -> f64 {
    let Variability { arrival, service } = variability;
    if arrival + service <= 0.0 || pool.mean_wait() <= 0.0 {
        return 0.0;
    }
    let light = light_traffic(pool);
    let (few, many) = (1.0 + light, (1.0 - 4.0 * light) * damping(pool));
    let mean = (0.5 * (few + many)).min(1.0);
    let half = variability.half_sum();
    let blend = if half >= 1.0 { 1.0 } else { mean.powf(2.0 * (1.0 - half)) };
    let factor = if arrival >= service {
        let weight = 4.0 * arrival - 3.0 * service;
        (4.0 * (arrival - service) * few + service * blend) / weight
    } else {
        let weight = 2.0 * (arrival + service);
        ((service - arrival) * many + (service + 3.0 * arrival) * blend) / weight
    };
    factor * allen_cunneen(pool, variability)
}

/// Cosmetatos' correction for light traffic, zero for one server.
fn light_traffic(pool: &Pool) -> f64 {
    let (servers, utilization) = (pool.servers(), pool.utilization());
    let root = (4.0 + 5.0 * servers).sqrt() - 2.0;
    ((1.0 - utilization) * (servers - 1.0) * root / (16.0 * servers * utilization)).min(0.24)
}

/// How much regular arrivals help: everything in light traffic, nothing in heavy.
fn damping(pool: &Pool) -> f64 {
    (-2.0 * (1.0 - pool.utilization()) / (3.0 * pool.utilization())).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found - expected).abs() <= relative * expected.abs(), "{found} is not {expected}");
    }

    fn pool(servers: f64, utilization: f64) -> Pool {
        Pool::new(servers, servers * utilization).unwrap()
    }

    /// Guarantees: the three approximations reproduce their reference values; where Kimura's does not apply (-1) Whitt's is used.
    #[test]
    fn approximations_match_the_reference() {
        for (servers, utilization, arrival, service, wait, allen, whitts, kimuras) in [
            (1.0, 0.8, 1.0, 1.0, 0.8, 4.0, 4.0, 4.0),
            (1.0, 0.8, 0.25, 0.25, 0.8, 1.0, 0.887_099_89, 0.880_265_95),
            (1.0, 0.9, 4.0, 4.0, 0.9, 36.0, 36.0, -1.0),
            (2.0, 0.8, 1.0, 0.0, 0.711_111_111_1, 0.888_888_89, 0.900_983_73, 0.900_983_73),
            (2.0, 0.8, 0.0, 1.0, 0.711_111_111_1, 0.888_888_89, 0.758_852_89, 0.711_475_95),
            (4.0, 0.9, 1.0, 4.0, 0.787_753_264_3, 4.923_457_9, 4.735_164_5, -1.0),
            (4.0, 0.9, 4.0, 1.0, 0.787_753_264_3, 4.923_457_9, 4.992_078_1, -1.0),
            (8.0, 0.7, 0.5, 2.0, 0.270_602_932_2, 0.140_939_03, 0.116_629_59, -1.0),
            (8.0, 0.7, 2.0, 0.5, 0.270_602_932_2, 0.140_939_03, 0.155_066_55, -1.0),
            (10.0, 0.8, 1.0, 0.0, 0.409_180_150_8, 0.102_295_04, 0.109_988_94, 0.109_988_94),
            (10.0, 0.9, 0.25, 0.25, 0.668_731_524_1, 0.167_182_88, 0.147_271_08, 0.144_363_59),
            (50.0, 0.95, 4.0, 4.0, 0.629_094_729_9, 1.006_551_6, 1.006_551_6, -1.0),
            (100.0, 0.95, 1.0, 4.0, 0.506_456_853_9, 0.253_228_43, 0.231_069_78, -1.0),
            (100.0, 0.99, 0.5, 0.5, 0.882_768_462_6, 0.441_384_23, 0.431_516_67, 0.430_959_26),
            (1000.0, 0.99, 1.0, 4.0, 0.659_080_421_9, 0.164_770_11, 0.155_924_07, -1.0),
            (1000.0, 0.999, 4.0, 4.0, 0.961_239_260_4, 3.844_957, 3.844_957, -1.0),
        ] {
            let (pool, variability) = (pool(servers, utilization), Variability::new(arrival, service).unwrap());
            close(pool.wait_probability(), wait, 1e-9);
            close(allen_cunneen(&pool, variability), allen, 5e-8);
            close(whitt(&pool, variability), whitts, 5e-8);
            if kimuras > 0.0 {
                close(kimura(&pool, variability), kimuras, 5e-8);
                close(mean_wait(&pool, variability), kimuras, 5e-8);
            } else {
                close(mean_wait(&pool, variability), whitts, 5e-8);
            }
        }
    }

    /// Guarantees: against simulated means the approximations are off by as many per cent as they are known to be.
    #[test]
    fn errors_against_simulations() {
        for (servers, utilization, arrival, service, simulated, allen, whitts, kimuras) in [
            (1.0, 0.9, 0.25, 2.0, 9.905, 2.2, -0.6, None),
            (2.0, 0.8, 1.0, 0.0, 0.901_3, -1.4, -0.0, Some(-0.0)),
            (2.0, 0.8, 1.0, 4.0, 4.298, 3.4, -2.8, None),
            (2.0, 0.9, 4.0, 4.0, 16.84, 1.3, 1.3, None),
            (4.0, 0.8, 0.0, 1.0, 0.272_6, 37.0, 10.0, Some(0.0)),
            (4.0, 0.8, 0.5, 0.5, 0.329_7, 13.0, -0.2, Some(-3.1)),
            (4.0, 0.9, 1.0, 4.0, 4.623, 6.5, 2.4, None),
            (4.0, 0.9, 4.0, 1.0, 5.214, -5.6, -4.3, None),
            (10.0, 0.8, 1.0, 0.0, 0.109_6, -6.7, 0.4, Some(0.4)),
            (10.0, 0.8, 1.0, 4.0, 0.429_0, 19.0, 4.6, None),
            (10.0, 0.9, 0.25, 0.25, 0.139_8, 20.0, 5.3, Some(3.3)),
            (10.0, 0.9, 4.0, 4.0, 2.770, -3.4, -3.4, None),
            (10.0, 0.95, 1.0, 10.0, 8.03, 13.0, 8.6, None),
            (50.0, 0.9, 1.0, 4.0, 0.151_3, 20.0, 5.0, None),
            (50.0, 0.95, 4.0, 4.0, 1.026, -1.9, -1.9, None),
            (50.0, 0.95, 1.0, 0.0, 0.131_4, -4.2, 0.1, Some(0.1)),
            (100.0, 0.95, 1.0, 4.0, 0.183_3, 38.0, 26.0, None),
            (100.0, 0.98, 10.0, 1.0, 2.26, -5.6, -3.2, None),
        ] {
            let (pool, variability) = (pool(servers, utilization), Variability::new(arrival, service).unwrap());
            let off = |found: f64, percent: f64| {
                let error = 100.0 * (found / simulated - 1.0);
                // Errors from ten per cent on are printed whole.
                let tolerance = if percent.abs() < 10.0 { 0.15 } else { 0.6 };
                assert!((error - percent).abs() <= tolerance, "{servers} {utilization}: {error} is not {percent}");
            };
            off(allen_cunneen(&pool, variability), allen);
            off(whitt(&pool, variability), whitts);
            if let Some(percent) = kimuras {
                off(kimura(&pool, variability), percent);
            }
        }
    }

    /// Guarantees: the exponential tail of Whitt's mean gives the known P99 of the wait.
    #[test]
    fn quantiles_of_the_wait() {
        for (servers, utilization, arrival, service, p99) in [
            (1.0, 0.9, 0.25, 2.0, 49.2),
            (2.0, 0.8, 1.0, 0.0, 5.40),
            (2.0, 0.8, 1.0, 4.0, 25.1),
            (2.0, 0.9, 4.0, 4.0, 88.9),
            (4.0, 0.8, 0.0, 1.0, 2.06),
            (4.0, 0.8, 0.5, 0.5, 2.26),
            (4.0, 0.9, 1.0, 4.0, 26.2),
            (4.0, 0.9, 4.0, 1.0, 27.7),
            (10.0, 0.8, 1.0, 0.0, 0.998),
            (10.0, 0.8, 1.0, 4.0, 4.07),
            (10.0, 0.9, 0.25, 0.25, 0.93),
            (10.0, 0.9, 4.0, 4.0, 16.8),
            (10.0, 0.95, 1.0, 10.0, 46.6),
            (50.0, 0.9, 1.0, 4.0, 1.57),
            (50.0, 0.95, 4.0, 4.0, 6.63),
            (50.0, 0.95, 1.0, 0.0, 0.866),
            (100.0, 0.95, 1.0, 4.0, 1.79),
            (100.0, 0.98, 10.0, 1.0, 12.3),
        ] {
            let pool = pool(servers, utilization);
            let mean = whitt(&pool, Variability::new(arrival, service).unwrap());
            let wait = Wait { probability: pool.wait_probability(), mean };
            let found = wait.quantile(0.99).unwrap();
            close(found, p99, 0.015);
            close(wait.tail(found), 0.01, 1e-9);
        }
    }

    /// Guarantees: regular arrivals of regular work never wait, Kingman's bound is above what it bounds, and senseless input is refused.
    #[test]
    fn bounds_and_edges() {
        let regular = Variability::new(0.0, 0.0).unwrap();
        assert!(mean_wait(&pool(4.0, 0.9), regular).abs() < 1e-12 && whitt(&pool(4.0, 0.9), regular).abs() < 1e-12);
        assert!(mean_wait(&pool(4.0, 0.0), Variability::new(1.0, 1.0).unwrap()).abs() < 1e-12);
        for utilization in [0.3, 0.7, 0.95] {
            let variability = Variability::new(1.0, 4.0).unwrap();
            let exact = allen_cunneen(&pool(1.0, utilization), variability);
            assert!(kingman_bound(utilization, variability).unwrap() >= exact);
        }
        assert_eq!(kingman_bound(1.0, regular), None);
        assert_eq!(Variability::new(-1.0, 1.0), None);
        let wait = Wait::new(&pool(10.0, 0.5), Variability::new(1.0, 1.0).unwrap());
        assert!(wait.quantile(0.95).unwrap().abs() < 1e-12 && wait.quantile(1.0).is_none() && (wait.tail(-1.0) - 1.0).abs() < 1e-12);
    }
}
