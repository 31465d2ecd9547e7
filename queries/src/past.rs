//! SQL over what was recorded: Parquet files of an archive together with rows that are in memory only, with the functions of
//! rules and the window calls of views.
//!
//! ```text
//! catalogue ─▶ PastTable { files, rows } ─▶ Past::prepare(sql) ─▶ PastQuery ─▶ batches, as they come
//!                           └─ files that the statistics rule out are not opened
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Query;
use datafusion_distributed::{DistributedExec, DistributedMetricsFormat};
use futures::future::{BoxFuture, Either, pending, select};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use object_store::ObjectStore;
use tracescale_core::time::Timestamp;

use crate::functions;
use crate::problem::{Complaint, QueryError};
use crate::query;
use crate::relation::HistoryPlanner;
use crate::session::{self, Functions};
use crate::statement;
pub use crate::statement::Asked;
use crate::window::WINDOW_END;

mod channel;
mod cluster;
mod share;
mod table;
mod worker;

pub(crate) use channel::blame;
pub use cluster::Cluster;
pub use worker::worker;

use table::{Provider, Tally};

/// A recorded table.
#[derive(Clone, Debug)]
pub struct PastTable {
    /// Its name in SQL.
    pub name: String,
    /// Its columns. A file that lacks one reads as NULL there.
    pub schema: SchemaRef,
    /// The column of event time.
    pub time_column: String,
    /// Its files.
    pub files: Vec<PastFile>,
    /// Its rows that are in no file.
    pub rows: Vec<RecordBatch>,
}

/// A Parquet file, and what is known of it without opening it.
#[derive(Clone, Debug)]
pub struct PastFile {
    /// Where it is in the store.
    pub path: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Least and greatest event time, where known.
    pub time: Option<(Timestamp, Timestamp)>,
    /// Least and greatest value of text columns, where known.
    pub texts: BTreeMap<String, (String, String)>,
}

/// What queries over the past may take.
#[derive(Clone, Copy, Debug)]
pub struct PastLimits {
    /// Bytes of intermediate results in memory; sorts and joins beyond it go to temporary files.
    pub memory: usize,
    /// Threads that one query keeps busy.
    pub threads: usize,
}

/// Recorded tables to query.
#[derive(Debug)]
pub struct Past {
    tables: BTreeMap<String, PastTable>,
    functions: Functions,
    limits: PastLimits,
    runtime: Arc<RuntimeEnv>,
    store: ObjectStoreUrl,
    cluster: Option<Cluster>,
}

/// A planned query.
#[derive(Debug)]
pub struct PastQuery {
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    reads: BTreeMap<String, Arc<Tally>>,
    asked: Asked,
    cluster: Option<Cluster>,
}

/// How many files of a table a query opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesRead {
    /// Files that the table has.
    pub of: u64,
    /// Files that the statistics leave.
    pub read: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// Where the files of the archive are, to DataFusion: one store, whatever it is.
const STORE: &str = "archive://files";

/// Longest wait for what workers counted, which they tell when all rows are there.
const COUNTS: Duration = Duration::from_secs(10);

/// What runs queries, with the store in it, if there is one.
fn runtime(store: Option<Arc<dyn ObjectStore>>, limits: PastLimits) -> Result<(Arc<RuntimeEnv>, ObjectStoreUrl), DataFusionError> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(limits.memory, 1.0).build_arc()?;
    let url = ObjectStoreUrl::parse(STORE)?;
    if let Some(store) = store {
        let _ = runtime.register_object_store(url.as_ref(), store);
    }
    Ok((runtime, url))
}

// === impl PastLimits ===

impl Default for PastLimits {
    fn default() -> Self {
        Self { memory: 1 << 30, threads: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

// === impl Past ===

impl Past {
    /// Tables over the files of a store, if there is one.
    ///
    /// # Errors
    /// When the limits leave no room to work in.
    pub fn new(tables: Vec<PastTable>, store: Option<Arc<dyn ObjectStore>>, limits: PastLimits) -> Result<Self, QueryError> {
        let (runtime, store) = runtime(store, limits).map_err(|error| QueryError::planning(&error))?;
        let tables = tables.into_iter().map(|table| (table.name.clone(), table)).collect();
        let functions = Functions::new(functions::all(), Vec::new());
        Ok(Self { tables, functions, limits, runtime, store, cluster: None })
    }

    /// The same, with workers that take parts of large queries. They must see the same store.
    #[must_use]
    pub fn with_cluster(self, cluster: Cluster) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// The tables, by name.
    #[must_use]
    pub fn tables(&self) -> &BTreeMap<String, PastTable> {
        &self.tables
    }

    /// The names of all functions that a query may call.
    #[must_use]
    pub fn functions(&self) -> BTreeSet<String> {
        let state = self.builder(&HashMap::new()).build();
        let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys()).chain(state.window_functions().keys());
        names.cloned().chain(["quantile", "latest", "window_seconds", "hop", "tumble"].map(str::to_owned)).collect()
    }

    /// The recorded tables that a query names.
    ///
    /// # Errors
    /// When the SQL does not parse.
    pub fn reads(sql: &str) -> Result<BTreeSet<String>, QueryError> {
        let relations = statement::relations(&statement::parse_asked(sql)?.0);
        let windowed = relations.windowed.iter().map(|call| call.relation_name());
        Ok(relations.plain.iter().cloned().chain(windowed).collect())
    }

    /// Plans a query: the same SQL as in rules and views, over everything that was recorded. `latest()` is the newest
    /// window end that every view of the query has.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the SQL does not parse, is not a query, or names something unknown;
    /// [`QueryError::Worker`] when a worker does not answer.
    pub async fn prepare(&self, sql: &str) -> Result<PastQuery, QueryError> {
        let (mut query, asked) = statement::parse_asked(sql)?;
        let relations = statement::relations(&query);
        if let Some(complaint) = relations.complaints.into_iter().next() {
            return Err(complaint.into());
        }
        let windowed = relations.windowed.iter().map(|call| call.relation_name());
        let names: BTreeSet<String> = relations.plain.iter().cloned().chain(windowed).collect();
        if let Some(unknown) = names.iter().find(|name| !self.tables.contains_key(*name)) {
            return Err(self.unknown(unknown).into());
        }
        let sizes: Vec<f64> = relations.windowed.iter().map(|call| call.windows.size.as_secs_f64()).collect();
        statement::rewrite(&mut query, if let [size] = sizes[..] { Some(size) } else { None })?;
        if let Some(cluster) = self.cluster.as_ref().filter(|_| asked != Asked::Plan) {
            cluster.check().await?;
        }
        self.plan(&query, &names, asked).await.map_err(|error| QueryError::planning(&error))
    }

    async fn plan(&self, query: &Query, names: &BTreeSet<String>, asked: Asked) -> Result<PastQuery, DataFusionError> {
        let mut providers: HashMap<String, Arc<dyn TableProvider>> = HashMap::new();
        let mut reads = BTreeMap::new();
        for table in names.iter().filter_map(|name| self.tables.get(name)) {
            let provider = Provider::new(table.clone(), self.store.clone());
            let _ = reads.insert(table.name.clone(), provider.tally());
            let _ = providers.insert(table.name.clone(), Arc::new(provider));
        }
        let builder = self.builder(&providers);
        let mut state = match &self.cluster {
            Some(cluster) => cluster.plan_with(builder)?,
            None => builder,
        }
        .build();
        let newest = names.iter().filter_map(|name| self.tables.get(name)).filter(|table| table.schema.index_of(WINDOW_END).is_ok());
        query::register_latest(&mut state, newest.filter_map(PastTable::newest).min())?;
        let context = SessionContext::new_with_state(state);
        for (name, provider) in providers {
            let _ = context.register_table(name.as_str(), provider)?;
        }
        let state = context.state();
        let logical = session::plan(&state, query).await?;
        let plan = state.create_physical_plan(&logical).await?;
        let cluster = self.cluster.clone().filter(|_| plan.is::<DistributedExec>());
        Ok(PastQuery { plan, context: context.task_ctx(), reads, asked, cluster })
    }

    fn builder(&self, providers: &HashMap<String, Arc<dyn TableProvider>>) -> SessionStateBuilder {
        let planner = Arc::new(HistoryPlanner { tables: providers.clone() });
        let state = session::history(&self.functions, planner, Arc::clone(&self.runtime));
        let mut config = state.config().clone().with_target_partitions(self.limits.threads);
        let options = config.options_mut();
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.reorder_filters = true;
        // Each plan runs once here.
        options.optimizer.enable_dynamic_filter_pushdown = true;
        SessionStateBuilder::new_from_existing(state).with_config(config)
    }

    fn unknown(&self, name: &str) -> Complaint {
        let known: Vec<&str> = self.tables.keys().map(String::as_str).collect();
        let complaint = Complaint::new(format!("nothing is recorded under the name {name}"));
        match name {
            "activity" | "call_spans" | "increments" => complaint
                .hint("derived streams are not archived; read the views over them: service_load, calls, service_self_time, metric_rates"),
            _ if known.is_empty() => complaint.hint("the archive is empty"),
            _ => complaint.hint(format!("there are: {}", known.join(", "))),
        }
    }
}

// === impl PastTable ===

impl PastTable {
    /// The newest event time of any row, as far as statistics and rows tell.
    fn newest(&self) -> Option<Timestamp> {
        let rows = self.rows.iter().filter_map(|rows| table::times(rows, &self.time_column)).map(|(_, newest)| newest);
        self.files.iter().filter_map(|file| Some(file.time?.1)).chain(rows).max()
    }
}

// === impl PastQuery ===

impl PastQuery {
    /// The columns of the result.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// What is wanted of it.
    #[must_use]
    pub const fn asked(&self) -> Asked {
        self.asked
    }

    /// How many files of each table it opens.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, FilesRead> {
        self.reads.iter().map(|(name, tally)| (name.clone(), tally.read())).collect()
    }

    /// Whether workers take parts of it.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.cluster.is_some()
    }

    /// The plan as indented text; after [`PastQuery::run`] also what each step did and how long it took, on this machine.
    #[must_use]
    pub fn explain(&self, with_metrics: bool) -> String {
        if self.is_distributed() {
            return datafusion_distributed::display_plan_ascii(self.plan.as_ref(), with_metrics);
        }
        let display = if with_metrics {
            DisplayableExecutionPlan::with_metrics(self.plan.as_ref())
        } else {
            DisplayableExecutionPlan::new(self.plan.as_ref())
        };
        display.indent(false).to_string()
    }

    /// The plan with what each step did on all machines together, after the query has run to its end. Without what workers
    /// counted when they do not tell in time.
    ///
    /// # Errors
    /// When the query has not run to its end.
    pub async fn analysis(&self) -> Result<String, QueryError> {
        if !self.is_distributed() {
            return Ok(self.explain(true));
        }
        let told = datafusion_distributed::explain_analyze(Arc::clone(&self.plan), DistributedMetricsFormat::Aggregated);
        match tokio::time::timeout(COUNTS, told).await {
            Ok(told) => told.map_err(QueryError::running),
            Err(_) => Ok(self.explain(true)),
        }
    }

    /// Runs it. Rows come as they are made.
    ///
    /// # Errors
    /// [`QueryError::Failed`] when it cannot begin; the stream has errors of its own.
    pub fn run(&self) -> Result<impl Stream<Item = Result<RecordBatch, QueryError>> + Send + use<>, QueryError> {
        let stream: SendableRecordBatchStream =
            execute_stream(Arc::clone(&self.plan), Arc::clone(&self.context)).map_err(QueryError::running)?;
        let silence = self.cluster.clone().map_or_else(|| pending().boxed(), |cluster| cluster.silence().boxed());
        Ok(until(stream.map(|rows| rows.map_err(QueryError::running)).boxed(), silence))
    }

    /// Runs it and collects all rows.
    ///
    /// # Errors
    /// [`QueryError::Failed`] when a row or a file makes it fail.
    pub async fn collect(&self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut stream = self.run()?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await {
            rows.push(batch?);
        }
        Ok(rows)
    }
}

/// The rows, or an error that comes before the next of them and is the last item.
fn until<T: Send + 'static, E: Send + 'static>(
    rows: BoxStream<'static, Result<T, E>>,
    error: BoxFuture<'static, E>,
) -> BoxStream<'static, Result<T, E>> {
    let rows = futures::stream::unfold(Some((rows, error)), async |running| {
        let (mut rows, error) = running?;
        match select(rows.next(), error).await {
            Either::Left((item, error)) => item.map(|item| (item, Some((rows, error)))),
            Either::Right((error, _)) => Some((Err(error), None)),
        }
    });
    rows.boxed()
}

// === impl Tally ===

impl Tally {
    fn read(&self) -> FilesRead {
        let [of, read, bytes] = [&self.of, &self.read, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        FilesRead { of, read, bytes }
    }
}
