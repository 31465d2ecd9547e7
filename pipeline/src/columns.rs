//! Which columns a rule's query has to return, of which types: told before the query ever runs.

use arrow::datatypes::{DataType, Schema, TimeUnit};

/// What is wrong with one column of a rule's query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnProblem {
    /// The column and its type; `None` when it is not there.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub hint: String,
}

/// What a column is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Time,
    Truth,
}

/// The columns that mean something, and whether a rule has to return them.
const COLUMNS: [(&str, Kind, bool); 17] = [
    ("target", Kind::Text, true),
    ("replicas", Kind::Number, true),
    ("window_end", Kind::Time, false),
    ("is_final", Kind::Truth, false),
    ("n_eff", Kind::Number, false),
    ("confidence", Kind::Number, false),
    ("completeness", Kind::Number, false),
    ("age", Kind::Number, false),
    ("presence", Kind::Text, false),
    ("cpu", Kind::Number, false),
    ("memory", Kind::Number, false),
    ("memory_limit", Kind::Number, false),
    ("cpu_lower", Kind::Number, false),
    ("cpu_upper", Kind::Number, false),
    ("memory_lower", Kind::Number, false),
    ("memory_upper", Kind::Number, false),
    ("last_oom_age", Kind::Number, false),
];

/// Whether a column means something to decisions, rather than being an input that is kept for `explain`.
#[must_use]
pub fn is_known(name: &str) -> bool {
    COLUMNS.iter().any(|(known, ..)| *known == name)
}

/// Everything that is wrong with what a rule's query returns.
#[must_use]
pub fn problems(schema: &Schema) -> Vec<ColumnProblem> {
    COLUMNS.iter().filter_map(|(name, kind, is_required)| problem(schema, name, *kind, *is_required)).collect()
}

fn problem(schema: &Schema, name: &str, kind: Kind, is_required: bool) -> Option<ColumnProblem> {
    let Ok(field) = schema.field_with_name(name) else {
        let returned = schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        return is_required.then(|| ColumnProblem {
            value: None,
            message: format!("the query returns no column `{name}`"),
            hint: format!("name it with `AS {name}`; the query returns {returned}"),
        });
    };
    let of_type = field.data_type();
    // Evidence that is always NULL is evidence that is not there; a rule that never answers is a mistake.
    let fits = kind.reads(of_type) || (!is_required && *of_type == DataType::Null);
    (!fits).then(|| ColumnProblem {
        value: Some(format!("{name} ({of_type})")),
        message: format!("the column `{name}` is not {}", kind.words()),
        hint: format!("write CAST(… AS {}) AS {name}", kind.sql()),
    })
}

// === impl Kind ===

impl Kind {
    /// Whether values of that type are read as they are, without losing anything.
    fn reads(self, data_type: &DataType) -> bool {
        match self {
            Self::Text => is_text(data_type),
            Self::Number => data_type.is_integer() || matches!(data_type, DataType::Float32 | DataType::Float64),
            Self::Time => matches!(data_type, DataType::Timestamp(TimeUnit::Nanosecond, _)),
            Self::Truth => *data_type == DataType::Boolean,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a whole number or a DOUBLE",
            Self::Time => "a time",
            Self::Truth => "true or false",
        }
    }

    fn sql(self) -> &'static str {
        match self {
            Self::Text => "VARCHAR",
            Self::Number => "DOUBLE",
            Self::Time => "TIMESTAMP",
            Self::Truth => "BOOLEAN",
        }
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(keys, values) => **keys == DataType::Int32 && is_text(values),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, new_null_array};
    use arrow::compute::cast;
    use arrow::datatypes::Field;

    use super::*;
    use crate::rows;

    fn wrong(columns: &[(&str, DataType)]) -> Vec<String> {
        let fields: Vec<_> = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
        problems(&Schema::new(fields)).into_iter().map(|problem| problem.value.unwrap_or(problem.message)).collect()
    }

    /// Guarantees: every type that is accepted is also read, and none that is refused would be.
    #[test]
    fn accepted_types_are_those_that_are_read() {
        let two: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![2]));
        let types = [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Decimal128(5, 1),
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Utf8View,
            DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into()),
            DataType::Boolean,
        ];
        for data_type in types {
            let column = cast(&two, &data_type).unwrap();
            assert_eq!(Kind::Number.reads(&data_type), rows::number(&column, 0) == Some(2.0), "{data_type} as number");
            assert_eq!(Kind::Text.reads(&data_type), rows::text(&column, 0) == Some("2"), "{data_type} as text");
        }
        assert_eq!(rows::value(&new_null_array(&DataType::Null, 1), 0), serde_json::Value::Null);
    }

    /// Guarantees: a column of the wrong type is refused, and so is a rule that never answers; what has no meaning may be anything.
    #[test]
    fn wrong_types_are_refused() {
        let nanos = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Nanosecond, zone.map(Into::into));
        let good = [("target", DataType::Utf8View), ("replicas", DataType::Int32), ("window_end", nanos(None)), ("age", DataType::Null)];
        assert_eq!(wrong(&good), Vec::<String>::new());
        let bad =
            [("target", DataType::Int64), ("replicas", DataType::Null), ("window_end", DataType::Date32), ("is_final", DataType::Utf8)];
        assert_eq!(wrong(&bad), ["target (Int64)", "replicas (Null)", "window_end (Date32)", "is_final (Utf8)"]);
        assert_eq!(wrong(&[("target", DataType::Utf8), ("anything", DataType::Date32)]), ["the query returns no column `replicas`"]);
        assert!(is_known("presence") && !is_known("anything"));
    }
}
