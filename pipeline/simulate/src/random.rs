//! Random numbers by counter: the n-th number of a stream is a function of the stream's key and n alone.
//!
//! Each (seed, service, purpose) has a stream of its own, and each request a stream within it. Two policies therefore meet the
//! same arrivals and the same service times (common random numbers), whatever they do to the replicas.

/// Increment of the counter: 2^64 divided by the golden ratio, odd (Steele, Lea and Flood, 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// 2^-53: the distance of neighbours in [0.5, 1).
const UNIT: f64 = 1.0 / 9_007_199_254_740_992.0;

/// What random numbers are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Times of arrivals.
    Arrivals,
    /// Work of requests.
    ServiceTime,
    /// Choice of a replica.
    Balancing,
    /// Start-up delays.
    Startup,
    /// Numbers of calls.
    Calls,
    /// Shapes of load.
    Load,
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    counter: u64,
}

// === impl Stream ===

impl Stream {
    /// The stream of one service and purpose.
    #[must_use]
    pub fn new(seed: u64, service: u64, purpose: Purpose) -> Self {
        let purpose = match purpose {
            Purpose::Arrivals => 1,
            Purpose::ServiceTime => 2,
            Purpose::Balancing => 3,
            Purpose::Startup => 4,
            Purpose::Calls => 5,
            Purpose::Load => 6,
        };
        Self { key: mix(mix(mix(seed ^ STEP).wrapping_add(service)).wrapping_add(purpose)), counter: 0 }
    }

    /// An independent stream of one item of this stream, such as one request.
    #[must_use]
    pub fn of(&self, item: u64) -> Self {
        Self { key: combine(self.key, item), counter: 0 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(STEP);
        mix(self.key.wrapping_add(self.counter))
    }

    /// A number in (0, 1): neither end occurs, so that its logarithm is finite.
    pub fn share(&mut self) -> f64 {
        (crate::number::real(self.bits() >> 11) + 0.5) * UNIT
    }

    /// A whole number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(((self.bits() >> 32) * u64::from(bound)) >> 32).unwrap_or(0)
    }

    /// An exponential variable of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.share().ln()
    }

    /// A standard normal variable (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.share() < p
    }

    /// A Poisson variable: arrivals of a unit process within `mean`; the time it takes grows with the mean.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        let (mut passed, mut count) = (self.exponential(), 0);
        while passed < mean {
            passed += self.exponential();
            count += 1;
        }
        count
    }
}

/// A number made of two, for keys of parts of an item.
#[must_use]
pub(crate) fn combine(key: u64, item: u64) -> u64 {
    mix(key ^ mix(item.wrapping_add(STEP)))
}

/// Scrambles 64 bits so that neighbours have nothing in common (finaliser of Stafford, variant 13).
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a stream depends on seed, service and purpose, and on nothing else.
    #[test]
    fn streams_repeat_and_differ() {
        let first = |seed, service, purpose| Stream::new(seed, service, purpose).bits();
        let base = first(1, 0, Purpose::Arrivals);
        assert_eq!(base, first(1, 0, Purpose::Arrivals));
        assert_ne!(base, first(2, 0, Purpose::Arrivals));
        assert_ne!(base, first(1, 1, Purpose::Arrivals));
        assert_ne!(base, first(1, 0, Purpose::ServiceTime));
    }

    /// Guarantees: the stream of an item does not depend on how much of other streams was used.
    #[test]
    fn items_are_independent_of_consumption() {
        let mut used = Stream::new(7, 3, Purpose::ServiceTime);
        let fresh = used.clone();
        let _ = used.bits();
        assert_eq!(used.of(9).bits(), fresh.of(9).bits());
        assert_ne!(fresh.of(9).bits(), fresh.of(10).bits());
    }

    /// Guarantees: uniform, normal and Poisson variables have the mean and variance they should (within 4 standard errors).
    #[test]
    fn moments() {
        let mut stream = Stream::new(1, 0, Purpose::Load);
        let n = 40_000_u32;
        let check = |values: &[f64], mean: f64, variance: f64| {
            let count = f64::from(n);
            let found = values.iter().sum::<f64>() / count;
            let spread = values.iter().map(|value| (value - found).powi(2)).sum::<f64>() / count;
            assert!((found - mean).abs() < 4.0 * (variance / count).sqrt(), "{found} is not {mean}");
            assert!((spread / variance - 1.0).abs() < 0.05, "{spread} is not {variance}");
        };
        check(&(0..n).map(|_| stream.share()).collect::<Vec<_>>(), 0.5, 1.0 / 12.0);
        check(&(0..n).map(|_| stream.normal()).collect::<Vec<_>>(), 0.0, 1.0);
        check(&(0..n).map(|_| f64::from(stream.poisson(2.5))).collect::<Vec<_>>(), 2.5, 2.5);
        check(&(0..n).map(|_| f64::from(stream.below(3))).collect::<Vec<_>>(), 1.0, 2.0 / 3.0);
    }
}
