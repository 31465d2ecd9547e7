//! The elasticity measures of the SPEC research group (Herbst, Bauer, Kounev): how closely supply follows demand.

/// Elasticity of a supply to a demand, by steps of equal length. Accuracy is normalised by the demand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Elasticity {
    /// Mean relative shortage, in percent.
    pub theta_under: f64,
    /// Mean relative excess, in percent.
    pub theta_over: f64,
    /// Share of the time with too few, in percent.
    pub tau_under: f64,
    /// Share of the time with too many, in percent.
    pub tau_over: f64,
    /// Share of the steps in which supply and demand change differently, in percent. Punishes harmless delay too.
    pub instability: f64,
    /// Mean shortage, in replicas.
    pub shortage: f64,
    /// Mean excess, in replicas.
    pub excess: f64,
}

// === impl Elasticity ===

impl Elasticity {
    /// The measures of two series of the same length. `None` when the lengths differ or are zero. A step without demand counts
    /// with its excess in replicas, for there is nothing to relate it to.
    #[must_use]
    pub fn of(demand: &[u32], supply: &[u32]) -> Option<Self> {
        if demand.is_empty() || demand.len() != supply.len() {
            return None;
        }
        let steps = crate::number::real_length(demand.len());
        let mut found = Self::default();
        for (wanted, had) in demand.iter().zip(supply) {
            let (short, over) = (f64::from(wanted.saturating_sub(*had)), f64::from(had.saturating_sub(*wanted)));
            let base = f64::from((*wanted).max(1));
            found.theta_under += short / base;
            found.theta_over += over / base;
            found.tau_under += f64::from(u32::from(short > 0.0));
            found.tau_over += f64::from(u32::from(over > 0.0));
            found.shortage += short;
            found.excess += over;
        }
        let signs = |series: &[u32]| series.windows(2).map(|pair| pair[1].cmp(&pair[0])).collect::<Vec<_>>();
        let differ = signs(demand).iter().zip(signs(supply)).filter(|(wanted, had)| **wanted != *had).count();
        let percent = 100.0 / steps;
        Some(Self {
            theta_under: found.theta_under * percent,
            theta_over: found.theta_over * percent,
            tau_under: found.tau_under * percent,
            tau_over: found.tau_over * percent,
            instability: 100.0 * crate::number::real_length(differ) / (steps - 1.0).max(1.0),
            shortage: found.shortage / steps,
            excess: found.excess / steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the reference example, to all its digits.
    #[test]
    fn reference_example() {
        let found = Elasticity::of(&[2, 2, 3, 4, 4, 3, 2, 2, 5, 5], &[2, 2, 2, 3, 4, 4, 4, 2, 2, 5]).unwrap();
        let expected = [11.833_333, 13.333_333, 30.0, 20.0, 77.777_778, 0.5, 0.3];
        let values =
            [found.theta_under, found.theta_over, found.tau_under, found.tau_over, found.instability, found.shortage, found.excess];
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }

    /// Guarantees: series that do not belong together are refused; no demand is no division by zero.
    #[test]
    fn edges() {
        assert_eq!(Elasticity::of(&[1], &[]), None);
        assert_eq!(Elasticity::of(&[], &[]), None);
        let idle = Elasticity::of(&[0, 0], &[2, 0]).unwrap();
        assert!((idle.theta_over - 100.0).abs() < 1e-9 && (idle.tau_over - 50.0).abs() < 1e-9);
    }
}
