//! Scalar fields of OTLP/JSON: every form that protobuf's JSON mapping lets a sender choose.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

/// Any scalar; which conversions it allows depends on the field.
#[derive(Clone, Debug)]
enum Scalar<'de> {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Double(f64),
    Text(Cow<'de, str>),
}

/// Scalars read from a list, or from `null`.
struct Scalars<'de>(Vec<Scalar<'de>>);

/// Doubles at and above this do not name one integer.
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// A string.
pub(super) fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    optional_text(map).map(Option::unwrap_or_default)
}

pub(super) fn optional_text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<String>, A::Error> {
    match map.next_value()? {
        Scalar::Null => Ok(None),
        Scalar::Text(text) => Ok(Some(text.into_owned())),
        other => Err(other.unexpected("a string")),
    }
}

/// An id in hexadecimal. What is none becomes one byte, which no id has: the item is refused, not the request.
pub(super) fn hex<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<u8>, A::Error> {
    match map.next_value()? {
        Scalar::Null => Ok(Vec::new()),
        Scalar::Text(text) => Ok(parse_hex(&text).unwrap_or_else(|| vec![0])),
        other => Err(other.unexpected("an id in hexadecimal")),
    }
}

/// Bytes in base64, of either alphabet, padded or not.
pub(super) fn optional_base64<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Vec<u8>>, A::Error> {
    match map.next_value()? {
        Scalar::Null => Ok(None),
        Scalar::Text(text) => parse_base64(&text).map(Some).ok_or_else(|| Scalar::Text(text).unexpected("bytes in base64")),
        other => Err(other.unexpected("bytes in base64")),
    }
}

pub(super) fn optional_bool<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<bool>, A::Error> {
    match map.next_value()? {
        Scalar::Null => Ok(None),
        Scalar::Bool(value) => Ok(Some(value)),
        other => Err(other.unexpected("true or false")),
    }
}

pub(super) fn bool<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    optional_bool(map).map(Option::unwrap_or_default)
}

pub(super) fn optional_double<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<f64>, A::Error> {
    map.next_value::<Scalar<'_>>()?.double()
}

pub(super) fn double<'de, A: MapAccess<'de>>(map: &mut A) -> Result<f64, A::Error> {
    optional_double(map).map(Option::unwrap_or_default)
}

pub(super) fn doubles<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<f64>, A::Error> {
    let Scalars(items) = map.next_value()?;
    items.into_iter().map(|item| item.double().map(Option::unwrap_or_default)).collect()
}

/// An integer of any width and sign; out of range is an error.
pub(super) fn optional_integer<'de, T: TryFrom<i128>, A: MapAccess<'de>>(map: &mut A) -> Result<Option<T>, A::Error> {
    map.next_value::<Scalar<'_>>()?.integer()
}

pub(super) fn integer<'de, T: TryFrom<i128> + Default, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    optional_integer(map).map(Option::unwrap_or_default)
}

pub(super) fn integers<'de, T: TryFrom<i128> + Default, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<T>, A::Error> {
    let Scalars(items) = map.next_value()?;
    items.into_iter().map(|item| item.integer().map(Option::unwrap_or_default)).collect()
}

/// An enum value: its number, also in a string, or its name. A name this version does not know is the default, as
/// for every unknown field.
pub(super) fn enumeration<'de, A: MapAccess<'de>>(map: &mut A, by_name: impl Fn(&str) -> Option<i32>) -> Result<i32, A::Error> {
    match map.next_value()? {
        Scalar::Text(name) => Ok(by_name(&name).or_else(|| name.parse().ok()).unwrap_or_default()),
        number => number.integer().map(Option::unwrap_or_default),
    }
}

// === impl Scalar ===

impl Scalar<'_> {
    fn double<E: Error>(self) -> Result<Option<f64>, E> {
        #[expect(clippy::cast_precision_loss, reason = "the field is a double")]
        match &self {
            Self::Null => Ok(None),
            Self::Double(value) => Ok(Some(*value)),
            Self::Unsigned(value) => Ok(Some(*value as f64)),
            Self::Signed(value) => Ok(Some(*value as f64)),
            Self::Text(text) => match text.as_ref() {
                "NaN" => Ok(Some(f64::NAN)),
                "Infinity" => Ok(Some(f64::INFINITY)),
                "-Infinity" => Ok(Some(f64::NEG_INFINITY)),
                other => match other.parse::<f64>() {
                    Ok(value) if value.is_finite() => Ok(Some(value)),
                    _ => Err(self.unexpected("a number")),
                },
            },
            Self::Bool(_) => Err(self.unexpected("a number")),
        }
    }

    fn integer<T: TryFrom<i128>, E: Error>(self) -> Result<Option<T>, E> {
        let value = match &self {
            Self::Null => return Ok(None),
            Self::Unsigned(value) => Some(i128::from(*value)),
            Self::Signed(value) => Some(i128::from(*value)),
            Self::Double(value) => whole(*value),
            Self::Text(text) => text.parse().ok().or_else(|| text.parse().ok().and_then(whole)),
            Self::Bool(_) => None,
        };
        match value.and_then(|value| T::try_from(value).ok()) {
            Some(value) => Ok(Some(value)),
            None => Err(self.unexpected("an integer in range, as number or string")),
        }
    }

    fn unexpected<E: Error>(&self, expected: &str) -> E {
        let found = match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Unsigned(value) => Unexpected::Unsigned(*value),
            Self::Signed(value) => Unexpected::Signed(*value),
            Self::Double(value) => Unexpected::Float(*value),
            // Long values would drown the message.
            Self::Text(text) => Unexpected::Str(text.get(..64).unwrap_or(text)),
        };
        E::invalid_type(found, &expected)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Bool(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Unsigned(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Signed(value))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Double(value))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

// === impl Scalars ===

impl<'de> Deserialize<'de> for Scalars<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarsVisitor;

        impl<'de> Visitor<'de> for ScalarsVisitor {
            type Value = Scalars<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Scalars(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut scalars = Vec::new();
                while let Some(item) = items.next_element()? {
                    scalars.push(item);
                }
                Ok(Scalars(scalars))
            }
        }

        deserializer.deserialize_any(ScalarsVisitor)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn whole(value: f64) -> Option<i128> {
    (value.fract().abs() == 0.0 && value.abs() < TWO_TO_64).then_some(value as i128)
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn parse_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    let digits = text.trim_end_matches('=');
    if digits.len() % 4 == 1 || text.len() - digits.len() > 2 {
        return None;
    }
    for byte in digits.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(digit)) & 0xFFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: ids are read in either case; odd or foreign characters are no id.
    #[test]
    fn hex_is_strict() {
        assert_eq!(parse_hex("00fFa1"), Some(vec![0, 255, 0xA1]));
        assert_eq!(parse_hex(""), Some(vec![]));
        assert_eq!(parse_hex("abc"), None);
        assert_eq!(parse_hex("+1"), None);
        assert_eq!(parse_hex("é"), None);
    }

    /// Guarantees: both base64 alphabets and a missing padding are read; rubbish is not.
    #[test]
    fn base64_is_lenient_about_its_alphabet_only() {
        assert_eq!(parse_base64("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(parse_base64("aGVsbG8"), Some(b"hello".to_vec()));
        assert_eq!(parse_base64("-_-_"), Some(vec![0xFB, 0xFF, 0xBF]));
        assert_eq!(parse_base64("+/+/"), Some(vec![0xFB, 0xFF, 0xBF]));
        assert_eq!(parse_base64(""), Some(vec![]));
        assert_eq!(parse_base64("a"), None);
        assert_eq!(parse_base64("a b="), None);
        assert_eq!(parse_base64("===="), None);
    }

    /// Guarantees: integers come from numbers, strings and whole doubles, and never wrap.
    #[test]
    fn integers_are_checked() {
        type Failure = serde_json::Error;
        let text = |text: &'static str| Scalar::Text(Cow::Borrowed(text));
        assert_eq!(text("-9223372036854775808").integer::<i64, Failure>().unwrap(), Some(i64::MIN));
        assert_eq!(text("18446744073709551615").integer::<u64, Failure>().unwrap(), Some(u64::MAX));
        assert_eq!(text("1e3").integer::<u32, Failure>().unwrap(), Some(1000));
        assert_eq!(Scalar::Double(5.0).integer::<u64, Failure>().unwrap(), Some(5));
        assert!(Scalar::Signed(-1).integer::<u64, Failure>().is_err());
        assert!(Scalar::Double(0.5).integer::<u64, Failure>().is_err());
        assert!(Scalar::Double(f64::NAN).integer::<u64, Failure>().is_err());
        assert!(text("18446744073709551616").integer::<u64, Failure>().is_err());
    }
}
