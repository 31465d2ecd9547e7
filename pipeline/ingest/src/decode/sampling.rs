//! How many real items a sampled span stands for, read from `tracestate`.
//!
//! OpenTelemetry's consistent probability sampling writes `ot=th:<hex>`: of 2^56 equally likely random values, those
//! below the threshold were dropped. Its experimental predecessor wrote `ot=p:<n>`, a probability of 2^-n.

/// 2^56: thresholds are 56-bit fractions.
const RANGE: u64 = 1 << 56;
const THRESHOLD_DIGITS: usize = 14;
/// The largest adjusted count a span may carry. One forged `tracestate` would otherwise outweigh all other traffic.
pub const MAX_ADJUSTED_COUNT: f64 = 1e6;

/// What a span's `tracestate` says about sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// How many spans this one stands for; 1 when unknown.
    pub adjusted_count: f64,
    /// Whether the sampling probability was stated.
    pub known: bool,
    /// Whether the stated count exceeded [`MAX_ADJUSTED_COUNT`].
    pub clipped: bool,
}

// === impl Sampling ===

impl Sampling {
    const UNKNOWN: Self = Self { adjusted_count: 1.0, known: false, clipped: false };

    /// Reads a W3C `tracestate`. A threshold wins over the older form; what is malformed counts as unstated.
    #[must_use]
    pub fn from_trace_state(trace_state: &str) -> Self {
        let Some(state) = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot=")) else {
            return Self::UNKNOWN;
        };
        let field = |name| state.split(';').find_map(|field| field.split_once(':').filter(|(key, _)| *key == name));
        let count = field("th").and_then(|(_, digits)| threshold(digits)).or_else(|| field("p").and_then(|(_, n)| power(n)));
        count.map_or(Self::UNKNOWN, |count| Self {
            adjusted_count: count.min(MAX_ADJUSTED_COUNT),
            known: true,
            clipped: count > MAX_ADJUSTED_COUNT,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "an adjusted count is an estimate; 53 bits are plenty")]
fn threshold(digits: &str) -> Option<f64> {
    let valid = (1..=THRESHOLD_DIGITS).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let value = valid.then(|| u64::from_str_radix(digits, 16).ok()).flatten()?;
    let rejected = value << (4 * (THRESHOLD_DIGITS - digits.len()));
    Some(RANGE as f64 / (RANGE - rejected) as f64)
}

fn power(exponent: &str) -> Option<f64> {
    match exponent.parse::<i32>() {
        Ok(exponent @ 0..=62) => Some(2.0_f64.powi(exponent)),
        // The one value set apart for a span that was kept for another reason and stands for none.
        Ok(63) => Some(0.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(trace_state: &str) -> Option<f64> {
        let sampling = Sampling::from_trace_state(trace_state);
        sampling.known.then_some(sampling.adjusted_count)
    }

    /// Guarantees: the specification's thresholds give its adjusted counts.
    #[test]
    fn thresholds_match_the_reference() {
        let cases = [
            ("0", 1.0),
            ("8", 2.0),
            ("c", 4.0),
            ("e666", 9.999_389_685_688_13),
            ("fd70a", 99.997_711_234_026),
            ("fd70a4", 100.000_095_367_523),
            ("ffbe77", 1_000.012_874_769_03),
        ];
        for (digits, expected) in cases {
            let actual = count(&format!("ot=th:{digits}")).unwrap();
            assert!((actual / expected - 1.0).abs() < 1e-12, "{digits}: {actual}");
        }
        assert_eq!(count("vendor=1, ot=rv:abcdef01234567;th:8 ,x=y"), Some(2.0));
    }

    /// Guarantees: the older power-of-two form is read, 63 means zero, and a threshold wins over it.
    #[test]
    fn powers_of_two_are_read() {
        assert_eq!(count("ot=p:0"), Some(1.0));
        assert_eq!(count("ot=p:8;r:62"), Some(256.0));
        assert_eq!(count("ot=p:63"), Some(0.0));
        assert_eq!(count("ot=p:3;th:c"), Some(4.0));
        assert_eq!(count("ot=p:64"), None);
    }

    /// Guarantees: nothing stated is unknown, never one in one; huge counts are clipped and say so.
    #[test]
    fn unstated_is_unknown_and_huge_is_clipped() {
        for state in ["", "ot=", "ot=th:", "ot=th:xyz", "ot=th:+1", "ot=th:000000000000000", "vendor=th:8", "ot=rv:00", "ot=p:-1"] {
            assert_eq!(Sampling::from_trace_state(state), Sampling::UNKNOWN, "{state}");
        }
        for state in ["ot=th:ffffffffffffff", "ot=p:62"] {
            let sampling = Sampling::from_trace_state(state);
            assert!(sampling.clipped && sampling.known, "{state}");
            assert_eq!(sampling.adjusted_count.to_bits(), MAX_ADJUSTED_COUNT.to_bits());
        }
    }
}
