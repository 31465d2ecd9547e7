//! The other side of a query over several machines: a process that executes the parts of plans that it is sent.

use std::sync::Arc;

use datafusion::common::exec_err;
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion_distributed::{DistributedExt, Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext};
use object_store::ObjectStore;

use super::channel::Channels;
use super::cluster::VERSION;
use super::{PastLimits, runtime};
use crate::functions;
use crate::problem::QueryError;
use crate::session::{self, Functions};

/// A worker over the files of a store; the limits are those of all queries together.
///
/// It takes plans from whoever reaches it. They may read the whole store, and nothing else; they cannot write.
///
/// # Errors
/// When the limits leave no room to work in.
pub fn worker(store: Arc<dyn ObjectStore>, limits: PastLimits) -> Result<Worker, QueryError> {
    let runtime = confined(store, limits).map_err(|error| QueryError::planning(&error))?;
    let functions = Arc::new(Functions::new(functions::all(), Vec::new()));
    let channels = Channels::default();
    let session = move |context: WorkerQueryContext| {
        let (functions, channels) = (Arc::clone(&functions), channels.clone());
        async move {
            let builder = session::executing(&functions, context.builder);
            Ok(builder.with_distributed_channel_resolver(channels).with_distributed_worker_plan_rewrite_handler(reads_only).build())
        }
    };
    Ok(Worker::from_session_builder(session).with_runtime_env(runtime).with_version(VERSION))
}

/// A runtime that knows the archive and no other files: not even those of this machine.
fn confined(store: Arc<dyn ObjectStore>, limits: PastLimits) -> Result<Arc<RuntimeEnv>, DataFusionError> {
    let (runtime, _) = runtime(Some(store), limits)?;
    let _ = runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    Ok(runtime)
}

fn reads_only(event: WorkerPlanRewriteEvent<'_>) -> Result<WorkerPlanRewriteEventResponse, DataFusionError> {
    if event.plan.exists(|node| Ok(node.is::<DataSinkExec>()))? {
        return exec_err!("a worker reads the archive and writes nothing");
    }
    Ok(WorkerPlanRewriteEventResponse::new(event.plan))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::past::STORE;

    /// Guarantees: a plan that is sent to a worker finds the archive there, and not the files of the machine.
    #[test]
    fn a_worker_has_no_other_files() {
        let runtime = confined(Arc::new(InMemory::new()), PastLimits::default()).unwrap();
        assert!(runtime.object_store(ObjectStoreUrl::parse(STORE).unwrap()).is_ok());
        assert!(runtime.object_store(ObjectStoreUrl::local_filesystem()).is_err());
    }
}
