//! A scalar function from numbers to a number, for DataFusion.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// What a function computes for one row.
type Compute = fn(&[Option<f64>]) -> Option<f64>;

/// A function before it is registered.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberFunction {
    pub(super) name: &'static str,
    pub(super) parameters: &'static [&'static str],
    compute: Compute,
}

#[derive(Debug)]
struct Registered {
    function: NumberFunction,
    signature: Signature,
}

// === impl NumberFunction ===

impl NumberFunction {
    pub(super) const fn new(name: &'static str, parameters: &'static [&'static str], compute: Compute) -> Self {
        Self { name, parameters, compute }
    }

    pub(super) fn udf(&self) -> ScalarUDF {
        let exact = || Signature::exact(vec![DataType::Float64; self.parameters.len()], Volatility::Immutable);
        let signature = exact().with_parameter_names(self.parameters.to_vec()).unwrap_or_else(|_| exact());
        ScalarUDF::new_from_impl(Registered { function: *self, signature })
    }
}

// === impl Registered ===

impl PartialEq for Registered {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Registered {}

impl Hash for Registered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Registered {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let scalar = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let length = if scalar { 1 } else { rows };
        let columns = args.args.into_iter().map(|value| value.into_array(length)).collect::<Result<Vec<ArrayRef>>>()?;
        let columns = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect::<Vec<_>>();
        let mut arguments = vec![None; columns.len()];
        let answer: Float64Array = (0..length)
            .map(|row| {
                for (argument, column) in arguments.iter_mut().zip(&columns) {
                    *argument = column.is_valid(row).then(|| column.value(row));
                }
                // What is no number, or beyond all numbers, is missing too; adding zero takes the sign off a zero.
                (self.function.compute)(&arguments).filter(|value| value.is_finite()).map(|value| value + 0.0)
            })
            .collect();
        if scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?))
        } else {
            Ok(ColumnarValue::Array(Arc::new(answer)))
        }
    }
}
