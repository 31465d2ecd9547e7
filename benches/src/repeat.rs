//! A sender as real exporters are: a request that was not acknowledged is sent again, byte for byte, also to a server that
//! was started anew.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;

use crate::body::{Compression, grpc_frame};
use crate::load::{Answer, HttpClient, Protocol, client, exchange, request};

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metric points.
    Metrics,
}

/// A request that can be sent again: always the same bytes.
#[derive(Clone, Debug)]
pub struct Export {
    signal: Signal,
    compression: Compression,
    frame: Bytes,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// All of it was taken.
    Acknowledged,
    /// Not answered, or refused for now: the request is to be sent again.
    Repeat,
    /// Refused for good, wholly or in part.
    Refused(String),
}

/// One gRPC connection, made anew when it breaks.
#[derive(Debug)]
pub struct Exporter {
    client: HttpClient,
}

// === impl Signal ===

impl Signal {
    const fn path(self) -> &'static str {
        match self {
            Self::Traces => Protocol::Grpc.path(),
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

// === impl Export ===

impl Export {
    /// A request of an encoded message.
    ///
    /// # Errors
    /// When the compressor fails, which it does not for lack of space.
    pub fn new(signal: Signal, compression: Compression, message: &[u8]) -> Result<Self> {
        let frame = grpc_frame(compression, &compression.compress(message)?);
        Ok(Self { signal, compression, frame })
    }
}

// === impl Exporter ===

impl Default for Exporter {
    fn default() -> Self {
        Self { client: client(Protocol::Grpc) }
    }
}

impl Exporter {
    /// Sends a request once, and waits for its answer no longer than `patience`.
    ///
    /// # Errors
    /// When no request can be made; never because of what the server does.
    pub async fn send(&self, address: SocketAddr, export: &Export, patience: Duration) -> Result<Attempt> {
        let Export { signal, compression, frame } = export;
        let request = request(address, Protocol::Grpc, signal.path(), *compression, frame.clone())?;
        let answer = tokio::time::timeout(patience, exchange(Protocol::Grpc, self.client.clone(), request)).await;
        Ok(match answer.unwrap_or(Answer::Failed) {
            Answer::Acknowledged { rejected: 0 } => Attempt::Acknowledged,
            Answer::Acknowledged { rejected } => Attempt::Refused(format!("{rejected} items rejected")),
            Answer::Refused { retryable: true, .. } | Answer::Failed => Attempt::Repeat,
            Answer::Refused { status, .. } => Attempt::Refused(status),
        })
    }
}
