//! What SQL asks of a histogram: `histogram_quantile`, `histogram_count`, `histogram_fraction_above`.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array};
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
}

/// The scalar functions of this module. Each is NULL for a NULL histogram.
pub(crate) fn scalars() -> [ScalarUDF; 3] {
    [Question::Quantile, Question::Count, Question::FractionAbove].map(|question| {
        let mut arguments = vec![DataType::Binary];
        arguments.extend((question != Question::Count).then_some(DataType::Float64));
        ScalarUDF::new_from_impl(HistogramScalar { question, signature: Signature::exact(arguments, Volatility::Immutable) })
    })
}

// === impl HistogramScalar ===

impl ScalarUDFImpl for HistogramScalar {
    fn name(&self) -> &str {
        match self.question {
            Question::Quantile => "histogram_quantile",
            Question::Count => "histogram_count",
            Question::FractionAbove => "histogram_fraction_above",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let histograms = arrays[0].as_binary::<i32>();
        let parameter = arrays.get(1).map(|array| array.as_primitive::<Float64Type>());
        let mut answers = Float64Array::builder(histograms.len());
        for row in 0..histograms.len() {
            let parameter = parameter.map_or(Some(0.0), |parameter| parameter.is_valid(row).then(|| parameter.value(row)));
            let (Some(parameter), true) = (parameter, histograms.is_valid(row)) else {
                answers.append_null();
                continue;
            };
            let histogram = Histogram::from_bytes(histograms.value(row)).map_err(|error| DataFusionError::Execution(error.to_string()))?;
            answers.append_option(match self.question {
                Question::Quantile => histogram.quantile(parameter),
                Question::Count => Some(histogram.count()),
                Question::FractionAbove => histogram.fraction_above(parameter),
            });
        }
        Ok(ColumnarValue::Array(Arc::new(answers.finish())))
    }
}
