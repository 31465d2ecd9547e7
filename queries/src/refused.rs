//! SQL that is left out: because a number in it says how large its result is, or because it would not do what it says.
//!
//! A query's limits on memory and time hold between batches: one call of a function is neither counted nor interrupted, and
//! calls with constant arguments run while the query is still being planned. So what can make gigabytes out of a few
//! characters is not there at all. What grows with its *arguments*, as `replace` and `||` do, stays.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, DuplicateTreatment, Expr, Function, FunctionArguments, Query, Select, SetExpr, TableFactor, Visit, Visitor,
};

use crate::collected;
use crate::problem::Complaint;
use crate::window::normalize;

/// Functions that are left out, with their aliases, and what to write in their place.
const FUNCTIONS: [(&[&str], &str); 5] = [
    (&["range", "generate_series"], "write the numbers, as in [1, 2, 3], or read the windows that a view keeps"),
    (&["repeat", "lpad", "rpad"], "return the text as it is"),
    (&["array_repeat", "list_repeat"], "write the elements, as in [1, 1, 1]"),
    (&["array_resize", "list_resize"], "use array_slice(array, first, last) to shorten an array"),
    (&["arrow_cast", "arrow_try_cast"], "write CAST(x AS type) or TRY_CAST(x AS type)"),
];

/// Our own aggregates, beside those of [`collected`]: each row stands for itself, and DISTINCT would be passed over.
const OF_ALL_ROWS: [&str; 4] = ["quantile", "histogram", "histogram_merge", "forecast"];

/// Finds WITH RECURSIVE.
struct Recursion;

/// Counts how deep expressions are nested.
#[derive(Default)]
struct Depth {
    expressions: usize,
}

/// Deepest nesting of an expression, longest chain of set operations, most tables in a FROM. Planning recurses over each and
/// takes up to 14 KiB of a thread's 2 MiB for one level; a stack that overflows ends the process.
const DEPTH_MAX: usize = 100;
/// Most tokens of a statement, so that also dropping one that is too deep stays within the stack.
const TOKENS_MAX: usize = 10_000;

/// Whether a scalar function of that name is left out.
pub(crate) fn is_refused(function: &str) -> bool {
    hint(function).is_some()
}

/// What is wrong with this one expression, its parts not considered.
pub(crate) fn expression(expression: &Expr) -> Option<Complaint> {
    match expression {
        Expr::Function(call) => {
            let name = call.name.0.last().and_then(|part| part.as_ident()).map(normalize)?;
            if is_distinct(call) && (OF_ALL_ROWS.contains(&name.as_str()) || collected::is_known(&name)) {
                let complaint = Complaint::new(format!("{name} takes all rows of a group: it has no DISTINCT"));
                return Some(complaint.hint("leave out DISTINCT, or read FROM (SELECT DISTINCT ...)"));
            }
            let complaint =
                Complaint::new(format!("{name} is left out: its result may be as large as a number says, and no limit holds it"));
            hint(&name).map(|hint| complaint.hint(hint))
        }
        Expr::Cast { data_type, .. } if has_length(data_type) => {
            let complaint =
                Complaint::new(format!("{data_type} is left out: such an array is as large as its length says, also when empty"));
            Some(complaint.hint("leave out the length, as in INT[]"))
        }
        Expr::Cube(_) => {
            let complaint = Complaint::new("CUBE is left out: it doubles the grouping sets with each column, while the query is planned");
            Some(complaint.hint("write GROUPING SETS ((a, b), (a), ())"))
        }
        _ => None,
    }
}

fn is_distinct(call: &Function) -> bool {
    matches!(&call.args, FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

/// What is wrong with a table function that is no window call.
pub(crate) fn table(factor: &TableFactor) -> Option<Complaint> {
    let call = match factor {
        TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => name.to_string(),
        TableFactor::TableFunction { expr, .. } => expr.to_string(),
        _ => return None,
    };
    Some(
        Complaint::new(format!("there is no table function {call}"))
            .hint("the table functions are HOP and TUMBLE; rows can be written as VALUES (1), (2)"),
    )
}

/// What is wrong with a statement of that many tokens.
pub(crate) fn length(tokens: usize) -> Option<Complaint> {
    let complaint = || Complaint::new(format!("the statement has {tokens} words and signs, more than {TOKENS_MAX}"));
    (tokens > TOKENS_MAX).then(|| complaint().hint("split it into views"))
}

/// What is wrong with how deep a query is nested. Comes before everything else that recurses over it.
pub(crate) fn depth(query: &Query) -> Option<Complaint> {
    query.visit(&mut Depth::default()).break_value()
}

/// What is wrong with the query of a view. Views run without a time limit: the windows of all others wait for them.
pub(crate) fn view(query: &Query) -> Option<Complaint> {
    let found = query.visit(&mut Recursion).is_break();
    found.then(|| {
        Complaint::new("a view cannot contain WITH RECURSIVE, which may go on for ever")
            .hint("recurse in the rule that reads the view: its time is limited")
    })
}

fn hint(function: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|(names, _)| names.contains(&function)).map(|(_, hint)| *hint)
}

/// Whether an array of fixed length is in a type, however deep: `INT[5]`, `STRUCT<a INT[5]>`.
fn has_length(data_type: &DataType) -> bool {
    data_type.to_string().split('[').skip(1).any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

// === impl Recursion ===

impl Visitor for Recursion {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if query.with.as_ref().is_some_and(|with| with.recursive) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

// === impl Depth ===

impl Visitor for Depth {
    type Break = Complaint;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Complaint> {
        let (mut body, mut chain) = (query.body.as_ref(), 0);
        while let SetExpr::SetOperation { left, .. } = body {
            (body, chain) = (left, chain + 1);
        }
        within(chain, "set operations in a row", "read the tables in several views, or list rows with VALUES")
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Complaint> {
        let tables = select.from.iter().map(|from| 1 + from.joins.len()).sum();
        within(tables, "tables in one FROM", "join some of them in a view")
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<Complaint> {
        self.expressions += 1;
        within(
            self.expressions,
            "levels in one expression",
            "each operator in a chain is a level: write IN (…) for many OR, or a sub-query for parts",
        )
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Complaint> {
        self.expressions -= 1;
        ControlFlow::Continue(())
    }
}

fn within(count: usize, what: &str, hint: &str) -> ControlFlow<Complaint> {
    if count <= DEPTH_MAX {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(Complaint::new(format!("the query has more than {DEPTH_MAX} {what}")).hint(hint))
}
