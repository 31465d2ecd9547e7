//! Which queries over streams can be kept per pane, and what the engine has to know about their shape.
//!
//! Accepted: `scan ─▶ (filter | projection)* ─▶ one aggregate ─▶ (HAVING | projection | ORDER BY)*`. Anything else is refused
//! with the name of the node that is in the way.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::{Aggregate, Expr, Filter, LogicalPlan, Projection, Sort, SubqueryAlias, Volatility};

use crate::problem::Complaint;
use crate::window::{WINDOW_END, WINDOW_START};

/// The hidden output column with the newest event time of a group.
pub(crate) const NEWEST: &str = "__newest";

const SPLIT: &str = "put that part into a second view that reads this one";
const GROUPING: &str = "write GROUP BY window_start, window_end, … and select window_end";

/// A view over a stream, as far as the engine must understand it.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The plan with [`NEWEST`] as the last output column.
    pub(crate) plan: LogicalPlan,
    /// For each group key: is it a window column.
    pub(crate) keys: Vec<Key>,
    /// For each output column of the view: the group key that it shows unchanged.
    pub(crate) outputs: Vec<Option<usize>>,
}

/// What a group key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    WindowStart,
    WindowEnd,
    Group,
}

/// Checks the plan of a view and adds the hidden column.
pub(crate) fn shape(plan: &LogicalPlan, time_column: &str) -> Result<Shape, Vec<Complaint>> {
    let mut complaints = Vec::new();
    let Some(aggregate) = find_aggregate(plan, &mut complaints) else {
        if complaints.is_empty() {
            complaints.push(Complaint::new("the view does not aggregate the rows of its windows").hint(GROUPING));
        }
        return Err(complaints);
    };
    check_below(&aggregate.input, &mut complaints);
    let keys: Vec<Key> = aggregate.group_expr.iter().map(key).collect();
    check_aggregate(aggregate, &keys, &mut complaints);
    let outputs = lineage(plan);
    let end = plan.schema().fields().iter().position(|field| field.name() == WINDOW_END);
    if !end.and_then(|index| outputs[index]).is_some_and(|key| keys.get(key) == Some(&Key::WindowEnd)) {
        complaints.push(Complaint::new("the view does not return the column window_end of its window").hint(GROUPING));
    }
    let plan = with_newest(plan, time_column).map_err(|error| vec![Complaint::from(error)]);
    match plan {
        Ok(plan) if complaints.is_empty() => Ok(Shape { plan, keys, outputs }),
        Ok(_) => Err(complaints),
        Err(more) => Err(if complaints.is_empty() { more } else { complaints }),
    }
}

fn find_aggregate<'a>(plan: &'a LogicalPlan, complaints: &mut Vec<Complaint>) -> Option<&'a Aggregate> {
    check_expressions(plan, complaints);
    match plan {
        LogicalPlan::Aggregate(aggregate) => Some(aggregate),
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Sort(Sort { input, fetch: None, .. }) => find_aggregate(input, complaints),
        LogicalPlan::TableScan(_) => None,
        LogicalPlan::Window(_) => {
            complaints
                .push(Complaint::new(format!("window functions such as lag see one window only here: {}", plan.display())).hint(SPLIT));
            None
        }
        other => {
            complaints.push(Complaint::new(format!("a view over a stream cannot contain: {}", other.display())).hint(SPLIT));
            None
        }
    }
}

fn check_below(plan: &LogicalPlan, complaints: &mut Vec<Complaint>) {
    check_expressions(plan, complaints);
    match plan {
        LogicalPlan::TableScan(_) => {}
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => check_below(input, complaints),
        LogicalPlan::Projection(Projection { input, expr, .. }) => {
            for expression in expr.iter().filter(|expression| uses_window(expression) && !is_column(expression)) {
                complaints.push(window_misused(expression));
            }
            check_below(input, complaints);
        }
        LogicalPlan::Filter(Filter { input, predicate, .. }) => {
            if uses_window(predicate) {
                complaints.push(window_misused(predicate));
            }
            check_below(input, complaints);
        }
        other => complaints.push(
            Complaint::new(format!("below its aggregate a view over a stream cannot contain: {}", other.display()))
                .hint("filter and compute columns there; aggregate once; ".to_owned() + SPLIT),
        ),
    }
}

fn check_aggregate(aggregate: &Aggregate, keys: &[Key], complaints: &mut Vec<Complaint>) {
    if !keys.contains(&Key::WindowEnd) {
        complaints.push(Complaint::new("the view does not group by the window that it reads").hint(GROUPING));
    }
    for (expression, key) in aggregate.group_expr.iter().zip(keys) {
        if matches!(expression, Expr::GroupingSet(_)) {
            complaints.push(Complaint::new(format!("{expression} cannot be kept per window")).hint("write one view for each grouping"));
        } else if *key == Key::Group && uses_window(expression) {
            complaints.push(window_misused(expression));
        }
    }
    for expression in &aggregate.aggr_expr {
        let Expr::AggregateFunction(call) = expression.clone().unalias() else { continue };
        if uses_window(expression) {
            complaints.push(window_misused(expression));
        }
        let name = call.func.name();
        if let Some(hint) = not_mergeable(name) {
            complaints.push(Complaint::new(format!("{expression} cannot be merged from parts of a window")).hint(hint));
        } else if !call.params.order_by.is_empty() {
            complaints.push(
                Complaint::new(format!("{expression} depends on the order of rows, which a stream does not have"))
                    .hint("leave out ORDER BY"),
            );
        } else if call.params.distinct && name != "count" {
            complaints.push(Complaint::new(format!("{expression}: DISTINCT is supported for count only")).hint("leave out DISTINCT"));
        }
    }
}

/// Why an aggregate is refused: its answer depends on how rows were split, or its state is the rows themselves.
fn not_mergeable(name: &str) -> Option<&'static str> {
    match name {
        "array_agg" | "string_agg" | "nth_value" => Some("its state would be every row; use count(DISTINCT x), min or max"),
        "median" | "approx_median" => Some("use quantile(x, 0.5)"),
        "percentile_cont" | "quantile_cont" | "approx_percentile_cont" | "approx_percentile_cont_with_weight" => {
            Some("use quantile(x, probability) or quantile(x, probability, weight)")
        }
        "first_value" | "last_value" => Some("rows have no order within a window; use min or max"),
        _ => None,
    }
}

fn check_expressions(plan: &LogicalPlan, complaints: &mut Vec<Complaint>) {
    for expression in plan.expressions() {
        let mut found = None;
        let _: Result<TreeNodeRecursion, DataFusionError> = expression.apply(|part| {
            found = complaint(part);
            Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        });
        complaints.extend(found);
    }
}

fn complaint(expression: &Expr) -> Option<Complaint> {
    match expression {
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_) => {
            Some(Complaint::new(format!("a view over a stream cannot contain the sub-query {expression}")).hint(SPLIT))
        }
        Expr::ScalarFunction(call) if call.func.name() == "latest" => {
            Some(Complaint::new("latest() has no meaning within one window").hint("use window_end"))
        }
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => Some(
            Complaint::new(format!("{expression} gives another answer each time, so windows could not be replayed"))
                .hint("use window_end in place of the current time"),
        ),
        _ => None,
    }
}

fn window_misused(expression: &Expr) -> Complaint {
    Complaint::new(format!("{expression} uses a window column before rows are assigned to windows"))
        .hint("use window columns in GROUP BY unchanged, in SELECT and in HAVING only")
}

fn uses_window(expression: &Expr) -> bool {
    expression.column_refs().iter().any(|column| column.name == WINDOW_START || column.name == WINDOW_END)
}

fn is_column(expression: &Expr) -> bool {
    matches!(expression, Expr::Column(_))
}

fn key(expression: &Expr) -> Key {
    match expression {
        Expr::Column(column) if column.name == WINDOW_START => Key::WindowStart,
        Expr::Column(column) if column.name == WINDOW_END => Key::WindowEnd,
        _ => Key::Group,
    }
}

/// For each output column: the index of the group expression that it passes through.
fn lineage(plan: &LogicalPlan) -> Vec<Option<usize>> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let keys = aggregate.group_expr.len();
            (0..plan.schema().fields().len()).map(|index| (index < keys).then_some(index)).collect()
        }
        LogicalPlan::Projection(projection) => {
            let below = lineage(&projection.input);
            let schema = projection.input.schema();
            projection.expr.iter().map(|expression| passed_through(expression, schema).and_then(|index| below[index])).collect()
        }
        LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Sort(Sort { input, .. }) => lineage(input),
        other => vec![None; other.schema().fields().len()],
    }
}

fn passed_through(expression: &Expr, schema: &DFSchema) -> Option<usize> {
    match expression.clone().unalias() {
        Expr::Column(column) => schema.maybe_index_of_column(&column),
        _ => None,
    }
}

/// Adds the newest event time to the aggregate and passes it to the top.
fn with_newest(plan: &LogicalPlan, time_column: &str) -> Result<LogicalPlan, DataFusionError> {
    Ok(match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let time = column(aggregate.input.schema(), time_column)?;
            let mut expressions = aggregate.aggr_expr.clone();
            expressions.push(max(Expr::Column(time)).alias(NEWEST));
            LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(&aggregate.input), aggregate.group_expr.clone(), expressions)?)
        }
        LogicalPlan::Projection(projection) => {
            let input = with_newest(&projection.input, time_column)?;
            let mut expressions = projection.expr.clone();
            expressions.push(Expr::Column(column(input.schema(), NEWEST)?));
            LogicalPlan::Projection(Projection::try_new(expressions, Arc::new(input))?)
        }
        LogicalPlan::Filter(filter) => {
            let input = with_newest(&filter.input, time_column)?;
            LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?)
        }
        LogicalPlan::Sort(sort) => {
            let input = Arc::new(with_newest(&sort.input, time_column)?);
            LogicalPlan::Sort(Sort { input, ..sort.clone() })
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = with_newest(&alias.input, time_column)?;
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?)
        }
        other => other.clone(),
    })
}

fn column(schema: &DFSchema, name: &str) -> Result<Column, DataFusionError> {
    schema
        .qualified_field_with_unqualified_name(name)
        .map(Column::from)
        .map_err(|error| error.context(format!("the event time {name} must reach the aggregate unchanged: select it in the inner query")))
}
