//! Rows of a model's view, built column by column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Builder, RecordBatch, StringBuilder, StringDictionaryBuilder, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;

use crate::model::{Column, Seen, window_columns};
use crate::window::WINDOW_START;

/// Which service a row is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServiceKey {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
}

/// A model's own columns, by name: numbers, then texts, then bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) numbers: &'static [&'static str],
    pub(super) texts: &'static [&'static str],
    pub(super) bytes: &'static [&'static str],
}

/// Rows on their way.
pub(super) struct Rows {
    layout: Layout,
    names: StringDictionaryBuilder<Int32Type>,
    namespaces: StringDictionaryBuilder<Int32Type>,
    numbers: Vec<Float64Builder>,
    texts: Vec<StringBuilder>,
    bytes: Vec<BinaryBuilder>,
    count: usize,
}

/// The services of a batch, row by row; rows without a name are nobody's.
pub(super) fn services(rows: &RecordBatch) -> impl Iterator<Item = (usize, ServiceKey)> {
    let (names, namespaces) = (Column::of(rows, "service_name"), Column::of(rows, "service_namespace"));
    let key = move |row| {
        let name = names.text(row)?.to_owned();
        Some((row, ServiceKey { name, namespace: namespaces.text(row).map(str::to_owned) }))
    };
    (0..rows.num_rows()).filter_map(key)
}

/// Caller and callee of each row of `calls` with a caller, with their full names; the callee's is empty where nobody knows it.
pub(super) fn ends(calls: &RecordBatch) -> impl Iterator<Item = (usize, String, String)> {
    let column = |name| Column::of(calls, name);
    let names = ["client_service", "client_namespace", "server_service", "server_namespace"].map(column);
    let name = move |name: Column<'_>, namespace: Column<'_>, row| {
        let name = name.text(row)?.to_owned();
        Some(ServiceKey { name, namespace: namespace.text(row).map(str::to_owned) }.full_name())
    };
    let [client, client_namespace, server, server_namespace] = names;
    let of = move |row| Some((row, name(client, client_namespace, row)?, name(server, server_namespace, row).unwrap_or_default()));
    (0..calls.num_rows()).filter_map(of)
}

/// Requests per second of a row of `service_summary` or `service_load`; of a service that is not heard of there are none to tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates<'a> {
    arrivals: Column<'a>,
    completions: Column<'a>,
    presence: Column<'a>,
}

/// Seconds since 1970, as the models count.
#[expect(clippy::cast_precision_loss, reason = "microseconds do not matter")]
pub(super) fn seconds(time: Timestamp) -> f64 {
    time.as_nanos() as f64 / 1e9
}

// === impl Rates ===

impl<'a> Rates<'a> {
    pub(super) fn of(rows: &'a RecordBatch) -> Self {
        let column = |name| Column::of(rows, name);
        Self { arrivals: column("arrival_rate"), completions: column("completion_rate"), presence: column("presence") }
    }

    pub(super) fn get(&self, row: usize) -> Option<f64> {
        if self.presence.text(row) == Some("missing") {
            return None;
        }
        let arrivals = self.arrivals.number(row)?;
        // Requests that take longer than windows wait show only when they end.
        Some(if arrivals > 0.0 { arrivals } else { self.completions.number(row).unwrap_or(0.0) })
    }
}

// === impl ServiceKey ===

impl ServiceKey {
    /// The name, with the namespace before it where there is one: services of different namespaces are different services.
    pub(super) fn full_name(&self) -> String {
        self.namespace.as_ref().map_or_else(|| self.name.clone(), |namespace| format!("{namespace}/{}", self.name))
    }
}

// === impl Layout ===

impl Layout {
    pub(super) fn schema(self) -> Schema {
        let numbers = self.numbers.iter().map(|name| Field::new(*name, DataType::Float64, true));
        let texts = self.texts.iter().map(|name| Field::new(*name, DataType::Utf8, true));
        let bytes = self.bytes.iter().map(|name| Field::new(*name, DataType::Binary, true));
        Schema::new(window_columns().into_iter().chain(numbers).chain(texts).chain(bytes).collect::<Vec<_>>())
    }

    pub(super) fn rows(self) -> Rows {
        Rows {
            layout: self,
            names: StringDictionaryBuilder::new(),
            namespaces: StringDictionaryBuilder::new(),
            numbers: self.numbers.iter().map(|_| Float64Builder::new()).collect(),
            texts: self.texts.iter().map(|_| StringBuilder::new()).collect(),
            bytes: self.bytes.iter().map(|_| BinaryBuilder::new()).collect(),
            count: 0,
        }
    }
}

// === impl Rows ===

impl Rows {
    /// Adds a row; numbers that are none are NULL.
    pub(super) fn add<const N: usize, const T: usize>(&mut self, key: &ServiceKey, numbers: [Option<f64>; N], texts: [Option<&str>; T]) {
        self.add_with_bytes(key, numbers, texts, []);
    }

    /// The same with bytes.
    pub(super) fn add_with_bytes<const N: usize, const T: usize, const B: usize>(
        &mut self,
        key: &ServiceKey,
        numbers: [Option<f64>; N],
        texts: [Option<&str>; T],
        bytes: [Option<&[u8]>; B],
    ) {
        debug_assert_eq!((N, T, B), (self.layout.numbers.len(), self.layout.texts.len(), self.layout.bytes.len()));
        self.names.append_value(&key.name);
        self.namespaces.append_option(key.namespace.as_deref());
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.append_option(number.filter(|number| number.is_finite()));
        }
        for (column, text) in self.texts.iter_mut().zip(texts) {
            column.append_option(text);
        }
        for (column, bytes) in self.bytes.iter_mut().zip(bytes) {
            column.append_option(bytes);
        }
        self.count += 1;
    }

    /// The rows for a window.
    pub(super) fn finish(mut self, window: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let start = Column::of(window.driver, WINDOW_START).time(0).unwrap_or(window.end);
        let times = |time: Timestamp| -> ArrayRef { Arc::new(TimestampNanosecondArray::from(vec![time.as_nanos(); self.count])) };
        let mut columns = vec![times(start), times(window.end)];
        columns.push(Arc::new(self.names.finish()));
        columns.push(Arc::new(self.namespaces.finish()));
        columns.extend(self.numbers.iter_mut().map(|column| -> ArrayRef { Arc::new(column.finish()) }));
        columns.extend(self.texts.iter_mut().map(|column| -> ArrayRef { Arc::new(column.finish()) }));
        columns.extend(self.bytes.iter_mut().map(|column| -> ArrayRef { Arc::new(column.finish()) }));
        RecordBatch::try_new(Arc::new(self.layout.schema()), columns)
    }
}
