//! M/M/1: one server, Poisson arrivals, exponential service. Everything about it is exact, so the rest is checked against it.

/// One server at a load that it can carry. Rates are per second, times in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SingleServer {
    arrival_rate: f64,
    service_rate: f64,
}

/// The highest arrival rate at which the share `quantile` of the requests stays at most `latency` seconds. `None` when the
/// service itself is too slow, or for senseless input.
#[must_use]
pub fn arrival_rate_for_latency(service_rate: f64, latency: f64, quantile: f64) -> Option<f64> {
    let valid = service_rate > 0.0 && service_rate.is_finite() && latency > 0.0 && quantile > 0.0 && quantile < 1.0;
    let rate = service_rate + (-quantile).ln_1p() / latency;
    (valid && rate > 0.0).then_some(rate)
}

// === impl SingleServer ===

impl SingleServer {
    /// `None` when the server cannot carry the load, or for senseless input.
    #[must_use]
    pub fn new(arrival_rate: f64, service_rate: f64) -> Option<Self> {
        let valid = arrival_rate >= 0.0 && service_rate > arrival_rate && service_rate.is_finite();
        valid.then_some(Self { arrival_rate, service_rate })
    }

    /// Share of the time that the server is busy.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        self.arrival_rate / self.service_rate
    }

    /// Mean number of requests present, the one in service included.
    #[must_use]
    pub fn mean_present(&self) -> f64 {
        self.arrival_rate / self.spare()
    }

    /// Mean wait.
    #[must_use]
    pub fn mean_wait(&self) -> f64 {
        self.utilization() / self.spare()
    }

    /// Mean sojourn.
    #[must_use]
    pub fn mean_sojourn(&self) -> f64 {
        1.0 / self.spare()
    }

    /// P(W > t).
    #[must_use]
    pub fn wait_tail(&self, t: f64) -> f64 {
        if t < 0.0 { 1.0 } else { self.utilization() * (-self.spare() * t).exp() }
    }

    /// P(T > t).
    #[must_use]
    pub fn sojourn_tail(&self, t: f64) -> f64 {
        (-self.spare() * t.max(0.0)).exp()
    }

    /// The wait that the share `1 - quantile` of the requests exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn wait_quantile(&self, quantile: f64) -> Option<f64> {
        let valid = quantile > 0.0 && quantile < 1.0;
        valid.then(|| ((self.utilization().ln() - (-quantile).ln_1p()) / self.spare()).max(0.0))
    }

    /// The sojourn that the share `1 - quantile` of the requests exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn sojourn_quantile(&self, quantile: f64) -> Option<f64> {
        (quantile > 0.0 && quantile < 1.0).then(|| -(-quantile).ln_1p() / self.spare())
    }

    fn spare(&self) -> f64 {
        self.service_rate - self.arrival_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Utilization; number present, mean sojourn, P95, P99 and P99.9 of the wait, median, P95, P99 and P99.9 of the sojourn.
    const TABLE: [(f64, [f64; 9]); 13] = [
        (
            0.1,
            [
                0.111_111_111_1,
                1.111_111_111,
                0.770_163_534,
                2.558_427_881,
                5.116_855_762,
                0.770_163_534,
                3.328_591_415,
                5.116_855_762,
                7.675_283_643,
            ],
        ),
        (
            0.3,
            [
                0.428_571_428_6,
                1.428_571_429,
                2.559_656_385,
                4.858_853_402,
                8.148_260_678,
                0.990_210_257_9,
                4.279_617_534,
                6.578_814_551,
                9.868_221_827,
            ],
        ),
        (0.5, [1.0, 2.0, 4.605_170_186, 7.824_046_011, 12.429_216_2, 1.386_294_361, 5.991_464_547, 9.210_340_372, 13.815_510_56]),
        (0.6, [1.5, 2.5, 6.212_266_624, 10.235_861_41, 15.992_324_14, 1.732_867_951, 7.489_330_684, 11.512_925_46, 17.269_388_2]),
        (
            0.7,
            [
                2.333_333_333,
                3.333_333_333,
                8.796_857_765,
                14.161_650_81,
                21.836_934_45,
                2.310_490_602,
                9.985_774_245,
                15.350_567_29,
                23.025_850_93,
            ],
        ),
        (0.8, [4.0, 5.0, 13.862_943_61, 21.910_133_17, 33.423_058_64, 3.465_735_903, 14.978_661_37, 23.025_850_93, 34.538_776_39]),
        (
            0.85,
            [
                5.666_666_667,
                6.666_666_667,
                18.888_088_96,
                29.617_675_04,
                44.968_242_33,
                4.620_981_204,
                19.971_548_49,
                30.701_134_57,
                46.051_701_86,
            ],
        ),
        (0.9, [9.0, 10.0, 28.903_717_58, 44.998_096_7, 68.023_947_63, 6.931_471_806, 29.957_322_74, 46.051_701_86, 69.077_552_79]),
        (0.95, [19.0, 20.0, 58.888_779_58, 91.077_537_83, 137.129_239_7, 13.862_943_61, 59.914_645_47, 92.103_403_72, 138.155_105_6]),
        (0.98, [49.0, 50.0, 148.776_478_3, 229.248_373_9, 344.377_628_6, 34.657_359_03, 149.786_613_7, 230.258_509_3, 345.387_763_9]),
        (0.99, [99.0, 100.0, 298.568_193_8, 459.511_985, 689.770_494_3, 69.314_718_06, 299.573_227_4, 460.517_018_6, 690.775_527_9]),
        (0.995, [199.0, 200.0, 598.143_946_3, 920.031_528_8, 1_380.548_547, 138.629_436_1, 599.146_454_7, 921.034_037_2, 1_381.551_056]),
        (0.999, [999.0, 1000.0, 2_994.731_773, 4_604.169_686, 6_906.754_779, 693.147_180_6, 2_995.732_274, 4_605.170_186, 6_907.755_279]),
    ];

    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
    }

    /// Guarantees: number present, mean sojourn and quantiles agree with the reference to all its digits, and quantiles invert tails.
    #[test]
    fn matches_the_reference() {
        for (utilization, [present, sojourn, w95, w99, w999, t50, t95, t99, t999]) in TABLE {
            let server = SingleServer::new(utilization, 1.0).unwrap();
            close(server.mean_present(), present);
            close(server.mean_wait(), present);
            close(server.mean_sojourn(), sojourn);
            for (q, wait) in [(0.95, w95), (0.99, w99), (0.999, w999)] {
                close(server.wait_quantile(q).unwrap(), wait);
                assert!((server.wait_tail(wait) / (1.0 - q) - 1.0).abs() < 1e-8);
            }
            for (q, time) in [(0.5, t50), (0.95, t95), (0.99, t99), (0.999, t999)] {
                close(server.sojourn_quantile(q).unwrap(), time);
                assert!((server.sojourn_tail(time) / (1.0 - q) - 1.0).abs() < 1e-8);
                close(arrival_rate_for_latency(1.0, time, q).unwrap(), utilization);
            }
        }
    }

    /// Guarantees: overload and senseless input have no answer, an idle server no wait.
    #[test]
    fn overload_is_no_number() {
        for (arrival_rate, service_rate) in [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (0.0, 0.0), (1.0, f64::INFINITY)] {
            assert_eq!(SingleServer::new(arrival_rate, service_rate), None);
        }
        assert_eq!(arrival_rate_for_latency(1.0, 2.0, 0.99), None);
        let idle = SingleServer::new(0.0, 1.0).unwrap();
        assert_eq!((idle.wait_quantile(0.99), idle.wait_quantile(1.0), idle.sojourn_quantile(0.0)), (Some(0.0), None, None));
    }
}
