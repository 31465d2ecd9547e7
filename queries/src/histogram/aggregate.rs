//! `histogram(x[, weight])` and `histogram_merge(h)` as aggregates over groups.
//!
//! A batch only appends one number per row, or keeps a reference to histograms; adding up happens when the state is asked for, or
//! when much has gathered. No group has an array of its own, so many groups with few values cost little.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, TypeSignature, Volatility,
};

use super::tally::{Entry, Part, Tally};
use super::{UNIT, count, encode, key};

/// Entries and bytes of histograms that gather before they are added up.
const TALLY_AT: usize = 1 << 16;
const TALLY_AT_BYTES: usize = 1 << 24;

#[derive(Debug, PartialEq, Eq, Hash)]
struct HistogramAggregate {
    name: &'static str,
    signature: Signature,
    input: Input,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Input {
    /// Numbers and perhaps their weights.
    Values,
    /// Histograms.
    Histograms,
}

/// Entries of all groups.
#[derive(Debug)]
struct Groups {
    input: Input,
    /// Groups and buckets of values of weight 1.
    ones: Vec<(u32, i32)>,
    /// Histograms that are still to be added, and the sum of their lengths.
    parts: Vec<Part>,
    part_bytes: usize,
    /// In order of group and bucket, each once, up to `tallied`; as they came behind it.
    entries: Vec<Entry>,
    tallied: usize,
    groups: usize,
    tally: Tally,
}

/// [`Groups`] of a single group.
#[derive(Debug)]
struct Single(Groups);

/// The aggregates of this module.
pub(crate) fn aggregates() -> [AggregateUDF; 2] {
    let values = TypeSignature::OneOf(vec![
        TypeSignature::Exact(vec![DataType::Float64]),
        TypeSignature::Exact(vec![DataType::Float64, DataType::Float64]),
    ]);
    let make = |name, signature, input| {
        let signature = Signature::new(signature, Volatility::Immutable);
        AggregateUDF::new_from_impl(HistogramAggregate { name, signature, input })
    };
    [make("histogram", values, Input::Values), make("histogram_merge", TypeSignature::Exact(vec![DataType::Binary]), Input::Histograms)]
}

// === impl HistogramAggregate ===

impl AggregateUDFImpl for HistogramAggregate {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>, DataFusionError> {
        Ok(vec![Arc::new(Field::new(format!("{}[histogram]", args.name), DataType::Binary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        Ok(Box::new(Single(Groups::new(self.input))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
        Ok(Box::new(Groups::new(self.input)))
    }
}

// === impl Groups ===

impl Groups {
    fn new(input: Input) -> Self {
        let (ones, parts, entries) = (Vec::new(), Vec::new(), Vec::new());
        Self { input, ones, parts, part_bytes: 0, entries, tallied: 0, groups: 0, tally: Tally::default() }
    }

    fn add_values(
        &mut self,
        values: &[ArrayRef],
        group: impl Fn(usize) -> u32,
        filter: Option<&BooleanArray>,
    ) -> Result<(), DataFusionError> {
        let numbers: &Float64Array = values[0].as_primitive::<Float64Type>();
        let weights = values.get(1).map(|weights| weights.as_primitive::<Float64Type>());
        for (row, number) in numbers.values().iter().enumerate() {
            let weight = weights.map_or(1.0, |weights| if weights.is_valid(row) { weights.value(row) } else { 0.0 });
            let counts = numbers.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            let Some(key) = key(*number).filter(|_| counts) else { continue };
            let count = count(weight);
            if count == UNIT {
                self.ones.push((group(row), key));
            } else if count > 0 {
                self.entries.push(Entry { group: group(row), key, count });
            }
        }
        self.tally_if_many()
    }

    fn add_histograms(
        &mut self,
        values: &[ArrayRef],
        group: impl Fn(usize) -> u32,
        filter: Option<&BooleanArray>,
    ) -> Result<(), DataFusionError> {
        let histograms: &BinaryArray = values[0].as_binary();
        for row in 0..histograms.len() {
            if histograms.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                self.part_bytes += histograms.value(row).len();
                self.parts.push(Part { group: group(row), histograms: histograms.clone(), row });
            }
        }
        self.tally_if_many()
    }

    fn add(&mut self, values: &[ArrayRef], group: impl Fn(usize) -> u32, filter: Option<&BooleanArray>) -> Result<(), DataFusionError> {
        match self.input {
            Input::Values => self.add_values(values, group, filter),
            Input::Histograms => self.add_histograms(values, group, filter),
        }
    }

    fn tally_if_many(&mut self) -> Result<(), DataFusionError> {
        let entries = self.ones.len() + self.entries.len() - self.tallied;
        if entries > TALLY_AT.max(self.tallied) || self.part_bytes > TALLY_AT_BYTES {
            self.tally()?;
        }
        Ok(())
    }

    /// Adds up everything.
    fn tally(&mut self) -> Result<(), DataFusionError> {
        self.entries.extend(self.ones.drain(..).map(|(group, key)| Entry { group, key, count: UNIT }));
        if self.entries.len() > self.tallied || !self.parts.is_empty() {
            let tallied = self.tally.run(&mut self.entries, &mut self.parts);
            tallied.map_err(|error| DataFusionError::Execution(error.to_string()))?;
            (self.tallied, self.part_bytes) = (self.entries.len(), 0);
        }
        Ok(())
    }

    /// The histograms of the first groups, which are forgotten.
    fn take(&mut self, emit_to: EmitTo) -> Result<BinaryArray, DataFusionError> {
        self.tally()?;
        let count = match emit_to {
            EmitTo::All => self.groups,
            EmitTo::First(count) => count.min(self.groups),
        };
        let end = self.entries.partition_point(|entry| (entry.group as usize) < count);
        let mut builder = BinaryBuilder::with_capacity(count, end * 3);
        let mut emitted = 0;
        let mut buffer = Vec::new();
        for of_group in self.entries[..end].chunk_by(|a, b| a.group == b.group) {
            while emitted < of_group[0].group {
                builder.append_null();
                emitted += 1;
            }
            buffer.clear();
            encode(of_group.iter().map(|entry| (entry.key, entry.count)), &mut buffer);
            builder.append_value(&buffer);
            emitted += 1;
        }
        for _ in emitted as usize..count {
            builder.append_null();
        }
        self.entries.drain(..end);
        for entry in &mut self.entries {
            entry.group -= index(count);
        }
        self.tallied = self.entries.len();
        self.groups -= count;
        Ok(builder.finish())
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<(), DataFusionError> {
        self.groups = self.groups.max(total_num_groups);
        self.add(values, |row| index(group_indices[row]), opt_filter)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<(), DataFusionError> {
        self.groups = self.groups.max(total_num_groups);
        self.add_histograms(values, |row| index(group_indices[row]), None)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef, DataFusionError> {
        Ok(Arc::new(self.take(emit_to)?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>, DataFusionError> {
        Ok(vec![Arc::new(self.take(emit_to)?)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>, DataFusionError> {
        let rows = values[0].len();
        let mut groups = Self { groups: rows, ..Self::new(self.input) };
        groups.add(values, index, opt_filter)?;
        groups.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.ones.capacity() * size_of::<(u32, i32)>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.parts.capacity() * size_of::<Part>()
            + self.part_bytes
            + self.tally.size()
    }
}

// === impl Single ===

impl Single {
    fn histogram(&mut self) -> Result<ScalarValue, DataFusionError> {
        // Asking must not forget: a window function goes on adding.
        self.0.groups = 1;
        self.0.tally()?;
        let kept = self.0.entries.clone();
        let histogram = ScalarValue::try_from_array(&self.0.take(EmitTo::All)?, 0);
        (self.0.tallied, self.0.entries) = (kept.len(), kept);
        histogram
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        self.0.add(values, |_| 0, None)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        self.0.add_histograms(states, |_| 0, None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        self.histogram()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        Ok(vec![self.histogram()?])
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(&self.0)
    }
}

/// Groups are numbered from 0; there are never 2³² of them, since the groups of a view are bounded.
fn index(group: usize) -> u32 {
    u32::try_from(group).unwrap_or(u32::MAX)
}
