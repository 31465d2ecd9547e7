//! OTLP/HTTP: three paths, protobuf or JSON, answered in the encoding of the request. Routes gRPC and the probes too,
//! so that either port answers either protocol.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::admission::Source;
use crate::decode::{Encoding, Signal};
use crate::decompress::Compression;
use crate::export::{Call, Context, export};
use crate::stats::{Protocol, Refusal};
use crate::status::Refused;
use crate::{grpc, health};

/// What is read of a refused body and thrown away, so that an HTTP/1.1 client gets to see the answer instead of a reset.
const LINGER_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// Answers one request of either protocol.
pub(crate) async fn handle(context: &Context, source: Source, request: Request<Incoming>) -> Response<Body> {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if grpc::is_grpc(content_type) {
        if request.version() == Version::HTTP_2 {
            return grpc::handle(context, source, request).await;
        }
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
        return response;
    }
    let encoding = encoding(content_type);
    let signal = match request.uri().path() {
        "/v1/traces" => Signal::Traces,
        "/v1/metrics" => Signal::Metrics,
        "/v1/logs" => Signal::Logs,
        "/healthz" => return health::probe(true),
        "/readyz" => return health::probe(context.admission.is_ready()),
        other => {
            let refused =
                Refused::new(Refusal::UnknownPath, format!("no such path: {other}; OTLP is at /v1/traces, /v1/metrics and /v1/logs"));
            return refuse(context, source, encoding, request.version(), request.into_body(), &refused).await;
        }
    };
    let version = request.version();
    let (head, mut body) = request.into_parts();
    let call = async {
        let received_at = (context.clock)();
        if head.method != Method::POST {
            return Err(Refused::new(Refusal::WrongMethod, "OTLP requests are sent with POST"));
        }
        if !context.tokens.allow(&head.headers) {
            return Err(Refused::new(Refusal::Unauthenticated, "expected an accepted token as `authorization: Bearer …`"));
        }
        let encoding = encoding.ok_or_else(|| {
            Refused::new(Refusal::UnsupportedMediaType, "expected content-type application/x-protobuf or application/json")
        })?;
        let compression = Compression::parse(head.headers.get(CONTENT_ENCODING))?;
        let call = Call { signal, protocol: Protocol::Http, encoding, compression, source, received_at };
        let accepted = export(context, call, &mut body).await?;
        Ok(answer(StatusCode::OK, encoding, accepted.to_body(signal, encoding)))
    };
    match call.await {
        Ok(response) => response,
        Err(refused) => refuse(context, source, encoding, version, body, &refused).await,
    }
}

/// The encoding that a content type names.
fn encoding(content_type: &[u8]) -> Option<Encoding> {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/x-protobuf") {
        Some(Encoding::Protobuf)
    } else if essence.eq_ignore_ascii_case(b"application/json") {
        Some(Encoding::Json)
    } else {
        None
    }
}

fn answer(status: StatusCode, encoding: Encoding, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(body)));
    *response.status_mut() = status;
    let content_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A client that named no encoding we know gets JSON, which people can read.
async fn refuse(
    context: &Context,
    source: Source,
    encoding: Option<Encoding>,
    version: Version,
    body: Incoming,
    refused: &Refused,
) -> Response<Body> {
    context.stats.record_refused(refused.reason);
    tracing::debug!(reason = refused.reason.as_str(), message = %refused.message, %source, "http request refused");
    let encoding = encoding.unwrap_or(Encoding::Json);
    let retry_after = context.config.retry_after;
    let mut response = answer(refused.http(), encoding, refused.to_body(encoding, retry_after));
    let headers = response.headers_mut();
    if refused.reason.is_retryable() {
        // Whole seconds, rounded up: nobody should come back too early.
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, seconds.into());
    }
    match refused.reason {
        Refusal::Unauthenticated => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tracescale\""))),
        Refusal::WrongMethod => drop(headers.insert(ALLOW, HeaderValue::from_static("POST"))),
        Refusal::UnsupportedCompression => drop(headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"))),
        _ => {}
    }
    // HTTP/2 can reset one stream; HTTP/1.1 can only close, and a close with unread bytes destroys the answer on its way.
    if version < Version::HTTP_2 && !linger(body).await {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Throws the rest of a body away, within bounds; whether it ended.
async fn linger(mut body: Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    // `Expect: 100-continue` and absurd sizes: not worth the wait.
    if body.size_hint().exact().is_some_and(|size| size > LINGER_BYTES as u64) {
        return false;
    }
    let discard = async {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(LINGER, discard).await.unwrap_or(false)
}
