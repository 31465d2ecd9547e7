//! Logs and spans of tracescale itself. Logs go to standard error, or to a file while the live table owns the terminal;
//! spans go over OTLP to another endpoint when one is configured, never to our own receiver.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Where log lines go.
#[derive(Clone, Copy, Debug)]
pub enum Logs<'a> {
    /// Standard error: text on a terminal, JSON lines otherwise.
    Stderr,
    /// A file, as text, because the terminal shows a table.
    File(&'a Path),
}

/// Keeps the exporter of our own spans alive; dropping it sends what is left.
#[derive(Debug, Default)]
pub struct Guard {
    spans: Option<SdkTracerProvider>,
}

/// Starts logging, and exporting our own spans to `otlp_endpoint` when one is given. `RUST_LOG` overrides the level.
///
/// # Errors
/// When the log file or the exporter cannot be made.
pub fn init(logs: Logs<'_>, otlp_endpoint: Option<&str>) -> anyhow::Result<Guard> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,opentelemetry=warn,datafusion=warn"));
    let lines = match logs {
        Logs::Stderr if std::io::stderr().is_terminal() => fmt::layer().with_writer(std::io::stderr).boxed(),
        Logs::Stderr => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        Logs::File(path) => {
            let file = File::options().create(true).append(true).open(path).with_context(|| format!("log file {}", path.display()))?;
            fmt::layer().with_ansi(false).with_writer(BoxMakeWriter::new(Arc::new(file))).boxed()
        }
    };
    let spans = otlp_endpoint.map(exporter).transpose()?;
    let own = spans.as_ref().map(|provider| {
        // Only our own spans: the exporter's transport would otherwise trace its own requests for ever.
        let only_ours = Targets::new().with_target("tracescale", tracing::Level::INFO);
        tracing_opentelemetry::layer().with_tracer(provider.tracer("tracescale")).with_filter(only_ours)
    });
    tracing_subscriber::registry().with(own).with(lines.with_filter(filter)).try_init().context("logging")?;
    Ok(Guard { spans })
}

fn exporter(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("exporter of our own spans to {endpoint}"))?;
    let resource = Resource::builder().with_service_name("tracescale").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

// === impl Guard ===

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.spans.take()
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "could not send the last of our own spans");
        }
    }
}
