//! A mergeable histogram for quantiles: sparse, log-linear buckets over all finite numbers, exact integer counts.
//!
//! A bucket is what numbers share with their sign, exponent and first 7 bits of fraction: 128 buckets for each power of two,
//! so the middle of a bucket is within 0.4 % of everything in it. Counts are fixed-point integers, so that weights add up to the
//! same bytes in whatever order parts are merged. The same layout holds measurements and OTLP histogram points alike.

mod aggregate;
mod scalar;
mod tally;

use thiserror::Error;

pub(crate) use aggregate::aggregates;
pub(crate) use scalar::scalars;

/// Bits of the fraction of a number that do not tell buckets apart.
const SHIFT: u32 = 52 - 7;
/// Fraction bits of a count: weights are exact to a millionth.
const COUNT_BITS: u32 = 20;
const UNIT: u64 = 1 << COUNT_BITS;
const VERSION: u8 = 1;
/// The most points that one bucket of a foreign histogram is spread over.
const MAX_POINTS: i32 = 64;

/// Buckets with their counts. See the module's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Sorted by key, without zeros.
    entries: Vec<(i32, u64)>,
}

/// Bytes that are not a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{length} bytes are not a histogram of version {VERSION}")]
pub struct NotAHistogram {
    /// How many bytes there were.
    pub length: usize,
}

/// The bucket of a number; keys order as numbers do. NaN has none.
#[inline]
pub(crate) fn key(value: f64) -> Option<i32> {
    if value.is_nan() {
        return None;
    }
    let magnitude = i32::try_from(value.abs().to_bits() >> SHIFT).unwrap_or(i32::MAX);
    Some(if value < 0.0 { -magnitude } else { magnitude })
}

/// A weight as a count; zero for what is not a positive number.
#[inline]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "saturates, which is meant")]
pub(crate) fn count(weight: f64) -> u64 {
    // Nearly all spans stand for themselves, and rounding is a call into the C library on plain x86-64.
    if weight.to_bits() == 1.0_f64.to_bits() { UNIT } else { (weight * UNIT as f64).round() as u64 }
}

/// Sorts entries by key and adds up equal keys.
fn normalize(entries: &mut Vec<(i32, u64)>) {
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(next.1);
        }
        same
    });
}

// === impl Histogram ===

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn from_entries(mut entries: Vec<(i32, u64)>) -> Self {
        entries.retain(|(_, count)| *count > 0);
        normalize(&mut entries);
        Self { entries }
    }

    /// From the buckets `(lower, upper, count)` of another histogram, for example of an OTLP point.
    ///
    /// Within a bucket counts are taken to be spread evenly: they go to at most 64 points at equal distances. A bucket without
    /// an upper bound counts at its lower bound; one without a lower bound begins at 0 when its upper bound is positive, and
    /// counts at its upper bound otherwise. Buckets whose count is not positive are skipped.
    #[must_use]
    pub fn from_buckets(buckets: impl IntoIterator<Item = (f64, f64, f64)>) -> Self {
        let mut entries = Vec::new();
        for (lower, upper, weight) in buckets {
            let total = count(weight);
            if total > 0 {
                spread(lower, upper, total, &mut entries);
            }
        }
        Self::from_entries(entries)
    }

    /// Adds a value that stands for `weight` values. NaN and weights that are not positive are ignored.
    pub fn record(&mut self, value: f64, weight: f64) {
        let (Some(key), count) = (key(value), count(weight)) else { return };
        if count > 0 {
            match self.entries.binary_search_by_key(&key, |(key, _)| *key) {
                Ok(index) => self.entries[index].1 = self.entries[index].1.saturating_add(count),
                Err(index) => self.entries.insert(index, (key, count)),
            }
        }
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.entries.extend_from_slice(&other.entries);
        normalize(&mut self.entries);
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sum of weights.
    #[must_use]
    pub fn count(&self) -> f64 {
        float(self.total()) / float(u128::from(UNIT))
    }

    /// The value below or at which the share `probability` of the weight lies: the middle of the bucket that holds the value
    /// of that rank. `None` when it is empty or the probability is not within 0 and 1.
    #[must_use]
    pub fn quantile(&self, probability: f64) -> Option<f64> {
        if !(0.0..=1.0).contains(&probability) {
            return None;
        }
        let rank = probability * float(self.total());
        // 0.99 × 100 must be rank 99 although the product is a little more.
        let rank = if (rank - rank.round()).abs() <= rank * 1e-12 { rank.round() } else { rank.ceil() };
        let mut below = 0_u128;
        for (key, count) in &self.entries {
            below += u128::from(*count);
            if float(below) >= rank {
                return Some(middle(*key));
            }
        }
        self.entries.last().map(|(key, _)| middle(*key))
    }

    /// The share of the weight whose value is greater than `bound`, counts spread evenly within the bucket of the bound.
    #[must_use]
    pub fn fraction_above(&self, bound: f64) -> Option<f64> {
        let at = key(bound)?;
        let total = float(self.total());
        let mut above = 0.0;
        for (key, count) in &self.entries {
            let count = float(u128::from(*count));
            if *key > at {
                above += count;
            } else if *key == at {
                let (lower, upper) = bounds(*key);
                let width = upper - lower;
                above += if width.is_finite() && width > 0.0 { count * ((upper - bound) / width).clamp(0.0, 1.0) } else { 0.0 };
            }
        }
        (total > 0.0).then(|| above / total)
    }

    /// Of the sum of the values between the quantiles `low` and `high`, the share that is in `part`: a histogram of the same values,
    /// each with a part of its weight. A bucket on either bound counts as far as its weight lies within. `None` when there is no
    /// such sum or the quantiles are not 0 ≤ `low` < `high` ≤ 1.
    #[must_use]
    pub fn share(&self, part: &Self, low: f64, high: f64) -> Option<f64> {
        if !(0.0 <= low && low < high && high <= 1.0) {
            return None;
        }
        let total = float(self.total());
        let (mut below, mut of_part, mut of_all) = (0.0, 0.0, 0.0);
        let mut parts = part.entries.iter().peekable();
        for (key, count) in &self.entries {
            let count = float(u128::from(*count));
            let within = (below + count).min(high * total) - below.max(low * total);
            below += count;
            while parts.next_if(|(other, _)| other < key).is_some() {}
            let share = parts.next_if(|(other, _)| other == key).map_or(0.0, |(_, part)| float(u128::from(*part)) / count);
            if within > 0.0 {
                of_all += middle(*key) * within;
                of_part += middle(*key) * within * share;
            }
        }
        (of_all > 0.0).then(|| of_part / of_all)
    }

    /// The histogram as bytes. Equal histograms have equal bytes.
    ///
    /// Version, binary places that all counts have to spare, then for each bucket the distance of its key from the one before
    /// (zigzag) and its count, as LEB128.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.entries.len() * 3);
        encode(self.entries.iter().copied(), &mut bytes);
        bytes
    }

    /// The histogram of those bytes.
    ///
    /// # Errors
    /// When the bytes were not made by [`Histogram::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAHistogram> {
        let mut entries = Vec::with_capacity(bytes.len() / 3);
        decode(bytes, |key, count| entries.push((key, count)))?;
        Ok(Self { entries })
    }

    /// The middle of each bucket and the weight in it, ascending.
    pub(crate) fn points(&self) -> Vec<(f64, f64)> {
        let point = |(key, count): &(i32, u64)| (middle(*key), float(u128::from(*count)) / float(u128::from(UNIT)));
        self.entries.iter().map(point).collect()
    }

    fn total(&self) -> u128 {
        self.entries.iter().map(|(_, count)| u128::from(*count)).sum()
    }
}

/// Appends sorted entries as bytes.
pub(crate) fn encode(entries: impl Iterator<Item = (i32, u64)> + Clone, bytes: &mut Vec<u8>) {
    let spare = entries.clone().map(|(_, count)| count.trailing_zeros()).min().unwrap_or(0);
    bytes.extend([VERSION, u8::try_from(spare).unwrap_or(0)]);
    let mut before = 0_i64;
    for (key, count) in entries {
        let distance = i64::from(key) - before;
        before = i64::from(key);
        varint(((distance << 1) ^ (distance >> 63)).cast_unsigned(), bytes);
        varint(count >> spare, bytes);
    }
}

/// Calls `each` with the entries of those bytes, in order of their keys.
pub(crate) fn decode(bytes: &[u8], mut each: impl FnMut(i32, u64)) -> Result<(), NotAHistogram> {
    let bad = NotAHistogram { length: bytes.len() };
    let [VERSION, spare @ 0..64, rest @ ..] = bytes else { return Err(bad) };
    let mut rest = rest;
    let mut last = None;
    while !rest.is_empty() {
        let (zigzag, count) = match rest {
            // Neighbouring buckets with small counts, which most are.
            [zigzag @ 0..0x80, count @ 0..0x80, after @ ..] => {
                rest = after;
                (u64::from(*zigzag), u64::from(*count))
            }
            _ => (read_varint(&mut rest).ok_or(bad)?, read_varint(&mut rest).ok_or(bad)?),
        };
        let key = last.map_or(0, i64::from).checked_add(unzigzag(zigzag));
        let key = key.and_then(|key| i32::try_from(key).ok()).ok_or(bad)?;
        if last.is_some_and(|last| last >= key) || count == 0 || count.leading_zeros() < u32::from(*spare) {
            return Err(bad);
        }
        last = Some(key);
        each(key, count << spare);
    }
    Ok(())
}

/// The lowest bucket of those bytes, when there is one.
fn first_key(bytes: &[u8]) -> Option<i32> {
    let mut rest = bytes.get(2..)?;
    let zigzag = read_varint(&mut rest)?;
    i32::try_from(unzigzag(zigzag)).ok()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn bounds(key: i32) -> (f64, f64) {
    let magnitude = u64::from(key.unsigned_abs());
    let (near, far) = (f64::from_bits(magnitude << SHIFT), f64::from_bits((magnitude + 1) << SHIFT));
    if key < 0 { (-far, -near) } else { (near, far) }
}

fn middle(key: i32) -> f64 {
    let (lower, upper) = bounds(key);
    if key == 0 || !(lower.is_finite() && upper.is_finite()) { if key < 0 { upper } else { lower } } else { lower / 2.0 + upper / 2.0 }
}

fn spread(lower: f64, upper: f64, total: u64, entries: &mut Vec<(i32, u64)>) {
    let lower = if lower == f64::NEG_INFINITY && upper > 0.0 && upper.is_finite() { 0.0 } else { lower };
    let point = match (lower.is_finite(), upper.is_finite()) {
        (true, false) => Some(lower),
        (false, true) => Some(upper),
        (false, false) => return,
        (true, true) => None,
    };
    let (Some(first), Some(last)) = (key(point.unwrap_or(lower)), key(point.unwrap_or(upper))) else { return };
    let points = u64::from(last.saturating_sub(first).clamp(1, MAX_POINTS).unsigned_abs());
    let mut spent = 0;
    for index in 0..points {
        let share = (float(u128::from(index)) + 0.5) / float(u128::from(points));
        let value = point.unwrap_or(lower + (upper - lower) * share);
        // Cumulative rounding, so that the parts add up to the whole.
        let until = u64::try_from(u128::from(total) * u128::from(index + 1) / u128::from(points)).unwrap_or(total);
        entries.extend(key(value).map(|key| (key, until - spent)));
        spent = until;
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares of counts need no more than 53 bits")]
fn float(count: u128) -> f64 {
    count as f64
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers of the tests' own making"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Guarantees: a quantile is within 0.4 % of the exact value of that rank, as the hdrhistogram crate's is within its own bound.
    #[test]
    fn quantiles_agree_with_exact_ranks_and_with_hdrhistogram() {
        let mut values: Vec<u64> = (1..20_000_u64).map(|index| (index * 7_919) % 104_729 * index % 9_999_991 + 1).collect();
        let mut ours = Histogram::new();
        let mut theirs = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 10_000_000, 3).unwrap();
        for value in &values {
            ours.record(*value as f64, 1.0);
            theirs.record(*value).unwrap();
        }
        values.sort_unstable();
        for probability in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((probability * values.len() as f64).ceil() as usize).max(1) - 1;
            let (exact, quantile) = (values[rank] as f64, ours.quantile(probability).unwrap());
            assert!((quantile / exact - 1.0).abs() < 0.004, "{probability}: {quantile} is not {exact}");
            let reference = theirs.value_at_quantile(probability) as f64;
            assert!((quantile / reference - 1.0).abs() < 0.005, "{probability}: {quantile} is not {reference}");
        }
        assert!((ours.count() - 19_999.0).abs() < 1e-9);
    }

    /// Guarantees: ranks on a boundary are not pushed up by rounding.
    #[test]
    fn boundary_ranks_are_exact() {
        let mut histogram = Histogram::new();
        for value in 1..=100 {
            histogram.record(f64::from(value) * 1024.0, 1.0);
        }
        assert!((histogram.quantile(0.99).unwrap() / (99.0 * 1024.0) - 1.0).abs() < 0.004);
        assert!((histogram.fraction_above(50.5 * 1024.0).unwrap() - 0.5).abs() < 0.011);
    }

    /// Guarantees: a foreign bucket keeps its count exactly and spreads it evenly; open buckets count at their finite bound.
    #[test]
    fn foreign_buckets_keep_their_counts() {
        let histogram = Histogram::from_buckets([(f64::NEG_INFINITY, 0.1, 10.0), (0.1, 0.25, 7.0), (0.25, f64::INFINITY, 3.0)]);
        assert!((histogram.count() - 20.0).abs() < 1e-12);
        assert!((histogram.quantile(0.25).unwrap() / 0.05 - 1.0).abs() < 0.03);
        assert!((histogram.quantile(1.0).unwrap() / 0.25 - 1.0).abs() < 0.004);
    }

    /// Guarantees: a share is of the sum of values, within the quantiles that are asked for, to the part of a bucket; what is in no
    /// part counts, what does not exist is nothing.
    #[test]
    fn shares_within_quantiles() {
        let (mut all, mut part) = (Histogram::new(), Histogram::new());
        for value in 1..=100 {
            let value = f64::from(value) * 1024.0;
            all.record(value, 2.0);
            part.record(value, if value > 95.0 * 1024.0 { 1.5 } else { 0.5 });
        }
        let close = |share: Option<f64>, expected: f64| assert!((share.unwrap() - expected).abs() < 1e-3, "{share:?} is not {expected}");
        close(all.share(&part, 0.95, 1.0), 0.75);
        close(all.share(&part, 0.4, 0.6), 0.25);
        close(all.share(&part, 0.0, 1.0), (4560.0 * 0.25 + 490.0 * 0.75) / 5050.0);
        // The boundary lies in the middle of the weight of 95.
        close(all.share(&part, 0.945, 1.0), (47.5 * 0.25 + 490.0 * 0.75) / 537.5);
        assert_eq!(all.share(&Histogram::new(), 0.4, 0.6), Some(0.0));
        assert_eq!(Histogram::new().share(&part, 0.0, 1.0), None);
        for (low, high) in [(0.5, 0.5), (0.6, 0.4), (-0.1, 1.0), (0.0, 1.1), (f64::NAN, 1.0), (0.0, f64::NAN)] {
            assert_eq!(all.share(&part, low, high), None);
        }
    }

    proptest! {
        /// Guarantees: bytes round-trip, and parts merge to the same bytes in any order, whatever the values and weights are.
        #[test]
        fn merges_in_any_order(values in prop::collection::vec((prop::num::f64::ANY, 0.0..1e6), 0..200), cut in 0_usize..200) {
            let build = |part: &[(f64, f64)]| {
                let mut histogram = Histogram::new();
                part.iter().for_each(|(value, weight)| histogram.record(*value, *weight));
                histogram
            };
            let cut = cut.min(values.len());
            let mut forward = build(&values[..cut]);
            forward.merge(&build(&values[cut..]));
            let mut backward = build(&values[cut..]);
            backward.merge(&build(&values[..cut]));
            prop_assert_eq!(forward.to_bytes(), backward.to_bytes());
            prop_assert_eq!(forward.to_bytes(), build(&values).to_bytes());
            prop_assert_eq!(Histogram::from_bytes(&forward.to_bytes()).unwrap(), forward);
        }

        /// Guarantees: arbitrary bytes are refused or read, never a panic; keys order as numbers do.
        #[test]
        fn any_bytes_and_any_numbers(bytes in prop::collection::vec(any::<u8>(), 0..64), a in prop::num::f64::NORMAL, b in prop::num::f64::NORMAL) {
            if let Ok(histogram) = Histogram::from_bytes(&bytes) {
                let _ = (histogram.quantile(0.5), histogram.fraction_above(1.0), histogram.count());
            }
            prop_assert!(a > b || key(a) <= key(b));
            let (lower, upper) = bounds(key(a).unwrap());
            prop_assert!(lower <= a && a <= upper);
        }
    }
}
