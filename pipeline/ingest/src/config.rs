//! What the receiver can be told: addresses, credentials, limits. Every limit has a default that holds memory bounded.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::decode::Declared;
use crate::receipt::Acknowledge;

/// Settings of one receiver. Build with `Config { grpc: …, ..Config::default() }`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where OTLP/gRPC clients connect. Both ports answer both protocols; two exist because clients expect two.
    pub grpc: SocketAddr,
    /// Where OTLP/HTTP clients connect.
    pub http: SocketAddr,
    /// Certificates; `None` serves plain text.
    pub tls: Option<Tls>,
    /// Accepted bearer tokens; empty means that none is asked for. Several allow rotation without a gap.
    pub bearer_tokens: Vec<String>,
    /// Largest request after decompression, in bytes (64 MiB, as OTLP recommends).
    pub max_request_bytes: usize,
    /// Export requests being read or decoded at a time; more are refused as retryable.
    pub max_concurrent_requests: usize,
    /// Bytes held at a time by requests being read, decoded or waiting in the queue (256 MiB).
    pub queue_bytes: usize,
    /// Decoded requests waiting in the queue.
    pub queue_requests: usize,
    /// Open connections, over both ports together; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// Threads that decompress and decode at a time; 0 takes one per processor.
    pub decode_workers: usize,
    /// How long a request body may stand still.
    pub body_idle_timeout: Duration,
    /// How long a request body may take in all.
    pub body_timeout: Duration,
    /// How long a TLS handshake, and a new connection's first request, may take.
    pub connect_timeout: Duration,
    /// When set, a connection older than this is asked to close (GOAWAY), so that long-lived gRPC connections spread over new replicas.
    pub max_connection_age: Option<Duration>,
    /// What a refused client is told to wait before it tries again; whole seconds over HTTP.
    pub retry_after: Duration,
    /// What is declared of spans that do not state their sampling.
    pub sampling: Declared,
    /// When clients are told that a request is accepted.
    pub acknowledge: Acknowledge,
    /// How long in-flight requests get to finish once shutdown has begun.
    pub drain_timeout: Duration,
}

/// Certificate, key and, for mutual TLS, the authority that client certificates must come from. PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Server certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
    /// Authorities for client certificates; when set, a client without one is turned away in the handshake.
    pub client_ca: Option<PathBuf>,
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} = {value}: {hint}")]
pub struct InvalidConfig {
    /// Name of the field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What would be accepted.
    pub hint: &'static str,
}

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            grpc: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4317)),
            http: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4318)),
            tls: None,
            bearer_tokens: Vec::new(),
            max_request_bytes: 64 << 20,
            max_concurrent_requests: 512,
            queue_bytes: 256 << 20,
            queue_requests: 16_384,
            max_connections: 2_048,
            decode_workers: 0,
            body_idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(30),
            max_connection_age: None,
            retry_after: Duration::from_secs(1),
            sampling: Declared::default(),
            acknowledge: Acknowledge::Queued,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Every setting that cannot work, not only the first.
    ///
    /// # Errors
    /// When at least one cannot.
    pub fn validate(&self) -> Result<(), Vec<InvalidConfig>> {
        let mut problems = Vec::new();
        let mut problem = |field, value: String, hint| problems.push(InvalidConfig { field, value, hint });
        let positive = [
            ("max_request_bytes", self.max_request_bytes),
            ("max_concurrent_requests", self.max_concurrent_requests),
            ("queue_requests", self.queue_requests),
            ("max_connections", self.max_connections),
        ];
        for (field, value) in positive {
            // The upper end is what a tokio semaphore and a 32-bit permit count can hold.
            if value == 0 || value > 1 << 30 {
                problem(field, value.to_string(), "expected 1 to 1073741824");
            }
        }
        // A compressed request is held twice for a moment; one that can never be held would be refused as retryable for ever.
        if self.queue_bytes / 2 < self.max_request_bytes {
            problem("queue_bytes", self.queue_bytes.to_string(), "expected at least twice max_request_bytes");
        }
        let durations = [
            ("body_idle_timeout", self.body_idle_timeout),
            ("body_timeout", self.body_timeout),
            ("connect_timeout", self.connect_timeout),
            ("drain_timeout", self.drain_timeout),
            ("retry_after", self.retry_after),
        ];
        for (field, value) in durations {
            if value.is_zero() {
                problem(field, format!("{value:?}"), "expected more than zero");
            }
        }
        if self.bearer_tokens.iter().any(|token| token.trim().is_empty()) {
            problem("bearer_tokens", "\"\"".into(), "an empty token would let everybody in");
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the defaults are valid, and all wrong settings are named at once.
    #[test]
    fn validation_names_every_wrong_setting() {
        assert_eq!(Config::default().validate(), Ok(()));
        let wrong = Config {
            max_connections: 0,
            queue_bytes: 1 << 20,
            body_timeout: Duration::ZERO,
            bearer_tokens: vec![" ".into()],
            ..Config::default()
        };
        let fields: Vec<_> = wrong.validate().unwrap_err().iter().map(|p| p.field).collect();
        assert_eq!(fields, ["max_connections", "queue_bytes", "body_timeout", "bearer_tokens"]);
    }
}
