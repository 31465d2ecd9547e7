//! Rows of Arrow batches as JSON objects and as single values, for output and for the inputs of a decision.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampNanosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use serde_json::{Map, Number, Value};
use tracescale_core::time::Timestamp;

/// One row as a JSON object, columns in order. Times are RFC 3339, NULL and NaN are `null`, binary columns are left out.
#[must_use]
pub fn object(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    columns
        .filter(|(field, _)| !matches!(field.data_type(), DataType::Binary | DataType::FixedSizeBinary(_)))
        .map(|(field, column)| (field.name().clone(), value(column, row)))
        .collect()
}

/// One cell as JSON; a type that JSON cannot carry is `null`.
#[must_use]
pub fn value(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Timestamp(_, _) => time(column, row).map_or(Value::Null, |time| Value::String(time.to_string())),
        DataType::Float64 => Number::from_f64(column.as_primitive::<Float64Type>().value(row)).map_or(Value::Null, Value::Number),
        DataType::Float32 => Number::from_f64(column.as_primitive::<Float32Type>().value(row).into()).map_or(Value::Null, Value::Number),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => {
            text(column, row).map_or(Value::Null, |text| Value::String(text.to_owned()))
        }
        _ => integer(column, row).unwrap_or(Value::Null),
    }
}

/// The text of a string or dictionary cell; `None` for NULL and other types.
#[must_use]
pub fn text(column: &ArrayRef, row: usize) -> Option<&str> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_dictionary_opt::<Int32Type>()?;
            text(dictionary.values(), dictionary.key(row)?)
        }
        _ => None,
    }
}

/// Text of a sender as a terminal may show it: no control characters, no more than `width` characters.
#[must_use]
pub fn printable(text: &str, width: usize) -> String {
    let mut shown: String = text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).take(width).collect();
    if text.chars().nth(width).is_some() {
        let _ = shown.pop();
        shown.push('…');
    }
    shown
}

/// The value of any numeric cell as a float; `None` for NULL and other types.
#[must_use]
pub fn number(column: &ArrayRef, row: usize) -> Option<f64> {
    match value(column, row) {
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

/// The time of a `Timestamp(Nanosecond)` cell.
#[must_use]
pub fn time(column: &ArrayRef, row: usize) -> Option<Timestamp> {
    let times = column.as_primitive_opt::<TimestampNanosecondType>()?;
    times.is_valid(row).then(|| Timestamp::from_nanos(times.value(row)))
}

fn integer(column: &ArrayRef, row: usize) -> Option<Value> {
    Some(match column.data_type() {
        DataType::Int8 => Value::from(column.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => Value::from(column.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Value::from(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::from(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Value::from(column.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => Value::from(column.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => Value::from(column.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => Value::from(column.as_primitive::<UInt64Type>().value(row)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Float64Array, Int64Array, TimestampNanosecondArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    /// Guarantees: what senders call themselves can neither steer a terminal nor fill it.
    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("cart\u{1b}[2J\n", 40), "cart\u{fffd}[2J\u{fffd}");
        assert_eq!((printable("abcdef", 4), printable("abcd", 4)), ("abc…".to_owned(), "abcd".to_owned()));
    }

    /// Guarantees: every kind of cell a view or rule may return reads as users expect, NULL and NaN as missing.
    #[test]
    fn cells_read_as_users_expect() {
        let dictionary: DictionaryArray<Int32Type> = vec![Some("cart"), None].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("service_name", Arc::new(dictionary)),
            ("rate", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
            ("count", Arc::new(Int64Array::from(vec![Some(3), None]))),
            ("window_end", Arc::new(TimestampNanosecondArray::from(vec![0, 1_000_000_000]))),
        ];
        let schema =
            Schema::new(columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect::<Vec<_>>());
        let batch = RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
        let first = Value::Object(object(&batch, 0));
        let second = Value::Object(object(&batch, 1));
        assert_eq!(first, serde_json::json!({"service_name": "cart", "rate": 1.5, "count": 3, "window_end": "1970-01-01T00:00:00.000Z"}));
        assert_eq!(
            second,
            serde_json::json!({"service_name": null, "rate": null, "count": null, "window_end": "1970-01-01T00:00:01.000Z"})
        );
        assert_eq!(number(batch.column(2), 0), Some(3.0));
        assert_eq!(time(batch.column(3), 1), Some(Timestamp::from_secs(1)));
    }
}
