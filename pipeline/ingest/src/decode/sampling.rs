//! How many real items a sampled span stands for: read from `tracestate`, or as declared where that says nothing.
//!
//! OpenTelemetry's consistent probability sampling writes `ot=th:<hex>`: of 2^56 equally likely random values, those
//! below the threshold were dropped. Its experimental predecessor wrote `ot=p:<n>`, a probability of 2^-n. Most samplers of
//! SDKs write neither, and one that judges whole traces afterwards erases what was there: nobody but the operator knows then.

use std::collections::BTreeMap;

/// 2^56: thresholds are 56-bit fractions.
const RANGE: u64 = 1 << 56;
const THRESHOLD_DIGITS: usize = 14;
/// The largest adjusted count a span may carry. One forged `tracestate` would otherwise outweigh all other traffic.
pub const MAX_ADJUSTED_COUNT: f64 = 1e6;

/// What is known of a span's sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// How many spans this one stands for; 1 when unknown.
    pub adjusted_count: f64,
    /// Whether the sampling probability was stated or declared.
    pub known: bool,
    /// Whether the count exceeded [`MAX_ADJUSTED_COUNT`].
    pub clipped: bool,
}

/// The probability with which spans were kept whose `tracestate` does not say it, as the operator declares it. By default
/// nothing is declared, and each counts as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    elsewhere: Option<Sampling>,
    services: BTreeMap<String, Sampling>,
}

// === impl Sampling ===

impl Sampling {
    pub(super) const UNKNOWN: Self = Self { adjusted_count: 1.0, known: false, clipped: false };

    /// Reads a W3C `tracestate`. A threshold wins over the older form; what is malformed counts as unstated.
    #[must_use]
    pub fn from_trace_state(trace_state: &str) -> Self {
        let Some(state) = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot=")) else {
            return Self::UNKNOWN;
        };
        let field = |name| state.split(';').find_map(|field| field.split_once(':').filter(|(key, _)| *key == name));
        let count = field("th").and_then(|(_, digits)| threshold(digits)).or_else(|| field("p").and_then(|(_, n)| power(n)));
        count.map_or(Self::UNKNOWN, Self::known)
    }

    fn known(count: f64) -> Self {
        Self { adjusted_count: count.min(MAX_ADJUSTED_COUNT), known: true, clipped: count > MAX_ADJUSTED_COUNT }
    }
}

// === impl Declared ===

impl Declared {
    /// Probabilities of some services, and one for all others, which says nothing when it is 1. A probability that is not above
    /// 0 and at most 1 is left out.
    #[must_use]
    pub fn new(probability: f64, services: impl IntoIterator<Item = (String, f64)>) -> Self {
        let services = services.into_iter().filter_map(|(service, probability)| Some((service, kept_with(probability)?)));
        Self { elsewhere: kept_with(probability).filter(|_| probability < 1.0), services: services.collect() }
    }

    /// What holds for spans of a service that do not state it.
    pub(super) fn of(&self, service: &[u8]) -> Sampling {
        let own = if self.services.is_empty() { None } else { std::str::from_utf8(service).ok().and_then(|name| self.services.get(name)) };
        own.copied().or(self.elsewhere).unwrap_or(Sampling::UNKNOWN)
    }
}

fn kept_with(probability: f64) -> Option<Sampling> {
    (probability > 0.0 && probability <= 1.0).then(|| Sampling::known(1.0 / probability))
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

    /// Guarantees: a service's own probability wins over that of all, one says nothing for all and is known for a service, what is
    /// no probability is left out, and a tiny one is clipped and says so.
    #[test]
    fn what_is_declared_holds_for_its_services() {
        let of = |probability, service: &str| {
            let services = [("cart", 0.1), ("pay", 1.0), ("bad", 0.0), ("worse", f64::NAN), ("rare", 1e-9)];
            Declared::new(probability, services.map(|(service, probability)| (service.to_owned(), probability))).of(service.as_bytes())
        };
        assert_eq!(of(1.0, "cart"), Sampling::known(10.0));
        assert_eq!(of(0.5, "cart"), Sampling::known(10.0));
        assert_eq!(of(0.5, "pay"), Sampling { adjusted_count: 1.0, known: true, clipped: false });
        assert_eq!((of(0.5, "web"), of(1.0, "web")), (Sampling::known(2.0), Sampling::UNKNOWN));
        assert_eq!((of(0.5, "bad"), of(-1.0, "worse"), of(1.5, "web")), (Sampling::known(2.0), Sampling::UNKNOWN, Sampling::UNKNOWN));
        assert_eq!(of(1.0, "rare"), Sampling { adjusted_count: MAX_ADJUSTED_COUNT, known: true, clipped: true });
        assert_eq!(Declared::default(), Declared::new(1.0, []));
        assert_eq!(Declared::default().of(b"cart"), Sampling::UNKNOWN);
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
