//! Numbers in 16 bits, and the newest of them: thousands of services are remembered for days.

use std::collections::VecDeque;

/// Bits of a mantissa of 32-bit numbers.
const MANTISSA: u32 = 23;
/// Bits of it that a [`FromOne`] keeps, and that a [`Half`] does.
const FROM_ONE: u32 = 11;
const HALF: u32 = 10;
/// Exponent of one in 32-bit numbers.
const ONE: u32 = 127;
/// What brings the exponents of a [`Half`] to those of 32-bit numbers that begin with three zeros, and back.
const DOWN: f32 = f32::from_bits((ONE - 112) << MANTISSA);
const UP: f32 = f32::from_bits((ONE + 112) << MANTISSA);
/// Largest [`Half`].
const HALF_MOST: f32 = 65_504.0;

/// A number from 1 on, to 1 in 4,000: five bits of exponent, eleven of mantissa. Ends at 4 billion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FromOne(u16);

/// A number to 1 in 2,000, as of IEEE 754's half precision, but in the order of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Half(u16);

/// The newest of many values; takes no more memory than these, and a quarter.
#[derive(Clone, Debug)]
pub(super) struct Newest<T> {
    values: VecDeque<T>,
    most: usize,
}

// === impl FromOne ===

impl FromOne {
    /// The nearest; 1 for less.
    #[expect(clippy::cast_possible_truncation, reason = "what this is for")]
    pub(super) fn new(value: f64) -> Self {
        let bits = (value.max(1.0) as f32).to_bits() + (1 << (MANTISSA - FROM_ONE - 1));
        let code = (bits >> (MANTISSA - FROM_ONE)) - (ONE << FROM_ONE);
        Self(u16::try_from(code).unwrap_or(u16::MAX))
    }

    pub(super) fn get(self) -> f64 {
        f64::from(f32::from_bits((u32::from(self.0) + (ONE << FROM_ONE)) << (MANTISSA - FROM_ONE)))
    }
}

// === impl Half ===

impl Half {
    /// The nearest; the largest for more.
    #[expect(clippy::cast_possible_truncation, reason = "what this is for")]
    pub(super) fn new(value: f64) -> Self {
        let magnitude = (value.abs() as f32).min(HALF_MOST) * DOWN;
        let bits = (magnitude.to_bits() + (1 << (MANTISSA - HALF - 1))) >> (MANTISSA - HALF);
        let bits = u16::try_from(bits).unwrap_or(u16::MAX >> 1);
        // Negative numbers come first, the largest of them foremost.
        Self(if value < 0.0 { !(bits | 1 << 15) } else { bits | 1 << 15 })
    }

    pub(super) fn get(self) -> f64 {
        let (bits, sign) = if self.0 >> 15 == 1 { (self.0, 1.0) } else { (!self.0, -1.0) };
        let magnitude = f32::from_bits(u32::from(bits & (u16::MAX >> 1)) << (MANTISSA - HALF)) * UP;
        f64::from(magnitude) * sign
    }
}

// === impl Newest ===

impl<T: Copy> Newest<T> {
    pub(super) fn of_most(most: usize) -> Self {
        Self { values: VecDeque::new(), most }
    }

    /// Takes one, in place of the oldest when there are enough.
    pub(super) fn push(&mut self, value: T) {
        if self.values.len() >= self.most {
            self.values.pop_front();
        }
        let count = self.values.len();
        if count == self.values.capacity() {
            self.values.reserve_exact((count / 4).max(16).min(self.most.saturating_sub(count)));
        }
        self.values.push_back(value);
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The one that is so many older than the newest.
    pub(super) fn back(&self, back: usize) -> Option<T> {
        self.values.len().checked_sub(back + 1).and_then(|place| self.values.get(place)).copied()
    }

    /// All, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        self.values.iter().copied()
    }

    /// All but the newest so many.
    pub(super) fn without(mut self, newest: usize) -> Self {
        self.values.truncate(self.values.len().saturating_sub(newest));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: numbers come back to 1 in 4,000, in their order; what is out of range becomes the end of it.
    #[test]
    fn numbers_from_one() {
        let mut value = 1.0;
        while value < 4e9 {
            let back = FromOne::new(value).get();
            assert!((back / value - 1.0).abs() < 1.0 / 4_000.0 && FromOne::new(back).get().to_bits() == back.to_bits(), "{value} {back}");
            value *= 1.000_37;
        }
        let ends = [-3.0, 0.0, 1.0, f64::NAN].map(|value| FromOne::new(value).get());
        assert!(ends.iter().all(|end| (end - 1.0).abs() < 1e-12), "{ends:?}");
        assert!([5e9, 1e300, f64::INFINITY].iter().all(|value| FromOne::new(*value).get() > 4.2e9));
    }

    /// Guarantees: halves come back to 1 in 2,000 with their sign, and are in order.
    #[test]
    fn halves_are_near_and_in_order() {
        let mut values: Vec<f64> = (0..2_000).map(|step| 1e-4 * 1.01_f64.powi(step)).filter(|value| *value < 6e4).collect();
        values.extend(values.clone().into_iter().map(|value| -value));
        values.push(0.0);
        values.sort_by(f64::total_cmp);
        for value in &values {
            let back = Half::new(*value).get();
            assert!((back - value).abs() <= value.abs() / 2_000.0 + 1e-7, "{value} {back}");
        }
        assert!(values.windows(2).all(|pair| Half::new(pair[0]) < Half::new(pair[1])));
        assert!(Half::new(1e9).get() > 6.5e4 && Half::new(-1e9).get() < -6.5e4);
    }

    /// Guarantees: the newest are kept, in their order, and memory is bounded by them.
    #[test]
    fn only_the_newest_are_kept() {
        let mut newest = Newest::of_most(100);
        (0..1_000).for_each(|value| newest.push(value));
        assert!(newest.iter().eq(900..1_000) && newest.values.capacity() <= 100);
        assert_eq!((newest.back(0), newest.back(99), newest.back(100)), (Some(999), Some(900), None));
        assert!(newest.without(98).iter().eq(900..902));
    }
}
