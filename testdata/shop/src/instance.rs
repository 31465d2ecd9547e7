//! One instance of a service: its listener on loopback, its workers, its spans.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::headers::Extract;
use crate::queue;
use crate::services::Service;
use crate::telemetry::{Identity, Telemetry, Usage};
use crate::world::World;

/// A running instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) service: Service,
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    pub(crate) telemetry: Telemetry,
    pub(crate) client: Client,
    pub(crate) phase: watch::Sender<Phase>,
    workers: Semaphore,
    random: Mutex<SmallRng>,
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Takes nothing new and ends what it has.
    Draining,
    /// Gone with all its connections.
    Crashed,
}

/// Counts one up for as long as it lives, so that a cut connection cannot leave a gauge behind.
struct Counted<'a>(&'a AtomicI64);

type Shared = (Arc<World>, Arc<Instance>);

// === impl Instance ===

impl Instance {
    /// Binds a free port, starts the SDK and serves until the phase changes.
    pub(crate) async fn start(world: &Arc<World>, service: Service, seed: u64) -> anyhow::Result<Arc<Self>> {
        let mut random = SmallRng::seed_from_u64(seed);
        let identity = identity(service, &mut random);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let size = service.size();
        let telemetry = Telemetry::start(&world.export, &identity, size.workers, &world.tally)?;
        let instance = Arc::new(Self {
            service,
            id: identity.id,
            address: listener.local_addr()?,
            telemetry,
            client: Client::default(),
            phase: watch::Sender::new(Phase::Serving),
            workers: Semaphore::new(size.workers as usize),
            random: Mutex::new(random),
        });
        tokio::spawn(serve(listener, Arc::clone(world), Arc::clone(&instance)));
        if service == Service::Worker {
            queue::consume(world, &instance);
        }
        Ok(instance)
    }

    /// Requests inside, for the balancer.
    pub(crate) fn inside(&self) -> i64 {
        self.telemetry.usage.inside.load(Ordering::Relaxed)
    }

    /// A number in [0, 1).
    pub(crate) fn random(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// Works `amount` times the service's mean; a third of it is constant, the rest exponential.
    pub(crate) async fn work(&self, world: &World, amount: f64) {
        let mean = self.service.size().work * amount * world.faults.now().of(self.service).slow;
        let time = Duration::from_secs_f64(mean * stretch(self.random()));
        let usage = &self.telemetry.usage;
        let _computing = Counted::new(&usage.computing);
        let begin = Instant::now();
        tokio::time::sleep(time).await;
        usage.computed.fetch_add(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Stops taking requests, waits for those inside, flushes.
    pub(crate) async fn drain(self: Arc<Self>, within: Duration) {
        self.phase.send_replace(Phase::Draining);
        let end = Instant::now() + within;
        while self.inside() > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let flushed = tokio::task::spawn_blocking(move || self.telemetry.shutdown()).await;
        if let Err(error) = flushed {
            tracing::warn!(%error, "flush panicked");
        }
    }

    /// Breaks every connection; what was in flight or not yet exported is never reported.
    pub(crate) async fn crash(self: Arc<Self>) {
        self.telemetry.silent.store(true, Ordering::Relaxed);
        self.telemetry.crashed.store(true, Ordering::Relaxed);
        self.phase.send_replace(Phase::Crashed);
        // The last owner of an SDK waits for its threads, which must not hold up a thread of the runtime.
        while Arc::strong_count(&self) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::task::spawn_blocking(move || drop(self));
    }
}

/// A factor with mean 1.
pub(crate) fn stretch(random: f64) -> f64 {
    0.33 - 0.67 * (1.0 - random).ln()
}

fn identity(service: Service, random: &mut SmallRng) -> Identity {
    let (high, low): (u64, u64) = (random.random(), random.random());
    let id = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        0x8000 | low >> 48 & 0x3fff,
        low & 0xffff_ffff_ffff
    );
    let letters: Vec<u8> = b"bcdfghjklmnpqrstvwxz2456789".to_vec();
    let suffix: String = (0..5).map(|_| char::from(letters[random.random_range(0..letters.len())])).collect();
    let pod = format!("{}-{}-{suffix}", service.name(), template(service));
    Identity { service, id, pod }
}

/// The pod-template hash of a deployment, fixed per service and version.
fn template(service: Service) -> &'static str {
    match service {
        Service::Gateway => "7c9d8f6b54",
        Service::Checkout => "5f6b9c7d88",
        Service::Catalog => "6d5c8b9f77",
        Service::Payments => "84f7c6d5b9",
        Service::Worker => "9b8d7c6f5c",
    }
}

/// Accepts connections; on a crash drops them all, on a drain lets them end.
async fn serve(listener: TcpListener, world: Arc<World>, instance: Arc<Instance>) {
    let mut phase = instance.phase.subscribe();
    let router = Router::new().fallback(handle).with_state((world, Arc::clone(&instance)));
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        tokio::select! {
            biased;
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow_and_update() == Phase::Crashed {
                    break;
                }
                listener = None;
            }
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            stream = accept(listener.as_ref()) => {
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    // A peer that goes away mid-request is an everyday event here.
                    let _ended = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
            else => break,
        }
        if listener.is_none() && connections.is_empty() {
            break;
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> tokio::net::TcpStream {
    loop {
        match listener {
            Some(listener) => match listener.accept().await {
                Ok((stream, _peer)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            None => std::future::pending().await,
        }
    }
}

/// Handles one request: waits for a worker, works, answers; the span covers what a real server's would.
async fn handle(State((world, instance)): State<Shared>, request: Request<Body>) -> Response<Body> {
    let begin = Instant::now();
    let usage: Arc<Usage> = Arc::clone(&instance.telemetry.usage);
    let _inside = Counted::new(&usage.inside);
    let service = instance.service;
    let size = service.size();
    let worker = if size.hidden_wait { instance.worker().await } else { None };
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = service.route(&method, &path);
    let active = [KeyValue::new("http.request.method", method.to_string()), KeyValue::new("url.scheme", "http")];
    instance.telemetry.instruments.server_active.add(1, &active);
    let cx = instance.server_span(&request, route, &path);
    let status = match route {
        None => StatusCode::NOT_FOUND,
        Some(_) if worker.is_some() => service.answer(&world, &instance, &cx, &path).await,
        Some(_) if size.hidden_wait => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) => match instance.worker().await {
            Some(_worker) => service.answer(&world, &instance, &cx, &path).await,
            None => StatusCode::SERVICE_UNAVAILABLE,
        },
    };
    drop(worker);
    let span = cx.span();
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    let mut labels = active.to_vec();
    labels.push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    labels.extend(route.map(|route| KeyValue::new("http.route", route)));
    if status.is_server_error() {
        span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
        span.set_status(Status::error(""));
        labels.push(KeyValue::new("error.type", status.as_str().to_owned()));
    }
    span.end();
    instance.telemetry.instruments.server_active.add(-1, &active);
    instance.telemetry.instruments.server_duration.record(begin.elapsed().as_secs_f64(), &labels);
    let mut response = Response::new(Body::from(status.as_str().to_owned()));
    *response.status_mut() = status;
    response
}

impl Instance {
    /// A free worker, or none when too many wait already.
    async fn worker(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        if let Ok(free) = self.workers.try_acquire() {
            return Some(free);
        }
        let waiting = &self.telemetry.usage.waiting;
        if waiting.load(Ordering::Relaxed) >= i64::from(self.service.size().backlog) {
            return None;
        }
        let _waiting = Counted::new(waiting);
        self.workers.acquire().await.ok()
    }

    fn server_span(&self, request: &Request<Body>, route: Option<&'static str>, path: &str) -> Context {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Extract(request.headers()));
        let method = request.method();
        let name = route.map_or_else(|| method.to_string(), |route| format!("{method} {route}"));
        let mut attributes = vec![
            KeyValue::new("http.request.method", method.to_string()),
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("url.scheme", "http"),
            KeyValue::new("server.address", self.service.name()),
            KeyValue::new("server.port", 80),
            KeyValue::new("client.address", "127.0.0.1"),
            KeyValue::new("network.protocol.version", "1.1"),
        ];
        attributes.extend(route.map(|route| KeyValue::new("http.route", route)));
        attributes.extend(user_agent(request.headers()).map(|agent| KeyValue::new("user_agent.original", agent)));
        let builder = self.telemetry.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        parent.with_span(self.telemetry.tracer.build_with_context(builder, &parent))
    }
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    headers.get(header::USER_AGENT)?.to_str().ok().map(str::to_owned)
}

// === impl Counted ===

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
