//! Amounts of CPU and memory as Kubernetes writes them (`250m`, `1.5`, `2Gi`, `1e9`), in whole numbers of the smallest unit.
//!
//! Fractions of a unit round up, as in `k8s.io/apimachinery/pkg/api/resource`: a request must not become too small by reading it.

/// Suffixes: what they multiply with, as numerator and denominator. Those of two letters come first, so that `Mi` is not `M`.
const SUFFIXES: [(&str, u128, u128); 16] = [
    ("Ki", 1 << 10, 1),
    ("Mi", 1 << 20, 1),
    ("Gi", 1 << 30, 1),
    ("Ti", 1 << 40, 1),
    ("Pi", 1 << 50, 1),
    ("Ei", 1 << 60, 1),
    ("n", 1, 1_000_000_000),
    ("u", 1, 1_000_000),
    ("m", 1, 1000),
    ("k", 1000, 1),
    ("M", 1_000_000, 1),
    ("G", 1_000_000_000, 1),
    ("T", 1_000_000_000_000, 1),
    ("P", 1_000_000_000_000_000, 1),
    ("E", 1_000_000_000_000_000_000, 1),
    ("", 1, 1),
];
/// Digits read of a number; more than any amount needs.
const DIGITS: usize = 24;

/// Thousandths of a core: `250m` is 250, `1.5` is 1500. `None` when it is no amount, negative, or too large.
#[must_use]
pub fn millicores(text: &str) -> Option<u64> {
    amount(text, 1000)
}

/// Bytes: `128Mi` is 134217728. `None` when it is no amount, negative, or too large.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    amount(text, 1)
}

/// Thousandths of a core as Kubernetes reads them.
#[must_use]
pub fn of_millicores(millicores: u64) -> String {
    if millicores.is_multiple_of(1000) { (millicores / 1000).to_string() } else { format!("{millicores}m") }
}

/// A number with a suffix times `scale`, rounded up.
fn amount(text: &str, scale: u128) -> Option<u64> {
    let (number, numerator, denominator) = SUFFIXES.iter().find_map(|(suffix, up, down)| Some((text.strip_suffix(suffix)?, *up, *down)))?;
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{}{fraction}", whole.strip_prefix('+').unwrap_or(whole));
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(shift.unsigned_abs())?;
    let (up, down) = if shift < 0 { (numerator, denominator.checked_mul(power)?) } else { (numerator.checked_mul(power)?, denominator) };
    let value = digits.parse::<u128>().ok()?.checked_mul(up)?.checked_mul(scale)?.div_ceil(down);
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Guarantees: the forms that API servers write are read exactly, and fractions of the unit round up.
    #[test]
    fn amounts_are_read() {
        for (text, cpu) in [
            ("250m", 250),
            ("1.5", 1500),
            ("2", 2000),
            ("100u", 1),
            ("1500000000n", 1500),
            ("1e-1", 100),
            ("0", 0),
            ("+1", 1000),
            (".5", 500),
        ] {
            assert_eq!(millicores(text), Some(cpu), "{text}");
        }
        for (text, memory) in [
            ("128Mi", 1 << 27),
            ("1G", 1_000_000_000),
            ("1e9", 1_000_000_000),
            ("1.5Gi", 1_610_612_736),
            ("134217728", 1 << 27),
            ("1500m", 2),
            ("64Ki", 65_536),
        ] {
            assert_eq!(bytes(text), Some(memory), "{text}");
        }
        for text in ["", "m", "-1", "1 Gi", "12GB", "inf", "nan", "0x10", "1..5", "1e999", "99999999999999999999E", "1e", "--1", "1.2.3"] {
            assert_eq!((bytes(text), millicores(text)), (None, None), "{text}");
        }
    }

    proptest! {
        /// Guarantees: what is written is read back the same, and no text makes the reader panic.
        #[test]
        fn written_amounts_are_read_back(value in 0_u64..10_u64.pow(15), text in "\\PC{0,30}") {
            prop_assert_eq!(millicores(&of_millicores(value)), Some(value));
            prop_assert_eq!(bytes(&value.to_string()), Some(value));
            let _ = (bytes(&text), millicores(&text));
        }
    }
}
