//! Shares of bad requests, and whether one is larger than another for more than chance.
//!
//! Two-proportion z test with the pooled share (Fleiss, Levin and Paik 2003, section 3.1) and the score interval of one share
//! (Wilson 1927). Both need counts, never averages of averages.

use serde::{Deserialize, Serialize};

/// Fewest requests on each side of a comparison.
pub const MIN_REQUESTS: u64 = 300;
/// Fewest bad requests on both sides together: below that the normal approximation of the binomial does not hold.
pub const MIN_BAD: u64 = 10;
/// One comparison, one side: five in a hundred.
pub const ONCE: f64 = 1.645;
/// The same comparison again and again while its counts grow, one side: five in a hundred over all looks together (after
/// Pocock 1977, where the limit for many looks approaches this one).
pub const REPEATED: f64 = 2.8;

/// Bad ones among all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// How many were bad; not more than all.
    pub bad: u64,
    /// How many there were.
    pub all: u64,
}

// === impl Count ===

impl Count {
    /// The share of bad ones, 0..1; `None` when there were none at all.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        (self.all > 0 && self.bad <= self.all).then(|| exact(self.bad) / exact(self.all))
    }

    /// The lower end of Wilson's interval of the share, `z` standard errors away (one side: [`ONCE`] is 95 %).
    #[must_use]
    pub fn at_least(self, z: f64) -> Option<f64> {
        let (share, all) = (self.share()?, exact(self.all));
        let square = z * z;
        let middle = share + square / (2.0 * all);
        let half = z * (share * (1.0 - share) / all + square / (4.0 * all * all)).sqrt();
        Some(((middle - half) / (1.0 + square / all)).max(0.0))
    }

    /// How many standard errors the share of `self` lies above that of `other`, with the pooled share. Zero where nobody, or
    /// everybody, is bad; `None` where there is nothing to compare.
    #[must_use]
    pub fn z_above(self, other: Self) -> Option<f64> {
        let (own, others) = (self.share()?, other.share()?);
        let (bad, all) = (self.bad.checked_add(other.bad)?, self.all.checked_add(other.all)?);
        if bad == 0 || bad == all {
            return Some(0.0);
        }
        let pooled = exact(bad) / exact(all);
        let error = (pooled * (1.0 - pooled) * (1.0 / exact(self.all) + 1.0 / exact(other.all))).sqrt();
        Some((own - others) / error)
    }

    /// True when the share of `self` is larger than that of `other`, `z` standard errors at least, on enough requests.
    #[must_use]
    pub fn is_above(self, other: Self, z: f64) -> bool {
        self.is_comparable(other) && self.z_above(other).is_some_and(|above| above >= z)
    }

    /// True when both have [`MIN_REQUESTS`], and together [`MIN_BAD`] bad ones.
    fn is_comparable(self, other: Self) -> bool {
        self.all >= MIN_REQUESTS && other.all >= MIN_REQUESTS && self.bad.saturating_add(other.bad) >= MIN_BAD
    }
}

/// Counts of requests stay far below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "no window counts 2⁵³ requests")]
fn exact(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(bad: u64, all: u64) -> Count {
        Count { bad, all }
    }

    /// Guarantees: the z of a worked example (43 of 200 against 21 of 200: pooled 0.16, z 3.0005), its sign, and no z without data.
    #[test]
    fn z_is_the_pooled_one() {
        let z = count(43, 200).z_above(count(21, 200)).unwrap();
        assert!((z - 0.11 / (0.16_f64 * 0.84 * 0.01).sqrt()).abs() < 1e-12 && (z - 3.0005).abs() < 5e-4, "{z}");
        assert!((z + count(21, 200).z_above(count(43, 200)).unwrap()).abs() < 1e-12);
        assert_eq!(count(0, 500).z_above(count(0, 400)), Some(0.0));
        assert_eq!(count(500, 500).z_above(count(400, 400)), Some(0.0));
        assert_eq!(count(0, 0).z_above(count(1, 400)), None);
        assert_eq!(count(5, 4).z_above(count(1, 400)), None, "more bad ones than requests are no count");
        assert_eq!(count(u64::MAX, u64::MAX).z_above(count(1, 400)), None, "a sum that overflows is no sum");
    }

    /// Guarantees: Wilson's lower end (10 of 100 at 1.96: 0.0552), zero of a clean count, and never above the share.
    #[test]
    fn the_lower_end_is_wilsons() {
        assert!((count(10, 100).at_least(1.96).unwrap() - 0.05523).abs() < 5e-5);
        assert!(count(0, 100).at_least(ONCE).unwrap() < 1e-12);
        assert_eq!(count(0, 0).at_least(ONCE), None);
        for bad in 1..=50 {
            assert!(count(bad, 50).at_least(ONCE).unwrap() < count(bad, 50).share().unwrap());
        }
    }

    /// Guarantees: no verdict on few requests or few bad ones, however large the difference looks.
    #[test]
    fn thin_counts_are_no_evidence() {
        assert!(count(30, 300).is_above(count(6, 300), ONCE));
        assert!(!count(30, 299).is_above(count(6, 300), ONCE));
        assert!(!count(9, 300).is_above(count(0, 300), ONCE));
        assert!(!count(6, 300).is_above(count(30, 300), ONCE));
        assert!(!count(12, 300).is_above(count(9, 300), ONCE));
    }
}
