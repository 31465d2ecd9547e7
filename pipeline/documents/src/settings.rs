//! Settings of the process, each with a default that works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::models::{self, Models};
use crate::reader::{At, Fields, Reader};
use crate::sampling::{self, Sampling};
use crate::storage::{self, Storage};

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
    /// What is kept of the telemetry.
    pub storage: Storage,
    /// How spans were sampled that do not say so.
    pub sampling: Sampling,
    /// What the models are told.
    pub models: Models,
    /// Where files are kept; `None` is a directory of the caller's choice.
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
    /// File with the tokens of which a sender must show one, a token per line; `None` lets everybody send.
    pub bearer_tokens_file: Option<PathBuf>,
    /// The tokens of that file. [`crate::load`] reads it, [`crate::parse`] does not.
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
    /// How much later still a row may come and change a final window, which is then emitted again (default 60s).
    pub allowed_lateness: Duration,
    /// How long finished windows are kept for look-back (default 6h).
    pub history: Duration,
    /// Most bytes of finished windows (default 256 MiB).
    pub history_bytes: usize,
    /// Most groups per view (default 20 000).
    pub max_groups: usize,
    /// A source that is silent for so long is missing (default 90s: SDKs export metrics every 60s).
    pub source_timeout: Duration,
}

/// Targets that are found in resource attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Whether to look (default true).
    pub enabled: bool,
    /// Whether rules that say `enforce` act on them too (default false: rules only recommend for what nobody described).
    pub act: bool,
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
                bearer_tokens_file: None,
                bearer_tokens: Vec::new(),
                limits: Limits { max_request_bytes: 64 << 20, max_concurrent_requests: 256, queue_bytes: 256 << 20 },
            },
            telemetry: Telemetry { metrics_listen: SocketAddr::from(([0, 0, 0, 0], 9464)), otlp_endpoint: None },
            windows: Windows {
                lateness: Duration::from_secs(10),
                allowed_lateness: Duration::from_secs(60),
                history: Duration::from_secs(6 * 3600),
                history_bytes: 256 << 20,
                max_groups: 20_000,
                source_timeout: Duration::from_secs(90),
            },
            discovery: Discovery { enabled: true, act: false, namespaces: Vec::new(), max_targets: 10_000 },
            storage: Storage::default(),
            sampling: Sampling::default(),
            models: Models::default(),
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

/// A file that the settings name, and where they do.
#[derive(Clone, Debug)]
pub(crate) struct FileRef {
    pub(crate) path: PathBuf,
    pub(crate) at: String,
    pub(crate) line: u64,
    /// True when it holds bearer tokens.
    pub(crate) tokens: bool,
}

pub(crate) const MIB: usize = 1 << 20;
pub(crate) const GIB: usize = 1 << 30;

/// Reads the `spec` of settings; what cannot be read keeps its default.
pub(crate) fn read(reader: &mut Reader, spec: &At<'_>) -> (Settings, Vec<FileRef>) {
    let mut settings = Settings::default();
    let mut files = Vec::new();
    let Some(mut fields) = reader.fields(spec) else { return (settings, files) };
    if let Some(at) = fields.take(reader, "receiver") {
        receiver(reader, &at, &mut settings.receiver, &mut files);
    }
    if let Some(mut fields) = section(reader, &mut fields, "telemetry") {
        address(reader, &mut fields, "metricsListen", &mut settings.telemetry.metrics_listen);
        settings.telemetry.otlp_endpoint = fields.take(reader, "otlpEndpoint").and_then(|at| endpoint(reader, &at));
        fields.finish(reader);
    }
    if let Some(mut fields) = section(reader, &mut fields, "windows") {
        let windows = &mut settings.windows;
        let hour = Duration::from_secs(3600);
        time(reader, &mut fields, "lateness", Duration::ZERO..=hour, &mut windows.lateness);
        time(reader, &mut fields, "allowedLateness", Duration::ZERO..=hour, &mut windows.allowed_lateness);
        time(reader, &mut fields, "history", Duration::from_secs(60)..=hour * 24 * 31, &mut windows.history);
        size(reader, &mut fields, "historyBytes", MIB..=64 * GIB, &mut windows.history_bytes);
        count(reader, &mut fields, "maxGroups", 1..=10_000_000, &mut windows.max_groups);
        time(reader, &mut fields, "sourceTimeout", Duration::from_secs(1)..=hour, &mut windows.source_timeout);
        fields.finish(reader);
    }
    if let Some(mut fields) = section(reader, &mut fields, "discovery") {
        let discovery = &mut settings.discovery;
        if let Some(value) = fields.take(reader, "enabled").and_then(|at| reader.truth(&at)) {
            discovery.enabled = value;
        }
        if let Some(value) = fields.take(reader, "act").and_then(|at| reader.truth(&at)) {
            discovery.act = value;
        }
        if let Some(at) = fields.take(reader, "namespaces") {
            let items = reader.items(&at);
            discovery.namespaces = items.iter().filter_map(|at| reader.text(at).map(str::to_owned)).collect();
        }
        count(reader, &mut fields, "maxTargets", 1..=1_000_000, &mut discovery.max_targets);
        fields.finish(reader);
    }
    storage::read(reader, &mut fields, &mut settings.storage);
    settings.sampling = sampling::read(reader, &mut fields);
    settings.models = models::read(reader, &mut fields);
    settings.data_dir = fields.take(reader, "dataDir").and_then(|at| reader.text(&at).map(PathBuf::from));
    fields.finish(reader);
    (settings, files)
}

fn receiver(reader: &mut Reader, at: &At<'_>, receiver: &mut Receiver, files: &mut Vec<FileRef>) {
    let Some(mut fields) = reader.fields(at) else { return };
    address(reader, &mut fields, "grpc", &mut receiver.grpc);
    address(reader, &mut fields, "http", &mut receiver.http);
    if receiver.grpc == receiver.http && receiver.grpc.port() != 0 {
        reader.wrong(at, "`grpc` and `http` cannot share an address", None);
    }
    if let Some(mut fields) = section(reader, &mut fields, "tls") {
        let cert = fields.require(reader, "cert", "a file with our certificate chain in PEM");
        let cert = cert.and_then(|at| file(reader, &at, files, false));
        let key = fields.require(reader, "key", "a file with our private key in PEM").and_then(|at| file(reader, &at, files, false));
        let client_ca = fields.take(reader, "clientCa").and_then(|at| file(reader, &at, files, false));
        fields.finish(reader);
        receiver.tls = cert.zip(key).map(|(cert, key)| Tls { cert, key, client_ca });
    }
    receiver.bearer_tokens_file = fields.take(reader, "bearerTokensFile").and_then(|at| file(reader, &at, files, true));
    if let Some(mut fields) = section(reader, &mut fields, "limits") {
        let limits = &mut receiver.limits;
        size(reader, &mut fields, "maxRequestBytes", 1024..=GIB, &mut limits.max_request_bytes);
        count(reader, &mut fields, "maxConcurrentRequests", 1..=100_000, &mut limits.max_concurrent_requests);
        size(reader, &mut fields, "queueBytes", MIB..=64 * GIB, &mut limits.queue_bytes);
        if limits.queue_bytes < limits.max_request_bytes {
            reader.wrong(
                at,
                "`limits.queueBytes` is smaller than `limits.maxRequestBytes`: the largest request could never be taken",
                None,
            );
        }
        fields.finish(reader);
    }
    fields.finish(reader);
}

pub(crate) fn section<'a>(reader: &mut Reader, fields: &mut Fields<'a>, name: &'static str) -> Option<Fields<'a>> {
    let at = fields.take(reader, name)?;
    reader.fields(&at)
}

fn address(reader: &mut Reader, fields: &mut Fields<'_>, name: &'static str, field: &mut SocketAddr) {
    if let Some(at) = fields.take(reader, name)
        && let Some(value) = reader.parsed(&at, "an address with a port", "0.0.0.0:4317 or [::]:4317")
    {
        *field = value;
    }
}

pub(crate) fn time(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    name: &'static str,
    range: std::ops::RangeInclusive<Duration>,
    field: &mut Duration,
) {
    if let Some(at) = fields.take(reader, name)
        && let Some(value) = reader.duration(&at, *range.start(), *range.end())
    {
        *field = value;
    }
}

pub(crate) fn size(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    name: &'static str,
    range: std::ops::RangeInclusive<usize>,
    field: &mut usize,
) {
    if let Some(at) = fields.take(reader, name)
        && let Some(value) = reader.bytes(&at, *range.start(), *range.end())
    {
        *field = value;
    }
}

fn count(reader: &mut Reader, fields: &mut Fields<'_>, name: &'static str, range: std::ops::RangeInclusive<i64>, field: &mut usize) {
    if let Some(at) = fields.take(reader, name)
        && let Some(value) = reader.whole(&at, *range.start(), *range.end())
        && let Ok(value) = usize::try_from(value)
    {
        *field = value;
    }
}

fn endpoint(reader: &mut Reader, at: &At<'_>) -> Option<String> {
    let text = reader.text(at)?;
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if rest.is_none_or(str::is_empty) || text.contains(char::is_whitespace) {
        reader.wrong(at, "must be a URL", "such as http://collector:4317".to_owned());
        return None;
    }
    Some(text.to_owned())
}

fn file(reader: &mut Reader, at: &At<'_>, files: &mut Vec<FileRef>, tokens: bool) -> Option<PathBuf> {
    let path = PathBuf::from(reader.text(at)?);
    files.push(FileRef { path: path.clone(), at: at.path.clone(), line: at.line, tokens });
    Some(path)
}
