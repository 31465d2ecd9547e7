//! Aggregates that need all rows of a group at once: the scalability law that fits them, how bursty arrivals are, the servers that
//! the spans of an instance show, and how far two clocks are apart.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use tracescale_models::estimate::servers::{Occupancy, Servers};
use tracescale_models::estimate::variability;
use tracescale_models::interval::{Exchange, Offset, Span, offset};
use tracescale_models::queue::scalability::{Scalability, fit};

use self::Argument::{Number, Time};

/// Most rows of a group.
const ROWS_MAX: usize = 1_000_000;
/// The functions.
const FUNCTIONS: [Function; 8] = [
    Function { name: "usl_single", arguments: &[Number, Number], answer: |table| Some(law(table)?.single) },
    Function { name: "usl_contention", arguments: &[Number, Number], answer: |table| Some(law(table)?.contention) },
    Function { name: "usl_coherence", arguments: &[Number, Number], answer: |table| Some(law(table)?.coherence) },
    Function { name: "arrival_scv", arguments: &[Time], answer: |table| variability::arrival_scv(&times(table)) },
    Function { name: "arrival_dispersion", arguments: &[Time, Number], answer: dispersion },
    Function { name: "servers_of_spans", arguments: &[Time, Time], answer: servers },
    Function { name: "clock_offset", arguments: &[Time; 4], answer: |table| Some(offset_of(table)?.estimate) },
    Function { name: "clock_offset_error", arguments: &[Time; 4], answer: |table| Some(offset_of(table)?.uncertainty) },
];

/// A function of all rows of a group.
#[derive(Debug)]
struct Function {
    name: &'static str,
    arguments: &'static [Argument],
    answer: fn(&Table) -> Option<f64>,
}

#[derive(Clone, Copy, Debug)]
enum Argument {
    Number,
    /// Taken as seconds since the earliest time of the group, which keeps nanoseconds.
    Time,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Collected {
    /// Which of [`FUNCTIONS`].
    place: usize,
    signature: Signature,
}

/// The rows of one group in which nothing is NULL, one after another: nanoseconds, or the bits of a number.
#[derive(Debug)]
struct Rows {
    function: &'static Function,
    values: Vec<i64>,
}

/// All rows as numbers.
struct Table {
    values: Vec<f64>,
    width: usize,
}

/// The aggregates of this module.
pub(crate) fn aggregates() -> impl Iterator<Item = AggregateUDF> {
    FUNCTIONS.iter().enumerate().map(|(place, function)| {
        let types = function.arguments.iter().map(|argument| argument.data_type()).collect();
        AggregateUDF::new_from_impl(Collected { place, signature: Signature::exact(types, Volatility::Immutable) })
    })
}

/// Whether one of them has that name.
pub(crate) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.name == name)
}

fn law(table: &Table) -> Option<Scalability> {
    let mut points: Vec<(f64, f64)> = table.rows().map(|row| (row[0], row[1])).collect();
    // The order of rows is nobody's wish, and rounding depends on it.
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    Some(fit(&points)?.law)
}

/// The first column, in order.
fn times(table: &Table) -> Vec<f64> {
    let mut times: Vec<f64> = table.rows().map(|row| row[0]).collect();
    times.sort_unstable_by(f64::total_cmp);
    times
}

fn dispersion(table: &Table) -> Option<f64> {
    let seconds = table.rows().next()?[1];
    if table.rows().any(|row| row[1].to_bits() != seconds.to_bits()) {
        return None;
    }
    variability::dispersion(&variability::counts(&times(table), seconds)?)
}

fn servers(table: &Table) -> Option<f64> {
    let spans: Vec<Span> = table.rows().map(|row| Span { start: row[0], end: row[1] }).collect();
    // Before the first has ended, others may be under way that had begun earlier and are not among the rows.
    let start = spans.iter().map(|span| span.end).reduce(f64::min)?;
    let end = spans.iter().map(|span| span.end).reduce(f64::max)?;
    match Occupancy::of(Span { start, end }, &spans).fit() {
        Servers::Fitted(fit) => Some(fit.servers),
        Servers::AtLeast(_) | Servers::Unknown => None,
    }
}

fn offset_of(table: &Table) -> Option<Offset> {
    let span = |start, end| Span { start, end };
    let exchanges: Vec<Exchange> =
        table.rows().map(|row| Exchange { client: span(row[0], row[1]), server: span(row[2], row[3]) }).collect();
    offset(&exchanges)
}

// === impl Argument ===

impl Argument {
    fn data_type(self) -> DataType {
        match self {
            Self::Number => DataType::Float64,
            Self::Time => tracescale_core::schema::timestamp(),
        }
    }

    /// The values of a column; `None` for NULL and for what is no number.
    fn read(self, column: &ArrayRef) -> Vec<Option<i64>> {
        let bits = |value: f64| value.is_finite().then(|| value.to_bits().cast_signed());
        match self {
            Self::Number => column.as_primitive::<Float64Type>().iter().map(|value| value.and_then(bits)).collect(),
            Self::Time => column.as_primitive::<TimestampNanosecondType>().iter().collect(),
        }
    }

    fn number(self, value: i64, first: i64) -> f64 {
        match self {
            Self::Number => f64::from_bits(value.cast_unsigned()),
            #[expect(clippy::cast_precision_loss, reason = "to a nanosecond for a hundred days")]
            Self::Time => value.saturating_sub(first) as f64 / 1e9,
        }
    }
}

// === impl Collected ===

impl AggregateUDFImpl for Collected {
    fn name(&self) -> &'static str {
        FUNCTIONS[self.place].name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>, DataFusionError> {
        Ok(vec![Arc::new(Field::new(format!("{}[rows]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        Ok(Box::new(Rows::of(self.place)))
    }
}

// === impl Rows ===

impl Rows {
    fn of(place: usize) -> Self {
        Self { function: &FUNCTIONS[place], values: Vec::new() }
    }

    fn width(&self) -> usize {
        self.function.arguments.len()
    }

    fn table(&self) -> Table {
        let cells = || self.values.iter().zip(self.function.arguments.iter().cycle());
        let times = cells().filter(|(_, argument)| matches!(argument, Time)).map(|(value, _)| *value);
        let first = times.min().unwrap_or_default();
        Table { values: cells().map(|(value, argument)| argument.number(*value, first)).collect(), width: self.width() }
    }

    fn add(&mut self, row: impl Iterator<Item = i64>) -> Result<(), DataFusionError> {
        if self.values.len() >= ROWS_MAX * self.width() {
            let name = self.function.name;
            let text = format!("{name}() takes at most {ROWS_MAX} rows of a group; hint: bound the time, or group by more");
            return Err(DataFusionError::Execution(text));
        }
        self.values.extend(row);
        Ok(())
    }
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let columns: Vec<_> = self.function.arguments.iter().zip(values).map(|(argument, column)| argument.read(column)).collect();
        for row in 0..columns.first().map_or(0, Vec::len) {
            let of = |column: &Vec<Option<i64>>| column.get(row).copied().flatten();
            if let Some(row) = columns.iter().map(of).collect::<Option<Vec<i64>>>() {
                self.add(row.into_iter())?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        Ok(ScalarValue::Float64((self.function.answer)(&self.table()).filter(|value| value.is_finite())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.capacity() * size_of::<i64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        Ok(vec![ScalarValue::Binary(Some(self.values.iter().flat_map(|value| value.to_le_bytes()).collect()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        for state in states[0].as_binary::<i32>().iter().flatten() {
            let (words, _) = state.as_chunks::<8>();
            for row in words.chunks_exact(self.width()) {
                self.add(row.iter().map(|word| i64::from_le_bytes(*word)))?;
            }
        }
        Ok(())
    }
}

// === impl Table ===

impl Table {
    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.width)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array as _;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn value(sql: &str) -> Option<f64> {
        let context = SessionContext::new();
        aggregates().for_each(|function| context.register_udaf(function));
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let column = batches[0].column(0).as_primitive::<Float64Type>();
        column.is_valid(0).then(|| column.value(0))
    }

    fn close(found: Option<f64>, expected: f64, relative: f64) {
        let found = found.unwrap();
        assert!((found / expected - 1.0).abs() < relative, "{found} is not {expected}");
    }

    /// Guarantees: the published fit of SPEC SDM91, also with gaps among the rows; too few numbers of workers say nothing.
    #[tokio::test]
    async fn the_published_fit() {
        let points = "(VALUES (1.0, 64.9), (18, 995.9), (36, 1652.4), (72, 1853.2), (108, 1828.9), (144, 1775.0), (216, 1702.2), (300, NULL)) t(n, x)";
        for (function, expected) in [("usl_single", 89.995_197), ("usl_contention", 0.027_728_42), ("usl_coherence", 1.043_657_6e-4)] {
            close(value(&format!("SELECT {function}(n, x) FROM {points}")).await, expected, 1e-5);
        }
        assert_eq!(value(&format!("SELECT usl_single(n, x) FROM {points} WHERE n < 100")).await, None);
    }

    /// Times as SQL has them, so many milliseconds after a moment of today.
    fn at(milliseconds: &str) -> String {
        format!("to_timestamp_nanos(1767600000000000000 + {milliseconds} * 1000000)")
    }

    /// Guarantees: even arrivals do not vary, and come in no bursts; three together each time vary as their gaps do; steps that differ, or
    /// have no length, have no answer.
    #[tokio::test]
    async fn arrivals_vary() {
        let numbers = "(SELECT row_number() OVER () - 1 AS n FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) a(x)
                        CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) b(x)
                        CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6)) c(x)) t";
        let even = at("n * 100");
        let close_together = "to_timestamp_nanos(1767600000000000000 + n * 100)";
        assert!(value(&format!("SELECT arrival_scv({close_together}) FROM {numbers}")).await.unwrap() < 1e-9);
        assert!(value(&format!("SELECT arrival_scv({even}) FROM {numbers}")).await.unwrap() < 1e-9);
        assert!(value(&format!("SELECT arrival_dispersion({even}, 1.0) FROM {numbers}")).await.unwrap() < 0.01);
        // Gaps of 0, 0 and 300 ms: 2 of squared coefficient of variation.
        close(value(&format!("SELECT arrival_scv({}) FROM {numbers}", at("(n - n % 3) * 100"))).await, 2.0, 0.02);
        assert_eq!(value(&format!("SELECT arrival_dispersion({even}, 1.0 + n) FROM {numbers}")).await, None);
        assert_eq!(value(&format!("SELECT arrival_dispersion({even}, 0.0) FROM {numbers}")).await, None);
    }

    /// Guarantees: the reference exchanges give the offset between the clocks of both sides, and how sure it is.
    #[tokio::test]
    async fn clocks_are_compared() {
        let rows = "(VALUES (0, 100, 1030, 1090), (0, 100, 1005, 1099)) t(a, b, c, d)";
        let of = |function: &str| format!("SELECT {function}({}, {}, {}, {}) FROM {rows}", at("a"), at("b"), at("c"), at("d"));
        close(value(&of("clock_offset")).await, 1.002, 1e-6);
        close(value(&of("clock_offset_error")).await, 0.003, 1e-3);
    }

    /// Guarantees: the spans of one busy server show one.
    #[test]
    fn servers_show() {
        let mut rows = Rows::of(FUNCTIONS.iter().position(|function| function.name == "servers_of_spans").unwrap());
        for n in 0..3000_i64 {
            // Bursts of four, each of which waits for those before it.
            let start = 1_767_600_000_000_000_000 + n / 4 * 500_000_000;
            rows.add([start, start + 100_000_000 * (n % 4 + 1)].into_iter()).unwrap();
        }
        close(rows.evaluate().map(|value| if let ScalarValue::Float64(value) = value { value } else { None }).unwrap(), 1.0, 1e-9);
    }

    /// Guarantees: a state that went through bytes says the same, and rows are bounded.
    #[test]
    fn states_merge() {
        let mut one = Rows::of(1);
        let point = |n: f64| [n, 100.0 * n / (1.0 + 0.1 * (n - 1.0))].map(|value| value.to_bits().cast_signed());
        (1..=8_u32).for_each(|n| one.add(point(f64::from(n)).into_iter()).unwrap());
        let mut other = Rows::of(1);
        other.merge_batch(&[one.state().unwrap()[0].to_array().unwrap()]).unwrap();
        assert_eq!(one.evaluate().unwrap(), other.evaluate().unwrap());
        assert!(matches!(other.evaluate().unwrap(), ScalarValue::Float64(Some(_))));
        one.values = vec![1; 2 * ROWS_MAX];
        assert!(one.add([1, 1].into_iter()).unwrap_err().to_string().contains("usl_contention() takes at most 1000000 rows"));
    }
}
