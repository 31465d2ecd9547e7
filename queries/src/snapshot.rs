//! SQL over what the views emitted: for rules, the console and whoever asks, on any runtime, without holding up the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use tracescale_core::time::Timestamp;

use crate::history::{Face, History};
use crate::problem::{Complaint, QueryError};
use crate::query::Planned;
use crate::session::Functions;
use crate::statement;

/// The emitted rows of every view at one moment. Cheap to clone and to hold.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) views: Arc<BTreeMap<String, History>>,
    pub(crate) functions: Functions,
    /// When it was taken, for `now()`.
    pub(crate) now: Option<Timestamp>,
}

/// What one query may take.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// Wall time.
    pub time: Duration,
    /// Bytes of intermediate results; nothing is ever spilled to disk.
    pub memory: usize,
}

/// A query that was planned once and runs on any later snapshot.
#[derive(Debug)]
pub struct Prepared {
    planned: Planned,
    /// Extra tables that were announced when it was planned.
    extra: BTreeMap<String, SchemaRef>,
    limits: QueryLimits,
    latest_only: bool,
}

// === impl QueryLimits ===

impl Default for QueryLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), memory: 256 << 20 }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The views and their columns.
    pub fn views(&self) -> impl Iterator<Item = (&str, &SchemaRef)> {
        self.views.iter().map(|(name, history)| (name.as_str(), history.schema()))
    }

    /// The newest window end of a view.
    #[must_use]
    pub fn latest(&self, view: &str) -> Option<Timestamp> {
        self.views.get(view)?.newest()
    }

    /// Runs one query over the views and over `extra` tables, within the default limits. `latest()` is the newest window end
    /// that every view of the query has.
    ///
    /// # Errors
    /// [`QueryError`] says where the SQL is wrong, or what failed.
    pub async fn query(&self, sql: &str, extra: &[(&str, RecordBatch)]) -> Result<Vec<RecordBatch>, QueryError> {
        self.query_within(sql, extra, QueryLimits::default()).await
    }

    /// [`Snapshot::query`] within given limits.
    ///
    /// # Errors
    /// [`QueryError`] says where the SQL is wrong, or what failed.
    pub async fn query_within(
        &self,
        sql: &str,
        extra: &[(&str, RecordBatch)],
        limits: QueryLimits,
    ) -> Result<Vec<RecordBatch>, QueryError> {
        let schemas: Vec<(&str, SchemaRef)> = extra.iter().map(|(name, rows)| (*name, rows.schema())).collect();
        let mut prepared = self.prepare_within(sql, &schemas, limits).await?;
        prepared.run(self, extra).await
    }

    /// Plans a query that will run often. `extra` announces the tables that each run brings along.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the SQL does not parse, is not a query, or names something unknown.
    pub async fn prepare(&self, sql: &str, extra: &[(&str, SchemaRef)]) -> Result<Prepared, QueryError> {
        self.prepare_within(sql, extra, QueryLimits::default()).await
    }

    /// [`Snapshot::prepare`] within given limits, which hold for each run.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the SQL does not parse, is not a query, or names something unknown.
    pub async fn prepare_within(&self, sql: &str, extra: &[(&str, SchemaRef)], limits: QueryLimits) -> Result<Prepared, QueryError> {
        let mut query = statement::parse_query(sql)?;
        let relations = statement::relations(&query);
        if let Some(complaint) = relations.complaints.into_iter().next() {
            return Err(complaint.into());
        }
        let mut tables: BTreeMap<String, SchemaRef> =
            self.views.iter().map(|(name, history)| (name.clone(), Arc::clone(history.schema()))).collect();
        let extra: BTreeMap<String, SchemaRef> = extra.iter().map(|(name, schema)| ((*name).to_owned(), Arc::clone(schema))).collect();
        tables.extend(extra.clone());
        if let Some(unknown) = relations.plain.iter().find(|name| !tables.contains_key(*name)) {
            let known: Vec<&str> = tables.keys().map(String::as_str).collect();
            return Err(Complaint::new(format!("there is no view {unknown}")).hint(format!("there are: {}", known.join(", "))).into());
        }
        let sizes: Vec<Duration> = relations.windowed.iter().map(|call| call.windows.size).collect();
        let seconds = if let [size] = sizes[..] { Some(size.as_secs_f64()) } else { None };
        statement::rewrite(&mut query, seconds)?;
        let runtime = runtime(limits.memory)?;
        let planned = Planned::new(&query, &tables, &self.functions, runtime).await.map_err(|error| QueryError::planning(&error))?;
        let latest_only = statement::reads_latest_only(&query);
        Ok(Prepared { planned, extra, limits, latest_only })
    }
}

// === impl Prepared ===

impl Prepared {
    /// The columns of the result.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.planned.schema()
    }

    /// The views and extra tables that the query reads.
    pub fn reads(&self) -> impl Iterator<Item = &str> {
        self.planned.reads()
    }

    /// Runs the query on a snapshot. An announced table that is not in `extra` is empty.
    ///
    /// # Errors
    /// [`QueryError::Failed`] when a row makes it fail, [`QueryError::TimedOut`] when it takes too long.
    pub async fn run(&mut self, snapshot: &Snapshot, extra: &[(&str, RecordBatch)]) -> Result<Vec<RecordBatch>, QueryError> {
        self.run_over(snapshot, extra, Face::All).await
    }

    /// [`Prepared::run`] over final windows only: `latest()` is then the newest final window end. One SQL text so gives a fast
    /// answer and one that is safe to scale in on.
    ///
    /// # Errors
    /// As [`Prepared::run`].
    pub async fn run_final(&mut self, snapshot: &Snapshot, extra: &[(&str, RecordBatch)]) -> Result<Vec<RecordBatch>, QueryError> {
        self.run_over(snapshot, extra, Face::Final).await
    }

    async fn run_over(
        &mut self,
        snapshot: &Snapshot,
        extra: &[(&str, RecordBatch)],
        windows: Face,
    ) -> Result<Vec<RecordBatch>, QueryError> {
        for (name, rows) in extra {
            if self.extra.get(*name).is_some_and(|schema| schema.fields() != rows.schema_ref().fields()) {
                return Err(Complaint::new(format!("the columns of table {name} have changed since the query was planned")).into());
            }
        }
        let views: Vec<&str> = self.planned.reads().filter(|name| !self.extra.contains_key(*name)).collect();
        let newest = |name: &&str| snapshot.views.get(*name)?.newest_of(windows);
        let latest = views.iter().filter_map(newest).min();
        let limit = self.limits.time;
        let newest = latest.filter(|_| self.latest_only && views.len() == 1);
        let rows = |name: &str| {
            let brought = extra.iter().filter(|(extra, _)| *extra == name).map(|(_, rows)| rows.clone()).collect::<Vec<_>>();
            let is_view = brought.is_empty() && !self.extra.contains_key(name);
            match (is_view.then(|| snapshot.views.get(name)).flatten(), newest) {
                (Some(view), Some(end)) => view.get(end).map(|window| window.rows.clone()).into_iter().collect(),
                (Some(view), None) => view.batches(windows),
                (None, _) => brought,
            }
        };
        match tokio::time::timeout(limit, self.planned.run((latest, snapshot.now.or(latest)), rows)).await {
            Ok(result) => result.map_err(QueryError::running),
            Err(_) => Err(QueryError::TimedOut { limit }),
        }
    }
}

/// Runs one query over rows that are all there, with the same SQL as live views: `HOP` and `TUMBLE` assign each row to every
/// window that covers it. For archives, backtests, and as the oracle of the engine.
///
/// # Errors
/// [`QueryError`] says where the SQL is wrong, or what failed.
pub async fn history_query(sql: &str, tables: &[(&str, RecordBatch)]) -> Result<Vec<RecordBatch>, QueryError> {
    let functions = Functions::new(Vec::new(), Vec::new());
    Snapshot { views: Arc::default(), functions, now: None }.query(sql, tables).await
}

fn runtime(memory: usize) -> Result<Arc<RuntimeEnv>, QueryError> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let builder = RuntimeEnvBuilder::new().with_memory_limit(memory, 1.0).with_disk_manager_builder(disk);
    builder.build_arc().map_err(|error| QueryError::planning(&error))
}
