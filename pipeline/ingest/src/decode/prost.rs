//! Protobuf bodies, read with the generated types of `opentelemetry-proto`: the plain decoder, and the oracle for a
//! faster one.

use ::prost::Message;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use tracescale_core::attributes::Value;

use super::{DecodeError, Encoding};

/// Reads a whole request. Unknown fields are skipped; strings must be UTF-8; nesting is limited to 100 messages.
pub(super) fn read<M: Message + Default>(body: &[u8]) -> Result<M, DecodeError> {
    M::decode(body).map_err(|error| DecodeError { encoding: Encoding::Protobuf, reason: error.to_string() })
}

/// Appends attributes in the raw form of [`tracescale_core::attributes`].
pub(super) fn encode_attributes(out: &mut Vec<u8>, attributes: &[KeyValue]) {
    for attribute in attributes {
        out.push(0x0A);
        // A vector grows, so that encoding into it cannot run out of room.
        let _ = attribute.encode_length_delimited(out);
    }
}

/// The value of an attribute when it is a scalar; lists, maps and bytes are only kept raw.
pub(super) fn scalar(attribute: &KeyValue) -> Value<'_> {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(AnyValue::StringValue(text)) => Value::Text(text),
        Some(AnyValue::BoolValue(value)) => Value::Bool(*value),
        Some(AnyValue::IntValue(value)) => Value::Integer(*value),
        Some(AnyValue::DoubleValue(value)) => Value::Double(*value),
        _ => Value::Empty,
    }
}
