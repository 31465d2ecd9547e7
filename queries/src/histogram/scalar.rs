//! What SQL asks of a histogram: `histogram_quantile`, `histogram_count`, `histogram_fraction_above`,
//! `histogram_share`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::Histogram;

#[derive(Debug, PartialEq, Eq, Hash)]
struct HistogramScalar {
    question: Question,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Question {
    Quantile,
    Count,
    FractionAbove,
    Share,
}

/// The scalar functions of this module. Each is NULL for a NULL histogram.
pub(crate) fn scalars() -> [ScalarUDF; 4] {
    [Question::Quantile, Question::Count, Question::FractionAbove, Question::Share].map(|question| {
        let signature = Signature::exact(question.arguments(), Volatility::Immutable);
        ScalarUDF::new_from_impl(HistogramScalar { question, signature })
    })
}

// === impl Question ===

impl Question {
    fn arguments(self) -> Vec<DataType> {
        match self {
            Self::Count => vec![DataType::Binary],
            Self::Quantile | Self::FractionAbove => vec![DataType::Binary, DataType::Float64],
            Self::Share => vec![DataType::Binary, DataType::Binary, DataType::Float64, DataType::Float64],
        }
    }

    /// The answer for one row of arguments, none of which is NULL.
    fn answer(self, arguments: &[ArrayRef], row: usize) -> Result<Option<f64>, DataFusionError> {
        let histogram = |place: usize| {
            let bytes = arguments[place].as_binary::<i32>().value(row);
            Histogram::from_bytes(bytes).map_err(|error| DataFusionError::Execution(error.to_string()))
        };
        let number = |place: usize| arguments[place].as_primitive::<Float64Type>().value(row);
        Ok(match self {
            Self::Quantile => histogram(0)?.quantile(number(1)),
            Self::Count => Some(histogram(0)?.count()),
            Self::FractionAbove => histogram(0)?.fraction_above(number(1)),
            Self::Share => histogram(1)?.share(&histogram(0)?, number(2), number(3)),
        })
    }
}

// === impl HistogramScalar ===

impl ScalarUDFImpl for HistogramScalar {
    fn name(&self) -> &str {
        match self.question {
            Question::Quantile => "histogram_quantile",
            Question::Count => "histogram_count",
            Question::FractionAbove => "histogram_fraction_above",
            Question::Share => "histogram_share",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let arguments = ColumnarValue::values_to_arrays(&args.args)?;
        let rows = arguments.first().map_or(0, |array| array.len());
        let mut answers = Float64Array::builder(rows);
        for row in 0..rows {
            let known = arguments.iter().all(|array| array.is_valid(row));
            answers.append_option(if known { self.question.answer(&arguments, row)? } else { None });
        }
        Ok(ColumnarValue::Array(Arc::new(answers.finish())))
    }
}
