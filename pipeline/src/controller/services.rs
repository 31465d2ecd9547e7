//! Which targets a row of telemetry is about.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use tracescale_core::target::TargetSpec;

use crate::rows;

/// Targets by the name of their service.
pub(super) struct Services<'a> {
    by_name: BTreeMap<&'a str, Vec<&'a TargetSpec>>,
}

// === impl Services ===

impl<'a> Services<'a> {
    pub(super) fn new(targets: impl Iterator<Item = &'a TargetSpec>) -> Self {
        let mut by_name: BTreeMap<&str, Vec<&TargetSpec>> = BTreeMap::new();
        targets.for_each(|spec| by_name.entry(&spec.service.service_name).or_default().push(spec));
        Self { by_name }
    }

    /// The targets of the service that a row names in two columns.
    pub(super) fn of<'s>(&'s self, rows: &'s RecordBatch, columns: [&str; 2], row: usize) -> impl Iterator<Item = &'a TargetSpec> + 's {
        let [name, namespace] = columns.map(|column| text(rows, column, row));
        let targets = name.and_then(|name| self.by_name.get(name)).into_iter().flatten();
        targets.copied().filter(move |spec| name.is_some_and(|name| spec.service.matches(name, namespace)))
    }
}

/// A text cell; empty is none, as the conventions say of namespaces.
pub(super) fn text<'a>(rows: &'a RecordBatch, column: &str, row: usize) -> Option<&'a str> {
    rows.column_by_name(column).and_then(|column| rows::text(column, row)).filter(|text| !text.is_empty())
}

/// A numeric cell.
pub(super) fn number(rows: &RecordBatch, column: &str, row: usize) -> Option<f64> {
    rows.column_by_name(column).and_then(|column| rows::number(column, row)).filter(|number| number.is_finite())
}
