//! Calls from one instance to another service, over loopback HTTP with a client span each.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::time::Instant;

use crate::headers::Inject;
use crate::instance::Instance;
use crate::services::Service;
use crate::world::World;

/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A pooled HTTP client.
#[derive(Clone, Debug)]
pub(crate) struct Client(hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>);

// === impl Client ===

impl Default for Client {
    fn default() -> Self {
        Self(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http())
    }
}

impl Client {
    /// Sends a request and reads the answer to its end.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<StatusCode> {
        let response = self.0.request(request).await.context("connection_error")?;
        let status = response.status();
        response.into_body().collect().await.context("connection_error")?;
        Ok(status)
    }
}

impl Instance {
    /// Calls `to`; a GET whose connection broke is sent once more, elsewhere. None when there was no answer.
    pub(crate) async fn call(&self, world: &Arc<World>, cx: &Context, to: Service, method: Method, path: &str) -> Option<StatusCode> {
        let first = self.attempt(world, cx, to, &method, path, 0).await;
        if first.is_some() || method != Method::GET {
            return first;
        }
        self.attempt(world, cx, to, &method, path, 1).await
    }

    async fn attempt(&self, world: &Arc<World>, cx: &Context, to: Service, method: &Method, path: &str, resend: i64) -> Option<StatusCode> {
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("server.address", to.name()),
            KeyValue::new("server.port", 80),
            KeyValue::new("url.full", format!("http://{}{path}", to.name())),
            KeyValue::new("network.protocol.version", "1.1"),
        ];
        if resend > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", resend));
        }
        let builder =
            self.telemetry.tracer.span_builder(method.to_string()).with_kind(SpanKind::Client).with_attributes(attributes.clone());
        let cx = cx.with_span(self.telemetry.tracer.build_with_context(builder, cx));
        let begin = Instant::now();
        let answer = match tokio::time::timeout(PATIENCE, self.exchange(world, &cx, to, method, path)).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err("timeout".to_owned()),
        };
        let span = cx.span();
        let mut labels = attributes[..3].to_vec();
        let error = match &answer {
            Ok(status) => {
                let code = KeyValue::new("http.response.status_code", i64::from(status.as_u16()));
                span.set_attribute(code.clone());
                labels.push(code);
                (status.is_client_error() || status.is_server_error()).then(|| status.as_str().to_owned())
            }
            Err(error) => {
                let what = [KeyValue::new("exception.type", error.clone()), KeyValue::new("exception.message", format!("calling {to:?}"))];
                span.add_event("exception", what.to_vec());
                Some(error.clone())
            }
        };
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error.clone()));
            span.set_status(Status::error(""));
            labels.push(KeyValue::new("error.type", error));
        }
        span.end();
        self.telemetry.instruments.client_duration.record(begin.elapsed().as_secs_f64(), &labels);
        answer.ok()
    }

    async fn exchange(&self, world: &World, cx: &Context, to: Service, method: &Method, path: &str) -> anyhow::Result<StatusCode> {
        let address = world.pick(to, self.random(), self.random()).context("no_instance")?.address;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header(header::USER_AGENT, format!("{}/{}", self.service.name(), self.service.version()))
            .body(Full::default())?;
        TraceContextPropagator::new().inject_context(cx, &mut Inject(request.headers_mut()));
        self.client.send(request).await
    }
}
