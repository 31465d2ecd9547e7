//! A recorded table as DataFusion sees it: which files a filter leaves, and a scan of those.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use tracescale_core::time::Timestamp;

use super::{PastFile, PastTable};

/// The last bytes of a file that are read first: its footer and page index are there.
const FOOTER_BYTES: usize = 256 << 10;

/// The table.
#[derive(Debug)]
pub(super) struct Provider {
    table: PastTable,
    store: ObjectStoreUrl,
    tally: Arc<Tally>,
}

/// Files that the scans of one query open.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) of: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// What is known of files, as columns: one row each.
struct Known<'a> {
    files: &'a [PastFile],
    time_column: &'a str,
    schema: &'a SchemaRef,
}

// === impl Provider ===

impl Provider {
    pub(super) fn new(table: PastTable, store: ObjectStoreUrl) -> Self {
        Self { table, store, tally: Arc::default() }
    }

    pub(super) fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    fn files(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> Result<Vec<PastFile>, DataFusionError> {
        let files = &self.table.files;
        let Some(predicate) = predicate else { return Ok(files.clone()) };
        let pruning = PruningPredicateBuilder::new().with_file_schema(Arc::clone(&self.table.schema)).try_build(Arc::clone(predicate))?;
        let known = Known { files, time_column: &self.table.time_column, schema: &self.table.schema };
        let keep = pruning.prune(&known)?;
        Ok(files.iter().zip(keep).filter(|(_, keep)| *keep).map(|(file, _)| file.clone()).collect())
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        files: &[PastFile],
        predicate: Option<Arc<dyn PhysicalExpr>>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let runtime = state.runtime_env();
        let store = runtime.object_store(&self.store)?;
        let cache = runtime.cache_manager.get_file_metadata_cache();
        let options = &state.config().options().execution.parquet;
        let mut source = ParquetSource::new(Arc::clone(&self.table.schema))
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(store, cache)))
            .with_metadata_size_hint(FOOTER_BYTES)
            .with_pushdown_filters(options.pushdown_filters)
            .with_reorder_filters(options.reorder_filters)
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true);
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate);
        }
        let files = files.iter().map(|file| PartitionedFile::new(file.path.clone(), file.bytes)).collect();
        let config = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(FileGroup::new(files).split_files(state.config().target_partitions()))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    /// Only the columns that are wanted: with workers, these rows travel with the plan.
    fn scan_rows(&self, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let (mut rows, mut schema) = (self.table.rows.clone(), Arc::clone(&self.table.schema));
        if let Some(columns) = projection {
            rows = rows.iter().map(|rows| rows.project(columns)).collect::<Result<_, _>>()?;
            schema = Arc::new(schema.project(columns)?);
        }
        let scan: Arc<dyn ExecutionPlan> = MemorySourceConfig::try_new_exec(&[rows], schema, None)?;
        Ok(scan)
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        // They rule out files, row groups and pages; what is left is filtered again.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let predicate = match conjunction(filters.to_vec()) {
            Some(filter) => Some(state.create_physical_expr(filter, &DFSchema::try_from(Arc::clone(&self.table.schema))?)?),
            None => None,
        };
        let files = self.files(predicate.as_ref())?;
        let count = |count: &AtomicU64, by: u64| count.fetch_add(by, Ordering::Relaxed);
        let _ = count(&self.tally.of, self.table.files.len() as u64);
        let _ = count(&self.tally.read, files.len() as u64);
        let _ = count(&self.tally.bytes, files.iter().map(|file| file.bytes).sum());
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !files.is_empty() {
            inputs.push(self.scan_files(state, &files, predicate, projection, limit)?);
        }
        if !self.table.rows.is_empty() || inputs.is_empty() {
            inputs.push(self.scan_rows(projection)?);
        }
        match inputs.len() {
            1 => Ok(inputs.swap_remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}

// === impl Known ===

impl Known<'_> {
    fn bounds(&self, column: &Column, greatest: bool) -> Option<ArrayRef> {
        let (_, field) = self.schema.column_with_name(column.name())?;
        if column.name() == self.time_column {
            let times = self.files.iter().map(|file| file.time.map(|(least, most)| if greatest { most } else { least }.as_nanos()));
            return Some(Arc::new(times.collect::<TimestampNanosecondArray>()));
        }
        let texts = self
            .files
            .iter()
            .map(|file| file.texts.get(column.name()).map(|(least, most)| if greatest { most.as_str() } else { least.as_str() }));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        match field.data_type() {
            DataType::Utf8 => Some(texts),
            // Compared with values of the column's own type.
            DataType::Dictionary(_, value) if **value == DataType::Utf8 => arrow::compute::cast(&texts, field.data_type()).ok(),
            _ => None,
        }
    }
}

impl PruningStatistics for Known<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, false)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, true)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.files.iter().map(|file| file.rows))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Least and greatest time in a column of rows.
pub(super) fn times(rows: &RecordBatch, column: &str) -> Option<(Timestamp, Timestamp)> {
    let times = rows.column_by_name(column)?.as_primitive_opt::<TimestampNanosecondType>()?;
    Some((Timestamp::from_nanos(arrow::compute::min(times)?), Timestamp::from_nanos(arrow::compute::max(times)?)))
}
