//! The two DataFusion sessions: one that plans views over live panes, one that plans ordinary SQL over rows that are there.

use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::planner::RelationPlanner;
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, ScalarUDF};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement};

use crate::attribute::AttributeAccess;
use crate::{attribute, collected, forecast, histogram, refused};

/// Functions that every session knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Functions {
    pub(crate) scalar: Vec<Arc<ScalarUDF>>,
    pub(crate) aggregate: Vec<Arc<AggregateUDF>>,
}

// === impl Functions ===

impl Functions {
    /// The engine's own functions and those of the caller.
    pub(crate) fn new(scalar: Vec<ScalarUDF>, aggregate: Vec<AggregateUDF>) -> Self {
        let scalar = histogram::scalars().into_iter().chain(attribute::scalars()).chain(scalar).map(Arc::new).collect();
        let aggregate = histogram::aggregates()
            .into_iter()
            .chain([forecast::aggregate()])
            .chain(collected::aggregates())
            .chain(aggregate)
            .map(Arc::new)
            .collect();
        Self { scalar, aggregate }
    }
}

/// Rules that keep the shape `scan ─▶ aggregate ─▶ top`. Left out on purpose: pushing filters down would evaluate HAVING on
/// window columns before panes are windows, and rewriting a lone DISTINCT would nest two aggregates.
const LIVE_RULES: [&str; 3] = ["simplify_expressions", "common_sub_expression_eliminate", "optimize_projections"];

/// A session that plans views over panes.
pub(crate) fn live(functions: &Functions, planner: Arc<dyn RelationPlanner>) -> SessionState {
    let rules = Optimizer::new().rules.into_iter().filter(|rule| LIVE_RULES.contains(&rule.name())).collect();
    builder(functions, planner, Arc::new(RuntimeEnv::default()))
        .with_optimizer_rules(rules)
        .with_physical_optimizer_rules(Vec::new())
        .build()
}

/// A session that plans queries over tables.
pub(crate) fn history(functions: &Functions, planner: Arc<dyn RelationPlanner>, runtime: Arc<RuntimeEnv>) -> SessionState {
    builder(functions, planner, runtime).build()
}

/// A session that executes plans which were made elsewhere; `builder` has what came with the plan.
pub(crate) fn executing(functions: &Functions, mut builder: SessionStateBuilder) -> SessionStateBuilder {
    keep_groups(builder.config().get_or_insert_default());
    register(functions, &mut builder);
    builder
}

/// The logical plan of a query.
pub(crate) async fn plan(state: &SessionState, query: &Query) -> Result<LogicalPlan, DataFusionError> {
    let statement = Statement::Query(Box::new(query.clone()));
    state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await
}

fn builder(functions: &Functions, planner: Arc<dyn RelationPlanner>, runtime: Arc<RuntimeEnv>) -> SessionStateBuilder {
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::Generic;
    options.sql_parser.collect_spans = true;
    // Plans run many times; a filter learnt in one run must not act in the next.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    keep_groups(&mut config);
    let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    let mut builder = builder.with_relation_planners(vec![planner]);
    builder.expr_planners().get_or_insert_default().insert(0, Arc::new(AttributeAccess::new()));
    register(functions, &mut builder);
    builder
}

/// By default a partial aggregate that does not reduce much passes its rows through: panes would hold rows, not groups.
fn keep_groups(config: &mut SessionConfig) {
    config.options_mut().execution.skip_partial_aggregation_probe_ratio_threshold = 1.1;
}

fn register(functions: &Functions, builder: &mut SessionStateBuilder) {
    // Said with a hint where the SQL is read; this is for whatever finds a way around.
    let scalar = builder.scalar_functions().get_or_insert_default();
    scalar.retain(|function| !refused::is_refused(function.name()));
    scalar.extend(functions.scalar.iter().cloned());
    builder.table_functions().get_or_insert_default().clear();
    builder.aggregate_functions().get_or_insert_default().extend(functions.aggregate.iter().cloned());
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::physical_plan::collect;
    use datafusion::sql::parser::DFParser;

    use super::*;
    use crate::relation::LivePlanner;

    /// What functions are tried with; a number of this size in place of `n` would make at least as many bytes.
    const ARGUMENTS: [&str; 12] =
        ["n", "0, n", "n, n", "'x', n", "'x', n, 'y'", "n, 'x'", "[1], n", "[1], n, 1", "1, n", "[[1]], n", "1.5, n", "now(), n"];
    const NUMBER: usize = 200_000;

    /// Guarantees: no scalar function that a query can call makes much out of a number, whatever version of DataFusion we
    /// build with; none of those that are left out is there under another name.
    #[tokio::test]
    async fn no_function_makes_much_of_a_number() {
        let planner = || Arc::new(LivePlanner { tables: HashMap::new() });
        let functions = Functions::new(Vec::new(), Vec::new());
        let states = [live(&functions, planner()), history(&functions, planner(), Arc::default())];
        let mut answered = 0;
        for (state, arguments) in states.iter().flat_map(|state| ARGUMENTS.map(|arguments| (state, arguments))) {
            for function in state.scalar_functions().keys() {
                assert!(!refused::is_refused(function), "{function}");
                let sql = format!("SELECT {function}({}) AS x", arguments.replace('n', &NUMBER.to_string()));
                let Some(statement) = DFParser::parse_sql(&sql).ok().and_then(|mut statements| statements.pop_front()) else { continue };
                let Ok(plan) = state.statement_to_plan(statement).await else { continue };
                let Ok(plan) = state.create_physical_plan(&plan).await else { continue };
                let Ok(rows) = collect(plan, state.task_ctx()).await else { continue };
                let bytes: usize = rows.iter().map(|rows| rows.get_array_memory_size()).sum();
                assert!(bytes < NUMBER / 10, "{sql} makes {bytes} bytes");
                answered += 1;
            }
        }
        assert!(answered > 100, "only {answered} calls were answered");
        assert!(states.iter().all(|state| state.table_functions().is_empty()));
    }
}
