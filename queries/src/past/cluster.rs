//! The machines that a query over the past may use: who they are, whether they answer, and what makes a plan spread over them.
//!
//! ```text
//! Past ─▶ plan ─▶ DistributedExec ─▶ stages ─▶ tasks ─┬▶ worker ─▶ files of the archive
//!                     │ top of the plan               ├▶ worker ─▶ …
//!                     └ runs here                     └─ rows in memory travel with the plan
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion_distributed::{ChannelResolver, DistributedExt, GetWorkerInfoRequest, SessionStateBuilderExt, WorkerResolver};
use futures::future::try_join_all;
use tokio::net::TcpStream;
use url::{Host, Url};

use super::channel::{self, Channels};
use super::share;
use crate::problem::{Complaint, QueryError};

/// What a worker tells about itself: plans are written for this version and no other.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Longest that a worker may take to answer before a query begins.
const GREETING: Duration = Duration::from_secs(5);

/// Longest that it may take while a query runs: it has other things to do then.
const PATIENCE: Duration = Duration::from_secs(60);

/// Workers that execute parts of queries. One alone is not used: it would do what can be done here.
#[derive(Clone)]
pub struct Cluster {
    workers: Workers,
    channels: Channels,
    share: usize,
    patience: Duration,
}

/// Their addresses.
#[derive(Clone, Debug)]
struct Workers(Arc<[Url]>);

// === impl Cluster ===

impl Cluster {
    /// Bytes of files for each thread before another machine pays: less takes longer to hand out than to read.
    pub const SHARE: usize = 16 << 20;

    /// Workers by their addresses, such as `http://10.0.0.7:4319`.
    ///
    /// # Errors
    /// When there is none, one is named twice, or an address is not of that form.
    pub fn new<T: AsRef<str>>(workers: &[T]) -> Result<Self, QueryError> {
        let workers = workers.iter().map(|worker| address(worker.as_ref())).collect::<Result<Vec<Url>, Complaint>>()?;
        if workers.is_empty() {
            return Err(Complaint::new("there is no worker to send a query to").into());
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = workers.iter().find(|worker| !seen.insert(worker.as_str())) {
            return Err(Complaint::new(format!("worker {twice} is named twice")).into());
        }
        Ok(Self { workers: Workers(workers.into()), channels: Channels::default(), share: Self::SHARE, patience: PATIENCE })
    }

    /// With so many bytes of files for each thread of a machine before another one takes a part.
    #[must_use]
    pub fn with_share(self, bytes: usize) -> Self {
        Self { share: bytes.max(1), ..self }
    }

    /// With so long for a worker to answer while a query runs, a minute otherwise.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks all workers whether they are there and understand our plans: better now than in the middle of a query.
    pub(super) async fn check(&self) -> Result<(), QueryError> {
        try_join_all(self.workers.0.iter().map(|url| self.check_worker(url))).await.map(drop)
    }

    async fn check_worker(&self, url: &Url) -> Result<(), QueryError> {
        let asked = async {
            // The library says no more than "transport error".
            reach(url).await.map_err(|error| error.to_string())?;
            self.version(url).await.map_err(|error| channel::reason(&error))
        };
        let problem = match tokio::time::timeout(GREETING, asked).await {
            Ok(Ok(version)) if version == VERSION => return Ok(()),
            Ok(Ok(version)) => format!("is of version {version:?}, but plans are written for {VERSION}; run the same version everywhere"),
            Ok(Err(reason)) => format!("cannot be reached: {reason}; {}", channel::UNREACHED),
            Err(_) => format!("does not answer within {GREETING:?}; {}", channel::UNREACHED),
        };
        Err(QueryError::Worker { url: url.to_string(), problem })
    }

    async fn version(&self, url: &Url) -> Result<String, DataFusionError> {
        let mut worker = self.channels.get_worker_client_for_url(url).await?;
        Ok(worker.get_worker_info(GetWorkerInfoRequest {}).await?.version)
    }

    /// Waits until a worker has stopped to answer: a machine that loses its power breaks no connection.
    pub(super) async fn silence(self) -> QueryError {
        loop {
            tokio::time::sleep(self.patience / 4).await;
            let silent = try_join_all(self.workers.0.iter().map(|url| self.hear(url))).await;
            if let Err(url) = silent {
                return channel::lost(url.to_string(), &format!("no answer within {:?}", self.patience));
            }
        }
    }

    /// A connection that breaks is an answer, and the query's own affair.
    async fn hear<'a>(&self, url: &'a Url) -> Result<(), &'a Url> {
        tokio::time::timeout(self.patience, self.version(url)).await.map(drop).map_err(|_| url)
    }

    /// Makes a session plan for these workers.
    pub(super) fn plan_with(&self, builder: SessionStateBuilder) -> Result<SessionStateBuilder, DataFusionError> {
        let builder = builder
            .with_distributed_worker_resolver(self.workers.clone())
            .with_distributed_channel_resolver(self.channels.clone())
            .with_distributed_file_scan_config_bytes_per_partition(self.share)?;
        Ok(share::hand_out_rows(builder)?.with_distributed_planner())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("workers", &self.workers).field("share", &self.share).finish_non_exhaustive()
    }
}

// === impl Workers ===

impl WorkerResolver for Workers {
    fn get_urls(&self) -> Result<Vec<Url>, DataFusionError> {
        Ok(self.0.to_vec())
    }
}

async fn reach(url: &Url) -> io::Result<()> {
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => String::new(),
    };
    TcpStream::connect((host, url.port_or_known_default().unwrap_or_default())).await.map(drop)
}

fn address(text: &str) -> Result<Url, Complaint> {
    let wrong = |what: &str| Complaint::new(format!("worker {text:?}: {what}")).hint("write http://HOST:PORT");
    let url = Url::parse(text.trim()).map_err(|error| wrong(&error.to_string()))?;
    match () {
        () if url.scheme() != "http" => Err(wrong("workers speak plain HTTP/2")),
        () if url.host_str().is_none_or(str::is_empty) => Err(wrong("there is no host")),
        () if url.path() != "/" || url.query().is_some() || url.fragment().is_some() => Err(wrong("there is something behind the port")),
        () if !url.username().is_empty() || url.password().is_some() => Err(wrong("there is no authentication")),
        () => Ok(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: what is not the address of a worker is refused with the text and what to write in its place.
    #[test]
    fn addresses_are_checked() {
        for good in ["http://10.0.0.7:4319", "http://worker-1:80/", " http://[::1]:4319"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["10.0.0.7:4319", "https://a:1", "http://a:1/x", "http://u:p@a:1", "http://:1", ""] {
            let complaint = address(bad).unwrap_err();
            assert!(complaint.message.contains(&format!("{bad:?}")) && complaint.hint.is_some(), "{complaint:?}");
        }
        assert!(Cluster::new::<&str>(&[]).is_err());
        assert!(Cluster::new(&["http://a:1", "http://a:1/"]).unwrap_err().to_string().contains("twice"));
    }
}
