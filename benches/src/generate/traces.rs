//! HTTP traces through a tree of services: each server span calls other services through client spans, whose server
//! spans are the children, in other resources of the same request.

use std::f64::consts::TAU;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, status::StatusCode};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracescale_core::time::{Timestamp, nanos};

use super::{Attributes, integer, resource, scope, service_name, text, unix_nanos};

/// The size and content of the generated requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceShape {
    /// Equal seeds give equal requests.
    pub seed: u64,
    /// Index of the first service: another one makes another system of services.
    pub first_service: usize,
    /// Services; at least one.
    pub services: usize,
    /// Instances of each service; every instance is a resource. At least one.
    pub instances: usize,
    /// Spans in a request, exactly.
    pub spans: usize,
    /// Attributes of a span.
    pub attributes: Attributes,
}

/// Makes one request after the other.
#[derive(Clone, Debug)]
pub struct TraceGenerator {
    shape: TraceShape,
    random: SmallRng,
}

/// A span that does not know its absolute time yet.
struct Draft {
    resource: usize,
    kind: SpanKind,
    id: u64,
    parent: u64,
    start: u64,
    end: u64,
    error: bool,
    route: &'static Route,
    server: usize,
}

struct Route {
    method: &'static str,
    route: &'static str,
    path: &'static str,
}

const ROUTES: [Route; 8] = [
    Route { method: "GET", route: "/api/products/{id}", path: "/api/products/" },
    Route { method: "GET", route: "/api/cart/{user}", path: "/api/cart/" },
    Route { method: "POST", route: "/api/cart/{user}/items", path: "/api/cart/items/" },
    Route { method: "POST", route: "/api/checkout", path: "/api/checkout/" },
    Route { method: "GET", route: "/api/quote", path: "/api/quote/" },
    Route { method: "POST", route: "/api/charge", path: "/api/charge/" },
    Route { method: "GET", route: "/api/stock/{sku}", path: "/api/stock/" },
    Route { method: "GET", route: "/", path: "/index/" },
];

/// Calls of calls of calls: deep enough for chains, shallow enough that a trace has about ten spans.
const MAX_DEPTH: usize = 3;
const CALL_PROBABILITY: f64 = 0.7;
const ERROR_PROBABILITY: f64 = 0.01;
const MICROSECOND: f64 = 1_000.0;

// === impl TraceShape ===

impl Default for TraceShape {
    fn default() -> Self {
        Self { seed: 1, first_service: 0, services: 8, instances: 2, spans: 512, attributes: Attributes::Six }
    }
}

// === impl TraceGenerator ===

impl TraceGenerator {
    /// A generator at its first request.
    #[must_use]
    pub fn new(shape: TraceShape) -> Self {
        let shape = TraceShape { services: shape.services.max(1), instances: shape.instances.max(1), ..shape };
        Self { shape, random: SmallRng::seed_from_u64(shape.seed) }
    }

    /// A request whose traces end, root span last, between `at` and `at + spread`.
    pub fn request(&mut self, at: Timestamp, spread: Duration) -> ExportTraceServiceRequest {
        let resources = self.shape.services * self.shape.instances;
        let mut spans: Vec<Vec<Span>> = vec![Vec::new(); resources];
        let mut left = self.shape.spans;
        while left > 0 {
            let spread = u64::try_from(nanos(spread)).unwrap_or(0);
            let end = unix_nanos(at) + self.random.random_range(0..=spread);
            let trace_id = self.random.random::<u128>().max(1).to_be_bytes();
            let drafts = self.trace();
            let root_end = drafts.first().map_or(0, |root| root.end);
            for draft in drafts.into_iter().take(left) {
                left -= 1;
                let offset = end.saturating_sub(root_end);
                let slot = draft.resource;
                let span = self.span(&trace_id, &draft, offset);
                spans[slot].push(span);
            }
        }
        let resource_spans = spans.into_iter().enumerate().filter(|(_, spans)| !spans.is_empty()).map(|(index, spans)| ResourceSpans {
            resource: Some(resource(self.shape.first_service + index / self.shape.instances, index % self.shape.instances)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope("io.opentelemetry.http")),
                spans,
                schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
            }],
            schema_url: String::new(),
        });
        ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
    }

    /// One trace from time zero, parents before their children.
    fn trace(&mut self) -> Vec<Draft> {
        let mut drafts = Vec::with_capacity(16);
        self.server(&mut drafts, 0, 0, 0, 0);
        drafts.reverse();
        drafts
    }

    /// Draws the server span of `service` and everything below it, children first; answers when it ended.
    fn server(&mut self, drafts: &mut Vec<Draft>, service: usize, depth: usize, parent: u64, start: u64) -> u64 {
        let id = self.random.random::<u64>().max(1);
        let instance = self.random.random_range(0..self.shape.instances);
        let home = service * self.shape.instances + instance;
        let work = self.lognormal(4_000.0 + 1_500.0 * as_f64(service % 5), 0.8);
        let mut now = start + work * 2 / 5;
        for callee in [service * 2 + 1, service * 2 + 2] {
            if depth < MAX_DEPTH && callee < self.shape.services && self.random.random_bool(CALL_PROBABILITY) {
                let client = self.random.random::<u64>().max(1);
                let (out, back) = (self.lognormal(250.0, 0.5), self.lognormal(250.0, 0.5));
                let end = self.server(drafts, callee, depth + 1, client, now + out) + back;
                let route = self.route();
                let draft = Draft {
                    resource: home,
                    kind: SpanKind::Client,
                    id: client,
                    parent: id,
                    start: now,
                    end,
                    error: self.error(),
                    route,
                    server: callee,
                };
                drafts.push(draft);
                now = end;
            }
        }
        let end = now + work * 3 / 5;
        let route = self.route();
        let error = self.error();
        drafts.push(Draft { resource: home, kind: SpanKind::Server, id, parent, start, end, error, route, server: service });
        end
    }

    fn span(&mut self, trace_id: &[u8; 16], draft: &Draft, offset: u64) -> Span {
        let is_server = draft.kind == SpanKind::Server;
        // W3C sampled; "is remote" is known, and set where the parent is in another process.
        let flags = if is_server && draft.parent != 0 { 0x301 } else { 0x101 };
        let code = if draft.error { StatusCode::Error } else { StatusCode::Unset };
        Span {
            trace_id: trace_id.to_vec(),
            span_id: draft.id.to_be_bytes().to_vec(),
            parent_span_id: if draft.parent == 0 { Vec::new() } else { draft.parent.to_be_bytes().to_vec() },
            flags,
            name: if is_server { format!("{} {}", draft.route.method, draft.route.route) } else { draft.route.method.to_owned() },
            kind: draft.kind.into(),
            start_time_unix_nano: offset + draft.start,
            end_time_unix_nano: offset + draft.end,
            attributes: self.attributes(draft),
            status: Some(Status { code: code.into(), ..Status::default() }),
            ..Span::default()
        }
    }

    fn attributes(&mut self, draft: &Draft) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(self.shape.attributes.count());
        let path = format!("{}{}", draft.route.path, self.random.random_range(10_000..100_000_u32));
        let server = service_name(self.shape.first_service + draft.server);
        attributes.push(text("http.request.method", draft.route.method));
        attributes.push(integer("http.response.status_code", if draft.error { 503 } else { 200 }));
        if draft.kind == SpanKind::Server {
            attributes.push(text("http.route", draft.route.route));
            attributes.push(text("url.path", path));
            attributes.push(text("url.scheme", "http"));
            attributes.push(text("server.address", server));
        } else {
            attributes.push(text("url.full", format!("http://{server}:8080{path}")));
            attributes.push(text("server.address", server.as_str()));
            attributes.push(integer("server.port", 8080));
            attributes.push(text("service.peer.name", server));
        }
        if self.shape.attributes == Attributes::Fourteen {
            let peer: [u8; 2] = self.random.random();
            attributes.push(text("network.protocol.version", "1.1"));
            attributes.push(text("network.peer.address", format!("10.42.{}.{}", peer[0], peer[1])));
            attributes.push(integer("network.peer.port", self.random.random_range(32_768..61_000)));
            attributes.push(text("user_agent.original", "okhttp/5.1.0"));
            attributes.push(text("client.address", format!("203.0.113.{}", peer[1])));
            attributes.push(integer("thread.id", self.random.random_range(20..84)));
            attributes.push(text("thread.name", "http-nio-8080-exec"));
            attributes.push(text("code.function.name", "com.example.shop.web.ApiController.handle"));
        }
        attributes
    }

    fn route(&mut self) -> &'static Route {
        &ROUTES[self.random.random_range(0..ROUTES.len())]
    }

    fn error(&mut self) -> bool {
        self.random.random_bool(ERROR_PROBABILITY)
    }

    /// Nanoseconds drawn from a lognormal distribution with this median in microseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive, clamped number of nanoseconds")]
    fn lognormal(&mut self, median: f64, sigma: f64) -> u64 {
        let (radius, angle) = (1.0 - self.random.random::<f64>(), self.random.random::<f64>());
        let normal = (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos();
        (median * MICROSECOND * (sigma * normal).exp()).clamp(1.0, 60e9) as u64
    }
}

#[expect(clippy::cast_precision_loss, reason = "a small index")]
fn as_f64(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;

    use super::super::BASE;
    use super::*;

    fn request(shape: TraceShape) -> ExportTraceServiceRequest {
        TraceGenerator::new(shape).request(BASE, Duration::from_secs(1))
    }

    fn spans(request: &ExportTraceServiceRequest) -> Vec<(usize, Span)> {
        let resources = request.resource_spans.iter().enumerate();
        resources.flat_map(|(index, resource)| resource.scope_spans[0].spans.iter().map(move |span| (index, span.clone()))).collect()
    }

    /// Guarantees: the seed alone decides the bytes.
    #[test]
    fn equal_seeds_give_equal_bytes() {
        let shape = TraceShape::default();
        assert_eq!(request(shape).encode_to_vec(), request(shape).encode_to_vec());
        assert_ne!(request(shape).encode_to_vec(), request(TraceShape { seed: 2, ..shape }).encode_to_vec());
    }

    /// Guarantees: a request has exactly the spans and attributes that were asked for, in all its resources.
    #[test]
    fn the_shape_is_kept() {
        for (spans_wanted, attributes) in [(10, Attributes::Six), (512, Attributes::Six), (512, Attributes::Fourteen)] {
            let made = request(TraceShape { spans: spans_wanted, attributes, ..TraceShape::default() });
            let spans = spans(&made);
            assert_eq!(spans.len(), spans_wanted);
            assert!(spans.iter().all(|(_, span)| span.attributes.len() == attributes.count()));
            assert!(made.resource_spans.iter().all(|resource| resource.resource.as_ref().unwrap().attributes.len() == 11));
        }
        assert_eq!(request(TraceShape::default()).resource_spans.len(), 16);
    }

    /// Guarantees: a server span with a parent lies within its client span, which is in another resource.
    #[test]
    fn server_spans_lie_within_their_client_spans() {
        let spans = spans(&request(TraceShape::default()));
        let by_id: HashMap<_, _> = spans.iter().map(|(resource, span)| (span.span_id.clone(), (*resource, span))).collect();
        let mut pairs = 0;
        for (resource, span) in spans.iter().filter(|(_, span)| span.kind == SpanKind::Server as i32) {
            let Some((home, parent)) = by_id.get(&span.parent_span_id) else { continue };
            assert_ne!(home, resource);
            assert_eq!(parent.trace_id, span.trace_id);
            assert!(parent.start_time_unix_nano <= span.start_time_unix_nano && span.end_time_unix_nano <= parent.end_time_unix_nano);
            pairs += 1;
        }
        assert!(pairs > 100, "{pairs}");
    }

    /// Guarantees: the median size of a span is that of the figures we compare ourselves with (283 B, 574 B).
    #[test]
    fn spans_have_the_usual_size() {
        for (attributes, low, high) in [(Attributes::Six, 260, 310), (Attributes::Fourteen, 540, 620)] {
            let bytes = request(TraceShape { attributes, ..TraceShape::default() }).encoded_len() / 512;
            assert!((low..high).contains(&bytes), "{attributes:?}: {bytes} B per span");
        }
    }
}
