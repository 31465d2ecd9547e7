//! A leaf of a query plan whose rows are exchanged between runs, so that a plan is made once and run many times.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

/// The exchangeable rows. Clones share them. As a table it has unknown statistics, so that no optimizer rule can
/// replace an aggregate over it by a constant.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    schema: SchemaRef,
    batches: Arc<Mutex<Vec<RecordBatch>>>,
}

// === impl Slot ===

impl Slot {
    pub(crate) fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: Arc::default() }
    }

    /// Sets the rows of the next run and returns those of the last.
    pub(crate) fn put(&self, batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
        std::mem::replace(&mut *self.batches.lock().unwrap_or_else(PoisonError::into_inner), batches)
    }

    pub(crate) fn table(&self) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        Ok(Arc::new(StreamingTable::try_new(Arc::clone(&self.schema), vec![Arc::new(self.clone())])?))
    }

    pub(crate) fn leaf(&self) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(self.clone())];
        Ok(Arc::new(StreamingTableExec::try_new(Arc::clone(&self.schema), partitions, None, None, false, None)?))
    }
}

impl PartitionStream for Slot {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(batches.into_iter().map(Ok))))
    }
}
