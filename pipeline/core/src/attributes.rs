//! Attributes as raw bytes: what the `attributes` and `resource_attributes` columns hold.
//!
//! An item's attributes are kept as received, because re-shaping them per row would cost more than everything else
//! that ingest does, and because no other form keeps every type. The form is protobuf: for each attribute the tag
//! `0x0A`, the length, and the bytes of an OTLP `KeyValue` message, one after the other.
//!
//! ```text
//! 0A len [ 0A len key  12 len [ AnyValue ] ]   0A len [ … ]   …
//! ```
//!
//! That is the body of an OTLP `KeyValueList`, so a nested map reads like a list of attributes. Reading borrows and
//! never fails: bytes that are no attribute end the iteration, for the writer is ours and a reader in the middle of a
//! query has nobody to tell.

use std::borrow::Cow;
use std::fmt::Write as _;

const LENGTH_DELIMITED: u64 = 2;
/// Tag of every entry: field 1, length-delimited.
const ENTRY: u8 = 0x0A;
/// Maps and lists nested deeper than this are written as `null`; protobuf parsers refuse them far earlier.
const MAX_DEPTH: usize = 64;

/// One attribute value, borrowed from the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value was set, which OTLP allows.
    Empty,
    /// A string.
    Text(&'a str),
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Integer(i64),
    /// A floating point number.
    Double(f64),
    /// Opaque bytes; also a string that is not UTF-8.
    Bytes(&'a [u8]),
    /// A list of values.
    List(List<'a>),
    /// A nested map, in the same form as the attributes themselves.
    Map(Attributes<'a>),
}

/// A list value, undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a>(&'a [u8]);

/// The attributes of one item, undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a>(&'a [u8]);

/// Iterates over attributes in their order; ends at bytes that are no attribute.
#[derive(Clone, Debug)]
pub struct Entries<'a>(Fields<'a>);

/// Iterates over the values of a list.
#[derive(Clone, Debug)]
pub struct Items<'a>(Fields<'a>);

/// The fields of a protobuf message.
#[derive(Clone, Debug)]
struct Fields<'a>(&'a [u8]);

#[derive(Clone, Copy, Debug)]
enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The value of the first attribute named `key`.
#[must_use]
pub fn find<'a>(attributes: &'a [u8], key: &str) -> Option<Value<'a>> {
    Attributes(attributes).find(key)
}

/// The attributes in their order.
#[must_use]
pub const fn iter(attributes: &[u8]) -> Entries<'_> {
    Attributes(attributes).iter()
}

/// Appends one attribute.
pub fn push(attributes: &mut Vec<u8>, key: &str, value: Value<'_>) {
    let mut body = Vec::with_capacity(key.len() + 16);
    put_bytes(&mut body, ENTRY, key.as_bytes());
    let mut encoded = Vec::new();
    put_value(&mut encoded, value);
    put_bytes(&mut body, 0x12, &encoded);
    put_bytes(attributes, ENTRY, &body);
}

// === impl Value ===

impl<'a> Value<'a> {
    /// The value as SQL shows it: strings as they are, numbers in decimal, bytes in hexadecimal, lists and maps as
    /// JSON. `None` when there is no value.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match *self {
            Self::Empty => None,
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Bool(true) => Some(Cow::Borrowed("true")),
            Self::Bool(false) => Some(Cow::Borrowed("false")),
            Self::Integer(value) => Some(Cow::Owned(value.to_string())),
            Self::Double(value) => Some(Cow::Owned(decimal(value))),
            Self::Bytes(bytes) => Some(Cow::Owned(hex(bytes))),
            Self::List(_) | Self::Map(_) => {
                let mut json = String::new();
                self.write_json(&mut json, 0);
                Some(Cow::Owned(json))
            }
        }
    }

    /// The value as an integer: integers, whole doubles in range, and strings that hold an integer.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match *self {
            Self::Integer(value) => Some(value),
            Self::Double(value) => whole(value),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The value as a number: numbers, and strings that hold one.
    #[must_use]
    pub fn double(&self) -> Option<f64> {
        match *self {
            Self::Double(value) => Some(value),
            #[expect(clippy::cast_precision_loss, reason = "the caller asked for a double")]
            Self::Integer(value) => Some(value as f64),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn write_json(&self, out: &mut String, depth: usize) {
        if depth > MAX_DEPTH {
            out.push_str("null");
            return;
        }
        match *self {
            Self::Empty => out.push_str("null"),
            Self::Text(text) => write_json_string(out, text),
            Self::Bytes(bytes) => write_json_string(out, &hex(bytes)),
            Self::Double(value) if !value.is_finite() => write_json_string(out, &value.to_string()),
            Self::Bool(_) | Self::Integer(_) | Self::Double(_) => out.push_str(&self.text().unwrap_or_default()),
            Self::List(list) => {
                out.push('[');
                for (index, item) in list.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    item.write_json(out, depth + 1);
                }
                out.push(']');
            }
            Self::Map(map) => {
                out.push('{');
                for (index, (key, item)) in map.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    write_json_string(out, key);
                    out.push(':');
                    item.write_json(out, depth + 1);
                }
                out.push('}');
            }
        }
    }

    /// Reads the bytes of an `AnyValue`; the last field wins, as in protobuf.
    fn read(bytes: &'a [u8]) -> Self {
        let mut value = Self::Empty;
        for (field, payload) in Fields(bytes) {
            value = match (field, payload) {
                (1, Payload::Bytes(bytes)) => std::str::from_utf8(bytes).map_or(Self::Bytes(bytes), Self::Text),
                (2, Payload::Varint(raw)) => Self::Bool(raw != 0),
                (3, Payload::Varint(raw)) => Self::Integer(raw.cast_signed()),
                (4, Payload::Fixed64(raw)) => Self::Double(f64::from_bits(raw)),
                (5, Payload::Bytes(bytes)) => Self::List(List(bytes)),
                (6, Payload::Bytes(bytes)) => Self::Map(Attributes(bytes)),
                (7, Payload::Bytes(bytes)) => Self::Bytes(bytes),
                _ => value,
            };
        }
        value
    }
}

// === impl List ===

impl<'a> List<'a> {
    /// The values in their order.
    #[must_use]
    pub const fn iter(self) -> Items<'a> {
        Items(Fields(self.0))
    }
}

// === impl Attributes ===

impl<'a> Attributes<'a> {
    /// Reads `bytes` as attributes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The value of the first attribute named `key`.
    #[must_use]
    pub fn find(self, key: &str) -> Option<Value<'a>> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The attributes in their order.
    #[must_use]
    pub const fn iter(self) -> Entries<'a> {
        Entries(Fields(self.0))
    }

    /// The key of each attribute with the bytes of its whole entry, tag and length included: to sort or to filter
    /// attributes without reading their values.
    pub fn raw_entries(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut entries = self.iter();
        std::iter::from_fn(move || {
            let before = entries.0.0;
            let (key, _) = entries.next()?;
            let length = before.len() - entries.0.0.len();
            before.get(..length).map(|entry| (key, entry))
        })
    }
}

// === impl Entries ===

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (1, Payload::Bytes(entry)) = self.0.next()? {
                let (mut key, mut value) = ("", Value::Empty);
                for (field, payload) in Fields(entry) {
                    match (field, payload) {
                        (1, Payload::Bytes(bytes)) => key = std::str::from_utf8(bytes).unwrap_or_default(),
                        (2, Payload::Bytes(bytes)) => value = Value::read(bytes),
                        _ => {}
                    }
                }
                return Some((key, value));
            }
        }
    }
}

// === impl Items ===

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (1, Payload::Bytes(item)) = self.0.next()? {
                return Some(Value::read(item));
            }
        }
    }
}

// === impl Fields ===

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Payload<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.0;
        // Bytes that do not parse end the message for good.
        self.0 = &[];
        let tag = take_varint(&mut rest)?;
        let payload = match tag & 7 {
            0 => Payload::Varint(take_varint(&mut rest)?),
            1 => Payload::Fixed64(u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
            LENGTH_DELIMITED => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                Payload::Bytes(take(&mut rest, length)?)
            }
            5 => {
                take(&mut rest, 4)?;
                Payload::Fixed32
            }
            _ => return None,
        };
        self.0 = rest;
        Some((tag >> 3, payload))
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = rest.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Empty => {}
        Value::Text(text) => put_bytes(out, 0x0A, text.as_bytes()),
        Value::Bool(value) => out.extend_from_slice(&[0x10, u8::from(value)]),
        Value::Integer(value) => {
            out.push(0x18);
            put_varint(out, value.cast_unsigned());
        }
        Value::Double(value) => {
            out.push(0x21);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::List(list) => put_bytes(out, 0x2A, list.0),
        Value::Map(map) => put_bytes(out, 0x32, map.0),
        Value::Bytes(bytes) => put_bytes(out, 0x3A, bytes),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    (value.trunc().to_bits() == value.to_bits() && value.abs() <= LIMIT).then_some(value as i64)
}

/// A double in plain decimal where that is short, else with an exponent: at most 25 characters either way.
fn decimal(value: f64) -> String {
    if value == 0.0 || (1e-7..1e16).contains(&value.abs()) || !value.is_finite() { value.to_string() } else { format!("{value:e}") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write_json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Guarantees: every kind of value comes back as written, by name and in order.
    #[test]
    fn what_is_pushed_is_found() {
        let mut nested = Vec::new();
        push(&mut nested, "a\"b", Value::Integer(1));
        let mut bytes = Vec::new();
        let values = [
            ("text", Value::Text("grüße")),
            ("yes", Value::Bool(true)),
            ("int", Value::Integer(-7)),
            ("double", Value::Double(0.25)),
            ("bytes", Value::Bytes(&[0, 255])),
            ("map", Value::Map(Attributes::new(&nested))),
            ("none", Value::Empty),
        ];
        for (key, value) in values {
            push(&mut bytes, key, value);
        }
        assert_eq!(iter(&bytes).collect::<Vec<_>>(), values);
        assert_eq!(find(&bytes, "int"), Some(Value::Integer(-7)));
        assert_eq!(find(&bytes, "absent"), None);
        let texts: Vec<_> = iter(&bytes).map(|(_, value)| value.text().map(Cow::into_owned)).collect();
        let expected = [Some("grüße"), Some("true"), Some("-7"), Some("0.25"), Some("00ff"), Some(r#"{"a\"b":1}"#), None];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
    }

    /// Guarantees: numbers written as text or as a whole double still read as integers; others do not.
    #[test]
    fn integers_come_from_every_honest_form() {
        assert_eq!(Value::Text("503").integer(), Some(503));
        assert_eq!(Value::Double(200.0).integer(), Some(200));
        assert_eq!(Value::Double(200.5).integer(), None);
        assert_eq!(Value::Double(f64::NAN).integer(), None);
        assert_eq!(Value::Text("five").integer(), None);
        assert_eq!(Value::Integer(3).double(), Some(3.0));
        assert_eq!(Value::Double(-1e300).text().unwrap(), "-1e300");
        assert_eq!(Value::Double(5.0).text().unwrap(), "5");
        assert_eq!(Value::Double(0.0).text().unwrap(), "0");
    }

    /// Guarantees: unknown fields are skipped, and a value nested without end neither panics nor overflows the stack.
    #[test]
    fn deep_and_unknown_input_is_harmless() {
        let mut value = vec![0x18, 1];
        for _ in 0..200 {
            let mut list = Vec::new();
            put_bytes(&mut list, 0x0A, &value);
            value.clear();
            put_bytes(&mut value, 0x2A, &list);
        }
        let mut entry = vec![0x0A, 1, b'k', 0x1D, 0, 0, 0, 0, 0x20, 5];
        put_bytes(&mut entry, 0x12, &value);
        let mut bytes = Vec::new();
        put_bytes(&mut bytes, ENTRY, &entry);
        let text = find(&bytes, "k").and_then(|value| value.text()).unwrap();
        assert!(text.starts_with("[[[") && text.contains("null"), "{text}");
    }

    proptest! {
        /// Guarantees: no bytes make the reader panic or run for ever.
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for (key, value) in iter(&bytes) {
                let _ = (key.len(), value.text(), value.integer(), value.double());
            }
        }

        /// Guarantees: integers of every size survive, whatever stands before them.
        #[test]
        fn integers_survive(before in ".*", value in any::<i64>()) {
            let mut bytes = Vec::new();
            push(&mut bytes, "before", Value::Text(&before));
            push(&mut bytes, "value", Value::Integer(value));
            prop_assert_eq!(find(&bytes, "value"), Some(Value::Integer(value)));
        }
    }
}
