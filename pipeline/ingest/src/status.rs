//! What a client is told: one table from the reason of a refusal to gRPC and HTTP, and the messages of both answers.
//!
//! OTLP clients decide by the code alone whether to send again, so a wrong code loses data or repeats a hopeless request
//! for ever. `RESOURCE_EXHAUSTED` is retryable only with `RetryInfo`; `OUT_OF_RANGE` and `DEADLINE_EXCEEDED` always are.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::decode::{Encoding, Signal};
use crate::stats::Refusal;

/// A request that was not accepted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Refusal,
    pub(crate) message: Cow<'static, str>,
}

/// A request that was accepted, and how much of it.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    pub(crate) rejected: u64,
    pub(crate) reason: String,
}

// === impl Refused ===

impl Refused {
    pub(crate) fn new(reason: Refusal, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(crate) const fn code(&self) -> Code {
        match self.reason {
            Refusal::QueueFull | Refusal::Concurrency | Refusal::Draining | Refusal::NotKept => Code::Unavailable,
            Refusal::Stalled => Code::DeadlineExceeded,
            Refusal::TooLarge => Code::ResourceExhausted,
            Refusal::Malformed | Refusal::UnsupportedMediaType => Code::InvalidArgument,
            Refusal::Unauthenticated => Code::Unauthenticated,
            Refusal::UnsupportedCompression | Refusal::UnknownPath | Refusal::WrongMethod => Code::Unimplemented,
            Refusal::Aborted => Code::Cancelled,
            Refusal::Internal => Code::Internal,
        }
    }

    pub(crate) const fn http(&self) -> StatusCode {
        match self.reason {
            // 408 would be the name for a stalled body, but OTLP clients drop what a 408 answers; the data is still good.
            Refusal::QueueFull | Refusal::Draining | Refusal::Stalled | Refusal::NotKept => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Concurrency => StatusCode::TOO_MANY_REQUESTS,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Malformed | Refusal::Aborted => StatusCode::BAD_REQUEST,
            Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
            Refusal::UnsupportedCompression | Refusal::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::UnknownPath => StatusCode::NOT_FOUND,
            Refusal::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// As a gRPC status; `retry_after` becomes `RetryInfo` when sending again can help.
    pub(crate) fn to_status(&self, retry_after: Duration) -> Status {
        if self.reason.is_retryable() {
            Status::with_error_details(self.code(), &*self.message, ErrorDetails::with_retry_info(Some(retry_after)))
        } else {
            Status::new(self.code(), &*self.message)
        }
    }

    /// As the `google.rpc.Status` message that OTLP/HTTP wants in the body, in the encoding of the request.
    pub(crate) fn to_body(&self, encoding: Encoding, retry_after: Duration) -> Bytes {
        match encoding {
            Encoding::Protobuf => {
                let status = self.to_status(retry_after);
                // With details, tonic has already put the whole message there.
                if status.details().is_empty() {
                    let code = self.code() as i32;
                    tonic_types::Status { code, message: self.message.to_string(), details: Vec::new() }.encode_to_vec().into()
                } else {
                    Bytes::copy_from_slice(status.details())
                }
            }
            Encoding::Json => {
                let mut body = json!({ "code": self.code() as i32, "message": &*self.message });
                if self.reason.is_retryable() {
                    let delay = format!("{}s", retry_after.as_secs_f64());
                    body["details"] = json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay }]);
                }
                body.to_string().into()
            }
        }
    }
}

// === impl Accepted ===

impl Accepted {
    /// As an `Export…ServiceResponse`. A fully accepted request is answered with the empty message.
    pub(crate) fn to_body(&self, signal: Signal, encoding: Encoding) -> Bytes {
        if self.rejected == 0 {
            return match encoding {
                Encoding::Protobuf => Bytes::new(),
                Encoding::Json => Bytes::from_static(b"{}"),
            };
        }
        match encoding {
            Encoding::Protobuf => {
                // The three responses differ in the names of their fields alone; on the wire they are one message.
                let rejected_spans = i64::try_from(self.rejected).unwrap_or(i64::MAX);
                let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: self.reason.clone() });
                ExportTraceServiceResponse { partial_success }.encode_to_vec().into()
            }
            Encoding::Json => {
                let field = match signal {
                    Signal::Traces => "rejectedSpans",
                    Signal::Metrics => "rejectedDataPoints",
                    Signal::Logs => "rejectedLogRecords",
                };
                // 64-bit integers are strings in protobuf's JSON form.
                json!({ "partialSuccess": { field: self.rejected.to_string(), "errorMessage": &self.reason } }).to_string().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes that the OTLP specification lets a client send again.
    fn otlp_retries(status: &Status) -> bool {
        match status.code() {
            Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss => true,
            Code::ResourceExhausted => status.get_details_retry_info().is_some(),
            _ => false,
        }
    }

    /// Guarantees: what we call retryable is retryable by the specification in both protocols, and nothing else is
    /// (an aborted request has no reader, so its code does not matter).
    #[test]
    fn codes_agree_with_the_specification() {
        let retry_after = Duration::from_millis(1_500);
        for reason in Refusal::ALL.into_iter().filter(|reason| *reason != Refusal::Aborted) {
            let refused = Refused::new(reason, "why");
            let status = refused.to_status(retry_after);
            assert_eq!(otlp_retries(&status), reason.is_retryable(), "{reason:?}");
            assert_eq!(matches!(refused.http().as_u16(), 429 | 502 | 503 | 504), reason.is_retryable(), "{reason:?}");
            let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!(delay, reason.is_retryable().then_some(retry_after), "{reason:?}");
        }
    }

    /// Guarantees: the HTTP body is one google.rpc.Status in either encoding, with the delay when there is one.
    #[test]
    fn http_bodies_are_status_messages() {
        for reason in [Refusal::QueueFull, Refusal::Malformed] {
            let refused = Refused::new(reason, "why");
            let proto = tonic_types::Status::decode(refused.to_body(Encoding::Protobuf, Duration::from_secs(2))).unwrap();
            assert_eq!((proto.code, proto.message.as_str()), (refused.code() as i32, "why"));
            assert_eq!(proto.details.len(), usize::from(reason.is_retryable()));
            let json: serde_json::Value = serde_json::from_slice(&refused.to_body(Encoding::Json, Duration::from_secs(2))).unwrap();
            assert_eq!((json["code"].as_i64(), json["message"].as_str()), (Some(refused.code() as i64), Some("why")));
            assert_eq!(json["details"][0]["retryDelay"].as_str(), reason.is_retryable().then_some("2s"));
        }
    }
}
