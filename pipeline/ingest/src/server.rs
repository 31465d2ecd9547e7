//! Listeners and connections: bind, serve both protocols on both ports, drain in order.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracescale_core::time::Timestamp;

use crate::admission::{Admission, Admitted, Source};
use crate::auth::Tokens;
use crate::config::{Config, InvalidConfig};
use crate::decode::{self, DecodeError, Decoded, Encoding, Signal};
use crate::export::Context;
use crate::health::Health;
use crate::http;
use crate::stats::Stats;
use crate::tls::{self, TlsError};

/// Where the receiver reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// The seam of the decoder: raw body in, batches out.
pub type DecodeFn = Arc<dyn Fn(Signal, Encoding, &[u8], Timestamp) -> Result<Decoded, DecodeError> + Send + Sync>;

/// The OTLP receiver; see [`Receiver::bind`].
#[derive(Debug)]
pub struct Receiver;

/// A receiver whose ports are open and whose connections wait in the kernel until [`Bound::serve`] runs.
pub struct Bound {
    /// Where OTLP/gRPC clients connect.
    pub grpc_addr: SocketAddr,
    /// Where OTLP/HTTP clients connect.
    pub http_addr: SocketAddr,
    listeners: [TcpListener; 2],
    tls: Option<TlsAcceptor>,
    context: Arc<Context>,
}

/// Why a receiver could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Settings that cannot work.
    #[error("receiver settings: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config {
        /// All of them.
        problems: Vec<InvalidConfig>,
    },
    /// Certificates or key.
    #[error("receiver TLS")]
    Tls(#[source] TlsError),
    /// A port that cannot be opened.
    #[error("cannot listen on {address} for OTLP/{protocol}; is another collector running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// `gRPC` or `HTTP`.
        protocol: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A listener that ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("a listener of the receiver ended unexpectedly")]
pub struct ServeError(#[source] Option<tokio::task::JoinError>);

/// What one listener works with.
#[derive(Clone)]
struct Serving {
    context: Arc<Context>,
    tls: Option<TlsAcceptor>,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Unread bytes per stream and connection. Nothing lies there for long (a request is read or refused at once), but it is
/// memory outside the byte budget; one MiB carries 20 MB/s to a client 50 ms away.
const WINDOW: u32 = 1 << 20;
/// Bigger frames than HTTP/2's 16 KiB: a typical request then is one piece and is never copied.
const FRAME: u32 = 256 << 10;
/// Streams per connection; clients queue beyond it instead of being refused.
const STREAMS: u32 = 128;
/// After the last answer: time for it to reach the client before connections are cut.
const FLUSH: Duration = Duration::from_secs(1);
/// After a failed `accept` (file descriptors used up): time for connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

// === impl Receiver ===

impl Receiver {
    /// Opens the ports. What is acknowledged comes out of the returned queue, which ends after [`Bound::serve`] has returned.
    ///
    /// # Errors
    /// When a setting, a certificate or a port cannot be used.
    pub async fn bind(config: Config, clock: Clock) -> Result<(Bound, mpsc::Receiver<Admitted>), BindError> {
        let declared = config.sampling.clone();
        let decode = move |signal, encoding, body: &[u8], at| decode::decode(signal, encoding, body, at, &declared);
        Self::bind_with(config, clock, Arc::new(decode)).await
    }

    /// Like [`Receiver::bind`], with another decoder, which knows itself what is declared of sampling.
    ///
    /// # Errors
    /// As [`Receiver::bind`].
    pub async fn bind_with(config: Config, clock: Clock, decode: DecodeFn) -> Result<(Bound, mpsc::Receiver<Admitted>), BindError> {
        config.validate().map_err(|problems| BindError::Config { problems })?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose().map_err(BindError::Tls)?;
        let grpc = listen(config.grpc, "gRPC").await?;
        let http = listen(config.http, "HTTP").await?;
        let address = |listener: &TcpListener, address, protocol| {
            listener.local_addr().map_err(|source| BindError::Listen { address, protocol, source })
        };
        let (grpc_addr, http_addr) = (address(&grpc, config.grpc, "gRPC")?, address(&http, config.http, "HTTP")?);
        let stats = Arc::<Stats>::default();
        let (admission, queue) = Admission::new(&config, Arc::clone(&stats));
        let workers = match config.decode_workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let context = Arc::new(Context {
            tokens: Tokens::new(&config.bearer_tokens),
            workers: Arc::new(Semaphore::new(workers)),
            health: Health::new().await,
            config,
            clock,
            decode,
            admission,
            stats,
        });
        Ok((Bound { grpc_addr, http_addr, listeners: [grpc, http], tls, context }, queue))
    }
}

async fn listen(address: SocketAddr, protocol: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::Listen { address, protocol, source })
}

// === impl Bound ===

impl Bound {
    /// The counters, readable at any time, also after the end.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.context.stats)
    }

    /// Serves until `shutdown`, then drains: health says `NOT_SERVING`, new requests are refused as retryable, requests in
    /// flight finish and are acknowledged, connections are asked to close (GOAWAY) and, when they do not, are cut.
    /// Everything acknowledged is in the queue by then.
    ///
    /// # Errors
    /// When a listener ends without being asked to; the rest has been drained then.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { listeners, tls, context, .. } = self;
        let slots = Arc::new(Semaphore::new(context.config.max_connections));
        let serving = Serving { context: Arc::clone(&context), tls, slots, stop: CancellationToken::new() };
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(serving.clone().listen(listener));
        }
        // Should this future be dropped, the tasks end with it: a JoinSet aborts what it holds.
        let mut outcome = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            ended = tasks.join_next() => Err(ServeError(ended.and_then(Result::err))),
        };
        context.health.not_serving().await;
        context.admission.drain();
        serving.stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                outcome = Err(ServeError(Some(error)));
            }
        }
        outcome
    }
}

// === impl Serving ===

impl Serving {
    async fn listen(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                accepted = self.accept(&listener) => if let Some((stream, peer, slot)) = accepted {
                    connections.spawn(self.clone().connection(stream, peer, slot));
                },
            }
        }
        drop(listener);
        self.drain(connections).await;
    }

    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((stream, peer)) => Some((stream, peer, slot)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }

    async fn drain(&self, mut connections: JoinSet<()>) {
        let limit = self.context.config.drain_timeout;
        let closed = async {
            tokio::select! {
                () = async { while let Some(ended) = connections.join_next().await { report(ended); } } => {}
                () = self.flushed() => {}
            }
        };
        if timeout(limit, closed).await.is_err() {
            tracing::warn!(connections = connections.len(), ?limit, "connections are cut with requests in flight");
        }
        connections.shutdown().await;
    }

    /// Returns a moment after the last request was answered.
    async fn flushed(&self) {
        self.context.admission.idle().await;
        self.context.health.end_watches().await;
        sleep(FLUSH).await;
    }

    async fn connection(self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        let _slot = slot;
        let _gauge = self.context.stats.connection_opened();
        // Answers are small and should not wait for more of them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
        }
        let Some(tls) = &self.tls else { return self.serve(stream, peer).await };
        match timeout(self.context.config.connect_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream, peer).await,
            Ok(Err(error)) => {
                self.context.stats.record_tls_failure();
                tracing::debug!(%error, %peer, "TLS handshake failed");
            }
            Err(_) => self.context.stats.record_tls_failure(),
        }
    }

    async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: SocketAddr) {
        let source = Source::new(peer.ip());
        let used = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| {
            used.store(true, Ordering::Relaxed);
            let context = Arc::clone(&self.context);
            async move { Ok::<_, Infallible>(http::handle(&context, source, request).await) }
        });
        let builder = builder(self.context.config.connect_timeout);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.enough(&used) => {
                connection.as_mut().graceful_shutdown();
                match timeout(self.context.config.drain_timeout, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "connection ended");
        }
    }

    /// Returns when the connection should close: the receiver stops, the connection is old, or it never sent a request.
    async fn enough(&self, used: &AtomicBool) {
        let config = &self.context.config;
        let unused = async {
            sleep(config.connect_timeout).await;
            if used.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let old = async {
            match config.max_connection_age {
                Some(age) => sleep(age).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = unused => {}
            () = old => {}
        }
    }
}

fn builder(header_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(16 << 10)
        // Finds clients that vanished without a word.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}
