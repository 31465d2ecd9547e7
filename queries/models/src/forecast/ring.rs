//! Numbers by their place on an endless grid, of which only the newest are kept.

/// The newest numbers of a grid. What was never written, was overwritten or lies after the newest place is missing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ring {
    /// Missing numbers are not a number. A power of two of them, so that a place is found by masking.
    numbers: Vec<f32>,
    newest: Option<i64>,
}

// === impl Ring ===

impl Ring {
    /// Room for at least `places` numbers.
    pub(super) fn new(places: usize) -> Self {
        Self { numbers: vec![f32::NAN; places.max(1).next_power_of_two()], newest: None }
    }

    /// Writes a number (or that it is missing) as the newest one. Places that were left out are missing; a place that is not after
    /// the newest makes all later ones missing.
    pub(super) fn write(&mut self, place: i64, number: Option<f64>) {
        if let Some(newest) = self.newest {
            let left_out = usize::try_from(place.saturating_sub(newest).saturating_sub(1)).unwrap_or(0).min(self.numbers.len());
            for back in 0..left_out {
                let slot = self.slot(place.saturating_sub(1).saturating_sub(signed(back)));
                self.numbers[slot] = f32::NAN;
            }
        }
        let slot = self.slot(place);
        self.numbers[slot] = number.map_or(f32::NAN, narrow);
        self.newest = Some(place);
    }

    /// The number at a place, or not a number.
    pub(super) fn at(&self, place: i64) -> f64 {
        let Some(newest) = self.newest else { return f64::NAN };
        if place > newest || newest.saturating_sub(place) >= signed(self.numbers.len()) {
            return f64::NAN;
        }
        f64::from(self.numbers[self.slot(place)])
    }

    /// Mean of the known numbers of `places` places up to and with `last`, or not a number.
    pub(super) fn mean(&self, last: i64, places: i64) -> f64 {
        let (mut sum, mut known) = (0.0, 0.0);
        for back in 0..places {
            let number = self.at(last - back);
            if !number.is_nan() {
                sum += number;
                known += 1.0;
            }
        }
        if known > 0.0 { sum / known } else { f64::NAN }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "masked to the length, and wrapping is meant")]
    fn slot(&self, place: i64) -> usize {
        place as usize & (self.numbers.len() - 1)
    }
}

/// A number of places as a distance.
pub(super) fn signed(places: usize) -> i64 {
    i64::try_from(places).unwrap_or(i64::MAX)
}

/// A number in half the memory: seven digits are more than any load is known to.
#[expect(clippy::cast_possible_truncation, reason = "rounding to seven digits is meant")]
pub(super) fn narrow(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what was left out, overwritten or taken back is missing.
    #[test]
    fn keeps_the_newest() {
        let mut ring = Ring::new(4);
        assert!(ring.at(0).is_nan());
        for place in -2..5_i32 {
            ring.write(place.into(), Some(place.into()));
        }
        assert!(ring.at(0).is_nan() && (ring.at(1) - 1.0).abs() < 1e-9 && ring.at(5).is_nan());
        ring.write(7, None);
        assert!((ring.at(4) - 4.0).abs() < 1e-9 && [5, 6, 7, 8].iter().all(|place| ring.at(*place).is_nan()));
        ring.write(5, Some(9.0));
        assert!(ring.at(6).is_nan() && (ring.mean(5, 2) - 6.5).abs() < 1e-9);
        ring.write(i64::MAX, Some(1.0));
        assert!(ring.mean(5, 4).is_nan());
    }
}
