//! Takes the physical plan of a view apart into what runs per micro-batch, per pane and per window.
//!
//! ```text
//! rows ─▶ [filter, project, aggregate: Partial] ─▶ states ─▶ [PartialReduce] ─▶ states ─▶ [Final ─▶ HAVING, SELECT, ORDER BY] ─▶ window
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};

use crate::keys::KeyNumber;
use crate::shape::Key;
use crate::slot::Slot;

/// Batches with fewer rows than this on average are put together before they are aggregated.
const SMALL: usize = 4096;

/// The three plans of a view and the slots that feed them.
#[derive(Debug)]
pub(crate) struct Plans {
    rows: Slot,
    /// The columns of the stream that the view reads.
    columns: Vec<usize>,
    partial: Arc<dyn ExecutionPlan>,
    states: Slot,
    reduce: Arc<dyn ExecutionPlan>,
    finish: Arc<dyn ExecutionPlan>,
    state_schema: SchemaRef,
    /// How each key of a state comes out of the partial aggregate.
    keys: Vec<PartialKey>,
    /// The state of an aggregate over no rows, for each state column.
    empty: Vec<ScalarValue>,
    context: Arc<TaskContext>,
}

/// Where a key of a state comes from.
#[derive(Debug)]
struct PartialKey {
    /// Column of the partial aggregate's output.
    column: usize,
    /// What its numbers mean.
    numbers: Option<KeyNumber>,
}

// === impl Plans ===

impl Plans {
    /// Splits `plan`, whose leaf reads rows of the layout `live`.
    pub(crate) async fn split(
        plan: &Arc<dyn ExecutionPlan>,
        live: &Schema,
        keys: &[Key],
        context: Arc<TaskContext>,
    ) -> Result<Self, DataFusionError> {
        let top = find(plan).ok_or_else(|| DataFusionError::Internal("the plan has no aggregate".to_owned()))?;
        let bottom = if matches!(top.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned) {
            top
        } else {
            find(top.input()).ok_or_else(|| DataFusionError::Internal("the plan has no partial aggregate".to_owned()))?
        };
        let (rows, columns, input) = narrow(bottom.input(), live)?;
        let (input, input_schema, group) = (&input, bottom.input_schema(), bottom.group_expr());
        let aggregate = |mode, group: PhysicalGroupBy, filters: Vec<_>, input: Arc<dyn ExecutionPlan>| {
            AggregateExec::try_new(mode, group, bottom.aggr_expr().to_vec(), filters, input, Arc::clone(&input_schema))
        };
        let no_filters = vec![None; bottom.aggr_expr().len()];
        let state_schema = aggregate(AggregateMode::Partial, group.clone(), bottom.filter_expr().to_vec(), Arc::clone(input))?.schema();
        let (partial_group, partial_keys) = partial_keys(group, &input_schema, keys);
        let partial = aggregate(AggregateMode::Partial, partial_group, bottom.filter_expr().to_vec(), Arc::clone(input))?;
        let states = Slot::new(Arc::clone(&state_schema));
        let reduce = aggregate(AggregateMode::PartialReduce, group.as_final(), no_filters.clone(), states.leaf()?)?;
        let last: Arc<dyn ExecutionPlan> = Arc::new(aggregate(AggregateMode::Final, group.as_final(), no_filters, states.leaf()?)?);
        let finish = Arc::clone(plan)
            .transform_down(|node| {
                Ok(if node.downcast_ref::<AggregateExec>().is_some() {
                    Transformed::new(Arc::clone(&last), true, TreeNodeRecursion::Jump)
                } else {
                    Transformed::no(node)
                })
            })?
            .data;
        let ungrouped =
            aggregate(AggregateMode::Partial, PhysicalGroupBy::new_single(Vec::new()), bottom.filter_expr().to_vec(), Arc::clone(input))?;
        let empty = empty_state(Arc::new(ungrouped), &state_schema, keys.len(), Arc::clone(&context)).await?;
        let keys = partial_keys;
        Ok(Self { rows, columns, partial: Arc::new(partial), states, reduce: Arc::new(reduce), finish, state_schema, keys, empty, context })
    }

    /// Layout of states: the group keys, then the state columns of each aggregate.
    pub(crate) fn state_schema(&self) -> &SchemaRef {
        &self.state_schema
    }

    /// Layout of a window's rows.
    pub(crate) fn output_schema(&self) -> SchemaRef {
        self.finish.schema()
    }

    /// Rows to states.
    pub(crate) async fn partial(&self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.keys.iter().filter_map(|key| key.numbers.as_ref()).for_each(KeyNumber::reset);
        let rows = rows.iter().map(|batch| batch.project(&self.columns)).collect::<Result<Vec<_>, _>>()?;
        let batches = self.run(&self.rows, coalesce(rows)?, &self.partial).await?;
        batches.iter().map(|batch| self.states(batch)).collect()
    }

    /// States to fewer states.
    pub(crate) async fn reduce(&self, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.run(&self.states, states, &self.reduce).await
    }

    /// States to the rows of a window.
    pub(crate) async fn finish(&self, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.run(&self.states, states, &self.finish).await
    }

    /// States of groups without rows: `keys` are the key columns; the last state column, the newest event time, is given.
    pub(crate) fn empty_states(&self, keys: Vec<ArrayRef>, newest: ArrayRef) -> Result<RecordBatch, DataFusionError> {
        let count = newest.len();
        let mut columns = keys;
        for state in &self.empty[..self.empty.len() - 1] {
            columns.push(state.to_array_of_size(count)?);
        }
        columns.push(newest);
        Ok(RecordBatch::try_new(Arc::clone(&self.state_schema), columns)?)
    }

    /// States in their own layout from the output of the partial aggregate.
    fn states(&self, batch: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let mut columns = Vec::with_capacity(self.state_schema.fields().len());
        for key in &self.keys {
            let column = batch.column(key.column);
            columns.push(key.numbers.as_ref().map_or_else(|| Ok(Arc::clone(column)), |numbers| numbers.values(column))?);
        }
        let first_state = batch.num_columns() + columns.len() - self.state_schema.fields().len();
        columns.extend_from_slice(&batch.columns()[first_state..]);
        Ok(RecordBatch::try_new(Arc::clone(&self.state_schema), columns)?)
    }

    async fn run(&self, slot: &Slot, rows: Vec<RecordBatch>, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>, DataFusionError> {
        slot.put(rows);
        // A plan keeps state between runs (sorts with a limit keep their filter), so each run starts from a fresh copy.
        let result = collect(reset_plan_states(Arc::clone(plan))?, Arc::clone(&self.context)).await;
        slot.put(Vec::new());
        result
    }
}

/// Makes one batch of small ones: an operator costs microseconds per batch whatever its size, so requests of a few hundred
/// rows would pay more for being batches than for being rows.
fn coalesce(batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, DataFusionError> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    match batches.first() {
        Some(first) if batches.len() > 1 && rows / batches.len() < SMALL => Ok(vec![concat_batches(&first.schema(), &batches)?]),
        _ => Ok(batches),
    }
}

/// A slot for the rows, the columns of the stream that it wants, and the plan above it.
type Narrowed = (Slot, Vec<usize>, Arc<dyn ExecutionPlan>);

/// Replaces the leaf by one that reads only the columns that the plan uses.
fn narrow(input: &Arc<dyn ExecutionPlan>, live: &Schema) -> Result<Narrowed, DataFusionError> {
    let mut found = None;
    let narrowed = Arc::clone(input).transform_down(|node| {
        if found.is_some() || !node.children().is_empty() {
            return Ok(Transformed::no(node));
        }
        let schema = node.schema();
        let columns = schema.fields().iter().map(|field| live.index_of(field.name())).collect::<Result<Vec<_>, _>>()?;
        let slot = Slot::new(schema);
        let leaf = slot.leaf()?;
        found = Some((slot, columns));
        Ok(Transformed::new(leaf, true, TreeNodeRecursion::Jump))
    })?;
    let (slot, columns) = found.ok_or_else(|| DataFusionError::Internal("the plan has no leaf".to_owned()))?;
    Ok((slot, columns, narrowed.data))
}

fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    plan.downcast_ref::<AggregateExec>().or_else(|| plan.children().into_iter().find_map(find))
}

/// The group keys as the partial aggregate sees them: one column for the pane, since both window columns hold its start, and
/// numbers in place of dictionaries.
fn partial_keys(group: &PhysicalGroupBy, schema: &Schema, keys: &[Key]) -> (PhysicalGroupBy, Vec<PartialKey>) {
    let mut expressions: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    let mut pane = None;
    let mut partial = Vec::new();
    for ((expression, name), key) in group.expr().iter().zip(keys) {
        if let (Some(column), true) = (pane, *key != Key::Group) {
            partial.push(PartialKey { column, numbers: None });
            continue;
        }
        let column = expressions.len();
        if *key != Key::Group {
            pane = Some(column);
        }
        let numbers = KeyNumber::new(expression, schema);
        let expression = numbers.as_ref().map_or_else(|| Arc::clone(expression), |numbers| Arc::new(numbers.clone()));
        expressions.push((expression, name.clone()));
        partial.push(PartialKey { column, numbers });
    }
    (PhysicalGroupBy::new_single(expressions), partial)
}

async fn empty_state(
    plan: Arc<dyn ExecutionPlan>,
    state_schema: &SchemaRef,
    keys: usize,
    context: Arc<TaskContext>,
) -> Result<Vec<ScalarValue>, DataFusionError> {
    let batches = collect(plan, context).await?;
    let row = batches
        .iter()
        .find(|batch| batch.num_rows() == 1 && batch.num_columns() + keys == state_schema.fields().len())
        .ok_or_else(|| DataFusionError::Internal("an aggregate over no rows has no state".to_owned()))?;
    row.columns()
        .iter()
        .zip(&state_schema.fields()[keys..])
        .map(|(column, field)| ScalarValue::try_from_array(&arrow::compute::cast(column, field.data_type())?, 0))
        .collect()
}
