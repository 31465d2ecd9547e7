//! Promoted attributes: which attribute fills which column, and the resource columns that every stream has.
//!
//! Attribute names move between versions of the semantic conventions, so that a column lists the names that fill it,
//! newest first. A resource is looked up once per request and repeated by key for each of its rows.

use std::sync::LazyLock;

use arrow::array::ArrayRef;
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use tracescale_core::attributes::{Attributes, Value};
use tracescale_core::schema::{Promoted, PromotedAttribute, RESOURCE_ATTRIBUTES};

use super::builders::{Dictionary, NULL_KEY, Sparse};

const UNKNOWN_SERVICE: &str = "unknown_service";

/// Which attribute keys fill which columns of a table of promoted attributes.
#[derive(Debug)]
pub(super) struct Promotion {
    attributes: &'static [PromotedAttribute],
    /// Key, column and rank (0 is the newest convention) by length of the key.
    by_length: Vec<Vec<(&'static str, usize, usize)>>,
}

/// The best value offered so far for each promoted column of one item.
#[derive(Clone, Debug)]
pub(super) struct Found<'a>(Vec<Option<(usize, Value<'a>)>>);

/// The columns of promoted attributes.
#[derive(Debug)]
pub(super) struct PromotedColumns(Vec<PromotedColumn>);

#[derive(Debug)]
enum PromotedColumn {
    Text(Dictionary),
    Integer(Sparse<Int64Type>),
}

/// The resource columns that every decoded stream has.
#[derive(Debug)]
pub(super) struct ResourceColumns {
    columns: Vec<Dictionary>,
    raw: Dictionary,
}

/// A resource as dictionary keys, to be repeated for each of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResourceKeys {
    columns: Vec<i32>,
    /// Key of the raw attributes; equal for equal resources of one request.
    pub(super) raw: i32,
}

static RESOURCE_PROMOTION: LazyLock<Promotion> = LazyLock::new(|| Promotion::new(RESOURCE_ATTRIBUTES));

// === impl Promotion ===

impl Promotion {
    pub(super) fn new(attributes: &'static [PromotedAttribute]) -> Self {
        let mut by_length: Vec<Vec<_>> = Vec::new();
        for (column, attribute) in attributes.iter().enumerate() {
            for (rank, key) in attribute.keys.iter().enumerate() {
                if by_length.len() <= key.len() {
                    by_length.resize_with(key.len() + 1, Vec::new);
                }
                by_length[key.len()].push((*key, column, rank));
            }
        }
        Self { attributes, by_length }
    }

    pub(super) fn found<'a>(&self) -> Found<'a> {
        Found(vec![None; self.attributes.len()])
    }

    /// Notes `value` for every column that `key` fills, unless a newer convention or an earlier attribute filled it.
    /// Values that the column cannot hold, and empty strings, fill nothing: they stay in the raw attributes.
    pub(super) fn offer<'a>(&self, found: &mut Found<'a>, key: &str, value: Value<'a>) {
        let Some(bucket) = self.by_length.get(key.len()) else { return };
        for (_, column, rank) in bucket.iter().filter(|(name, ..)| *name == key) {
            let fits = match self.attributes[*column].kind {
                Promoted::Integer => value.integer().is_some(),
                Promoted::Text => match value {
                    Value::Text(text) => !text.is_empty(),
                    Value::Bool(_) | Value::Integer(_) | Value::Double(_) => true,
                    _ => false,
                },
            };
            if fits && found.0[*column].is_none_or(|(best, _)| *rank < best) {
                found.0[*column] = Some((*rank, value));
            }
        }
    }
}

// === impl Found ===

impl<'a> Found<'a> {
    pub(super) fn clear(&mut self) {
        self.0.fill(None);
    }

    pub(super) fn get(&self, column: usize) -> Option<Value<'a>> {
        self.0.get(column).copied().flatten().map(|(_, value)| value)
    }
}

// === impl PromotedColumns ===

impl PromotedColumns {
    pub(super) fn new(attributes: &[PromotedAttribute]) -> Self {
        let column = |attribute: &PromotedAttribute| match attribute.kind {
            Promoted::Text => PromotedColumn::Text(Dictionary::default()),
            Promoted::Integer => PromotedColumn::Integer(Sparse::default()),
        };
        Self(attributes.iter().map(column).collect())
    }

    pub(super) fn push(&mut self, row: usize, found: &Found<'_>) {
        for (index, column) in self.0.iter_mut().enumerate() {
            let value = found.get(index);
            match column {
                PromotedColumn::Integer(integers) => integers.set(row, value.and_then(|value| value.integer())),
                PromotedColumn::Text(texts) => match value.and_then(|value| value.text()) {
                    Some(text) => texts.push(&text),
                    None => texts.push_key(NULL_KEY),
                },
            }
        }
    }

    pub(super) fn finish(self, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let finish = |column| match column {
            PromotedColumn::Text(texts) => Dictionary::finish_text(texts),
            PromotedColumn::Integer(integers) => Ok(Sparse::finish(integers, rows)),
        };
        self.0.into_iter().map(finish).collect()
    }
}

// === impl ResourceColumns ===

impl ResourceColumns {
    pub(super) fn new() -> Self {
        Self { columns: RESOURCE_ATTRIBUTES.iter().map(|_| Dictionary::default()).collect(), raw: Dictionary::default() }
    }

    /// Interns a resource by its raw attributes. Without a `service.name` it is `unknown_service`, as the
    /// OpenTelemetry resource conventions name it.
    pub(super) fn intern(&mut self, raw: &[u8]) -> ResourceKeys {
        let mut found = RESOURCE_PROMOTION.found();
        for (key, value) in Attributes::new(raw).iter() {
            RESOURCE_PROMOTION.offer(&mut found, key, value);
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter_mut().enumerate() {
            let text = found.get(index).and_then(|value| value.text());
            let text = if index == 0 { text.or(Some(UNKNOWN_SERVICE.into())) } else { text };
            columns.push(text.map_or(NULL_KEY, |text| column.intern(text.as_bytes())));
        }
        ResourceKeys { columns, raw: self.raw.intern(raw) }
    }

    pub(super) fn repeat(&mut self, keys: &ResourceKeys, rows: usize) {
        for (column, key) in self.columns.iter_mut().zip(&keys.columns) {
            column.repeat(*key, rows);
        }
        self.raw.repeat(keys.raw, rows);
    }

    /// The service name behind `keys`.
    pub(super) fn service_name(&self, keys: &ResourceKeys) -> &[u8] {
        match (self.columns.first(), keys.columns.first()) {
            (Some(column), Some(key)) => column.value(*key),
            _ => &[],
        }
    }

    /// The promoted columns and the raw one.
    pub(super) fn finish(self) -> Result<(Vec<ArrayRef>, ArrayRef), ArrowError> {
        let columns = self.columns.into_iter().map(Dictionary::finish_text).collect::<Result<_, _>>()?;
        Ok((columns, self.raw.finish_binary()?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _, StringArray};
    use arrow::datatypes::{DataType, Int32Type};

    use super::*;

    /// Guarantees: a newer attribute name wins over an older one in whatever order they come, an unusable value fills
    /// nothing, and one key may fill two columns.
    #[test]
    fn newest_convention_wins() {
        let mut columns = ResourceColumns::new();
        let mut raw = Vec::new();
        for (key, value) in [("deployment.environment", "old"), ("k8s.pod.name", "pod-1"), ("deployment.environment.name", "new")] {
            tracescale_core::attributes::push(&mut raw, key, Value::Text(value));
        }
        tracescale_core::attributes::push(&mut raw, "service.instance.id", Value::Text(""));
        let keys = columns.intern(&raw);
        columns.repeat(&keys, 2);
        assert_eq!(columns.service_name(&keys), b"unknown_service");
        let (arrays, raw) = columns.finish().unwrap();
        assert_eq!(raw.len(), 2);
        let text = |name: &str| {
            let index = RESOURCE_ATTRIBUTES.iter().position(|attribute| attribute.column == name).unwrap();
            let array = arrays[index].as_dictionary::<Int32Type>();
            (!array.is_null(1)).then(|| arrow::array::ArrayAccessor::value(&array.downcast_dict::<StringArray>().unwrap(), 1).to_owned())
        };
        assert_eq!(text("deployment_environment_name").as_deref(), Some("new"));
        assert_eq!(text("service_instance_id").as_deref(), Some("pod-1"));
        assert_eq!(text("k8s_pod_name").as_deref(), Some("pod-1"));
        assert_eq!(text("host_name"), None);
        assert_eq!(arrays[0].data_type(), &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)));
    }
}
