//! Numbers and names as people read them.

use tracescale_core::time::Timestamp;

/// What stands for a number that is not known.
pub(super) const MISSING: &str = "–";

/// An amount with about three digits and at most six characters: `0`, `0.25`, `12.5`, `1234`, `123k`.
pub(super) fn amount(value: f64) -> String {
    if !value.is_finite() {
        return MISSING.to_owned();
    }
    let size = value.abs();
    match size {
        _ if size < 5e-3 => (if size > 0.0 { "<0.01" } else { "0" }).to_owned(),
        _ if size < 9.995 => trimmed(format!("{value:.2}")),
        _ if size < 99.95 => trimmed(format!("{value:.1}")),
        _ if size < 99_999.5 => format!("{value:.0}"),
        _ if size < 999_500.0 => format!("{:.0}k", value / 1e3),
        _ if size < 99e9 => amount(value / 1e6) + "M",
        _ => format!("{value:.0e}"),
    }
}

/// A share as a number of hundredths, without the sign.
pub(super) fn percent(share: f64) -> String {
    amount(share * 100.0)
}

/// Seconds with a unit: `4.5ms`, `250ms`, `1.25s`.
pub(super) fn latency(seconds: f64) -> String {
    match seconds {
        _ if !seconds.is_finite() => MISSING.to_owned(),
        _ if seconds < 0.9995 => amount(seconds * 1e3) + "ms",
        _ => amount(seconds) + "s",
    }
}

/// A change relative to a base: `+12%`, `×3.5` when it is much more; `None` when there is nothing to relate it to.
pub(super) fn change(base: f64, value: f64) -> Option<String> {
    let ratio = value / base;
    match ratio {
        _ if !ratio.is_finite() || base <= 0.0 => None,
        _ if (ratio - 1.0).abs() < 5e-3 => Some("±0%".to_owned()),
        _ if ratio < 3.0 => Some(format!("{:+.0}%", (ratio - 1.0) * 100.0)),
        _ => Some(format!("×{}", amount(ratio))),
    }
}

/// A time to the minute, in UTC.
pub(super) fn minute(time: Timestamp) -> String {
    time.to_utc().format("%Y-%m-%d %H:%M").to_string()
}

/// A length of time in its two largest units: `1 d 6 h`, `30 min`, `15 s`.
pub(super) fn length(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    let units = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let parts = units.iter().skip_while(|(count, _)| *count == 0).take(2).filter(|(count, _)| *count > 0);
    let text: Vec<String> = parts.map(|(count, unit)| format!("{count} {unit}")).collect();
    if text.is_empty() { format!("{} ms", time.as_millis()) } else { text.join(" ") }
}

/// A promise: `99 % within 250ms`.
pub(super) fn objective(objective: &crate::world::Objective) -> String {
    format!("{} % within {}", trimmed(format!("{:.3}", objective.quantile * 100.0)), latency(objective.latency))
}

/// A name in one line of at most so many characters.
pub(super) fn shortened(name: &str, most: usize) -> String {
    let line = |letter: char| if letter.is_control() { ' ' } else { letter };
    if name.chars().count() <= most {
        return name.chars().map(line).collect();
    }
    name.chars().map(line).take(most.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ if letter.is_control() => out.push(' '),
            _ => out.push(letter),
        }
    }
    out
}

/// A decimal number without zeros at its end.
fn trimmed(number: String) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Guarantees: about three digits, never more than six characters, a dash for what is no number.
    #[test]
    fn amounts() {
        let cases = [
            (0.0, "0"),
            (0.001, "<0.01"),
            (0.25, "0.25"),
            (9.999, "10"),
            (12.34, "12.3"),
            (99.96, "100"),
            (12_345.0, "12345"),
            (123_456.0, "123k"),
            (999_499.0, "999k"),
            (999_999.0, "1M"),
            (1_234_567.0, "1.23M"),
            (123_400_000.0, "123M"),
            (5e12, "5e12"),
            (f64::NAN, "–"),
            (f64::INFINITY, "–"),
        ];
        for (value, expected) in cases {
            assert_eq!(amount(value), expected);
            assert!(amount(value).chars().count() <= 6);
        }
        assert_eq!([0.0045, 0.25, 0.9999, 12.0].map(latency), ["4.5ms", "250ms", "1s", "12s"]);
        assert_eq!(latency(f64::NAN), "–");
    }

    /// Guarantees: changes are signed, large ones factors, and nothing is related to nothing.
    #[test]
    fn changes() {
        let found = [(100.0, 88.0), (2.0, 2.0), (1.0, 2.5), (10.0, 45.0)].map(|(base, value)| change(base, value));
        assert_eq!(found.map(Option::unwrap), ["-12%", "±0%", "+150%", "×4.5"]);
        assert_eq!((change(0.0, 1.0), change(1.0, f64::NAN)), (None, None));
    }

    /// Guarantees: lengths of time have two units at most, names fit, markup is text.
    #[test]
    fn words() {
        let lengths = [86_400 + 6 * 3600 + 60, 1800, 15, 3605].map(|seconds| length(Duration::from_secs(seconds)));
        assert_eq!(lengths, ["1 d 6 h", "30 min", "15 s", "1 h"]);
        assert_eq!(length(Duration::from_millis(500)), "500 ms");
        assert_eq!((shortened("abc\ndef", 5).as_str(), shortened("é\tü", 3).as_str()), ("abc …", "é ü"));
        assert_eq!(escaped("<a href='x'>&\"\u{0}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot; ");
        assert_eq!(objective(&crate::world::Objective { latency: 0.5, quantile: 0.999 }), "99.9 % within 500ms");
    }
}
