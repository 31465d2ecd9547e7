//! Ordinary SQL over tables of emitted rows: planned once, run on the rows of the moment.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Query;
use tracescale_core::time::Timestamp;

use crate::relation::HistoryPlanner;
use crate::session::{self, Functions};
use crate::slot::Slot;
use crate::statement;
use crate::window::WINDOW_END;

/// A planned query.
#[derive(Debug)]
pub(crate) struct Planned {
    plan: Arc<dyn ExecutionPlan>,
    slots: BTreeMap<String, Slot>,
    latest: Arc<AtomicI64>,
    now: Arc<AtomicI64>,
    context: Arc<TaskContext>,
    per_window: bool,
}

/// A function without arguments whose answer each run gives: `latest()`, the newest window end that every view of the query has, and
/// `now()`, which planning once would otherwise freeze.
#[derive(Debug)]
struct Moment {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    value: Arc<AtomicI64>,
}

/// "No such moment" in [`Moment`].
const NONE: i64 = i64::MIN;

// === impl Planned ===

impl Planned {
    /// Plans `query` over `tables`. Only tables that it reads get a slot.
    pub(crate) async fn new(
        query: &Query,
        tables: &BTreeMap<String, SchemaRef>,
        functions: &Functions,
        runtime: Arc<RuntimeEnv>,
    ) -> Result<Self, DataFusionError> {
        let relations = statement::relations(query);
        let windowed = relations.windowed.iter().map(|call| call.relation_name());
        let mut slots = BTreeMap::new();
        for name in relations.plain.iter().cloned().chain(windowed) {
            if let Some(schema) = tables.get(&name) {
                slots.entry(name).or_insert_with(|| Slot::new(Arc::clone(schema)));
            }
        }
        let providers = slots.iter().map(|(name, slot)| Ok((name.clone(), slot.table()?))).collect::<Result<_, DataFusionError>>()?;
        let latest = Arc::new(AtomicI64::new(NONE));
        let mut functions = functions.clone();
        let now = Arc::new(AtomicI64::new(NONE));
        let moment = |name, aliases: &[&str], value: &Arc<AtomicI64>| {
            let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
            let signature = Signature::nullary(Volatility::Volatile);
            Arc::new(ScalarUDF::new_from_impl(Moment { name, aliases, signature, value: Arc::clone(value) }))
        };
        functions.scalar.extend([moment("latest", &[], &latest), moment("now", &["current_timestamp"], &now)]);
        let context = SessionContext::new_with_state(session::history(&functions, Arc::new(HistoryPlanner { tables: providers }), runtime));
        for (name, slot) in &slots {
            context.register_table(name.as_str(), slot.table()?)?;
        }
        let state = context.state();
        let plan = state.optimize(&session::plan(&state, query).await?)?;
        let per_window = relations.windowed.is_empty() && is_per_window(&plan);
        let plan = state.create_physical_plan(&plan).await?;
        Ok(Self { plan, slots, latest, now, context: context.task_ctx(), per_window })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.plan.schema()
    }

    /// Whether the rows of a window depend on rows of the same window only, so that the query need not see the others.
    pub(crate) fn is_per_window(&self) -> bool {
        self.per_window
    }

    /// The tables that the query reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().map(String::as_str)
    }

    /// Runs the query on the rows that `rows` gives for each table, at a time.
    pub(crate) async fn run(
        &mut self,
        (latest, now): (Option<Timestamp>, Option<Timestamp>),
        rows: impl Fn(&str) -> Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.latest.store(latest.map_or(NONE, Timestamp::as_nanos), Ordering::Relaxed);
        self.now.store(now.map_or(NONE, Timestamp::as_nanos), Ordering::Relaxed);
        for (name, slot) in &self.slots {
            slot.put(rows(name));
        }
        let result = collect(reset_plan_states(Arc::clone(&self.plan))?, Arc::clone(&self.context)).await;
        for slot in self.slots.values() {
            slot.put(Vec::new());
        }
        result
    }
}

/// Gives a session `latest()` with a fixed answer.
pub(crate) fn register_latest(state: &mut SessionState, newest: Option<Timestamp>) -> Result<(), DataFusionError> {
    let value = Arc::new(AtomicI64::new(newest.map_or(NONE, Timestamp::as_nanos)));
    let signature = Signature::nullary(Volatility::Stable);
    let latest = Moment { name: "latest", aliases: Vec::new(), signature, value };
    let _ = state.register_udf(Arc::new(ScalarUDF::new_from_impl(latest)))?;
    Ok(())
}

/// Whether no node of an optimized plan brings rows of different windows together. Says no when in doubt.
fn is_per_window(plan: &LogicalPlan) -> bool {
    let is_end = |expression: &Expr| matches!(expression, Expr::Column(column) if column.name == WINDOW_END);
    let node = match plan {
        LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Union(_) => true,
        LogicalPlan::Projection(projection) => projection.expr.iter().all(keeps_end),
        LogicalPlan::Filter(_) => true,
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.iter().any(is_end),
        LogicalPlan::Join(join) => join.on.iter().any(|(left, right)| is_end(left) && is_end(right)),
        _ => false,
    };
    let expressions = plan.expressions();
    let simple = expressions.iter().all(|expression| {
        !expression.is_volatile()
            && !expression
                .exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_))))
                .unwrap_or(true)
    });
    node && simple && plan.inputs().into_iter().all(is_per_window)
}

/// Whether an expression does not give another column the name of the window's end.
fn keeps_end(expression: &Expr) -> bool {
    match expression {
        Expr::Alias(alias) if alias.name == WINDOW_END => matches!(alias.expr.as_ref(), Expr::Column(column) if column.name == WINDOW_END),
        _ => true,
    }
}

// === impl Moment ===

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

impl Eq for Moment {}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.value).hash(state);
    }
}

impl ScalarUDFImpl for Moment {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(tracescale_core::schema::timestamp())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let value = Some(self.value.load(Ordering::Relaxed)).filter(|value| *value != NONE);
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(value, None)))
    }
}
