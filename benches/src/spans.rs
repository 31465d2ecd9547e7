//! Decoded spans that become other spans cheaply: new ids, times and durations in the columns of decoded requests, so that
//! what reads rows can be measured with millions of them.
//!
//! Names, attributes and everything else are shared with the request that they come from: they repeat after as many batches as
//! there are templates.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, Float64Array, RecordBatch, TimestampNanosecondArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use prost::Message;
use tracescale_core::schema::Stream;
use tracescale_core::time::{Timestamp, nanos};
use tracescale_ingest::decode::{Declared, Encoding, Signal, decode};

use crate::generate::{Attributes, BASE, TraceGenerator, TraceShape};

/// Batches of spans without an end.
#[derive(Clone, Debug)]
pub struct Batches {
    templates: Vec<RecordBatch>,
    taken: u64,
}

/// Services that call each other, the first of which users call; a larger installation has several such systems side by side.
pub const SYSTEM: usize = 10;
/// Keeps numbers apart and spreads them over all bits, because it is odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

// === impl Batches ===

impl Batches {
    /// So many different batches of so many spans each, from `services` services of two instances.
    ///
    /// # Errors
    /// When what was generated cannot be decoded.
    pub fn new(seed: u64, services: usize, batches: usize, spans: usize) -> Result<Self> {
        ensure!(batches > 0, "there must be a batch to begin with");
        let systems = services.div_ceil(SYSTEM).max(1);
        let shape = |system: usize| TraceShape {
            seed: seed.wrapping_add(system as u64),
            first_service: system * SYSTEM,
            services: services.saturating_sub(system * SYSTEM).min(SYSTEM),
            spans,
            attributes: Attributes::Six,
            ..TraceShape::default()
        };
        let mut generators: Vec<TraceGenerator> = (0..systems).map(|system| TraceGenerator::new(shape(system))).collect();
        let mut templates = Vec::with_capacity(batches);
        for index in 0..batches {
            let body = generators[index % systems].request(BASE, Duration::ZERO).encode_to_vec();
            let decoded = decode(Signal::Traces, Encoding::Protobuf, &body, BASE, &Declared::default())?;
            let spans = decoded.batches.into_iter().find(|(stream, _)| *stream == Stream::Spans);
            templates.push(spans.context("a request without spans")?.1);
        }
        Ok(Self { templates, taken: 0 })
    }

    /// The next batch: traces that ended between `from` and `from + length`, and were received then.
    ///
    /// # Errors
    /// Never: every column has the length of the one that it replaces.
    pub fn take(&mut self, from: Timestamp, length: Duration) -> Result<RecordBatch> {
        let template = &self.templates[usize::try_from(self.taken)? % self.templates.len()];
        self.taken += 1;
        let mask = self.taken.wrapping_mul(SPREAD);
        let traces = masked(template, "trace_id", mask)?;
        let spans = masked(template, "span_id", mask)?;
        let length = nanos(length);
        let base = from.as_nanos() - BASE.as_nanos();
        let old = column(template, "end_time")?.as_primitive::<TimestampNanosecondType>();
        let ends: Vec<i64> = old.values().iter().zip(traces.iter()).map(|(end, id)| end + base + part(id, length)).collect();
        let old = column(template, "duration")?.as_primitive::<Float64Type>();
        // Between three and five quarters of what it was.
        let factor = |id: Option<&[u8]>| 0.75 + crate::measure::float(part(id, 1_000_000).cast_unsigned()) / 2e6;
        let durations: Vec<f64> = old.values().iter().zip(spans.iter()).map(|(duration, id)| duration * factor(id)).collect();
        #[expect(clippy::cast_possible_truncation, reason = "durations are far below 292 years")]
        let starts = ends.iter().zip(&durations).map(|(end, duration)| end - (duration * 1e9) as i64).collect::<Vec<i64>>();
        let received = TimestampNanosecondArray::from_value(from.as_nanos() + length, ends.len());
        let replaced: [(&str, ArrayRef); 7] = [
            ("end_time", Arc::new(TimestampNanosecondArray::from(ends))),
            ("start_time", Arc::new(TimestampNanosecondArray::from(starts))),
            ("duration", Arc::new(Float64Array::from(durations))),
            ("received_at", Arc::new(received)),
            ("parent_span_id", Arc::new(masked(template, "parent_span_id", mask)?)),
            ("trace_id", Arc::new(traces)),
            ("span_id", Arc::new(spans)),
        ];
        let (schema, mut columns) = (template.schema(), template.columns().to_vec());
        for (name, column) in replaced {
            columns[schema.index_of(name)?] = column;
        }
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).with_context(|| format!("spans have no column {name}"))
}

/// Ids, different for another mask, the same for the same id.
fn masked(batch: &RecordBatch, name: &str, mask: u64) -> Result<FixedSizeBinaryArray> {
    let ids = column(batch, name)?.as_fixed_size_binary();
    let mask = mask.to_le_bytes();
    let bytes: Vec<u8> = ids.value_data().iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Ok(FixedSizeBinaryArray::try_new(ids.value_length(), Buffer::from(bytes), ids.nulls().cloned())?)
}

/// A number below `whole` that an id stands for; ids are random.
fn part(id: Option<&[u8]>, whole: i64) -> i64 {
    let head = id.and_then(|id| id.first_chunk::<8>()).map_or(0, |head| u64::from_le_bytes(*head));
    let part = (u128::from(head) * u128::from(whole.unsigned_abs())) >> 64;
    i64::try_from(part).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ids(batch: &RecordBatch, name: &str) -> HashSet<Vec<u8>> {
        batch.column_by_name(name).unwrap().as_fixed_size_binary().iter().flatten().map(<[u8]>::to_vec).collect()
    }

    /// Guarantees: batches lie in the time asked for, have all services and other ids each, and children still know their parents.
    #[test]
    fn batches_are_other_spans() {
        let mut batches = Batches::new(1, 25, 3, 200).unwrap();
        let (from, length) = (BASE + Duration::from_secs(100), Duration::from_secs(10));
        let taken: Vec<RecordBatch> = (0..6).map(|_| batches.take(from, length).unwrap()).collect();
        let (mut spans, mut services) = (HashSet::new(), HashSet::new());
        for batch in &taken {
            let ends = column(batch, "end_time").unwrap().as_primitive::<TimestampNanosecondType>();
            let (newest, until) = (ends.values().iter().max().unwrap(), (from + length).as_nanos());
            assert!(*newest >= from.as_nanos() && *newest <= until);
            let parents = ids(batch, "parent_span_id");
            let own = ids(batch, "span_id");
            assert!(parents.intersection(&own).count() > 50);
            spans.extend(own);
            let names = arrow::compute::cast(column(batch, "service_name").unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
            services.extend(names.as_string::<i32>().iter().flatten().map(str::to_owned));
        }
        assert_eq!(spans.len(), 1_200);
        assert!(services.len() >= 24, "{services:?}");
    }
}
