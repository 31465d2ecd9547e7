//! Health for probes: `grpc.health.v1` (tonic's service), `/healthz` and `/readyz`. No credentials are asked for.

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::ServiceExt;

/// The names under which clients ask; the empty one means the process as a whole.
const SERVICES: [&str; 4] = [
    "",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
];

/// The health service and the switch behind it.
pub(crate) struct Health {
    reporter: HealthReporter,
    service: HealthServer<HealthService>,
}

// === impl Health ===

impl Health {
    /// Serving from the start: the listeners are bound before this exists.
    pub(crate) async fn new() -> Self {
        let reporter = HealthReporter::new();
        for name in SERVICES {
            reporter.set_service_status(name, ServingStatus::Serving).await;
        }
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        Self { reporter, service }
    }

    /// Whether a path belongs to this service.
    pub(crate) fn serves(path: &str) -> bool {
        path.starts_with("/grpc.health.v1.Health/")
    }

    pub(crate) async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        // The service never fails: its error type has no values.
        match self.service.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Tells everybody who asks or watches that no more requests are wanted.
    pub(crate) async fn not_serving(&self) {
        for name in SERVICES {
            self.reporter.set_service_status(name, ServingStatus::NotServing).await;
        }
    }

    /// Ends the streams of watchers, which would keep their connections open otherwise.
    pub(crate) async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for name in SERVICES {
            reporter.clear_service_status(name).await;
        }
    }
}

/// The answer of `/healthz` (always good when it can be given) or `/readyz`.
pub(crate) fn probe(good: bool) -> Response<Body> {
    let (status, text) = if good { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not accepting\n") };
    let mut response = Response::new(Body::new(http_body_util::Full::<bytes::Bytes>::from(text)));
    *response.status_mut() = status;
    response
}
