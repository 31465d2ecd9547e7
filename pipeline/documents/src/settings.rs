//! Settings of the process, each with a default that works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The OTLP receiver.
    pub receiver: Receiver,
    /// What is told about ourselves.
    pub telemetry: Telemetry,
    /// The windows.
    pub windows: Windows,
    /// Targets that are found in resource attributes.
    pub discovery: Discovery,
    /// Where files are kept; `None` keeps none.
    pub data_dir: Option<PathBuf>,
}

/// The OTLP receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Address of OTLP/gRPC (default `0.0.0.0:4317`).
    pub grpc: SocketAddr,
    /// Address of OTLP/HTTP, health and readiness (default `0.0.0.0:4318`).
    pub http: SocketAddr,
    /// TLS for both; `None` is plain text.
    pub tls: Option<Tls>,
    /// Tokens of which a sender must show one; empty lets everybody send.
    pub bearer_tokens: Vec<Secret>,
    /// Limits.
    pub limits: Limits,
}

/// Files with TLS keys, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate chain.
    pub cert: PathBuf,
    /// Our private key.
    pub key: PathBuf,
    /// Authorities of which a sender must show a certificate; `None` asks for none.
    pub client_ca: Option<PathBuf>,
}

/// A text that must not be shown: its debug form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Limits of the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request after decompression, in bytes (default 64 MiB).
    pub max_request_bytes: usize,
    /// Most requests at once (default 256).
    pub max_concurrent_requests: usize,
    /// Most bytes of requests that wait (default 256 MiB).
    pub queue_bytes: usize,
}

/// What is told about ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Address of the Prometheus endpoint (default `0.0.0.0:9464`).
    pub metrics_listen: SocketAddr,
    /// Where our own spans are sent over OTLP/gRPC; `None` sends none.
    pub otlp_endpoint: Option<String>,
}

/// The windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// How late a row may come and still count in its window (default 10s).
    pub lateness: Duration,
    /// How long finished windows are kept for look-back (default 6h).
    pub history: Duration,
    /// Most bytes of finished windows (default 256 MiB).
    pub history_bytes: usize,
    /// Most groups per view (default 20 000).
    pub max_groups: usize,
    /// A source that is silent for so long is missing (default 60s).
    pub source_timeout: Duration,
}

/// Targets that are found in resource attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Whether to look (default true).
    pub enabled: bool,
    /// Kubernetes namespaces to look at; empty is all.
    pub namespaces: Vec<String>,
    /// Most targets (default 10 000).
    pub max_targets: usize,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            receiver: Receiver {
                grpc: SocketAddr::from(([0, 0, 0, 0], 4317)),
                http: SocketAddr::from(([0, 0, 0, 0], 4318)),
                tls: None,
                bearer_tokens: Vec::new(),
                limits: Limits { max_request_bytes: 64 << 20, max_concurrent_requests: 256, queue_bytes: 256 << 20 },
            },
            telemetry: Telemetry { metrics_listen: SocketAddr::from(([0, 0, 0, 0], 9464)), otlp_endpoint: None },
            windows: Windows {
                lateness: Duration::from_secs(10),
                history: Duration::from_secs(6 * 3600),
                history_bytes: 256 << 20,
                max_groups: 20_000,
                source_timeout: Duration::from_secs(60),
            },
            discovery: Discovery { enabled: true, namespaces: Vec::new(), max_targets: 10_000 },
            data_dir: None,
        }
    }
}

// === impl Secret ===

impl Secret {
    /// A text that must not be shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who compares it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
