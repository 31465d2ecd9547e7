//! `attribute(attributes, 'key')`, `attribute_number(attributes, 'key')` and `attributes['key']`: what no column holds, in SQL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, Float64Array, StringBuilder};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{DFSchema, ScalarValue, exec_err, plan_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawFieldAccessExpr};
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable, GetFieldAccess, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use tracescale_core::attributes::find;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Attribute {
    as_number: bool,
    signature: Signature,
}

/// Plans `attributes['key']` as a call of `attribute`.
#[derive(Debug)]
pub(crate) struct AttributeAccess {
    attribute: Arc<ScalarUDF>,
}

/// The scalar functions of this module.
pub(crate) fn scalars() -> [ScalarUDF; 2] {
    [false, true]
        .map(|as_number| ScalarUDF::new_from_impl(Attribute { as_number, signature: Signature::user_defined(Volatility::Immutable) }))
}

// === impl Attribute ===

impl ScalarUDFImpl for Attribute {
    fn name(&self) -> &str {
        if self.as_number { "attribute_number" } else { "attribute" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>, DataFusionError> {
        match types {
            [attributes, _] if is_attributes(attributes) => Ok(vec![attributes.clone(), DataType::Utf8]),
            _ => plan_err!("{} takes attributes or resource_attributes, and a key", self.name()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(match (self.as_number, types.first()) {
            (true, _) => DataType::Float64,
            (false, Some(DataType::Dictionary(..))) => tracescale_core::schema::dictionary(),
            (false, _) => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let Some(ColumnarValue::Scalar(ScalarValue::Utf8(key))) = args.args.get(1) else {
            return exec_err!("the key of {} must be a constant", self.name());
        };
        // A NULL key names nothing; no attribute has an empty key.
        let key = key.as_deref().unwrap_or_default();
        let attributes = args.args[0].to_array(args.number_rows)?;
        let answer = if let Some(dictionary) = attributes.as_dictionary_opt::<Int32Type>() {
            let values = self.look_up(dictionary.values().as_binary(), key);
            if self.as_number {
                take(&values, dictionary.keys(), None)?
            } else {
                Arc::new(DictionaryArray::<Int32Type>::try_new(dictionary.keys().clone(), values)?)
            }
        } else {
            self.look_up(attributes.as_binary(), key)
        };
        Ok(ColumnarValue::Array(answer))
    }
}

impl Attribute {
    fn look_up(&self, attributes: &BinaryArray, key: &str) -> ArrayRef {
        if self.as_number {
            return Arc::new(attributes.iter().map(|bytes| find(bytes?, key)?.double()).collect::<Float64Array>());
        }
        let mut texts = StringBuilder::with_capacity(attributes.len(), attributes.len() * 8);
        for bytes in attributes {
            let value = bytes.and_then(|bytes| find(bytes, key));
            texts.append_option(value.as_ref().and_then(|value| value.text()));
        }
        Arc::new(texts.finish())
    }
}

// === impl AttributeAccess ===

impl AttributeAccess {
    pub(crate) fn new() -> Self {
        let [attribute, _] = scalars();
        Self { attribute: Arc::new(attribute) }
    }
}

impl ExprPlanner for AttributeAccess {
    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>, DataFusionError> {
        let key = match &access.field_access {
            GetFieldAccess::NamedStructField { name } => name.clone(),
            _ => return Ok(PlannerResult::Original(access)),
        };
        let is_key = matches!(key, ScalarValue::Utf8(_) | ScalarValue::Utf8View(_) | ScalarValue::LargeUtf8(_));
        if !is_key || !is_attributes(&access.expr.get_type(schema)?) {
            return Ok(PlannerResult::Original(access));
        }
        Ok(PlannerResult::Planned(self.attribute.call(vec![access.expr, lit(key)])))
    }
}

fn is_attributes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary => true,
        DataType::Dictionary(_, values) => **values == DataType::Binary,
        _ => false,
    }
}
