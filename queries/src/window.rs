//! What `HOP` and `TUMBLE` mean: the call as written, and the arithmetic of windows and panes.
//!
//! Windows are `[start, end)`, aligned to the epoch: every `end − size` is a multiple of `slide`. A pane is as wide as the
//! greatest common divisor of both, so that every window is a whole number of panes whether or not `slide` divides `size`.

use std::time::Duration;

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, TableFactor, Value,
};
use tracescale_core::time::{Timestamp, nanos};

use crate::problem::Complaint;

/// The columns that the table functions add.
pub(crate) const WINDOW_START: &str = "window_start";
/// See [`WINDOW_START`].
pub(crate) const WINDOW_END: &str = "window_end";

/// What to write.
pub(crate) const SHAPE: &str =
    "write HOP(stream, time_column, INTERVAL '5 seconds', INTERVAL '1 minute') or TUMBLE(stream, time_column, INTERVAL '1 minute')";
const MAX_PANES: i64 = 100_000;

/// Length and distance of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Windows {
    /// Distance of window starts.
    pub(crate) slide: Duration,
    /// Length of each.
    pub(crate) size: Duration,
}

/// A call of a windowing table function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WindowCall {
    pub(crate) relation: ObjectName,
    pub(crate) time_column: String,
    pub(crate) windows: Windows,
}

// === impl Windows ===

impl Windows {
    /// Width of a pane.
    pub(crate) fn pane(self) -> Duration {
        let (mut a, mut b) = (nanos(self.size), nanos(self.slide));
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Duration::from_nanos(a.unsigned_abs())
    }

    /// The same windows, no closer to each other than `slide`, where that divides their size.
    pub(crate) fn slide_at_least(self, slide: Duration) -> Self {
        let divides = !slide.is_zero() && nanos(self.size) % nanos(slide) == 0;
        if divides && self.slide < slide { Self { slide, ..self } } else { self }
    }

    /// The latest window end that is not after `time`.
    pub(crate) fn end_at_or_before(self, time: Timestamp) -> Timestamp {
        let phase = Duration::from_nanos((nanos(self.size) % nanos(self.slide)).unsigned_abs());
        (time - phase).floor(self.slide) + phase
    }

    /// The first window end after `time`: the end of the earliest window that can hold a row of that time.
    pub(crate) fn end_after(self, time: Timestamp) -> Timestamp {
        self.end_at_or_before(time) + self.slide
    }

    /// The start of the window with that end.
    pub(crate) fn start(self, end: Timestamp) -> Timestamp {
        end - self.size
    }
}

// === impl WindowCall ===

impl WindowCall {
    /// The call in a table factor; `None` when it is something else. The spelling of the standard is read as well:
    /// `TABLE(HOP(TABLE(stream), DESCRIPTOR(time_column), …))`, each of the three where it is written.
    pub(crate) fn parse(factor: &TableFactor) -> Result<Option<Self>, Complaint> {
        let (name, args) = match factor {
            TableFactor::Table { name, args: Some(args), .. } => (name, &args.args),
            TableFactor::TableFunction { expr: Expr::Function(call), .. } => match &call.args {
                FunctionArguments::List(list) => (&call.name, &list.args),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let function = name.to_string().to_ascii_lowercase();
        let arity = match function.as_str() {
            "hop" => 4,
            "tumble" => 3,
            _ => return Ok(None),
        };
        if args.len() != arity {
            return Err(Complaint::new(format!("{factor} has {} arguments and needs {arity}", args.len())).hint(SHAPE));
        }
        let expressions: Option<Vec<&Expr>> = args.iter().map(unnamed).collect();
        let Some(expressions) = expressions else {
            return Err(Complaint::new(format!("{factor} has named arguments")).hint(SHAPE));
        };
        let relation = relation(inside("table", expressions[0]))
            .ok_or_else(|| Complaint::new(format!("the first argument of {function} is {}, not a stream", expressions[0])).hint(SHAPE))?;
        let time_column = relation_column(inside("descriptor", expressions[1]))
            .ok_or_else(|| Complaint::new(format!("the second argument of {function} is {}, not a column", expressions[1])).hint(SHAPE))?;
        let size = interval(expressions[arity - 1])?;
        let slide = if arity == 4 { interval(expressions[2])? } else { size };
        let windows = Windows { slide, size };
        if slide > size {
            return Err(Complaint::new(format!("the slide of {factor} is longer than its size: rows between windows would be lost"))
                .hint("the third argument is the slide, the fourth the size"));
        }
        if nanos(size) / nanos(windows.pane()) > MAX_PANES {
            return Err(Complaint::new(format!("{factor} needs panes of {:?}, more than {MAX_PANES} in a window", windows.pane()))
                .hint("choose a size that is a multiple of the slide"));
        }
        Ok(Some(Self { relation, time_column, windows }))
    }

    /// The relation's name without quotes or qualifiers.
    pub(crate) fn relation_name(&self) -> String {
        self.relation.0.last().and_then(|part| part.as_ident()).map_or_else(|| self.relation.to_string(), normalize)
    }
}

fn unnamed(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
        _ => None,
    }
}

/// The argument of `wrapper(…)`, or the expression itself when it is not wrapped.
fn inside<'a>(wrapper: &str, expression: &'a Expr) -> &'a Expr {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expression else { return expression };
    match &list.args[..] {
        [argument] if name.to_string().eq_ignore_ascii_case(wrapper) => unnamed(argument).unwrap_or(expression),
        _ => expression,
    }
}

fn relation(expression: &Expr) -> Option<ObjectName> {
    match expression {
        Expr::Identifier(ident) => Some(ObjectName::from(vec![ident.clone()])),
        Expr::CompoundIdentifier(idents) => Some(ObjectName::from(idents.clone())),
        _ => None,
    }
}

fn relation_column(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(ident) => Some(normalize(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(normalize),
        _ => None,
    }
}

/// An identifier as SQL compares it: lower case unless quoted.
pub(crate) fn normalize(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// The length of an interval literal, without months, whose length is not fixed.
fn interval(expression: &Expr) -> Result<Duration, Complaint> {
    let complaint = || {
        Complaint::new(format!("{expression} is not a positive interval of fixed length"))
            .hint("write INTERVAL '5 seconds' or INTERVAL '1 minute'")
    };
    let Expr::Interval(interval) = expression else { return Err(complaint()) };
    let Expr::Value(value) = interval.value.as_ref() else { return Err(complaint()) };
    let number = match &value.value {
        Value::SingleQuotedString(text) => text.clone(),
        Value::Number(number, _) => number.clone(),
        _ => return Err(complaint()),
    };
    let text = interval.leading_field.as_ref().map_or_else(|| number.clone(), |unit| format!("{number} {unit}"));
    let parsed = parse_interval_month_day_nano(&text).map_err(|_| complaint())?;
    let length = i64::from(parsed.days).checked_mul(86_400_000_000_000).and_then(|days| days.checked_add(parsed.nanoseconds));
    match length {
        Some(length) if parsed.months == 0 && length > 0 => Ok(Duration::from_nanos(length.unsigned_abs())),
        _ => Err(complaint()),
    }
}
