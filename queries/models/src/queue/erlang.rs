//! Erlang's formulas, by the recursion that neither overflows nor cancels (Erlang 1917).

use crate::special::{gamma_p, ln_gamma};

/// Servers up to which the recursion runs; beyond, the incomplete gamma function gives the same to nine digits in O(√servers).
const RECURSION: u32 = 20_000;

/// The blocking recursion at some number of servers. It only climbs, so that a search that keeps the last number that was too
/// small never starts over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocking {
    load: f64,
    servers: u32,
    blocked: f64,
}

/// Equal servers behind one queue, at a load that they can carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    servers: f64,
    load: f64,
    wait_probability: f64,
}

/// Probability that a request is blocked when `servers` servers without a queue are offered `load` erlang. Does not depend on the
/// distribution of the service time. For `load >= 0`.
#[must_use]
pub fn erlang_b(servers: u32, load: f64) -> f64 {
    Blocking::new(load).at(servers).blocked
}

/// Probability that a request must wait in M/M/c; 1 when the load is at least the number of servers.
#[must_use]
pub fn erlang_c(servers: u32, load: f64) -> f64 {
    Blocking::new(load).at(servers).wait_probability()
}

// === impl Blocking ===

impl Blocking {
    /// The recursion at no server, where everything is blocked.
    #[must_use]
    pub fn new(load: f64) -> Self {
        Self { load, servers: 0, blocked: 1.0 }
    }

    /// The recursion at `servers`; starts over when that is behind.
    #[must_use]
    pub fn at(&self, servers: u32) -> Self {
        let load = self.load;
        let (from, start) = if servers < self.servers { (0, 1.0) } else { (self.servers, self.blocked) };
        if servers - from > RECURSION {
            return Self { load, servers, blocked: blocked_by_gamma(servers, load) };
        }
        let climb = |blocked: f64, server: u32| load * blocked / (f64::from(server) + load * blocked);
        Self { load, servers, blocked: (from + 1..=servers).fold(start, climb) }
    }

    /// The number of servers it stands at.
    #[must_use]
    pub fn servers(&self) -> u32 {
        self.servers
    }

    /// Erlang B here.
    #[must_use]
    pub fn blocked(&self) -> f64 {
        self.blocked
    }

    /// Erlang C here.
    #[must_use]
    pub fn wait_probability(&self) -> f64 {
        let count = f64::from(self.servers);
        if self.load >= count {
            return 1.0;
        }
        self.blocked / (1.0 - self.load / count * (1.0 - self.blocked))
    }
}

/// The Poisson probability of exactly `servers` among that of at most `servers`.
fn blocked_by_gamma(servers: u32, load: f64) -> f64 {
    if load <= 0.0 {
        return 0.0;
    }
    let count = f64::from(servers);
    let at_most = 1.0 - gamma_p(count + 1.0, load);
    if at_most < 1e-6 {
        // Far in overload: what is not blocked is what the servers can do.
        return (1.0 - count / load).max(0.0);
    }
    ((count * load.ln() - load - ln_gamma(count + 1.0)).exp() / at_most).min(1.0)
}

// === impl Pool ===

impl Pool {
    /// `servers` (may be fractional, at least 1) offered `load` erlang. `None` when they cannot carry it.
    #[must_use]
    pub fn new(servers: f64, load: f64) -> Option<Self> {
        Self::climb(servers, &mut Blocking::new(load))
    }

    /// Like [`Pool::new`], from where an earlier recursion for the same load stands; leaves it at the servers that this pool has.
    pub(crate) fn climb(servers: f64, blocking: &mut Blocking) -> Option<Self> {
        let load = blocking.load;
        let valid = servers >= 1.0 && servers < f64::from(u32::MAX) && load >= 0.0 && load < servers;
        if !valid {
            return None;
        }
        let low = whole(servers);
        *blocking = blocking.at(low);
        let share = servers - f64::from(low);
        let below = blocking.wait_probability();
        // The probability falls about geometrically with the servers: its logarithm is what interpolates.
        let wait_probability = if share > 0.0 && load > 0.0 {
            let above = blocking.at(low + 1).wait_probability();
            if below > 0.0 && above > 0.0 { below.powf(1.0 - share) * above.powf(share) } else { 0.0 }
        } else {
            below
        };
        Some(Self { servers, load, wait_probability })
    }

    /// Number of servers.
    #[must_use]
    pub fn servers(&self) -> f64 {
        self.servers
    }

    /// Offered load in erlang.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.load
    }

    /// Share of the servers that is busy.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        self.load / self.servers
    }

    /// Mean number of idle servers, c(1 − ρ).
    #[must_use]
    pub fn idle(&self) -> f64 {
        self.servers - self.load
    }

    /// Probability that a request finds all servers busy (Erlang C).
    #[must_use]
    pub fn wait_probability(&self) -> f64 {
        self.wait_probability
    }

    /// Mean wait in M/M/c, in service times.
    #[must_use]
    pub fn mean_wait(&self) -> f64 {
        self.wait_probability / self.idle()
    }
}

/// A number of servers cut to whole ones.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
pub(crate) fn whole(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() < relative, "{found} is not {expected}");
    }

    /// Guarantees: Erlang's formulas agree with 60-digit arithmetic to all printed digits from one server to ten thousand.
    #[test]
    fn erlang_reference_values() {
        for (servers, utilization, blocked, wait) in [
            (1, 0.5, 0.333_333_333_3, 0.5),
            (1, 0.9, 0.473_684_210_5, 0.9),
            (1, 0.999, 0.499_749_874_9, 0.999),
            (2, 0.5, 0.2, 0.333_333_333_3),
            (2, 0.8, 0.329_896_907_2, 0.711_111_111_1),
            (2, 0.95, 0.383_634_431_5, 0.925_641_025_6),
            (4, 0.7, 0.183_724_222_4, 0.428_654_318_2),
            (4, 0.9, 0.270_685_067_1, 0.787_753_264_3),
            (8, 0.8, 0.144_393_889_9, 0.457_644_925_4),
            (10, 0.5, 0.018_384_570_34, 0.036_105_359_16),
            (10, 0.9, 0.167_963_226_3, 0.668_731_524_1),
            (10, 0.99, 0.209_969_537_5, 0.963_738_420_4),
            (32, 0.85, 0.055_741_502_37, 0.282_406_647_8),
            (50, 0.95, 0.078_175_603_89, 0.629_094_729_9),
            (100, 0.8, 0.003_992_028_605, 0.019_646_426_63),
            (100, 0.9, 0.026_957_380_46, 0.216_940_480_9),
            (100, 0.99, 0.070_028_074_78, 0.882_768_462_6),
            (100, 0.999, 0.075_127_952_74, 0.987_839_083_6),
            (1000, 0.9, 5.929_862_67e-5, 5.926_699_664e-4),
            (1000, 0.95, 0.003_649_293_689, 0.068_253_415_38),
            (1000, 0.99, 0.018_965_776_43, 0.659_080_421_9),
            (1000, 0.999, 0.024_199_178_6, 0.961_239_260_4),
            (10000, 0.99, 0.002_858_126_739, 0.222_776_928_9),
            (10000, 0.999, 0.007_317_186_887, 0.880_541_711_4),
        ] {
            let load = utilization * f64::from(servers);
            close(erlang_b(servers, load), blocked, 1e-9);
            close(erlang_c(servers, load), wait, 1e-9);
        }
        assert!((erlang_c(3, 3.0) - 1.0).abs() < 1e-12);
    }

    /// Guarantees: traffic at one per cent blocking agrees with published tables.
    #[test]
    fn published_traffic_tables() {
        for (servers, load) in [
            (1, 0.010_101_0),
            (2, 0.152_593),
            (5, 1.360_787),
            (10, 4.461_177),
            (15, 8.108_042_797),
            (20, 12.030_615),
            (30, 20.337_286),
            (50, 37.901_398),
            (100, 84.064_159),
            (200, 179.738_025),
            (1000, 971.204_060),
        ] {
            close(erlang_b(servers, load), 0.01, 1e-4);
        }
    }

    /// Guarantees: from where the recursion would be slow the gamma function continues it, in and out of overload, and a cursor
    /// that climbs finds what a fresh start finds.
    #[test]
    fn many_servers_and_climbing() {
        for (servers, load) in [(19_000, 18_500.0), (19_000, 19_000.0), (19_000, 15_000.0)] {
            close(blocked_by_gamma(servers, load), erlang_b(servers, load), 1e-8);
        }
        close(erlang_b(1_000_000, 2_000_000.0), 0.5, 1e-5);
        assert!(erlang_c(u32::MAX, 1.0) < 1e-300 && (erlang_c(0, 0.0) - 1.0).abs() < 1e-12);
        let low = Blocking::new(50.0).at(40);
        close(low.at(70).blocked(), erlang_b(70, 50.0), 1e-12);
        close(low.at(10).blocked(), erlang_b(10, 50.0), 1e-12);
        assert_eq!((low.servers(), low.at(70).servers()), (40, 70));
    }

    /// Guarantees: between whole servers the probability of waiting falls without a jump, and no load beyond the servers is a pool.
    #[test]
    fn fractional_servers() {
        let chances: Vec<f64> = (0..=40).map(|tenth| Pool::new(2.0 + 0.1 * f64::from(tenth), 1.8).unwrap().wait_probability()).collect();
        assert!(chances.is_sorted_by(|a, b| a > b), "{chances:?}");
        close(chances[0], erlang_c(2, 1.8), 1e-12);
        close(chances[5], (erlang_c(2, 1.8) * erlang_c(3, 1.8)).sqrt(), 1e-9);
        for (servers, load) in [(2.0, 2.0), (2.0, 3.0), (0.5, 0.1), (2.0, -1.0), (2.0, f64::NAN), (f64::NAN, 1.0), (f64::INFINITY, 1.0)] {
            assert_eq!(Pool::new(servers, load), None);
        }
        let idle = Pool::new(1.5, 0.0).unwrap();
        assert!(idle.mean_wait().abs() < 1e-12 && idle.utilization().abs() < 1e-12);
    }
}
