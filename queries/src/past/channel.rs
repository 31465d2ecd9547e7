//! Connections to workers whose errors say which worker it was, and what of such an error the user should read.
//!
//! A worker reads from other workers, so an error may have come a long way: what is known of its origin is kept in contexts of
//! DataFusion's errors, which are the only part of them that crosses the network unharmed.

use std::error::Error;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_distributed::grpc::DefaultChannelResolver;
use datafusion_distributed::{
    ChannelResolver, CoordinatorToWorkerMsg, ExecuteTaskRequest, GetWorkerInfoRequest, GetWorkerInfoResponse, SetPlanRequest,
    WorkerChannel, WorkerToCoordinatorMsg,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use url::Url;

use crate::problem::{QueryError, text};

/// What to do about a worker that does not answer.
pub(super) const UNREACHED: &str = "start `tracescale worker` there, or leave it out of --workers";

/// What to do about a worker that went away.
const RETRY: &str = "run the query again, or without this worker";

/// The contexts of errors: the worker went away, the worker says.
const LOST: &str = "lost worker ";
const FROM: &str = "from worker ";

/// Connections to workers, one to each.
#[derive(Clone, Default)]
pub(super) struct Channels {
    channels: DefaultChannelResolver,
}

/// A connection to a worker.
struct Named {
    url: Url,
    channel: Box<dyn WorkerChannel>,
}

// === impl Channels ===

#[async_trait]
impl ChannelResolver for Channels {
    async fn get_worker_client_for_url(&self, url: &Url) -> Result<Box<dyn WorkerChannel>, DataFusionError> {
        let channel = self.channels.get_worker_client_for_url(url).await.map_err(|error| error.context(format!("{LOST}{url}")))?;
        Ok(Box::new(Named { url: url.clone(), channel }))
    }
}

// === impl Named ===

#[async_trait]
impl WorkerChannel for Named {
    async fn coordinator_channel(
        &mut self,
        headers: HeaderMap,
        plan: SetPlanRequest,
        messages: BoxStream<'static, CoordinatorToWorkerMsg>,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<WorkerToCoordinatorMsg, DataFusionError>>, DataFusionError> {
        let answers = self.channel.coordinator_channel(headers, plan, messages, metrics, context).await;
        Ok(named(answers.map_err(|error| name(&self.url, error))?, &self.url))
    }

    async fn execute_task(
        &mut self,
        headers: HeaderMap,
        request: ExecuteTaskRequest,
        metrics: ExecutionPlanMetricsSet,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<BoxStream<'static, Result<RecordBatch, DataFusionError>>>, DataFusionError> {
        let partitions = self.channel.execute_task(headers, request, metrics, context).await.map_err(|error| name(&self.url, error))?;
        Ok(partitions.into_iter().map(|rows| named(rows, &self.url)).collect())
    }

    async fn get_worker_info(&mut self, request: GetWorkerInfoRequest) -> Result<GetWorkerInfoResponse, DataFusionError> {
        self.channel.get_worker_info(request).await
    }
}

fn named<T: 'static>(stream: BoxStream<'static, Result<T, DataFusionError>>, url: &Url) -> BoxStream<'static, Result<T, DataFusionError>> {
    let url = url.clone();
    stream.map(move |item| item.map_err(|error| name(&url, error))).boxed()
}

/// Says where an error comes from, unless a worker behind this one has said so.
fn name(url: &Url, error: DataFusionError) -> DataFusionError {
    if origin(&error).is_some() {
        return error;
    }
    // What a worker reports is any other kind of error: this one is of the connection.
    let kind = if matches!(error.find_root(), DataFusionError::External(_)) { LOST } else { FROM };
    error.context(format!("{kind}{url}"))
}

/// The context that names a worker, and what is below it.
fn origin(error: &DataFusionError) -> Option<(&str, &DataFusionError)> {
    match error {
        DataFusionError::Context(context, below) if context.starts_with(LOST) || context.starts_with(FROM) => Some((context, below)),
        DataFusionError::Context(_, below) | DataFusionError::Diagnostic(_, below) => origin(below),
        DataFusionError::Shared(below) => origin(below),
        DataFusionError::Collection(errors) => errors.iter().find_map(origin),
        _ => None,
    }
}

/// The error of a query as its user should read it, when a worker is behind it.
pub(crate) fn blame(error: &DataFusionError) -> Option<QueryError> {
    let (context, below) = origin(error)?;
    let reason = reason(below);
    Some(match context.strip_prefix(LOST) {
        Some(url) => lost(url.to_owned(), &reason),
        None => QueryError::Worker { url: context.strip_prefix(FROM).unwrap_or_default().to_owned(), problem: format!("failed: {reason}") },
    })
}

/// A worker went away in the middle of a query.
pub(super) fn lost(url: String, reason: &str) -> QueryError {
    QueryError::Worker { url, problem: format!("was lost while the query ran: {reason}; {RETRY}") }
}

/// The innermost words of an error: those of the system rather than of the layers above it.
pub(super) fn reason(error: &DataFusionError) -> String {
    let root = error.find_root();
    let DataFusionError::External(external) = root else { return connecting(text(root)) };
    let mut innermost: &dyn Error = external.as_ref();
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Without the library's words for "cannot connect", which repeat ours.
fn connecting(text: String) -> String {
    match text.rsplit_once("': ") {
        Some((before, rest)) if before.starts_with("Error connecting to") => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(port: u16) -> Url {
        Url::parse(&format!("http://10.0.0.7:{port}")).unwrap()
    }

    /// Guarantees: an error that passed through several workers names the one that it began at, and whether that one is lost or
    /// has something to say.
    #[test]
    fn the_first_worker_is_blamed() {
        let broken = || DataFusionError::External(Box::new(std::io::Error::other("broken pipe")));
        let lost = blame(&name(&url(2), name(&url(1), broken()))).unwrap().to_string();
        assert!(lost.contains(":1/ was lost") && lost.contains("broken pipe") && lost.contains("run the query again"), "{lost}");
        let shared = DataFusionError::Shared(Arc::new(name(&url(1), DataFusionError::Execution("divided by zero".to_owned()))));
        let failed = blame(&name(&url(2), shared)).unwrap().to_string();
        assert!(failed.contains(":1/ failed: divided by zero"), "{failed}");
        assert!(blame(&broken()).is_none());
    }
}
