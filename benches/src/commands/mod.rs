//! The subcommands.

pub(crate) mod archive;
pub(crate) mod backtest;
pub(crate) mod bodies;
pub(crate) mod crash;
pub(crate) mod decode;
pub(crate) mod history;
pub(crate) mod keep;
pub(crate) mod memory;
pub(crate) mod overload;
pub(crate) mod plans;
pub(crate) mod reaction;
pub(crate) mod receive;
pub(crate) mod rules;
pub(crate) mod server;
pub(crate) mod versus;
pub(crate) mod windows;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tracescale_benches::body::Template;
use tracescale_benches::generate::{Attributes, BASE, TraceGenerator, TraceShape};

/// How the traces of a benchmark look.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Shape {
    /// Spans in a request.
    #[arg(long, default_value_t = 512)]
    spans: usize,
    /// Services.
    #[arg(long, default_value_t = 8)]
    services: usize,
    /// Instances of each service; every instance is a resource of the request.
    #[arg(long, default_value_t = 2)]
    instances: usize,
    /// Seed of the generator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

// === impl Shape ===

impl Shape {
    /// Spans in a request.
    pub(crate) const fn spans(self) -> usize {
        self.spans
    }

    /// So many different requests, ready to be re-dated.
    pub(crate) fn templates(self, attributes: Attributes, count: usize) -> Result<Vec<Template>> {
        let Self { spans, services, instances, seed } = self;
        let mut generator = TraceGenerator::new(TraceShape { seed, first_service: 0, services, instances, spans, attributes });
        (0..count).map(|_| Template::new(&generator.request(BASE, Duration::ZERO), BASE)).collect()
    }
}

/// A runtime for commands that speak to a server: one thread, so that the other processors are the server's.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A port of the loopback interface that was free a moment ago.
pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
