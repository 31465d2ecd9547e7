//! SQL text before planning: what a view statement says, which relations it reads, and the small rewrites of the syntax tree.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query,
    SetExpr, Statement, TableFactor, Value, Visit, Visitor, visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::problem::Complaint;
use crate::refused;
use crate::window::{SHAPE, WINDOW_END, WindowCall, normalize};

/// Which relations a query reads.
#[derive(Debug, Default)]
pub(crate) struct Relations {
    /// Through `HOP` or `TUMBLE`.
    pub(crate) windowed: Vec<WindowCall>,
    /// By name, common table expressions excluded.
    pub(crate) plain: BTreeSet<String>,
    /// Malformed window calls, and what no query may contain.
    pub(crate) complaints: Vec<Complaint>,
    common: BTreeSet<String>,
}

/// A parsed `CREATE VIEW`.
#[derive(Debug)]
pub(crate) struct ViewStatement {
    pub(crate) name: String,
    pub(crate) query: Query,
}

/// Parses one `CREATE VIEW name AS query`.
pub(crate) fn parse_view(sql: &str) -> Result<ViewStatement, Complaint> {
    const FORM: &str = "a view file holds one statement: CREATE VIEW name AS SELECT …";
    match one_statement(sql)? {
        Statement::CreateView(view) => {
            if !view.columns.is_empty() || view.materialized || view.temporary || view.with_no_schema_binding {
                return Err(Complaint::new("CREATE VIEW has options that views over streams do not have").hint(FORM));
            }
            let name = view.name.0.last().and_then(|part| part.as_ident()).map(normalize);
            let name =
                name.filter(|_| view.name.0.len() == 1).ok_or_else(|| Complaint::new(format!("{} is not a plain name", view.name)))?;
            if let Some(complaint) = refused::depth(&view.query) {
                return Err(complaint);
            }
            refused::view(&view.query).map_or(Ok(ViewStatement { name, query: *view.query }), Err)
        }
        _ => Err(Complaint::new(format!("expected CREATE VIEW, found: {}", first_words(sql))).hint(FORM)),
    }
}

/// What is wanted of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Its rows.
    Rows,
    /// How it would be run.
    Plan,
    /// How it was run.
    Analysis,
}

/// Parses one query, which may be explained; any other statement is refused.
pub(crate) fn parse_asked(sql: &str) -> Result<(Query, Asked), Complaint> {
    let (statement, asked) = match one_statement(sql)? {
        Statement::Explain { analyze: true, statement, .. } => (*statement, Asked::Analysis),
        Statement::Explain { statement, .. } => (*statement, Asked::Plan),
        statement => (statement, Asked::Rows),
    };
    match statement {
        Statement::Query(query) => refused::depth(&query).map_or(Ok((*query, asked)), Err),
        _ => Err(Complaint::new(format!("only queries are allowed here, found: {}", first_words(sql)))
            .hint("write SELECT …, or EXPLAIN SELECT …")),
    }
}

/// Parses one query; any other statement is refused.
pub(crate) fn parse_query(sql: &str) -> Result<Query, Complaint> {
    match one_statement(sql)? {
        Statement::Query(query) => refused::depth(&query).map_or(Ok(*query), Err),
        _ => Err(Complaint::new(format!("only queries are allowed here, found: {}", first_words(sql))).hint("write SELECT …")),
    }
}

/// The relations that a query reads.
pub(crate) fn relations(query: &Query) -> Relations {
    let mut relations = Relations::default();
    let _: ControlFlow<()> = query.visit(&mut relations);
    let Relations { plain, common, .. } = &mut relations;
    plain.retain(|name| !common.contains(name));
    relations
}

/// Replaces `quantile(x, q[, weight])` by `histogram_quantile(histogram(x[, weight]), q)`, so that quantiles of one value
/// share one mergeable state, and `window_seconds()` by the length of the window that the query reads.
pub(crate) fn rewrite(query: &mut Query, window_seconds: Option<f64>) -> Result<(), Complaint> {
    let outcome = visit_expressions_mut(query, |expression| match rewrite_call(expression, window_seconds) {
        Ok(Some(new)) => {
            *expression = new;
            ControlFlow::Continue(())
        }
        Ok(None) => ControlFlow::Continue(()),
        Err(complaint) => ControlFlow::Break(complaint),
    });
    match outcome {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(complaint) => Err(complaint),
    }
}

/// Whether the query is one SELECT whose WHERE demands `window_end = latest()`, as most rules do, so that no other window of
/// the view that it reads can matter.
pub(crate) fn reads_latest_only(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let mut selects = 0;
    let _: ControlFlow<()> = visit_expressions(query, |expression| {
        selects += usize::from(matches!(expression, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. }));
        ControlFlow::Continue(())
    });
    let derived = |factor: &TableFactor| !matches!(factor, TableFactor::Table { args: None, .. });
    let tables = select.from.iter().flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
    selects == 0 && query.with.is_none() && !tables.into_iter().any(derived) && select.selection.as_ref().is_some_and(demands_latest)
}

fn demands_latest(condition: &Expr) -> bool {
    let is_end = |side: &Expr| match side {
        Expr::Identifier(ident) => normalize(ident) == WINDOW_END,
        Expr::CompoundIdentifier(idents) => idents.last().is_some_and(|ident| normalize(ident) == WINDOW_END),
        _ => false,
    };
    let is_latest = |side: &Expr| matches!(side, Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case("latest"));
    match condition {
        Expr::Nested(inner) => demands_latest(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => demands_latest(left) || demands_latest(right),
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => (is_end(left) && is_latest(right)) || (is_latest(left) && is_end(right)),
        _ => false,
    }
}

fn rewrite_call(expression: &Expr, window_seconds: Option<f64>) -> Result<Option<Expr>, Complaint> {
    let Expr::Function(call) = expression else { return Ok(None) };
    match call.name.to_string().to_ascii_lowercase().as_str() {
        "quantile" => quantile(call).map(Some),
        "window_seconds" => {
            let seconds = window_seconds.ok_or_else(|| {
                Complaint::new("window_seconds() has no window to measure here")
                    .hint("read exactly one window length, or write the number of seconds")
            })?;
            Ok(Some(Expr::Value(Value::Number(format!("{seconds:?}"), false).into())))
        }
        _ => Ok(None),
    }
}

fn quantile(call: &Function) -> Result<Expr, Complaint> {
    let complaint = || {
        Complaint::new(format!("{call} is not quantile(value, probability) or quantile(value, probability, weight)"))
            .hint("for example quantile(duration, 0.99, adjusted_count)")
    };
    let FunctionArguments::List(list) = &call.args else { return Err(complaint()) };
    if !(2..=3).contains(&list.args.len()) || list.duplicate_treatment.is_some() || call.over.is_some() {
        return Err(complaint());
    }
    let mut values = vec![list.args[0].clone()];
    values.extend(list.args.get(2).cloned());
    let histogram = Function { name: name("histogram"), args: arguments(values), ..call.clone() };
    let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(histogram)));
    let args = arguments(vec![argument, list.args[1].clone()]);
    Ok(Expr::Function(Function { name: name("histogram_quantile"), args, filter: None, ..call.clone() }))
}

fn name(function: &str) -> ObjectName {
    ObjectName::from(vec![Ident::new(function)])
}

fn arguments(args: Vec<FunctionArg>) -> FunctionArguments {
    FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() })
}

fn one_statement(sql: &str) -> Result<Statement, Complaint> {
    let unreadable = |text: String| {
        let complaint = Complaint::new(text.trim_start_matches("sql parser error: ").to_owned());
        // The parser knows TABLE(stream), not the spelling of Flink and Calcite.
        if sql.to_ascii_uppercase().contains("(TABLE ") { complaint.hint(SHAPE) } else { complaint }
    };
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|error| unreadable(error.to_string()))?;
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count();
    if let Some(complaint) = refused::length(words) {
        return Err(complaint);
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut statements = parser.parse_statements().map_err(|error| unreadable(error.to_string()))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        (None, _) => Err(Complaint::new("there is no SQL statement")),
        (Some(_), false) => Err(Complaint::new(format!("there are {} SQL statements, one is allowed", statements.len() + 1))),
    }
}

fn first_words(sql: &str) -> String {
    sql.split_whitespace().take(4).collect::<Vec<_>>().join(" ")
}

// === impl Relations ===

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.common.extend(tables.map(|table| normalize(&table.alias.name)));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match WindowCall::parse(factor) {
            Ok(Some(call)) => self.windowed.push(call),
            Ok(None) => {
                if let TableFactor::Table { name, args: None, .. } = factor {
                    self.plain.extend(name.0.last().and_then(|part| part.as_ident()).map(normalize));
                }
                self.complaints.extend(refused::table(factor));
            }
            Err(complaint) => self.complaints.push(complaint),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        self.complaints.extend(refused::expression(expression));
        ControlFlow::Continue(())
    }
}
