//! M/M/c: several equal servers behind one queue, first come, first served, and the fewest that keep a target.

use super::erlang::{Blocking, Pool, whole};
use super::root::falling;
use crate::special::gamma_p;

/// Relative precision of quantiles.
const PRECISION: f64 = 1e-12;
/// Most load that is answered.
const SERVERS_MAX: f64 = 1e8;

/// Servers at a load that they can carry. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ManyServers {
    pool: Pool,
    service_time: f64,
}

/// What a target is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// The time in the queue.
    Wait,
    /// Wait and service.
    Sojourn,
}

/// The fewest servers that keep a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fewest {
    /// So many.
    Servers(u32),
    /// No number does, because this share of the requests takes longer even alone.
    Infeasible {
        /// P(S > target).
        share_above: f64,
    },
}

/// The fewest servers for which the share `quantile` of the requests keeps `target` seconds, at `arrival_rate` per second of
/// exponential service of mean `service_time` seconds. `None` for senseless input or an absurd number.
#[must_use]
pub fn fewest_servers(arrival_rate: f64, service_time: f64, of: Of, target: f64, quantile: f64) -> Option<Fewest> {
    let load = arrival_rate * service_time;
    let valid = arrival_rate >= 0.0 && service_time > 0.0 && target >= 0.0 && quantile > 0.0 && quantile < 1.0;
    if !valid || !target.is_finite() || load >= SERVERS_MAX {
        return None;
    }
    let level = 1.0 - quantile;
    let alone = (-target / service_time).exp();
    if of == Of::Sojourn && alone > level {
        return Some(Fewest::Infeasible { share_above: alone });
    }
    // From the load on each step is one of the recursion, and the answer is a few √load away.
    let mut blocking = Blocking::new(load).at(whole(load));
    loop {
        let servers = blocking.servers() + 1;
        let pool = Pool::climb(f64::from(servers), &mut blocking)?;
        let many = ManyServers { pool, service_time };
        let tail = match of {
            Of::Wait => many.wait_tail(target),
            Of::Sojourn => many.sojourn_tail(target),
        };
        if tail <= level {
            return Some(Fewest::Servers(servers));
        }
    }
}

/// Servers at which the share `wait_probability` of the requests waits at all, for a large `load` (square-root staffing of Halfin
/// and Whitt 1981): the load and a multiple of its root. `None` outside (0, 1).
#[must_use]
pub fn square_root_staffing(load: f64, wait_probability: f64) -> Option<f64> {
    let valid = load >= 0.0 && load.is_finite() && wait_probability > 0.0 && wait_probability < 1.0;
    if !valid {
        return None;
    }
    let (mut low, mut high) = (0.0, 40.0);
    while high - low > PRECISION {
        let beta: f64 = 0.5 * (low + high);
        let density = (-0.5 * beta * beta).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let below = 0.5 + 0.5 * gamma_p(0.5, 0.5 * beta * beta);
        if 1.0 / (1.0 + beta * below / density) > wait_probability { low = beta } else { high = beta }
    }
    Some(load + high * load.sqrt())
}

// === impl ManyServers ===

impl ManyServers {
    /// `servers` servers (may be fractional, at least 1) that each take `service_time` seconds per request on average. `None` when
    /// they cannot carry the load, or for senseless input.
    #[must_use]
    pub fn new(arrival_rate: f64, service_time: f64, servers: f64) -> Option<Self> {
        let pool = (service_time > 0.0).then(|| Pool::new(servers, arrival_rate * service_time)).flatten()?;
        Some(Self { pool, service_time })
    }

    /// The servers and their load.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Mean wait.
    #[must_use]
    pub fn mean_wait(&self) -> f64 {
        self.pool.mean_wait() * self.service_time
    }

    /// Mean sojourn.
    #[must_use]
    pub fn mean_sojourn(&self) -> f64 {
        self.mean_wait() + self.service_time
    }

    /// P(W > t).
    #[must_use]
    pub fn wait_tail(&self, t: f64) -> f64 {
        if t < 0.0 { 1.0 } else { self.pool.wait_probability() * (-self.pool.idle() * t / self.service_time).exp() }
    }

    /// P(T > t). Written so that it neither overflows nor divides zero by zero where one server is idle on average.
    #[must_use]
    pub fn sojourn_tail(&self, t: f64) -> f64 {
        let (x, idle) = (t.max(0.0) / self.service_time, self.pool.idle());
        let gap = 1.0 - idle;
        let delayed = if gap.abs() * x < 1e-9 {
            x * (-x).exp()
        } else if gap > 0.0 {
            (-idle * x).exp() * -(-gap * x).exp_m1() / gap
        } else {
            (-x).exp() * -(gap * x).exp_m1() / -gap
        };
        (-x).exp() + self.pool.wait_probability() * delayed
    }

    /// The wait that the share `1 - quantile` of the requests exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn wait_quantile(&self, quantile: f64) -> Option<f64> {
        let valid = quantile > 0.0 && quantile < 1.0;
        let rate = self.pool.idle() / self.service_time;
        valid.then(|| ((self.pool.wait_probability().ln() - (-quantile).ln_1p()) / rate).max(0.0))
    }

    /// The sojourn that the share `1 - quantile` of the requests exceeds. `None` outside (0, 1).
    #[must_use]
    pub fn sojourn_quantile(&self, quantile: f64) -> Option<f64> {
        let valid = quantile > 0.0 && quantile < 1.0;
        let alone = -self.service_time * (-quantile).ln_1p();
        valid.then(|| falling(|t| self.sojourn_tail(t), 1.0 - quantile, alone, PRECISION)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::erlang::erlang_c;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found - expected).abs() <= relative * expected.abs(), "{found} is not {expected}");
    }

    /// Guarantees: mean and quantiles of wait and sojourn agree with 60-digit arithmetic to all printed digits, also where one
    /// server is idle on average (100 at 0.99 and 1000 at 0.999).
    #[test]
    fn matches_the_reference() {
        for (servers, utilization, [mean_wait, w95, w99, mean_sojourn, t95, t99]) in [
            (1, 0.5, [1.0, 4.605_170_186, 7.824_046_011, 2.0, 5.991_464_547, 9.210_340_372]),
            (1, 0.9, [9.0, 28.903_717_58, 44.998_096_7, 10.0, 29.957_322_74, 46.051_701_86]),
            (1, 0.999, [999.0, 2_994.731_773, 4_604.169_686, 1000.0, 2_995.732_274, 4_605.170_186]),
            (2, 0.5, [0.333_333_333_3, 1.897_119_985, 3.506_557_897, 1.333_333_333, 3.816_460_305, 5.665_960_684]),
            (2, 0.8, [1.777_777_778, 6.637_014_216, 10.660_609, 2.777_777_778, 7.910_684_252, 11.937_370_24]),
            (2, 0.95, [9.256_410_256, 29.184_634_93, 45.279_014_05, 10.256_410_26, 30.238_240_08, 46.332_619_21]),
            (4, 0.7, [0.357_211_931_9, 1.790_523_17, 3.131_721_43, 1.357_211_932, 3.752_495_838, 5.492_557_496]),
            (4, 0.9, [1.969_383_161, 6.892_904_798, 10.916_499_58, 2.969_383_161, 8.165_524_818, 12.193_167_44]),
            (8, 0.8, [0.286_028_078_4, 1.383_794_129, 2.389_692_824, 1.286_028_078, 3.508_442_648, 5.152_181_563]),
            (10, 0.5, [0.007_221_071_832, 0.0, 0.256_771_242_9, 1.007_221_072, 3.004_718_065, 4.614_156_032]),
            (10, 0.9, [0.668_731_524_1, 2.593_359_665, 4.202_797_577, 1.668_731_524, 4.360_866_568, 6.249_876_699]),
            (10, 0.99, [9.637_384_204, 29.587_969_04, 45.682_348_17, 10.637_384_2, 30.641_574_2, 46.735_953_32]),
            (32, 0.85, [0.058_834_718_29, 0.360_692_716_7, 0.695_992_281_8, 1.058_834_718, 3.067_417_287, 4.676_855_797]),
            (50, 0.95, [0.251_637_892, 1.012_903_538, 1.656_678_703, 1.251_637_892, 3.344_002_836, 4.955_227_168]),
            (100, 0.8, [0.000_982_321_331_7, 0.0, 0.033_765_518_91, 1.000_982_321, 2.996_765_762, 4.606_203_674]),
            (100, 0.9, [0.021_694_048_09, 0.146_760_002_9, 0.307_703_794_1, 1.021_694_048, 3.019_550_844, 4.628_988_756]),
            (100, 0.99, [0.882_768_462_6, 2.871_039_944, 4.480_477_856, 1.882_768_463, 4.620_879_481, 6.514_880_199]),
            (100, 0.999, [9.878_390_836, 29.834_968_08, 45.929_347_21, 10.878_390_84, 30.888_573_24, 46.982_952_36]),
            (1000, 0.9, [5.926_699_664e-6, 0.0, 0.0, 1.000_005_927, 2.995_738_26, 4.605_176_173]),
            (1000, 0.95, [0.001_365_068_308, 0.006_224_089_391, 0.038_412_847_64, 1.001_365_068, 2.997_124_231, 4.606_562_144]),
            (1000, 0.99, [0.065_908_042_19, 0.257_882_255_8, 0.418_826_047, 1.065_908_042, 3.066_406_145, 4.675_844_058]),
            (1000, 0.999, [0.961_239_260_4, 2.956_200_343, 4.565_638_255, 1.961_239_26, 4.704_499_478, 6.598_939_404]),
            (10000, 0.99, [0.002_227_769_289, 0.014_941_479_46, 0.031_035_858_59, 1.002_227_769, 2.997_980_017, 4.607_417_93]),
            (10000, 0.999, [0.088_054_171_14, 0.286_851_429_4, 0.447_795_220_6, 1.088_054_171, 3.089_075_036, 4.698_512_948]),
        ] {
            let many = ManyServers::new(utilization * f64::from(servers), 1.0, f64::from(servers)).unwrap();
            close(many.mean_wait(), mean_wait, 1e-9);
            close(many.mean_sojourn(), mean_sojourn, 1e-9);
            for (q, wait, sojourn) in [(0.95, w95, t95), (0.99, w99, t99)] {
                close(many.wait_quantile(q).unwrap(), wait, 1e-8);
                close(many.sojourn_quantile(q).unwrap(), sojourn, 1e-9);
                close(many.sojourn_tail(sojourn), 1.0 - q, 1e-8);
            }
        }
    }

    /// Guarantees: the fewest servers for targets of wait and sojourn, with the tails there and at one server less.
    #[test]
    fn fewest_servers_of_the_reference() {
        for (rate, service_rate, (wait, q, servers, here, less), (sojourn, sojourn_q, sojourn_servers, sojourn_here, sojourn_less)) in [
            (0.01, 1.0, (0.1, 0.99, 1, 0.009_057_43, -1.0), (6.0, 0.99, 1, 0.002_632_03, -1.0)),
            (0.5, 10.0, (0.05, 0.95, 1, 0.031_094_3, -1.0), (0.5, 0.95, 1, 0.008_651_7, -1.0)),
            (10.0, 10.0, (0.05, 0.95, 3, 0.033_443_6, 0.202_177), (0.5, 0.95, 2, 0.017_967_9, 1.0)),
            (50.0, 10.0, (0.02, 0.95, 9, 0.036_175_6, 0.091_797_8), (0.4, 0.95, 7, 0.024_143_9, 0.061_358_6)),
            (100.0, 10.0, (0.02, 0.99, 17, 0.007_613_95, 0.017_270_6), (0.6, 0.99, 12, 0.003_589_91, 0.012_623_6)),
            (100.0, 20.0, (0.01, 0.99, 11, 0.004_544_81, 0.013_282_4), (0.3, 0.99, 7, 0.003_280_25, 0.011_216_6)),
            (200.0, 20.0, (0.05, 0.80, 12, 0.060_818_1, 0.250_937), (0.2, 0.80, 11, 0.068_289_4, 1.0)),
            (500.0, 20.0, (0.01, 0.99, 34, 0.009_849_95, 0.017_733_6), (0.25, 0.99, 28, 0.008_278_51, 0.010_773_3)),
            (1000.0, 20.0, (0.005, 0.99, 64, 0.009_235_41, 0.013_809_9), (0.25, 0.99, 53, 0.008_685_47, 0.011_420_1)),
            (1000.0, 100.0, (0.002, 0.999, 20, 0.000_504_953, 0.001_301_49), (0.08, 0.999, 12, 0.000_486_165, 0.002_166_06)),
            (5000.0, 50.0, (0.005, 0.99, 112, 0.008_339_43, 0.012_772), (0.1, 0.99, 103, 0.009_031_43, 0.011_938_7)),
            (10_000.0, 20.0, (0.01, 0.99, 518, 0.008_699_31, 0.011_419), (0.25, 0.99, 503, 0.009_580_27, 0.012_718_7)),
            (20_000.0, 20.0, (0.005, 0.99, 1032, 0.009_092_55, 0.010_618_1), (0.24, 0.99, 1005, 0.009_911_16, 0.010_566)),
            (20_000.0, 20.0, (0.0, 0.999, 1101, 0.000_940_421, 0.001_044_8), (0.5, 0.999, 1001, 0.000_481_81, 1.0)),
        ] {
            let time = 1.0 / service_rate;
            let tails = |servers: u32| ManyServers::new(rate, time, f64::from(servers));
            assert_eq!(fewest_servers(rate, time, Of::Wait, wait, q), Some(Fewest::Servers(servers)));
            close(tails(servers).unwrap().wait_tail(wait), here, 1e-5);
            assert_eq!(fewest_servers(rate, time, Of::Sojourn, sojourn, sojourn_q), Some(Fewest::Servers(sojourn_servers)));
            close(tails(sojourn_servers).unwrap().sojourn_tail(sojourn), sojourn_here, 1e-5);
            // -1 stands for no server at all, 1 for too few to carry the load.
            if less > 0.0 {
                close(tails(servers - 1).unwrap().wait_tail(wait), less, 1e-5);
            }
            if sojourn_less > 0.0 {
                close(tails(sojourn_servers - 1).map_or(1.0, |many| many.sojourn_tail(sojourn)), sojourn_less, 1e-5);
            }
        }
    }

    /// Guarantees: examples of call centres that others published.
    #[test]
    fn published_examples() {
        let centre = ManyServers::new(10.0 / 180.0, 180.0, 14.0).unwrap();
        close(centre.pool().wait_probability(), 0.174_131_933_595_049_8, 1e-12);
        close(1.0 - centre.wait_tail(20.0), 0.888_350_019_179_466_9, 1e-12);
        let centre = ManyServers::new(0.2, 240.0, 55.0).unwrap();
        close(centre.pool().wait_probability(), 0.238_700_936_4, 1e-9);
        close(centre.mean_wait(), 8.184, 1e-4);
        close(1.0 - centre.wait_tail(15.0), 0.845_883_092_2, 1e-9);
    }

    /// Guarantees: square-root staffing has the known multiples, is within a server of the exact number, and huge loads are searched.
    #[test]
    fn staffing_of_large_loads() {
        for (wait, beta) in [(0.5, 0.506_05), (0.2, 1.061_52), (0.05, 1.739_84), (0.01, 2.374_89)] {
            close(square_root_staffing(1.0, wait).unwrap() - 1.0, beta, 1e-5);
            for load in [10.0, 100.0, 1_000.0, 10_000.0] {
                let Some(Fewest::Servers(exact)) = fewest_servers(load, 1.0, Of::Wait, 0.0, 1.0 - wait) else { panic!("{load}") };
                let more = f64::from(exact) - square_root_staffing(load, wait).unwrap().ceil();
                assert!((-1e-9..=1.0).contains(&more), "{load} {wait}: {more}");
                assert!(erlang_c(exact, load) <= wait && erlang_c(exact - 1, load) > wait);
            }
        }
        let Some(Fewest::Servers(huge)) = fewest_servers(1e7, 1.0, Of::Wait, 0.0, 0.99) else { panic!("no answer") };
        close(f64::from(huge), square_root_staffing(1e7, 0.01).unwrap(), 1e-6);
        assert_eq!(square_root_staffing(1.0, 1.0), None);
    }

    /// Guarantees: a target that service alone misses is told apart, and overload and senseless input have no answer.
    #[test]
    fn infeasible_and_senseless() {
        let Some(Fewest::Infeasible { share_above }) = fewest_servers(1.0, 0.1, Of::Sojourn, 0.2, 0.99) else { panic!("sized") };
        close(share_above, (-2f64).exp(), 1e-12);
        assert_eq!(fewest_servers(0.0, 0.1, Of::Wait, 0.0, 0.99), Some(Fewest::Servers(1)));
        for (rate, time, target, q) in [
            (-1.0, 1.0, 1.0, 0.9),
            (1.0, 0.0, 1.0, 0.9),
            (1.0, 1.0, -1.0, 0.9),
            (1.0, 1.0, 1.0, 1.0),
            (1e300, 1.0, 1.0, 0.9),
            (f64::NAN, 1.0, 1.0, 0.9),
        ] {
            assert_eq!(fewest_servers(rate, time, Of::Wait, target, q), None);
        }
        assert_eq!(ManyServers::new(3.0, 1.0, 3.0), None);
        assert_eq!(ManyServers::new(3.0, -1.0, 3.0), None);
        let many = ManyServers::new(0.5, 1.0, 1.5).unwrap();
        assert!((many.sojourn_tail(1e4)).abs() < 1e-300 && (many.sojourn_tail(-1.0) - 1.0).abs() < 1e-12);
    }
}
