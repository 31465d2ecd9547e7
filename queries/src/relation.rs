//! `HOP` and `TUMBLE` in FROM: one SQL text, two plans.
//!
//! Live, the call becomes a scan of rows whose window columns hold their *pane*; the engine merges panes to windows later.
//! Over history, it becomes plain SQL that assigns each row to every window that covers it. The second is the oracle of the first.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalMonthDayNano, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue, TableReference, plan_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::functions::datetime::expr_fn::date_bin;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::sql::sqlparser::ast::{TableAlias, TableFactor};
use tracescale_core::time::nanos;

use crate::window::{WINDOW_END, WINDOW_START, WindowCall, Windows};

/// Plans window calls over live panes: the tables already have the window columns.
#[derive(Debug)]
pub(crate) struct LivePlanner {
    pub(crate) tables: HashMap<String, Arc<dyn TableProvider>>,
}

/// Plans window calls over rows that are all there.
#[derive(Debug)]
pub(crate) struct HistoryPlanner {
    pub(crate) tables: HashMap<String, Arc<dyn TableProvider>>,
}

// === impl LivePlanner ===

impl RelationPlanner for LivePlanner {
    fn plan_relation(&self, factor: TableFactor, _: &mut dyn RelationPlannerContext) -> Result<RelationPlanning, DataFusionError> {
        let Some(call) = parse(&factor)? else { return Ok(RelationPlanning::Original(Box::new(factor))) };
        let plan = scan(&self.tables, &call)?;
        Ok(planned(plan, factor))
    }
}

// === impl HistoryPlanner ===

impl RelationPlanner for HistoryPlanner {
    fn plan_relation(&self, factor: TableFactor, _: &mut dyn RelationPlannerContext) -> Result<RelationPlanning, DataFusionError> {
        let Some(call) = parse(&factor)? else { return Ok(RelationPlanning::Original(Box::new(factor))) };
        let plan = assign(scan(&self.tables, &call)?, &call)?;
        Ok(planned(plan, factor))
    }
}

fn parse(factor: &TableFactor) -> Result<Option<WindowCall>, DataFusionError> {
    WindowCall::parse(factor).map_err(|complaint| DataFusionError::Plan(complaint.message))
}

fn planned(plan: LogicalPlan, factor: TableFactor) -> RelationPlanning {
    let alias: Option<TableAlias> = match factor {
        TableFactor::Table { alias, .. } | TableFactor::TableFunction { alias, .. } => alias,
        _ => None,
    };
    RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias)))
}

fn scan(tables: &HashMap<String, Arc<dyn TableProvider>>, call: &WindowCall) -> Result<LogicalPlan, DataFusionError> {
    let name = call.relation_name();
    let Some(table) = tables.get(&name) else {
        let mut known: Vec<&str> = tables.keys().map(String::as_str).collect();
        known.sort_unstable();
        return plan_err!("there is no stream {name} here; there are: {}", known.join(", "));
    };
    check_time_column(&table.schema(), call)?;
    LogicalPlanBuilder::scan(TableReference::bare(name), provider_as_source(Arc::clone(table)), None)?.build()
}

fn check_time_column(schema: &SchemaRef, call: &WindowCall) -> Result<(), DataFusionError> {
    match schema.field_with_name(&call.time_column).map(|field| field.data_type()) {
        Ok(DataType::Timestamp(..)) => Ok(()),
        Ok(other) => plan_err!("{} of {} is {other}, not a timestamp", call.time_column, call.relation),
        Err(_) => plan_err!("{} has no column {}", call.relation, call.time_column),
    }
}

/// Every row once for each window that covers it.
fn assign(plan: LogicalPlan, call: &WindowCall) -> Result<LogicalPlan, DataFusionError> {
    let Windows { slide, size } = call.windows;
    let name = TableReference::bare(call.relation_name());
    let time = Expr::Column(Column::new(Some(name.clone()), &call.time_column));
    let covering = nanos(size).div_euclid(nanos(slide)) + i64::from(nanos(size) % nanos(slide) != 0);
    let offsets = (0..covering).map(|index| vec![interval(index * nanos(slide))]).collect();
    let offsets = LogicalPlanBuilder::values(offsets)?.project([col("column1").alias("offset")])?.alias("tracescale_windows")?.build()?;
    // A view that is windowed again has window columns of its own, which the new ones replace.
    let columns: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .filter(|column| column.name() != WINDOW_START && column.name() != WINDOW_END)
        .map(Expr::Column)
        .collect();
    let start = date_bin(interval(nanos(slide)), time.clone(), lit(ScalarValue::TimestampNanosecond(Some(0), None)))
        - col("tracescale_windows.offset");
    let mut assigned = columns.clone();
    assigned.push(time.alias("tracescale_time"));
    assigned.push(start.clone().alias(WINDOW_START));
    assigned.push((start + interval(nanos(size))).alias(WINDOW_END));
    let mut kept = columns;
    kept.extend([col(WINDOW_START), col(WINDOW_END)]);
    // The first side of a join is collected before the second is read: those few offsets, not the rows.
    LogicalPlanBuilder::from(offsets)
        .cross_join(plan)?
        .project(assigned)?
        .filter(col(WINDOW_END).gt(col("tracescale_time")))?
        .project(kept)?
        .alias(name)?
        .build()
}

fn interval(nanoseconds: i64) -> Expr {
    lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, nanoseconds))))
}
