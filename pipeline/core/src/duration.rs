//! Lengths of time as people write them in documents: `5s`, `1h30m`, `250ms`, `7d`. No bare numbers: a unit is never guessed.

use std::fmt::Write as _;
use std::time::Duration;

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("a duration cannot be empty")]
    Empty,
    /// A number without a unit.
    #[error("a duration needs a unit (ms, s, m, h, d)")]
    NoUnit,
    /// Not a number where one is needed.
    #[error("a duration is numbers with units, such as 5m or 1h30m")]
    Syntax,
    /// A unit that is not known.
    #[error("unknown unit {0:?}; units are ms, s, m, h, d")]
    Unit(String),
    /// Units must go from large to small, each at most once.
    #[error("units go from large to small, each once, such as 1h30m")]
    Order,
    /// More than the clock can count.
    #[error("the duration is too long")]
    TooLong,
}

/// The units, largest first, in nanoseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000)];

/// Parses `5s`, `1h30m`, `1.5s`, `250ms`, `0s`.
///
/// # Errors
/// When the text has no unit, an unknown one, units out of order, or is too long for 64-bit nanoseconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut total: u64 = 0;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(DurationError::Syntax);
        }
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if unit.is_empty() {
            return Err(if tail.is_empty() { DurationError::NoUnit } else { DurationError::Syntax });
        }
        let index = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(|| DurationError::Unit(unit.to_owned()))?;
        if index < next_unit {
            return Err(DurationError::Order);
        }
        next_unit = index + 1;
        total = total.checked_add(scaled(number, UNITS[index].1)?).ok_or(DurationError::TooLong)?;
        rest = tail;
    }
    if i64::try_from(total).is_err() {
        return Err(DurationError::TooLong);
    }
    Ok(Duration::from_nanos(total))
}

/// A decimal number of units in nanoseconds, in whole-number arithmetic so that `0.1s` is exact.
fn scaled(number: &str, unit: u64) -> Result<u64, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(DurationError::Syntax);
    }
    let whole: u64 = whole.parse().map_err(|_| DurationError::TooLong)?;
    let mut total = whole.checked_mul(unit).ok_or(DurationError::TooLong)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(u64::from(digit - b'0') * place).ok_or(DurationError::TooLong)?;
    }
    Ok(total)
}

/// Writes a duration in the form that [`parse`] reads, `1h30m` for 5400 s. Below a millisecond it is rounded down.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, size) in UNITS {
        if rest >= size {
            let _ = write!(text, "{}{name}", rest / size);
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `#[serde(with = "duration::text")]`: a duration as text.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the text form.
    ///
    /// # Errors
    /// When the serializer fails.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format(*duration))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// When it is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        super::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// `#[serde(with = "duration::option")]`: an optional duration as text.
pub mod option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the text form or nothing.
    ///
    /// # Errors
    /// When the serializer fails.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&super::format(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the text form or nothing.
    ///
    /// # Errors
    /// When there is something that is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| super::parse(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Guarantees: the forms that the documentation names parse exactly, and mistakes name their cause.
    #[test]
    fn durations_parse() {
        assert_eq!(parse("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("0.1s"), Ok(Duration::from_millis(100)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("5"), Err(DurationError::NoUnit));
        assert_eq!(parse(""), Err(DurationError::Empty));
        assert_eq!(parse("5min"), Err(DurationError::Unit("min".into())));
        assert_eq!(parse("30m1h"), Err(DurationError::Order));
        assert_eq!(parse("-5s"), Err(DurationError::Syntax));
        assert_eq!(parse("1..5s"), Err(DurationError::Syntax));
        assert_eq!(parse("99999999999999999999d"), Err(DurationError::TooLong));
        assert_eq!(parse("5 m"), Err(DurationError::Syntax));
    }

    proptest! {
        /// Guarantees: what is written is read back the same, at millisecond grain.
        #[test]
        fn format_and_parse_agree(millis in 0_u64..10_u64.pow(12)) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        /// Guarantees: no text makes the parser panic.
        #[test]
        fn parse_never_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
