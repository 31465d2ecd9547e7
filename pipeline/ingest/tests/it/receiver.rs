//! Starts receivers for tests and gathers what they hand over.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracescale_core::time::Timestamp;
use tracescale_ingest::{Admitted, Bound, Clock, Config, DecodeFn, Receiver, ServeError, Stats};

/// A running receiver on loopback ports of its own.
pub(crate) struct Running {
    pub(crate) grpc: String,
    pub(crate) http: std::net::SocketAddr,
    pub(crate) queue: mpsc::Receiver<Admitted>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ServeError>>,
}

/// Loopback, any port.
pub(crate) fn config() -> Config {
    Config { grpc: ([127, 0, 0, 1], 0).into(), http: ([127, 0, 0, 1], 0).into(), ..Config::default() }
}

/// A clock that moves one millisecond at each look.
pub(crate) fn clock() -> Clock {
    let millis = AtomicI64::new(1_700_000_000_000);
    Arc::new(move || Timestamp::from_millis(millis.fetch_add(1, Ordering::Relaxed)))
}

pub(crate) async fn start(config: Config) -> Running {
    run(Receiver::bind(config, clock()).await.unwrap())
}

pub(crate) async fn start_with(config: Config, decode: DecodeFn) -> Running {
    run(Receiver::bind_with(config, clock(), decode).await.unwrap())
}

fn run((bound, queue): (Bound, mpsc::Receiver<Admitted>)) -> Running {
    let shutdown = CancellationToken::new();
    let (grpc, http, stats) = (bound.grpc_addr, bound.http_addr, bound.stats());
    let task = tokio::spawn(bound.serve(shutdown.clone()));
    Running { grpc: format!("http://{grpc}"), http, queue, stats, shutdown, task }
}

/// A request of `spans` valid spans of one service.
pub(crate) fn traces(spans: usize) -> ExportTraceServiceRequest {
    let span = |i: usize| Span {
        trace_id: vec![1; 16],
        span_id: (i as u64 + 1).to_be_bytes().to_vec(),
        name: format!("span {i}"),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_250_000_000,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}
