//! Quantities as Kubernetes writes them: `500m`, `1.5`, `2Gi`, `1e3`.

/// Units and what they multiply with. Those of two letters come first, so that `Mi` is not read as `M`.
const UNITS: [(&str, f64); 16] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("", 1.0),
];

/// Reads a quantity; `None` when it is not one. The format is that of `k8s.io/apimachinery/pkg/api/resource`.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    let is_number = number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        && number.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    // `500m` is half exactly: dividing rounds once, where multiplying with 0.001 rounds twice.
    let scaled = |value: f64| if *unit < 1.0 { value / (1.0 / unit).round() } else { value * unit };
    number.parse().ok().filter(|_| is_number).map(scaled).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: every unit is read, `m` is a thousandth and `M` a million, and nothing else passes for a number.
    #[test]
    fn quantities_are_read() {
        for (text, value) in [
            ("500m", 0.5),
            ("1.5", 1.5),
            ("2Gi", 2_147_483_648.0),
            ("500Mi", 524_288_000.0),
            ("3M", 3e6),
            ("1e3", 1000.0),
            ("10k", 1e4),
            ("7", 7.0),
            ("-1", -1.0),
            ("250u", 0.000_25),
        ] {
            let read = parse(text).unwrap();
            assert!((read - value).abs() <= 1e-12 * value.abs(), "{text}: {read}");
        }
        for text in ["", "m", "Gi", "12GB", "inf", "nan", "1 Gi", "1e999", "0x10", "five", "E", "--1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
