//! Takes the physical plan of a view apart into what runs per micro-batch, per pane and per window.
//!
//! ```text
//! rows ─▶ [filter, project, aggregate: Partial] ─▶ states ─▶ [PartialReduce] ─▶ states ─▶ [Final ─▶ HAVING, SELECT, ORDER BY] ─▶ window
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::streaming::PartitionStream as _;
use datafusion::physical_plan::{ExecutionPlan, collect};

use crate::feed::Feed;
use crate::keys::GroupNumber;
use crate::shape::Key;
use crate::slot::Slot;

/// Runs of a plan after which it is replaced by a fresh copy, since each run adds to its metrics.
const RUNS: u32 = 256;

/// The three plans of a view and the slots that feed them.
#[derive(Debug)]
pub(crate) struct Plans {
    rows: Slot,
    /// Where the columns that the view reads are in the batches of its feed.
    columns: Vec<usize>,
    partial: Runnable,
    states: Slot,
    reduce: Runnable,
    finish: Runnable,
    state_schema: SchemaRef,
    /// The first column of the partial aggregate's output.
    group: GroupNumber,
    /// How each key of a state comes out of the partial aggregate.
    keys: Vec<PartialKey>,
    /// The state of an aggregate over no rows, for each state column.
    empty: Vec<ScalarValue>,
    context: Arc<TaskContext>,
}

/// A plan that is run many times.
#[derive(Debug)]
struct Runnable {
    plan: Arc<dyn ExecutionPlan>,
    runs: u32,
    /// Runs after which the plan must be fresh.
    most: u32,
}

/// Where a key of a state comes from.
#[derive(Clone, Copy, Debug)]
enum PartialKey {
    /// This key of those that the group number stands for.
    Numbered(usize),
    /// This column of the partial aggregate's output.
    Column(usize),
}

// === impl Plans ===

impl Plans {
    /// Splits `plan`, whose leaf reads rows of `feed`.
    pub(crate) async fn split(
        plan: &Arc<dyn ExecutionPlan>,
        feed: &mut Feed,
        keys: &[Key],
        context: Arc<TaskContext>,
    ) -> Result<Self, DataFusionError> {
        let top = find(plan).ok_or_else(|| DataFusionError::Internal("the plan has no aggregate".to_owned()))?;
        let bottom = if matches!(top.mode(), AggregateMode::Single | AggregateMode::SinglePartitioned) {
            top
        } else {
            find(top.input()).ok_or_else(|| DataFusionError::Internal("the plan has no partial aggregate".to_owned()))?
        };
        let (rows, input) = narrow(bottom.input())?;
        let columns = rows.schema().fields().iter().map(|field| feed.place(field.name())).collect::<Result<_, _>>()?;
        let (input, input_schema, group) = (&input, bottom.input_schema(), bottom.group_expr());
        let aggregate = |mode, group: PhysicalGroupBy, filters: Vec<_>, input: Arc<dyn ExecutionPlan>| {
            AggregateExec::try_new(mode, group, bottom.aggr_expr().to_vec(), filters, input, Arc::clone(&input_schema))
        };
        let no_filters = vec![None; bottom.aggr_expr().len()];
        let state_schema = aggregate(AggregateMode::Partial, group.clone(), bottom.filter_expr().to_vec(), Arc::clone(input))?.schema();
        let (partial_group, group_number, partial_keys) = partial_keys(group, &input_schema, keys)?;
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
        Ok(Self {
            rows,
            columns,
            partial: Runnable::new(Arc::new(partial)),
            states,
            reduce: Runnable::new(Arc::new(reduce)),
            finish: Runnable::new(finish),
            state_schema,
            group: group_number,
            keys: partial_keys,
            empty,
            context,
        })
    }

    /// Layout of states: the group keys, then the state columns of each aggregate.
    pub(crate) fn state_schema(&self) -> &SchemaRef {
        &self.state_schema
    }

    /// Layout of a window's rows.
    pub(crate) fn output_schema(&self) -> SchemaRef {
        self.finish.plan.schema()
    }

    /// Rows to states.
    pub(crate) async fn partial(&mut self, rows: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.group.reset();
        let rows = rows.iter().map(|batch| batch.project(&self.columns)).collect::<Result<Vec<_>, _>>()?;
        let batches = self.partial.run(&self.rows, rows, &self.context).await?;
        batches.iter().map(|batch| self.states(batch)).collect()
    }

    /// States to fewer states.
    pub(crate) async fn reduce(&mut self, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.reduce.run(&self.states, states, &self.context).await
    }

    /// States to the rows of a window.
    pub(crate) async fn finish(&mut self, states: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.finish.run(&self.states, states, &self.context).await
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
        let numbered = self.group.values(batch.column(0))?;
        let key = |key: &PartialKey| match *key {
            PartialKey::Numbered(index) => Arc::clone(&numbered[index]),
            PartialKey::Column(index) => Arc::clone(batch.column(index)),
        };
        let mut columns: Vec<ArrayRef> = self.keys.iter().map(key).collect();
        let first_state = batch.num_columns() + columns.len() - self.state_schema.fields().len();
        columns.extend_from_slice(&batch.columns()[first_state..]);
        Ok(RecordBatch::try_new(Arc::clone(&self.state_schema), columns)?)
    }
}

// === impl Runnable ===

impl Runnable {
    fn new(plan: Arc<dyn ExecutionPlan>) -> Self {
        // Copying a plan costs as much as running it over few rows. These keep nothing between runs but metrics; others do
        // (sorts with a limit keep their filter), so they start from a fresh copy each time.
        let is_stateless = |node: &Arc<dyn ExecutionPlan>| {
            node.children().is_empty()
                || node.downcast_ref::<AggregateExec>().is_some()
                || node.downcast_ref::<FilterExec>().is_some()
                || node.downcast_ref::<ProjectionExec>().is_some()
        };
        let is_stateful = plan.exists(|node| Ok(!is_stateless(node))).unwrap_or(true);
        Self { plan, runs: 0, most: if is_stateful { 1 } else { RUNS } }
    }

    async fn run(&mut self, slot: &Slot, rows: Vec<RecordBatch>, context: &Arc<TaskContext>) -> Result<Vec<RecordBatch>, DataFusionError> {
        if self.runs >= self.most {
            self.plan = reset_plan_states(Arc::clone(&self.plan))?;
            self.runs = 0;
        }
        self.runs += 1;
        slot.put(rows);
        let result = collect(Arc::clone(&self.plan), Arc::clone(context)).await;
        slot.put(Vec::new());
        result
    }
}

/// Replaces the leaf by a slot, which takes only the columns that the plan uses.
fn narrow(input: &Arc<dyn ExecutionPlan>) -> Result<(Slot, Arc<dyn ExecutionPlan>), DataFusionError> {
    let mut found = None;
    let narrowed = Arc::clone(input).transform_down(|node| {
        if found.is_some() || !node.children().is_empty() {
            return Ok(Transformed::no(node));
        }
        let slot = Slot::new(node.schema());
        let leaf = slot.leaf()?;
        found = Some(slot);
        Ok(Transformed::new(leaf, true, TreeNodeRecursion::Jump))
    })?;
    let slot = found.ok_or_else(|| DataFusionError::Internal("the plan has no leaf".to_owned()))?;
    Ok((slot, narrowed.data))
}

fn find(plan: &Arc<dyn ExecutionPlan>) -> Option<&AggregateExec> {
    plan.downcast_ref::<AggregateExec>().or_else(|| plan.children().into_iter().find_map(find))
}

/// The group keys as the partial aggregate sees them: one number for the pane (both window columns hold its start) and all
/// dictionaries, then the other keys.
fn partial_keys(
    group: &PhysicalGroupBy,
    schema: &Schema,
    keys: &[Key],
) -> Result<(PhysicalGroupBy, GroupNumber, Vec<PartialKey>), DataFusionError> {
    let (mut pane, mut dictionaries, mut others, mut partial) = (None, Vec::new(), Vec::new(), Vec::new());
    for ((expression, name), key) in group.expr().iter().zip(keys) {
        if *key != Key::Group {
            pane.get_or_insert_with(|| Arc::clone(expression));
            partial.push(PartialKey::Numbered(0));
        } else if GroupNumber::takes(expression, schema) {
            dictionaries.push(Arc::clone(expression));
            partial.push(PartialKey::Numbered(dictionaries.len()));
        } else {
            others.push((Arc::clone(expression), name.clone()));
            partial.push(PartialKey::Column(others.len()));
        }
    }
    let pane = pane.ok_or_else(|| DataFusionError::Internal("the aggregate has no window key".to_owned()))?;
    let number = GroupNumber::new(pane, dictionaries);
    let first: (Arc<dyn PhysicalExpr>, String) = (Arc::new(number.clone()), "group".to_owned());
    Ok((PhysicalGroupBy::new_single(std::iter::once(first).chain(others).collect()), number, partial))
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
