//! OTLP/JSON bodies, read the way protobuf's JSON mapping and the OTLP specification ask.
//!
//! The serde implementations of `opentelemetry-proto` refuse or silently lose what conformant senders write (empty
//! lists, `"NaN"`, enum names, `null`, snake_case names), so that this reader has its own visitors. It fills the same
//! structs as the protobuf reader; everything after it is shared.
//!
//! ```text
//! body ─▶ serde_json ─▶ Object<M> ─ each key ─▶ Message::field (messages) ─▶ scalars
//! ```
//!
//! Rules: names in lowerCamelCase or snake_case; unknown names skipped; `null` is an absent field; 64-bit integers as
//! number or string; enums as number or name; ids in hexadecimal, other bytes in base64; numbers may be `"NaN"`,
//! `"Infinity"`, `"-Infinity"`. Nesting is limited by serde_json to 128 levels. An id that is not hexadecimal spoils
//! its span, not the request.

mod messages;
mod scalars;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{DecodeError, Encoding};

/// A protobuf message that can be read from a JSON object.
pub(super) trait Message: Default {
    /// Reads the value of the field called `name` from `map`; says whether there is such a field. The value of an
    /// unknown field is left to the caller.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// A message read from an object, or from `null`.
struct Object<M>(Option<M>);

/// Messages read from a list, or from `null`.
struct List<M>(Vec<M>);

/// An object's key, borrowed where it holds no escapes.
struct Key<'de>(Cow<'de, str>);

/// Reads a whole request.
pub(super) fn read<M: Message>(body: &[u8]) -> Result<M, DecodeError> {
    let failed = |reason: String| DecodeError { encoding: Encoding::Json, reason };
    // A byte order mark is no JSON, and yet some tools write one.
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    // The lines of a body that has but one say nothing, and are not those of a capture that it is a line of.
    let told = |error: serde_json::Error| error.to_string().replace(" at line 1 column ", " at column ");
    let Object(message) = serde_json::from_slice(body).map_err(|error| failed(told(error)))?;
    message.ok_or_else(|| failed("the body is null, an object is needed".to_owned()))
}

fn message<'de, M: Message, A: MapAccess<'de>>(map: &mut A) -> Result<Option<M>, A::Error> {
    map.next_value::<Object<M>>().map(|object| object.0)
}

fn list<'de, M: Message, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<M>, A::Error> {
    map.next_value::<List<M>>().map(|list| list.0)
}

// === impl Object ===

impl<'de, M: Message> Deserialize<'de> for Object<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<M>(PhantomData<M>);

        impl<'de, M: Message> Visitor<'de> for ObjectVisitor<M> {
            type Value = Object<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Object(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut message = M::default();
                while let Some(Key(name)) = map.next_key()? {
                    if !message.field(&name, &mut map)? {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Object(Some(message)))
            }
        }

        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

// === impl List ===

impl<'de, M: Message> Deserialize<'de> for List<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<M>(PhantomData<M>);

        impl<'de, M: Message> Visitor<'de> for ListVisitor<M> {
            type Value = List<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(List(Vec::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut messages = Vec::new();
                while let Some(Object(message)) = items.next_element::<Object<M>>()? {
                    messages.push(message.unwrap_or_default());
                }
                Ok(List(messages))
            }
        }

        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

// === impl Key ===

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}
