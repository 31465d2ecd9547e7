//! What a simulated service would have sent: spans in the schema of the receiver, few of them, each standing for many.
//!
//! The spans of a step have the latency quantiles, the mean and the number of what completed in it, and bear the instances
//! of the replicas that were ready, so that windows over them show what windows over all requests would.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryBuilder, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray, new_null_array,
};
use arrow::array::{BinaryArray, UInt32Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use tracescale_core::schema::Stream;
use tracescale_core::time::{Timestamp, nanos};
use tracescale_simulate::plant::{Latency, Observation, Phase};

/// Whose spans these are.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    /// `service.name`.
    pub service: String,
    /// `service.namespace`.
    pub namespace: Option<String>,
}

/// The spans of one step of all services.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    ends: Vec<i64>,
    durations: Vec<f64>,
    weights: Vec<f64>,
    services: Vec<i32>,
    instances: Vec<i32>,
    /// Counts up: gives each span an id.
    next: u64,
}

/// Shares of the requests that one span stands for, and the quantile that it has: closer towards the tail.
const PARTS: [(f64, f64); 9] =
    [(0.2, 0.1), (0.2, 0.3), (0.2, 0.5), (0.15, 0.675), (0.1, 0.8), (0.08, 0.89), (0.04, 0.95), (0.02, 0.98), (0.01, 0.995)];

// === impl Spans ===

impl Spans {
    /// Adds what completed at a service during a step.
    pub(crate) fn add(&mut self, service: usize, step: u64, seen: &Observation) {
        let (Some(latency), true) = (seen.latency, seen.completions > 0.0) else { return };
        let durations = PARTS.map(|(_, quantile)| at_quantile(&latency, quantile));
        let mean: f64 = PARTS.iter().zip(durations).map(|((share, _), duration)| share * duration).sum();
        let scale = if mean > 0.0 { latency.mean / mean } else { 1.0 };
        let ready = seen.count(Phase::Ready).max(1);
        let length = nanos(seen.until.since(seen.from));
        for (place, ((share, _), duration)) in (0_u32..).zip(PARTS.iter().zip(durations)) {
            let parts = u32::try_from(PARTS.len()).unwrap_or(1);
            // Spread over the step, and over the replicas in turn.
            self.ends.push(seen.from.as_nanos() + length * i64::from(2 * place + 1) / i64::from(2 * parts));
            self.durations.push((duration * scale).max(0.0));
            self.weights.push(share * seen.completions);
            self.services.push(i32::try_from(service).unwrap_or(i32::MAX));
            let turn = step.wrapping_mul(u64::from(parts)).wrapping_add(u64::from(place)) % u64::from(ready);
            self.instances.push(i32::try_from(turn).unwrap_or(0));
        }
    }

    /// All spans added, as rows of `spans`; begins anew.
    ///
    /// # Errors
    /// Never: every column is made in its length.
    pub(crate) fn take(&mut self, senders: &[Sender], received_at: Timestamp) -> Result<RecordBatch, ArrowError> {
        let count = self.ends.len();
        let schema = Stream::Spans.schema();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            columns.push(self.column(field, senders, received_at)?);
        }
        self.next += count as u64;
        let rows = RecordBatch::try_new(SchemaRef::clone(&schema), columns);
        let next = self.next;
        *self = Self { next, ..Self::default() };
        rows
    }

    fn column(&self, field: &Field, senders: &[Sender], received_at: Timestamp) -> Result<ArrayRef, ArrowError> {
        let count = self.ends.len();
        let text = |values: Vec<Option<&str>>, keys: Vec<i32>| -> Result<ArrayRef, ArrowError> {
            Ok(Arc::new(DictionaryArray::try_new(Int32Array::from(keys), Arc::new(StringArray::from(values)))?))
        };
        Ok(match field.name().as_str() {
            "end_time" => Arc::new(TimestampNanosecondArray::from(self.ends.clone())),
            "start_time" => Arc::new(TimestampNanosecondArray::from_iter_values(self.starts())),
            "duration" => Arc::new(Float64Array::from(self.durations.clone())),
            "received_at" => Arc::new(TimestampNanosecondArray::from_value(received_at.as_nanos(), count)),
            "adjusted_count" => Arc::new(Float64Array::from(self.weights.clone())),
            "is_entry" | "sampling_known" => Arc::new(BooleanArray::from(vec![true; count])),
            "is_error" => Arc::new(BooleanArray::from(vec![false; count])),
            "trace_id" => ids(self.next, count, 16)?,
            "span_id" => ids(self.next, count, 8)?,
            "kind" => text(vec![Some("SERVER")], vec![0; count])?,
            "name" => text(vec![Some("simulated")], vec![0; count])?,
            "status" => text(vec![Some("UNSET")], vec![0; count])?,
            "service_name" => text(senders.iter().map(|sender| Some(sender.service.as_str())).collect(), self.services.clone())?,
            "service_namespace" => text(senders.iter().map(|sender| sender.namespace.as_deref()).collect(), self.services.clone())?,
            "service_instance_id" => {
                let most = self.instances.iter().copied().max().unwrap_or(0);
                let names: Vec<String> = (0..=most).map(|number| format!("replica-{number}")).collect();
                text(names.iter().map(|name| Some(name.as_str())).collect(), self.instances.clone())?
            }
            "dropped_attributes_count" | "dropped_events_count" | "dropped_links_count" => Arc::new(UInt32Array::from(vec![0; count])),
            "attributes" => Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n([].as_slice(), count))),
            "resource_attributes" => {
                let empty = Arc::new(BinaryArray::from_iter_values([[].as_slice()]));
                Arc::new(DictionaryArray::try_new(Int32Array::from(vec![0; count]), empty)?)
            }
            _ => absent(field.data_type(), count),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "latencies are far below 292 years")]
    fn starts(&self) -> impl Iterator<Item = i64> {
        self.ends.iter().zip(&self.durations).map(|(end, duration)| end - (duration * 1e9) as i64)
    }
}

/// A quantile between those that are known, on a straight line.
fn at_quantile(latency: &Latency, quantile: f64) -> f64 {
    let known = [(0.0, latency.p50 * 0.4), (0.5, latency.p50), (0.95, latency.p95), (0.99, latency.p99), (1.0, latency.p99 * 1.25)];
    let after = known.iter().position(|(at, _)| *at >= quantile).unwrap_or(known.len() - 1).max(1);
    let ((low, from), (high, to)) = (known[after - 1], known[after]);
    from + (to - from) * (quantile - low) / (high - low)
}

fn ids(first: u64, count: usize, width: i32) -> Result<ArrayRef, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(count, width);
    for number in (first + 1..).take(count) {
        let bytes = u128::from(number).to_be_bytes();
        builder.append_value(&bytes[16 - usize::try_from(width).unwrap_or(16)..])?;
    }
    Ok(Arc::new(builder.finish()))
}

fn absent(data_type: &DataType, count: usize) -> ArrayRef {
    new_null_array(data_type, count)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;
    use tracescale_simulate::plant::ReplicaGroup;

    use super::*;

    /// Guarantees: the spans of a step fit the stream's schema, stand for as many requests as completed, have their mean
    /// latency, and end within the step.
    #[test]
    fn spans_stand_for_what_completed() {
        let at = Timestamp::from_secs;
        let latency = Latency { mean: 0.2, p50: 0.1, p95: 0.6, p99: 1.0, over: 0.0 };
        let ready =
            ReplicaGroup { first: 0, count: 3, phase: Phase::Ready, created_at: at(0), ready_at: Some(at(0)), cpu: 0.5, concurrency: 1.0 };
        let seen = Observation {
            from: at(100),
            until: at(115),
            completions: 300.0,
            latency: Some(latency),
            replicas: vec![ready],
            ..Observation::default()
        };
        let mut spans = Spans::default();
        spans.add(1, 7, &seen);
        let senders = ["cart", "pay"].map(|service| Sender { service: service.to_owned(), namespace: None });
        let rows = spans.take(&senders, at(115)).unwrap();
        let column = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec();
        let (weights, durations) = (column("adjusted_count"), column("duration"));
        let total: f64 = weights.iter().sum();
        let mean = weights.iter().zip(&durations).map(|(weight, duration)| weight * duration).sum::<f64>() / total;
        assert!((total - 300.0).abs() < 1e-9 && (mean - 0.2).abs() < 1e-9);
        let services = arrow::compute::cast(rows.column_by_name("service_name").unwrap(), &DataType::Utf8).unwrap();
        assert!(services.as_string::<i32>().iter().all(|name| name == Some("pay")));
        assert_eq!(spans.take(&senders, at(115)).unwrap().num_rows(), 0);
    }
}
