//! OTLP/gRPC: three unary methods, answered on the HTTP/2 stream itself.
//!
//! tonic's server would buffer the message before we see it, copy it once more, and answer an oversized one with
//! `OUT_OF_RANGE`, which makes exporters send it again for ever. A unary call is little more than a five-byte prefix, so it
//! is read here and the body goes to the decoder as it is. Health checking is tonic's own service.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::admission::Source;
use crate::decode::{Encoding, Signal};
use crate::decompress::{ACCEPTED, Compression};
use crate::export::{Call, Context, export};
use crate::health::Health;
use crate::stats::{Protocol, Refusal};
use crate::status::{Accepted, Refused};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Whether a content type means gRPC with protobuf messages. Other message formats (`application/grpc+json`) and gRPC-Web are not spoken.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(b"application/grpc") || essence.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// Answers one call.
pub(crate) async fn handle(context: &Context, source: Source, request: Request<Incoming>) -> Response<Body> {
    if Health::serves(request.uri().path()) {
        return context.health.call(request).await;
    }
    match call(context, source, request).await {
        Ok(accepted) => accepted_response(&accepted),
        Err(refused) => {
            context.stats.record_refused(refused.reason);
            tracing::debug!(reason = refused.reason.as_str(), message = %refused.message, %source, "grpc request refused");
            let mut response = refused.to_status(context.config.retry_after).into_http();
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
            response
        }
    }
}

async fn call(context: &Context, source: Source, request: Request<Incoming>) -> Result<Accepted, Refused> {
    let received_at = (context.clock)();
    let (head, mut body) = request.into_parts();
    let signal = match head.uri.path() {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Signal::Traces,
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Signal::Metrics,
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Signal::Logs,
        other => return Err(Refused::new(Refusal::UnknownPath, format!("no such method: {other}"))),
    };
    if !context.tokens.allow(&head.headers) {
        return Err(Refused::new(Refusal::Unauthenticated, "expected an accepted token as `authorization: Bearer …`"));
    }
    let compression = Compression::parse(head.headers.get(ENCODING))?;
    let call = Call { signal, protocol: Protocol::Grpc, encoding: Encoding::Protobuf, compression, source, received_at };
    export(context, call, &mut body).await
}

fn accepted_response(accepted: &Accepted) -> Response<Body> {
    // The partial-success message is the same on the wire for every signal.
    let message = accepted.to_body(Signal::Traces, Encoding::Protobuf);
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let body = Full::<Bytes>::new(frame.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    response
}
