//! One request body from one encoding to the other, for captures, whose format is chosen by who records and not by
//! who sends.

use std::borrow::Cow;

use ::prost::Message;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde::Serialize;

use super::{DecodeError, Encoding, Signal, json, prost};

/// The body in protobuf; as it is when it is protobuf already.
///
/// # Errors
/// When a JSON body cannot be read.
pub fn to_protobuf(signal: Signal, encoding: Encoding, body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    Ok(match (encoding, signal) {
        (Encoding::Protobuf, _) => Cow::Borrowed(body),
        (Encoding::Json, Signal::Traces) => Cow::Owned(json::read::<ExportTraceServiceRequest>(body)?.encode_to_vec()),
        (Encoding::Json, Signal::Metrics) => Cow::Owned(json::read::<ExportMetricsServiceRequest>(body)?.encode_to_vec()),
        (Encoding::Json, Signal::Logs) => Cow::Owned(json::read::<ExportLogsServiceRequest>(body)?.encode_to_vec()),
    })
}

/// The body in OTLP/JSON; as it is when it is JSON already.
///
/// # Errors
/// When a protobuf body cannot be read, or when JSON would lose a part of it (a NaN in a metric point, for one).
pub fn to_json(signal: Signal, encoding: Encoding, body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    Ok(match (encoding, signal) {
        (Encoding::Json, _) => Cow::Borrowed(body),
        (Encoding::Protobuf, Signal::Traces) => Cow::Owned(write::<ExportTraceServiceRequest>(body)?),
        (Encoding::Protobuf, Signal::Metrics) => Cow::Owned(write::<ExportMetricsServiceRequest>(body)?),
        (Encoding::Protobuf, Signal::Logs) => Cow::Owned(write::<ExportLogsServiceRequest>(body)?),
    })
}

/// Writes with the serde implementations of `opentelemetry-proto`, which lose some values silently: what was written is
/// read back and compared, so that a capture is whole or refused.
fn write<M: Message + json::Message + Serialize>(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let failed = |reason: String| DecodeError { encoding: Encoding::Protobuf, reason };
    let message: M = prost::read(body)?;
    let written = serde_json::to_vec(&message).map_err(|error| failed(error.to_string()))?;
    if json::read::<M>(&written)?.encode_to_vec() == message.encode_to_vec() {
        Ok(written)
    } else {
        Err(failed("the request holds values that its JSON form would lose; record in protobuf".to_owned()))
    }
}
