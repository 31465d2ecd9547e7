//! Rows in memory among the tasks of a stage: the first task takes them all.
//!
//! Without this a table with a single row that is in no file would be read by one task, or its files and its rows by one task
//! each: the planner knows how to hand out files and takes everything else to be indivisible.

use std::sync::Arc;

use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{
    DesiredTaskCountEvent, DesiredTaskCountEventResponse, DistributedExt, DistributedLeafExec, ScaleUpLeafNodeEvent,
    ScaleUpLeafNodeEventResponse,
};

/// Makes a session hand out rows in memory so.
pub(super) fn hand_out_rows(builder: SessionStateBuilder) -> Result<SessionStateBuilder, DataFusionError> {
    builder
        .with_distributed_desired_task_count_handler(as_many_as_others)
        .with_distributed_scale_up_leaf_node_handler(to_the_first)
        // Each task reads its share of every input of a union, rather than some inputs whole.
        .with_distributed_children_isolator_unions(false)
}

/// One task is enough for them; more are no harm.
fn as_many_as_others(event: DesiredTaskCountEvent<'_>) -> Option<Result<DesiredTaskCountEventResponse, DataFusionError>> {
    in_memory(event.plan).map(|_| Ok(DesiredTaskCountEventResponse::desired(1)))
}

fn to_the_first(event: ScaleUpLeafNodeEvent<'_>) -> Option<Result<ScaleUpLeafNodeEventResponse, DataFusionError>> {
    let rows = in_memory(event.plan).filter(|_| event.task_count > 1)?;
    Some(split(event.plan, rows, event.task_count))
}

fn split(plan: &Arc<dyn ExecutionPlan>, rows: &MemorySourceConfig, tasks: usize) -> Result<ScaleUpLeafNodeEventResponse, DataFusionError> {
    let nothing = vec![Vec::new(); rows.partitions().len()];
    let nothing: Arc<dyn ExecutionPlan> = MemorySourceConfig::try_new_exec(&nothing, rows.original_schema(), rows.projection().clone())?;
    let shares = (0..tasks).map(|task| Arc::clone(if task == 0 { plan } else { &nothing }));
    Ok(ScaleUpLeafNodeEventResponse::new(Arc::new(DistributedLeafExec::try_new(Arc::clone(plan), shares)?)))
}

fn in_memory(plan: &Arc<dyn ExecutionPlan>) -> Option<&MemorySourceConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<MemorySourceConfig>()
}
