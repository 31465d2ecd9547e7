//! Views filled by hand, for tests of rules: `INSERT`, `UPDATE` and `DELETE` put rows into them, then rules run over them as they do
//! over live ones.
//!
//! A column that an `INSERT` does not name is NULL, but for those that say how good a row is: its window then ended at
//! [`DEFAULT_END`] and is final and complete, and its service is active.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, concat_batches, filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParser, Statement as DfStatement};
use datafusion::sql::sqlparser::ast::Statement;
use tracescale_core::time::Timestamp;

use crate::config::Emission;
use crate::history::History;
use crate::problem::{Complaint, QueryError};
use crate::relation::HistoryPlanner;
use crate::session;
use crate::snapshot::Snapshot;
use crate::window::{WINDOW_END, WINDOW_START};

/// The end of the window of a row that does not name one: 2026-01-01T00:00:00Z.
pub const DEFAULT_END: Timestamp = Timestamp::from_secs(1_767_225_600);
/// The length of its window.
const LENGTH: Duration = Duration::from_secs(60);

/// Views and other tables, filled by hand.
pub struct Testbed {
    views: BTreeMap<String, SchemaRef>,
    snapshot: Snapshot,
    context: SessionContext,
}

// === impl Testbed ===

impl Testbed {
    /// The views of a snapshot and other tables, all empty.
    ///
    /// # Errors
    /// When a table cannot be made.
    pub fn new(snapshot: Snapshot, others: &[(&str, SchemaRef)]) -> Result<Self, QueryError> {
        let planner = Arc::new(HistoryPlanner { tables: std::collections::HashMap::default() });
        let context = SessionContext::new_with_state(session::history(&snapshot.functions, planner, Arc::default()));
        let views: BTreeMap<String, SchemaRef> = snapshot.views().map(|(name, schema)| (name.to_owned(), Arc::clone(schema))).collect();
        let bed = Self { views, snapshot, context };
        let tables =
            bed.views.iter().map(|(name, schema)| (name.as_str(), schema)).chain(others.iter().map(|(name, schema)| (*name, schema)));
        for (name, schema) in tables {
            bed.put(name, RecordBatch::new_empty(Arc::clone(schema)))?;
        }
        Ok(bed)
    }

    /// Gives a table other rows, and other columns if need be.
    ///
    /// # Errors
    /// When the table cannot be made.
    pub fn put(&self, name: &str, rows: RecordBatch) -> Result<(), QueryError> {
        let table = || {
            let _ = self.context.deregister_table(name)?;
            self.context.register_table(name, Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
        };
        table().map(|_| ()).map_err(|error| QueryError::planning(&error))
    }

    /// Runs a statement. Of a query these are its rows; a statement that changes a table gives their number.
    ///
    /// # Errors
    /// When it does not parse, names something unknown, or fails; files are not read or written.
    pub async fn run(&self, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
        let statements = DFParser::parse_sql(sql).map_err(|error| QueryError::planning(&error))?;
        let is_known = |statement: &DfStatement| match statement {
            DfStatement::Statement(statement) => {
                matches!(**statement, Statement::Query(_) | Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_))
            }
            _ => false,
        };
        if statements.len() != 1 || !statements.iter().all(is_known) {
            return Err(Complaint::new("expected one SELECT, INSERT, UPDATE or DELETE").into());
        }
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_statements(false);
        let frame = self.context.sql_with_options(sql, options).await.map_err(|error| QueryError::planning(&error))?;
        frame.collect().await.map_err(QueryError::running)
    }

    /// The rows of a table as one batch.
    ///
    /// # Errors
    /// When there is no such table.
    pub async fn rows(&self, name: &str) -> Result<RecordBatch, QueryError> {
        let rows = async {
            let frame = self.context.table(name).await?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            Ok::<_, DataFusionError>(concat_batches(&schema, &frame.collect().await?)?)
        };
        rows.await.map_err(QueryError::running)
    }

    /// The views as rules see them.
    ///
    /// # Errors
    /// When a row cannot be completed.
    pub async fn snapshot(&self) -> Result<Snapshot, QueryError> {
        let mut views = BTreeMap::new();
        for (name, schema) in &self.views {
            let rows = self.rows(name).await?;
            let rows = RecordBatch::try_new(Arc::clone(schema), rows.columns().to_vec()).and_then(|rows| completed(&rows));
            let history = rows.and_then(|rows| history(name, schema, &rows));
            let _ = views.insert(name.clone(), history.map_err(|error| QueryError::running(error.into()))?);
        }
        Ok(Snapshot { views: Arc::new(views), functions: self.snapshot.functions.clone(), now: self.snapshot.now })
    }

    /// The newest window end of all views, or [`DEFAULT_END`].
    ///
    /// # Errors
    /// As [`Testbed::snapshot`].
    pub async fn now(&self) -> Result<Timestamp, QueryError> {
        let snapshot = self.snapshot().await?;
        let newest = snapshot.views.values().filter_map(History::newest).max();
        Ok(newest.unwrap_or(DEFAULT_END))
    }
}

impl std::fmt::Debug for Testbed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Testbed").field("views", &self.views.keys()).finish_non_exhaustive()
    }
}

/// Rows with defaults in place of what they do not say of their own quality.
fn completed(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let time = |time: Timestamp| -> ArrayRef { Arc::new(arrow::array::TimestampNanosecondArray::from(vec![time.as_nanos()])) };
    let number = |number: f64| -> ArrayRef { Arc::new(arrow::array::Float64Array::from(vec![number])) };
    let defaults: [(&str, ArrayRef); 7] = [
        (WINDOW_START, time(DEFAULT_END - LENGTH)),
        (WINDOW_END, time(DEFAULT_END)),
        ("is_final", Arc::new(BooleanArray::from(vec![true]))),
        ("revision", Arc::new(arrow::array::Int32Array::from(vec![0]))),
        ("completeness", number(1.0)),
        ("age", number(0.0)),
        ("presence", Arc::new(arrow::array::StringArray::from(vec!["active"]))),
    ];
    let mut columns = rows.columns().to_vec();
    for (name, default) in defaults {
        let Ok(place) = rows.schema_ref().index_of(name) else { continue };
        let column = &columns[place];
        if column.null_count() > 0 {
            let default = cast(&default, column.data_type())?;
            columns[place] = zip(&is_not_null(column)?, column, &Scalar::new(default))?;
        }
    }
    RecordBatch::try_new(rows.schema(), columns)
}

/// Rows by their windows; a window is final when all of its rows are.
fn history(name: &str, schema: &SchemaRef, rows: &RecordBatch) -> Result<History, ArrowError> {
    let mut history = History::new(Arc::clone(schema));
    let missing = || ArrowError::SchemaError(format!("{name} has no times in {WINDOW_END}"));
    let ends = rows.column_by_name(WINDOW_END).and_then(|ends| ends.as_primitive_opt::<TimestampNanosecondType>()).ok_or_else(missing)?;
    let finals = rows.column_by_name("is_final").cloned().unwrap_or_else(|| new_null_array(&DataType::Boolean, rows.num_rows()));
    let windows: std::collections::BTreeSet<i64> = ends.iter().flatten().collect();
    for end in windows {
        let of_window: BooleanArray = ends.iter().map(|time| Some(time == Some(end))).collect();
        let is_final = finals.as_boolean().iter().zip(&of_window).all(|(is_final, here)| here != Some(true) || is_final == Some(true));
        let window_end = Timestamp::from_nanos(end);
        history.put(&Emission {
            view: name.to_owned(),
            window_start: window_end - LENGTH,
            window_end,
            is_final,
            revision: 0,
            rows: filter_record_batch(rows, &of_window)?,
            evidence_time: window_end,
        });
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::engine::Engine;
    use crate::{EngineConfig, ViewSource};

    async fn bed() -> Testbed {
        let sql = "CREATE VIEW load AS SELECT window_start, window_end, service_name, count(*) AS requests, avg(duration) AS mean
                   FROM TUMBLE(spans, end_time, INTERVAL '1 minute') GROUP BY window_start, window_end, service_name";
        let view = ViewSource { name: "load".to_owned(), sql: sql.to_owned(), origin: "test".to_owned() };
        let engine = Engine::new(EngineConfig::default(), vec![view]).await.unwrap();
        let others = Arc::new(Schema::new(vec![Field::new("target", DataType::Utf8, true), Field::new("current", DataType::Int64, true)]));
        Testbed::new(engine.tables(), &[("targets", others)]).unwrap()
    }

    /// Guarantees: rows put in by hand are read as those of live views are, complete unless they say otherwise.
    #[tokio::test]
    async fn rows_by_hand_are_rows_of_views() {
        let bed = bed().await;
        bed.run("INSERT INTO load (service_name, requests, mean) VALUES ('cart', 7, 0.1), ('web', 9, NULL)").await.unwrap();
        bed.run(
            "INSERT INTO load (window_end, service_name, requests, is_final) VALUES (TIMESTAMP '2026-01-01T00:01:00', 'cart', 8, false)",
        )
        .await
        .unwrap();
        bed.run("INSERT INTO targets VALUES ('cart', 3)").await.unwrap();
        let snapshot = bed.snapshot().await.unwrap();
        let targets = bed.rows("targets").await.unwrap();
        let sql = "SELECT l.requests, t.current, l.presence, l.completeness FROM load l JOIN targets t ON t.target = l.service_name
                   WHERE window_end = latest()";
        let mut query = snapshot.prepare(sql, &[("targets", targets.schema())]).await.unwrap();
        let newest = query.run(&snapshot, &[("targets", targets.clone())]).await.unwrap();
        let finals = query.run_final(&snapshot, &[("targets", targets)]).await.unwrap();
        let requests = |rows: &[RecordBatch]| rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0);
        assert_eq!((requests(&newest), requests(&finals)), (8, 7));
        assert_eq!(bed.now().await.unwrap(), DEFAULT_END + LENGTH);
        assert!(bed.run("COPY targets TO 'x.csv'").await.is_err());
    }
}
