//! `usl_single`, `usl_contention` and `usl_coherence` as aggregates: the universal scalability law that fits what so many workers did.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use tracescale_models::queue::scalability::{Fit, fit};

/// Most rows of a group.
const ROWS_MAX: usize = 100_000;
/// The functions, by the parameter of the law that they give.
const FUNCTIONS: [(&str, Parameter); 3] =
    [("usl_single", |fit| fit.law.single), ("usl_contention", |fit| fit.law.contention), ("usl_coherence", |fit| fit.law.coherence)];

type Parameter = fn(&Fit) -> f64;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Law {
    /// Which of [`FUNCTIONS`].
    place: usize,
    signature: Signature,
}

/// Rows of one group: workers, throughput.
#[derive(Debug)]
struct Points {
    parameter: Parameter,
    points: Vec<(f64, f64)>,
}

/// The aggregates of this module.
pub(crate) fn aggregates() -> impl Iterator<Item = AggregateUDF> {
    (0..FUNCTIONS.len()).map(|place| {
        let signature = Signature::exact(vec![DataType::Float64, DataType::Float64], Volatility::Immutable);
        AggregateUDF::new_from_impl(Law { place, signature })
    })
}

// === impl Law ===

impl AggregateUDFImpl for Law {
    fn name(&self) -> &'static str {
        FUNCTIONS[self.place].0
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>, DataFusionError> {
        Ok(vec![Arc::new(Field::new(format!("{}[points]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        Ok(Box::new(Points { parameter: FUNCTIONS[self.place].1, points: Vec::new() }))
    }
}

// === impl Points ===

impl Points {
    fn add(&mut self, workers: f64, throughput: f64) -> Result<(), DataFusionError> {
        if self.points.len() >= ROWS_MAX {
            let text =
                format!("functions of the scalability law take at most {ROWS_MAX} rows of a group; hint: aggregate by workers first");
            return Err(DataFusionError::Execution(text));
        }
        self.points.push((workers, throughput));
        Ok(())
    }
}

impl Accumulator for Points {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let [workers, throughput] = [0, 1].map(|place| values[place].as_primitive::<Float64Type>());
        let mut rows = workers.iter().zip(throughput).filter_map(|(workers, throughput)| workers.zip(throughput));
        rows.try_for_each(|(workers, throughput)| self.add(workers, throughput))
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        // The order of rows is nobody's wish, and rounding depends on it.
        self.points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Ok(ScalarValue::Float64(fit(&self.points).map(|fit| (self.parameter)(&fit)).filter(|value| value.is_finite())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.points.capacity() * size_of::<(f64, f64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        let bytes = self.points.iter().flat_map(|(workers, throughput)| [workers.to_le_bytes(), throughput.to_le_bytes()]).flatten();
        Ok(vec![ScalarValue::Binary(Some(bytes.collect()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        for state in states[0].as_binary::<i32>().iter().flatten() {
            let (words, _) = state.as_chunks::<8>();
            let (pairs, _) = words.as_chunks::<2>();
            for [workers, throughput] in pairs {
                self.add(f64::from_le_bytes(*workers), f64::from_le_bytes(*throughput))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use datafusion::prelude::SessionContext;

    use super::*;

    async fn value(sql: &str) -> Option<f64> {
        let context = SessionContext::new();
        aggregates().for_each(|function| context.register_udaf(function));
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let column = batches[0].column(0).as_primitive::<Float64Type>();
        column.is_valid(0).then(|| column.value(0))
    }

    /// Guarantees: the published fit of SPEC SDM91, also with gaps among the rows; too few numbers of workers say nothing.
    #[tokio::test]
    async fn the_published_fit() {
        let points = "(VALUES (1.0, 64.9), (18, 995.9), (36, 1652.4), (72, 1853.2), (108, 1828.9), (144, 1775.0), (216, 1702.2), (300, NULL)) t(n, x)";
        for (function, expected) in [("usl_single", 89.995_197), ("usl_contention", 0.027_728_42), ("usl_coherence", 1.043_657_6e-4)] {
            let found = value(&format!("SELECT {function}(n, x) FROM {points}")).await.unwrap();
            assert!((found / expected - 1.0).abs() < 1e-5, "{function}: {found}");
        }
        assert_eq!(value(&format!("SELECT usl_single(n, x) FROM {points} WHERE n < 100")).await, None);
    }

    /// Guarantees: a state that went through bytes says the same, and rows are bounded.
    #[test]
    fn states_merge() {
        let points = |count: u32| (1..=count).map(|n| (f64::from(n), 100.0 * f64::from(n) / (1.0 + 0.1 * f64::from(n - 1)))).collect();
        let mut one = Points { parameter: FUNCTIONS[1].1, points: points(8) };
        let mut other = Points { parameter: FUNCTIONS[1].1, points: Vec::new() };
        other.merge_batch(&[one.state().unwrap()[0].to_array().unwrap()]).unwrap();
        assert_eq!(one.evaluate().unwrap(), other.evaluate().unwrap());
        let mut full = Points { parameter: FUNCTIONS[1].1, points: vec![(1.0, 1.0); ROWS_MAX] };
        assert!(full.add(1.0, 1.0).is_err());
    }
}
